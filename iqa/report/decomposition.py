"""The gain of a grid taken apart: what the backbone adds, what the method adds on each backbone, and their interaction.

The reference is the first backbone of the grid (ResNet50 where it is there, else another CNN before a Transformer); every other one is set against it. *Method*
is both ideas together: the full variant less the baseline, which each backbone's own comparisons hold as "both". With
b and f the SRCC of baseline and full variant, and the reference first:

    backbone, between the baselines        b' - b
    backbone, between the full variants    f' - f
    interaction                            (f' - b') - (f - b)       does the method do more for the other backbone?
    total                                  f' - b   =   backbone (b' - b) + method (f - b) + interaction

Each is computed for every seed that all its runs share (in the order of the seeds where they share none) and in every
bootstrap draw, whose images are the same for all runs; `metrics.crossed_interval` makes the interval over images and
seeds of it, as of any other difference.
"""

from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from iqa import metrics
from iqa.report.rows import BASELINE, FULL, Family
from iqa.report.runs import Run

METRICS = ("srcc", "plcc")


class Contrast(NamedTuple):
    """A sum of runs' correlations: (sign, whether of the other backbone rather than the reference, variant)."""

    title: str
    terms: tuple[tuple[int, bool, str], ...]


CONTRASTS = {
    "backbone_baseline": Contrast("Backbone, between the baselines", ((1, True, BASELINE), (-1, False, BASELINE))),
    "backbone_full": Contrast("Backbone, between the full variants", ((1, True, FULL), (-1, False, FULL))),
    "interaction": Contrast(
        "Interaction: method × backbone",
        ((1, True, FULL), (-1, True, BASELINE), (-1, False, FULL), (1, False, BASELINE)),
    ),
    "total": Contrast("Total: both ideas and the backbone", ((1, True, FULL), (-1, False, BASELINE))),
}


def decompose(families: list[Family], by_variant: dict[str, list[Run]], bootstrap, sick: set[str]) -> list[dict]:
    """For each backbone but the reference its contrasts, each None where a variant is missing.

    Args:
        bootstrap: iqa.report.numbers.Bootstrap of all runs.
        sick: the folders of the runs that are not sound.
    """
    reference, *others = families
    return [
        {
            "reference": reference.backbone,
            "other": other.backbone,
            "contrasts": {
                name: contrast_numbers(
                    [
                        (sign, by_variant[(other if of_other else reference).rows[ending]])
                        for sign, of_other, ending in contrast.terms
                    ],
                    bootstrap,
                    sick,
                )
                for name, contrast in CONTRASTS.items()
            },
        }
        for other in others
    ]


def contrast_numbers(terms: list[tuple[int, list[Run]]], bootstrap, sick: set[str]) -> dict | None:
    """The signed sum of the terms' correlations, with intervals; None where a term has no run.

    Args:
        terms: a sign and the runs of a variant, one for each seed.
    """
    if not all(runs for _, runs in terms):
        return None
    signs = np.array([sign for sign, _ in terms])
    matched = matched_by_seed([runs for _, runs in terms])  # for each seed the runs of all terms
    per_seed = [
        {
            "seeds": [run.seed for run in runs],
            **{
                metric: float(signs @ [getattr(metrics, metric)(run.scores, run.mos) for run in runs])
                for metric in METRICS
            },
        }
        for runs in matched
    ]
    draws = {
        metric: sum(sign * bootstrap.of(metric, [runs[place] for runs in matched]) for place, sign in enumerate(signs))
        for metric in METRICS
    }
    intervals = {
        metric: asdict(metrics.crossed_interval([seed[metric] for seed in per_seed], draws[metric]))
        for metric in METRICS
    }
    if len(matched) > 1:
        intervals["srcc"]["plain_crossed"] = dict(
            zip(("low", "high"), metrics.plain_crossed_percentiles(draws["srcc"]), strict=True)
        )
    return {
        **intervals,
        "sick": sorted({run.name for runs in matched for run in runs if run.name in sick}),
        "identical": not any(np.any(np.nan_to_num(draws[metric])) for metric in METRICS),
        "per_seed": per_seed,
    }


def matched_by_seed(variants: list[list[Run]]) -> list[tuple[Run, ...]]:
    """The runs that share a seed, for each seed that all variants have; where there is none, in the order of the seeds."""
    by_seed = [{run.seed: run for run in runs} for runs in variants]
    shared = sorted(set.intersection(*map(set, by_seed)))
    return [tuple(runs[seed] for runs in by_seed) for seed in shared] or list(zip(*variants, strict=False))
