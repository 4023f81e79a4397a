"""Numbers -> two readings by rule: the older note's three outcomes, and the published use of attention.

**Outcomes.** The relative gain of both ideas is mean SRCC of the full variant / mean SRCC of the baseline - 1, over the
paired seeds: A from 1%, B from 0.3% to below 1%, C below 0.3% (a loss too). The share of each is that of the bootstrap
draws that fall into it: images are drawn as everywhere, and with several seeds the seeds are drawn in each draw as well.
The outcome of the estimate is *shown* where at least 95% of the draws share it and the comparison agrees: for A and B it
is shown that the full variant is better (after Holm's correction), for C the whole interval of the gain lies below 0.3%.
Else it is *undecided*. Like a verdict it is about the ideas from three sound seeds on, else about the trained models, and
not read where a run is sick. There is none where the baseline's SRCC is not above 0.

**Attention** (`attention_reading`). SMART-IQA's paper reports 99.67% of the weight on the deep stages for good images and
a balance for bad ones. With stages 3 and 4 as deep, the best and the worst tenth of the images by MOS:

* seen: at least 95% deep in the best tenth, and each stage within 0.15 to 0.35 in the worst (uniform is 0.25);
* in part: not so, but the deep share of the best is at least 0.05 above that of the worst;
* reverse: it is at least 0.05 below; not seen: all else; differs: not the same for every seed.
"""

import numpy as np

from iqa.report.runs import STAGES

OUTCOMES = {"A": (0.01, "at least 1%"), "B": (0.003, "0.3% to 1%"), "C": (-np.inf, "below 0.3%")}  # from where on
SHOWN = 0.95  # share of the bootstrap
DEEP = 2  # stages, of the four, counted from the last
MOSTLY_DEEP = 0.95
BALANCED = (0.15, 0.35)
SHIFT = 0.05


# ---- the three outcomes --------------------------------------------------------------------------------------


def outcome_of(relative: float) -> str:
    """A, B or C."""
    return next(name for name, (start, _) in OUTCOMES.items() if round(relative, 12) >= start)


def outcome_numbers(
    baseline: np.ndarray, full: np.ndarray, draws: tuple[np.ndarray, np.ndarray], seed: int = 0
) -> dict | None:
    """The relative gain, its outcome, and the share of the bootstrap in each; None where the baseline's SRCC is not above 0.

    Args:
        baseline, full: SRCC of each, paired by seed (seeds,).
        draws: theirs in the same draws of the images, each (seeds, draws).
    """
    if not np.mean(baseline) > 0:
        return None
    seeds, count = draws[0].shape
    picks = np.random.default_rng(seed).integers(seeds, size=(seeds, count))
    below, above = (np.take_along_axis(values, picks, axis=0).mean(axis=0) for values in draws)
    usable = below > 0  # not NaN either
    relative = np.round(above[usable] / below[usable] - 1, 12)
    relative = relative[~np.isnan(relative)]
    estimate = float(np.mean(full) / np.mean(baseline) - 1)
    starts = [start for start, _ in OUTCOMES.values()]
    shares = [
        float(np.mean((relative >= start) & (relative < end))) if len(relative) else 0.0
        for start, end in zip(starts, [np.inf, *starts], strict=False)
    ]
    return {
        "baseline_srcc": float(np.mean(baseline)),
        "relative_gain": estimate,
        "outcome": outcome_of(estimate),
        "shares": dict(zip(OUTCOMES, shares, strict=True)),
    }


# ---- attention -----------------------------------------------------------------------------------------------


def attention_reading(best: np.ndarray, worst: np.ndarray) -> str:
    """'seen', 'in part', 'reverse' or 'not seen', from the mean weights (4,) of the best and of the worst tenth."""
    deep, shallow = (round(float(np.sum(weights[-DEEP:])), 12) for weights in (best, worst))
    rounded = np.round(worst, 12)
    if deep >= MOSTLY_DEEP and BALANCED[0] <= rounded.min() and rounded.max() <= BALANCED[1]:
        return "seen"
    if abs(round(deep - shallow, 12)) < SHIFT:
        return "not seen"
    return "in part" if deep > shallow else "reverse"


def attention_numbers(by_decile: list[dict]) -> dict | None:
    """The deep shares of the best and the worst tenth over seeds, and the reading; from what each run's deciles are."""
    if not by_decile:
        return None
    ends = [[np.array([groups[stage][place] for stage in STAGES]) for place in (-1, 0)] for groups in by_decile]
    readings = [attention_reading(*pair) for pair in ends]
    best, worst = np.mean(ends, axis=0)
    return {
        "deep_in_best": float(best[-DEEP:].sum()),
        "deep_in_worst": float(worst[-DEEP:].sum()),
        "seeds": len(readings),
        "per_seed": readings,
        "reading": readings[0] if len(set(readings)) == 1 else "differs",
    }
