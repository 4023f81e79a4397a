"""Parts of the test images -> sections of report.md, and tables of report.tex."""

from collections.abc import Callable

from iqa.report import grid_words as grid_words
from iqa.report import words
from iqa.report.parts import inside
from iqa.report.tables import MISSING, table

METRICS = {"srcc": "SRCC", "plcc": "PLCC"}


def sections(numbers: dict) -> str:
    """Those that were asked for; "" where none was."""
    known = (("elsewhere", elsewhere), ("groups", groups), ("without", without))
    return "\n\n".join(section(numbers) for key, section in known if numbers[key])


def elsewhere(numbers: dict) -> str:
    """The runs' correlations on other data sets."""
    found = numbers["elsewhere"]
    crops = "; ".join(f"{part['name']}: {part['crops']}, {part['precision']}" for part in found["parts"])
    how = (
        f"The weights of the chosen epochs, without further training ({crops}). Intervals are over the images of each data set, the "
        "same for all runs, and over seeds as in the rest of this report; Holm's correction is over all differences of this section."
    )
    return "\n\n".join(
        [
            "## Other data sets",
            *([how] if found["parts"] else []),
            bullets(found["sentences"]),
            *tables(numbers, found["parts"]),
        ]
    )


def groups(numbers: dict) -> str:
    """The correlations in each group of the test images, and within all of them."""
    found = numbers["groups"]
    parts = [*found["parts"], *([found["within"]] if found["within"] else [])]
    mean_mos = ", ".join(f"{group} {mos:.{words.mos_digits(numbers)}f}" for group, mos in found["mean_mos"].items())
    return "\n\n".join(
        [
            "## Groups of the test images",
            f"By what {code(found['pattern'])} finds in an image's name. Mean MOS: {mean_mos}. Within groups is the average over the "
            "groups by their numbers of images, in which what tells the groups apart does not count. Holm's correction is over the "
            "differences of this section.",
            bullets(found["sentences"]),
            *tables(numbers, parts),
        ]
    )


def without(numbers: dict) -> str:
    """The figures without the images that were to be left out."""
    found = numbers["without"]
    return "\n\n".join(
        [
            f"## Without {found['left_out']:,} of the test images",
            bullets(found["sentences"]),
            *tables(numbers, [found["part"]]),
        ]
    )


def tables(numbers: dict, parts: list[dict]) -> list[str]:
    """SRCC and PLCC, the variants by the parts; the differences; and why a part has no numbers."""
    measured = [part for part in parts if not part["error"]]
    header = ["Configuration", *(["Backbone"] if "backbones" in numbers else []), *map(heading, measured)]
    rows = [
        [numbers["rows"][row]["title"], *([numbers["rows"][row]["backbone"]] if "backbones" in numbers else [])]
        for row in numbers["variants"]
    ]
    found = [
        f"{part['name']} ({part['test_images']:,} images) has no numbers: {part['error']}."
        for part in parts
        if part["error"]
    ]
    if not measured:
        return found
    for metric, title in METRICS.items():
        cells = [
            [words.level(part["variants"][row][metric]) if part["variants"][row] else MISSING for part in measured]
            for row in numbers["variants"]
        ]
        found += [f"{title} [95%]:", table(header, [row + more for row, more in zip(rows, cells, strict=True)])]
    changes = [row for part in measured for row in differences(numbers, part)]
    if changes:
        found.append(
            table(["Images", "Comparison", "Δ SRCC [95%]", "p (Holm)", "Δ PLCC [95%]", "p (Holm)", "Reading"], changes)
        )
    return found


LATEX = r"""

\begin{table}[htbp]
\centering
\caption{%(caption)s}
\label{tab:cnn-backbones-elsewhere}
\resizebox{\columnwidth}{!}{%%
\begin{tabular}{ll%(columns)s}
\hline
Configuration & Backbone & %(header)s \\
\hline
%(rows)s
\hline
\end{tabular}}
\end{table}"""


def latex(numbers: dict, escaped: Callable[[str], str]) -> str:
    """The SRCC on other data sets as a table of report.tex, its sentences before it; "" where there is none.

    Args:
        escaped: text -> as LaTeX shows it letter by letter.
    """
    found = numbers["elsewhere"]
    measured = [part for part in found["parts"] if not part["error"]] if found else []
    if not measured:
        return ""
    rows = [
        " & ".join(
            escaped(cell)
            for cell in (
                numbers["rows"][row]["title"],
                numbers["rows"][row]["backbone"],
                *(
                    words.level(part["variants"][row]["srcc"]) if part["variants"][row] else MISSING
                    for part in measured
                ),
            )
        )
        + r" \\"
        for row in numbers["variants"]
    ]
    return (
        "\n\n"
        + escaped(" ".join(found["sentences"]))
        + LATEX
        % {
            "caption": "SRCC on other data sets, with 95\\% intervals; images in brackets. Weights of the chosen epochs, without further "
            "training.",
            "columns": "c" * len(measured),
            "header": " & ".join(escaped(heading(part)) for part in measured),
            "rows": "\n".join(rows),
        }
    )


def heading(part: dict) -> str:
    return f"{part['name']} ({part['test_images']:,})".replace("|", "\\|")


def differences(numbers: dict, part: dict) -> list[list[str]]:
    """A line for each comparison that could be made in a part."""
    there = inside(numbers, part)
    labelled = grid_words.labelled(there) + (grid_words.contrasts(there) if "backbones" in there else [])
    return [
        [
            part["name"].replace("|", "\\|"),
            label,
            words.with_interval(found["srcc"]),
            words.p_words(found["srcc"]["p_holm"]),
            words.with_interval(found["plcc"]),
            words.p_words(found["plcc"]["p_holm"]),
            words.reading(found),
        ]
        for label, found in labelled
        if found
    ]


def bullets(sentences: list[str]) -> str:
    return "\n".join(f"* {sentence}" for sentence in sentences)


def code(text: str) -> str:
    """As Markdown shows it letter by letter."""
    return f"`{text}`" if "`" not in text else f"`` {text} ``"
