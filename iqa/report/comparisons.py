"""Differences between rows: which ones the report makes, their estimates and their tests.

The primary comparison is both ideas against the baseline on the first backbone. Its two parts are tested only after
it. The method on further backbones, the decomposition and the published models are a second family. Everything else is
exploratory: an estimate with an interval, without a p-value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from iqa.metrics import bootstrap_correlations, plcc, srcc
from iqa.report.rows import BASELINE, FULL, HYPERIQA, MULTISCALE, SMART_IQA, Grid
from iqa.report.runs import Run
from iqa.report.statistics import (
    ALPHA,
    Z_POWER,
    Estimate,
    Measured,
    Z,
    gatekeeping,
    holm,
    images_needed,
    resolvable_difference,
    seeds_needed,
)

PRIMARY, PARTS, SECOND = "primary", "parts", "second"
RUNS_FOR_IDEAS = 3  # least runs of each variant; fewer compare trained models
SMALL_DIFFERENCE = 0.003  # the report states the images and seeds that would show it


@dataclass(frozen=True)
class Comparison:
    """A sum of coefficient * mean correlation of a row."""

    key: str  # "both", or "swin_b.both" on a further backbone
    title: str
    terms: tuple[tuple[int, str], ...]  # coefficient and log name of a row
    family: str | None  # PRIMARY, PARTS, SECOND; None is exploratory
    backbone: str | None  # title, of a comparison within one backbone


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
    for number, family in enumerate(grid.families):
        prefix = f"{family.backbone}." if number else ""
        on = f" ({family.title})" if len(grid.families) > 1 else ""
        for key, title, before, after in (
            ("both", "Both ideas", BASELINE, FULL),
            ("multiscale", "Multi-scale alone", BASELINE, MULTISCALE),
            ("attention", "Attention on top", MULTISCALE, FULL),
        ):
            first_family = PRIMARY if key == "both" else PARTS
            further_family = SECOND if key == "both" else None
            terms = ((1, family.log_name(after)), (-1, family.log_name(before)))
            role = further_family if number else first_family
            found.append(Comparison(prefix + key, title + on, terms, role, family.title))
    reference, *others = grid.families
    for other in others:
        pair = f"{other.title} over {reference.title}"
        baseline, full = ((1, other.log_name(BASELINE)), (1, other.log_name(FULL)))
        other_baseline, other_full = ((-1, reference.log_name(ending)) for ending in (BASELINE, FULL))
        found += [
            Comparison(f"{other.backbone}.{key}", title, terms, role, None)
            for key, title, terms, role in (
                ("backbone", f"Backbone: {pair}, baselines", (baseline, other_baseline), SECOND),
                (
                    "interaction",
                    f"Interaction: gain on {other.title} less gain on {reference.title}",
                    (full, other_full, (-1, baseline[1]), (1, other_baseline[1])),
                    SECOND,
                ),
                (
                    "total",
                    f"Total: both ideas on {other.title} over {reference.title} baseline",
                    (full, other_baseline),
                    SECOND,
                ),
                ("backbone_full", f"Backbone: {pair}, full variants", (full, other_full), None),
            )
        ]
    if grid.published:
        terms = ((1, SMART_IQA), (-1, HYPERIQA))
        found.append(Comparison("published", "SMART-IQA over HyperIQA (both trained here)", terms, SECOND, None))
    return found


def measure(runs: Sequence[Run], draws: int, seed: int) -> dict[str, Measured]:
    """SRCC and PLCC of runs with scores on the same images, with bootstrap resamples of the images."""
    scores, mos = np.array([run.predictions.scores for run in runs]), runs[0].predictions.mos
    ranked, raw = bootstrap_correlations(scores, mos, draws, seed)
    values = {
        "srcc": np.array([srcc(row, mos) for row in scores]),
        "plcc": np.array([plcc(row, mos) for row in scores]),
    }
    return {"srcc": Measured(values["srcc"], ranked), "plcc": Measured(values["plcc"], raw)}


def level(log_name: str, runs: Sequence[Run], measured: Measured) -> Estimate | None:
    """Mean correlation of a row's runs; None if it has none."""
    places = _places(runs, log_name)
    return measured.contrast([(1, places)]).clipped(-1.0, 1.0) if places else None


