"""Differences between rows: which ones the report makes, their estimates and their tests.

The primary comparison is both ideas against the baseline on the first backbone. Its two parts are tested only after
it. The method on further backbones, the decomposition and the published models are a second family. Everything else is
exploratory: an estimate with an interval, without a p-value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from iqa.metrics import bootstrap_correlations, plcc, srcc
from iqa.report import statistics
from iqa.report.rows import BASELINE, FULL, HYPERIQA, MULTISCALE, SMART_IQA, Grid
from iqa.report.runs import Run
from iqa.report.statistics import ALPHA, Z_POWER, Estimate, Measured, Z, gatekeeping, holm

PRIMARY, PARTS, SECOND = "primary", "parts", "second"
RUNS_FOR_IDEAS = 3  # least runs of each variant; fewer compare trained models
SMALL_DIFFERENCE = 0.003  # the report states the images and seeds that would show it
# Comparisons within a backbone: key, title, rows, and family on the first backbone and on the others.
WITHIN_BACKBONE = (
    ("both", "Both ideas", FULL, BASELINE, PRIMARY, SECOND),
    ("multiscale", "Multi-scale alone", MULTISCALE, BASELINE, PARTS, None),
    ("attention", "Attention on top", FULL, MULTISCALE, PARTS, None),
)


@dataclass(frozen=True)
class Comparison:
    """A sum of coefficient * mean correlation of a row."""

    key: str  # "both", or "swin_b.both" on a further backbone
    title: str
    terms: tuple[tuple[int, str], ...]  # coefficient and log name of a row
    family: str | None  # PRIMARY, PARTS, SECOND; None is exploratory
    backbone: str | None  # title, of a comparison within one backbone

    @property
    def after(self) -> str:
        """Log name of the first row."""
        return self.terms[0][1]

    @property
    def kind(self) -> str:
        """The key without the name of the backbone."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True)
class Difference:
    """The estimate of a comparison. `verdict` is None for an exploratory one."""

    comparison: Comparison
    srcc: Estimate
    plcc: Estimate
    failed: tuple[str, ...]  # failed runs among those with scores
    healthy: Estimate | None  # SRCC without the failed runs; None if there are none, or no healthy run of a row
    p_adjusted: float | None = None
    p_adjusted_healthy: float | None = None
    verdict: str | None = None  # "higher", "lower", "not shown", "not tested", or "withheld": the analyses disagree
    resolvable: float | None = None  # smallest true difference that these runs show with 80% power
    images_for_small: int | None = None  # images at which these runs would show SMALL_DIFFERENCE; None: no number does
    seeds_for_small: int | None = None

    @property
    def key(self) -> str:
        return self.comparison.key

    @property
    def title(self) -> str:
        return self.comparison.title

    @property
    def of_ideas(self) -> bool:
        """Whether there are enough runs to compare ideas instead of trained models."""
        return min(self.srcc.seeds) >= RUNS_FOR_IDEAS


def comparisons_of(grid: Grid) -> list[Comparison]:
    """All comparisons of a report, the primary one first."""
    found = []
    reference, *others = grid.families
    for family in grid.families:
        prefix = "" if family is reference else f"{family.backbone}."
        on = f" ({family.title})" if others else ""
        for key, title, after, before, role, role_elsewhere in WITHIN_BACKBONE:
            terms = ((1, family.log_name(after)), (-1, family.log_name(before)))
            role = role if family is reference else role_elsewhere
            found.append(Comparison(prefix + key, title + on, terms, role, family.title))
    b, f = (reference.log_name(ending) for ending in (BASELINE, FULL))
    for other in others:
        b2, f2 = (other.log_name(ending) for ending in (BASELINE, FULL))
        new, old = other.title, reference.title
        gains = ((1, f2), (-1, f), (-1, b2), (1, b))
        for key, title, terms, role in (
            ("backbone", f"Backbone: {new} over {old}, baselines", ((1, b2), (-1, b)), SECOND),
            ("interaction", f"Interaction: gain on {new} less gain on {old}", gains, SECOND),
            ("total", f"Total: both ideas on {new} over {old} baseline", ((1, f2), (-1, b)), SECOND),
            ("backbone_full", f"Backbone: {new} over {old}, full variants", ((1, f2), (-1, f)), None),
        ):
            found.append(Comparison(f"{other.backbone}.{key}", title, terms, role, None))
    if grid.published:
        terms = ((1, SMART_IQA), (-1, HYPERIQA))
        found.append(Comparison("published", "SMART-IQA over HyperIQA (both trained here)", terms, SECOND, None))
    return found


