"""Analysis -> report.md, report.tex, report.json and the summary for the terminal. The texts are in templates/."""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path

import jinja2
import numpy as np

from iqa.health import LIMITATIONS, mos_decimals
from iqa.report import comparisons, readings
from iqa.report.analysis import Analysis, Level
from iqa.report.comparisons import PARTS, SECOND, Difference
from iqa.report.readings import PUBLISHED_FIGURES, PublishedFigure
from iqa.report.rows import KINDS
from iqa.report.statistics import Estimate

JSON_VERSION = 2
FOLDER = Path(__file__).parent / "templates"
BLOCK_TITLES = dict(zip(KINDS, ("CNN-based", "Transformer-based", "Other backbones"), strict=True))
NAMES_SHOWN = 4  # most names of runs in one sentence
TEX_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "Δ": r"$\Delta$", "±": r"$\pm$", "×": r"$\times$"}
    | {"–": "--", "—": "---", "’": "'", "…": "..."}
)


# ---- pages ---------------------------------------------------------------------------------------------------


def add_words(analysis: Analysis) -> None:
    """Set the answer and the limits, which all pages share."""
    analysis.answer = " ".join(_render("answer.txt.j2", analysis).split())
    paragraphs = _render("limits.txt.j2", analysis).split("\n\n")
    analysis.limits = [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()]


def page(name: str, analysis: Analysis) -> str:
    """The content of report.md or report.tex."""
    return re.sub(r"\n{3,}", "\n\n", _render(f"{name}.j2", analysis)).strip() + "\n"


def summary(analysis: Analysis) -> str:
    """Table, answer and one line for each kind of limit."""
    return _render("summary.txt.j2", analysis).strip()


def to_json(analysis: Analysis) -> str:
    """The content of report.json; docs/report.md documents the keys."""
    published = [dataclasses.asdict(figure) for figure in PUBLISHED_FIGURES] if analysis.koniq else []
    contents = {"version": JSON_VERSION, **dataclasses.asdict(analysis), "published_figures": published}
    text = json.dumps(contents, default=np.ndarray.tolist)
    finite = json.loads(text, parse_constant=lambda constant: None)  # NaN and Infinity, which JSON lacks, become null
    return json.dumps(finite, indent=1) + "\n"


def _render(template: str, analysis: Analysis) -> str:
    # Delimiters of blocks, variables and comments; LaTeX uses the customary ones itself.
    delimiters = ("<%", "%>", "<<", ">>", "<#", "#>") if template.endswith(".tex.j2") else ()
    environment = jinja2.Environment(
        *delimiters,
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {function.__name__: function for function in (*NUMBER_FILTERS, *TEXT_FILTERS)}
    return environment.get_template(template).render(
        a=analysis,
        family=analysis.grid.families[0],
        several=len(analysis.grid.families) > 1 or bool(analysis.grid.published),
        blocks=blocks(analysis),
        parts=[difference for difference in analysis.differences if difference.comparison.family == PARTS],
        second=[difference for difference in analysis.differences if difference.comparison.family == SECOND],
        mos_digits=mos_decimals(analysis.mos_range),
        comparisons=comparisons,
        readings=readings,
        LIMITATIONS=LIMITATIONS,
    )


def blocks(analysis: Analysis) -> list[tuple[str, list[PublishedFigure], list[Level]]]:
    """Title, published figures and rows of the main table for each kind of backbone; figures in reports on KonIQ."""
    found = []
    for kind, title in BLOCK_TITLES.items():
        figures = [figure for figure in PUBLISHED_FIGURES if analysis.koniq and figure.kind == kind]
        levels = [level for level in analysis.levels if level.row.kind == kind]
        found += [(title, figures, levels)] if figures or levels else []
    return found


# ---- filters -------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 4, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    return number(value, digits, "+")


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def interval(estimate: Estimate | None, sign: str = "+") -> str:
    """'+0.0041 [+0.0012, +0.0071]', with sign="" '0.9012 [0.8921, 0.9094]'; 'missing' without an estimate."""
    if estimate is None:
        return "missing"
    value, low, high = (number(end, sign=sign) for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def level_spread(level: Level, metric: str) -> str:
    """'0.9012', or '0.9012 ± 0.0011' with several runs"""
    estimate, deviation = getattr(level, metric), getattr(level, f"{metric}_deviation")
    if estimate is None:
        return "missing"
    return f"{estimate.value:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def p_value(value: float | None) -> str:
    """'p < 0.001' or 'p = 0.041'"""
    if value is None:
        return "not tested"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def finding(difference: Difference) -> str:
    """Verdict in a cell."""
    if difference.verdict in ("higher", "lower") and not difference.of_ideas:
        return f"{difference.verdict} (trained models)"
    return {None: "exploratory", "withheld": "no conclusion"}.get(difference.verdict, difference.verdict)


def runs_of(estimate: Estimate) -> str:
    """'one run of each variant', '3 runs of each variant' or '3 and 2 runs of the variants'"""
    first, *others = estimate.seeds
    if any(count != first for count in others):
        return f"{names(map(str, estimate.seeds))} runs of the variants"
    return "one run of each variant" if first == 1 else f"{first} runs of each variant"


def names(items: Iterable[str]) -> str:
    """'a, b and c'; of many, the first and the number of the others"""
    items = list(items)
    if len(items) > NAMES_SHOWN:
        items = [*items[: NAMES_SHOWN - 1], f"{len(items) - NAMES_SHOWN + 1} more"]
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def duration(seconds: float | None) -> str:
    """'47.1 s', '12 min 03 s' or '3 h 05 min'"""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def code(text: str) -> str:
    """Text that Markdown shows verbatim."""
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def cell(text: str) -> str:
    """Text inside a Markdown table."""
    return text.replace("|", "\\|")


def tex(text: object) -> str:
    """Text that LaTeX shows verbatim; a character that its default fonts lack becomes a question mark."""
    plain = str(text).translate(TEX_ESCAPES).encode("ascii", "replace").decode("ascii")
    return re.sub(r"(?<![\w.)-])-(?=\.?\d)", "$-$", plain)  # a minus; in text it would be a hyphen


NUMBER_FILTERS = (number, signed, count, interval, level_spread, p_value, duration)
TEXT_FILTERS = (finding, runs_of, names, code, cell, tex)