def differences(
    comparisons: Sequence[Comparison], runs: Sequence[Run], measured: dict[str, Measured]
) -> list[Difference]:
    """Estimates of the comparisons whose rows all have runs; tests are added by `with_tests`."""
    found = []
    for comparison in comparisons:
        terms = [(sign, _places(runs, log_name)) for sign, log_name in comparison.terms]
        if not all(places for _, places in terms):
            continue
        failed = tuple(runs[place].name for _, places in terms for place in places if runs[place].failure)
        healthy = [(sign, [place for place in places if not runs[place].failure]) for sign, places in terms]
        second = measured["srcc"].contrast(healthy) if failed and all(places for _, places in healthy) else None
        found.append(
            Difference(comparison, measured["srcc"].contrast(terms), measured["plcc"].contrast(terms), failed, second)
        )
    return found


def _places(runs: Sequence[Run], log_name: str) -> list[int]:
    return [place for place, run in enumerate(runs) if run.variant == log_name]


def with_tests(found: Sequence[Difference], images: int) -> list[Difference]:
    """Add adjusted p-values, verdicts and the differences that the study could show."""
    adjusted = _adjusted({difference: difference.srcc.p_value for difference in found})
    second = {
        difference: (difference.healthy.p_value if difference.healthy else 1.0) if difference.failed else p_value
        for difference, p_value in ((difference, difference.srcc.p_value) for difference in found)
    }
    adjusted_healthy = _adjusted(second) if any(difference.failed for difference in found) else adjusted
    needed = SMALL_DIFFERENCE / (Z + Z_POWER)
    tested = [
        replace(
            difference,
            p_adjusted=adjusted.get(difference),
            p_adjusted_healthy=adjusted_healthy.get(difference) if difference.failed else None,
            verdict=_verdict(difference, adjusted.get(difference), adjusted_healthy.get(difference)),
            resolvable=resolvable_difference(difference.srcc),
            images_for_small=images_needed(difference.srcc, images, needed),
            seeds_for_small=seeds_needed(difference.srcc, needed),
        )
        for difference in found
    ]
    gate = any(d.comparison.family == PRIMARY and d.verdict in ("higher", "lower") for d in tested)
    return [
        replace(difference, verdict="not tested")
        if difference.comparison.family == PARTS and difference.verdict and not gate
        else difference
        for difference in tested
    ]


def _adjusted(p_values: dict[Difference, float]) -> dict[Difference, float]:
    """Adjusted p-values of the confirmatory comparisons."""
    by_family = {role: [d for d in p_values if d.comparison.family == role] for role in (PRIMARY, PARTS, SECOND)}
    adjusted = {difference: p_values[difference] for difference in by_family[PRIMARY]}
    if by_family[PRIMARY]:
        parts = by_family[PARTS]
        gate = p_values[by_family[PRIMARY][0]]
        adjusted |= zip(parts, gatekeeping(gate, [p_values[part] for part in parts]), strict=True)
    second = by_family[SECOND]
    return adjusted | dict(zip(second, holm([p_values[difference] for difference in second]), strict=True))


def _verdict(difference: Difference, p_adjusted: float | None, p_healthy: float | None) -> str | None:
    if p_adjusted is None:
        return None
    shown = _shown(difference.srcc, p_adjusted)
    if difference.failed:
        second = _shown(difference.healthy, p_healthy) if difference.healthy else "withheld"
        return shown if second == shown else "withheld"
    return shown


def _shown(estimate: Estimate, p_adjusted: float) -> str:
    if p_adjusted >= ALPHA:
        return "not shown"
    return "higher" if estimate.value > 0 else "lower"