def measure(runs: Sequence[Run], draws: int, seed: int) -> dict[str, Measured]:
    """SRCC and PLCC of runs with scores on the same images, with bootstrap resamples of the images."""
    scores, mos = np.array([run.predictions.scores for run in runs]), runs[0].predictions.mos
    ranked, raw = bootstrap_correlations(scores, mos, draws, seed)
    return {
        "srcc": Measured(np.array([srcc(row, mos) for row in scores]), ranked),
        "plcc": Measured(np.array([plcc(row, mos) for row in scores]), raw),
    }


def levels_of(grid: Grid, runs: Sequence[Run], measured: dict[str, Measured]) -> dict[str, dict[str, Estimate] | None]:
    """Mean SRCC and PLCC of the runs of each row, by log name; None for a row without runs."""
    places = {row.log_name: _places(runs, row.log_name) for row in grid.rows()}
    return {
        log_name: {metric: of.contrast([(1, members)]) for metric, of in measured.items()} if members else None
        for log_name, members in places.items()
    }


def differences_of(
    comparisons: Sequence[Comparison], runs: Sequence[Run], measured: dict[str, Measured]
) -> list[Difference]:
    """Estimates of the comparisons whose rows all have runs; `with_tests` adds the tests."""
    found = []
    for comparison in comparisons:
        terms = [(sign, _places(runs, log_name)) for sign, log_name in comparison.terms]
        if not all(places for _, places in terms):
            continue
        failed = tuple(runs[place].name for _, places in terms for place in places if runs[place].failure)
        healthy = [(sign, [place for place in places if not runs[place].failure]) for sign, places in terms]
        second = measured["srcc"].contrast(healthy) if failed and all(places for _, places in healthy) else None
        first = {metric: of.contrast(terms) for metric, of in measured.items()}
        found.append(Difference(comparison, **first, failed=failed, healthy=second))
    return found


def _places(runs: Sequence[Run], log_name: str) -> list[int]:
    return [place for place, run in enumerate(runs) if run.variant == log_name]


def with_tests(found: Sequence[Difference], images: int) -> list[Difference]:
    """Add adjusted p-values, verdicts and the differences that the study could show."""
    # The second analysis leaves the failed runs out; a row without a healthy run shows nothing.
    second = {d.key: (d.healthy.p_value if d.healthy else 1.0) if d.failed else d.srcc.p_value for d in found}
    adjusted, adjusted_healthy = _adjusted(found, {d.key: d.srcc.p_value for d in found}), _adjusted(found, second)
    verdicts = {d.key: _verdict(d, adjusted[d.key], adjusted_healthy[d.key]) for d in found if d.key in adjusted}
    if verdicts.get("both") not in ("higher", "lower"):
        verdicts |= {d.key: "not tested" for d in found if d.comparison.family == PARTS and d.key in verdicts}
    needed = SMALL_DIFFERENCE / (Z + Z_POWER)
    return [
        replace(
            difference,
            p_adjusted=adjusted.get(difference.key),
            p_adjusted_healthy=adjusted_healthy.get(difference.key) if difference.failed else None,
            verdict=verdicts.get(difference.key),
            resolvable=statistics.resolvable_difference(difference.srcc),
            images_for_small=statistics.images_needed(difference.srcc, images, needed),
            seeds_for_small=statistics.seeds_needed(difference.srcc, needed),
        )
        for difference in found
    ]


def _adjusted(found: Sequence[Difference], p_values: dict[str, float]) -> dict[str, float]:
    """Adjusted p-values of the confirmatory comparisons, by key."""
    primary, parts, second = (
        [d.key for d in found if d.comparison.family == role] for role in (PRIMARY, PARTS, SECOND)
    )
    adjusted = dict(zip(second, holm([p_values[key] for key in second]), strict=True))
    for key in primary:
        adjusted[key] = p_values[key]
        adjusted |= zip(parts, gatekeeping(p_values[key], [p_values[part] for part in parts]), strict=True)
    return adjusted


def _verdict(difference: Difference, p_adjusted: float, p_healthy: float) -> str:
    shown = _shown(difference.srcc, p_adjusted)
    if not difference.failed or difference.healthy and _shown(difference.healthy, p_healthy) == shown:
        return shown
    return "withheld"


def _shown(estimate: Estimate, p_adjusted: float) -> str:
    if p_adjusted >= ALPHA:
        return "not shown"
    return "higher" if estimate.value > 0 else "lower"
