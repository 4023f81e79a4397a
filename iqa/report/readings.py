"""Readings of the numbers: three outcomes, the use of attention, three conclusions; and published figures.

docs/report.md states the rules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from iqa.report.comparisons import Difference
from iqa.report.rows import CNN, TRANSFORMER, Grid
from iqa.report.runs import Run
from iqa.report.statistics import Estimate, Z, images_needed, seeds_needed

# Outcome -> bounds of the relative gain.
OUTCOMES = {"A": (0.01, math.inf), "B": (0.003, 0.01), "C": (-math.inf, 0.003)}
DECILES = 10
DEEP = 2  # number of last stages that count as deep
MOSTLY_DEEP = 0.95
BALANCED = (0.15, 0.35)
SHIFT = 0.05

CONCLUSIONS = {
    "hierarchical": "hierarchical features are crucial",
    "generality": "the method has good generality",
    "both": "both contribute",
}


@dataclass(frozen=True)
class PublishedFigure:
    title: str
    kind: str  # kind of the backbone
    srcc: float
    plcc: float
    delta: float | None


PUBLISHED_FIGURES = (
    PublishedFigure("ResNet50, HyperIQA (rerun by SMART-IQA's authors)", CNN, 0.8998, 0.9098, None),
    PublishedFigure("SMART-IQA (Swin-Base, its authors' figure)", TRANSFORMER, 0.9378, 0.9485, 0.0380),
)
PUBLISHED_GAIN = 0.9378 - 0.9338  # gain in SRCC on Swin-Base, in SMART-IQA's ablation table


# ---- outcomes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """Gain of both ideas relative to the baseline's SRCC."""

    backbone: str  # title
    gain: float
    low: float
    high: float
    outcome: str  # outcome of the estimate
    shares: dict[str, float]  # share of the estimate's distribution in each outcome
    decided: bool
    images: int | None  # test images for an interval within the outcome at the same estimate; None: no number suffices
    seeds: int | None


def read_outcomes(
    differences: Sequence[Difference], levels: dict[str, dict[str, Estimate] | None], images: int
) -> list[Outcome]:
    """The outcome on every backbone whose baseline has a positive SRCC."""
    found = []
    for difference in differences:
        if difference.comparison.kind == "both":
            _, (_, log_name) = difference.comparison.terms
            baseline = levels[log_name]["srcc"].value
            found += [read_outcome(difference, baseline, images)] if baseline > 0 else []
    return found


def outcome_of(gain: float) -> str:
    return next(name for name, (start, _) in OUTCOMES.items() if round(gain, 12) >= start)


def read_outcome(difference: Difference, baseline: float, images: int) -> Outcome:
    estimate = difference.srcc
    gain, low, high = (value / baseline for value in (estimate.value, estimate.low, estimate.high))
    error = max(estimate.standard_error / baseline, np.finfo(float).tiny)  # 0 for copies of one run
    distribution = stats.t(estimate.freedom, loc=gain, scale=error)
    name = outcome_of(gain)
    start, end = OUTCOMES[name]
    needed = min(gain - start, end - gain) * baseline / Z
    return Outcome(
        difference.comparison.backbone,
        gain,
        low,
        high,
        name,
        {other: float(np.diff(distribution.cdf(ends))[0]) for other, ends in OUTCOMES.items()},
        decided=low >= start and high < end and (name == "C" or difference.verdict == "higher"),
        images=images_needed(estimate, images, needed) if needed > 0 else None,
        seeds=seeds_needed(estimate, needed) if needed > 0 else None,
    )


# ---- attention -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """Mean attention weights of one row in tenths of the test images by MOS."""

    title: str
    mos: tuple[float, ...]  # mean of each tenth
    weights: np.ndarray  # [10, 4]
    seeds: int
    reading: str  # "seen", "in part", "reverse", "not seen", or "differs" between the seeds


def read_attention(grid: Grid, runs: Sequence[Run]) -> list[Attention]:
    """Attention of every row whose runs have it."""
    found = []
    for row in grid.rows():
        members = [run for run in runs if run.variant == row.log_name and run.predictions.attention is not None]
        if not members:
            continue
        mos = members[0].predictions.mos
        tenths = np.array_split(np.argsort(mos, kind="stable"), min(DECILES, len(mos)))
        weights = np.array([[run.predictions.attention[tenth].mean(axis=0) for tenth in tenths] for run in members])
        readings = {attention_reading(of_run[-1], of_run[0]) for of_run in weights}
        found.append(
            Attention(
                f"{row.backbone}: {row.title}",
                tuple(float(mos[tenth].mean()) for tenth in tenths),
                weights.mean(axis=0),
                len(members),
                readings.pop() if len(readings) == 1 else "differs",
            )
        )
    return found


def attention_reading(best: np.ndarray, worst: np.ndarray) -> str:
    """Compare the mean weights [4] of the best and the worst tenth with SMART-IQA's published pattern."""
    deep, shallow = (round(float(np.sum(weights[-DEEP:])), 12) for weights in (best, worst))
    rounded = np.round(worst, 12)
    if deep >= MOSTLY_DEEP and BALANCED[0] <= rounded.min() and rounded.max() <= BALANCED[1]:
        return "seen"
    if abs(round(deep - shallow, 12)) < SHIFT:
        return "not seen"
    return "in part" if deep > shallow else "reverse"


# ---- conclusions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conclusion:
    """Which of the older note's conclusions holds for the first CNN and the first Transformer; None is undecided."""

    conclusion: str | None
    cnn: str
    transformer: str
    verdicts: dict[str, str]  # of the backbone, the method on both backbones and the interaction
    of_ideas: bool


def read_conclusion(grid: Grid, found: Sequence[Difference], outcomes: Sequence[Outcome]) -> Conclusion | None:
    """Draw the conclusion; None if the grid has no CNN before a Transformer or a part is missing."""
    cnn = grid.families[0]
    transformer = next((family for family in grid.families if family.kind == TRANSFORMER), None)
    if cnn.kind != CNN or not transformer:
        return None
    by_key = {difference.key: difference for difference in found}
    parts = {
        "backbone": by_key.get(f"{transformer.backbone}.backbone"),
        "on the CNN": by_key.get("both"),
        "on the Transformer": by_key.get(f"{transformer.backbone}.both"),
        "interaction": by_key.get(f"{transformer.backbone}.interaction"),
    }
    if not all(parts.values()):
        return None
    verdicts = {name: part.verdict for name, part in parts.items()}
    c_on_cnn = any(outcome.backbone == cnn.title and outcome.decided and outcome.outcome == "C" for outcome in outcomes)
    conclusion = choose_conclusion(*verdicts.values(), c_on_cnn=c_on_cnn)
    return Conclusion(conclusion, cnn.title, transformer.title, verdicts, all(part.of_ideas for part in parts.values()))


def choose_conclusion(
    backbone: str, on_cnn: str, on_transformer: str, interaction: str, *, c_on_cnn: bool
) -> str | None:
    """A key of CONCLUSIONS from four verdicts; None if none follows."""
    if "withheld" in (backbone, on_cnn, on_transformer, interaction):
        return None
    if on_cnn == on_transformer == "higher":
        return "both" if backbone == "higher" else "generality"
    if backbone == "higher" and on_cnn != "higher" and (interaction == "higher" or c_on_cnn):
        return "hierarchical"
    return None
