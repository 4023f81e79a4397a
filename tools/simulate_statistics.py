"""Error rates of the report's statistics on simulated ablations: coverage, power, familywise error.

    python3 tools/simulate_statistics.py coverage --ablations 1000
    python3 tools/simulate_statistics.py agreement power familywise

MOS and scores are jointly normal, so the true SRCC of a correlation rho is (6 / pi) asin(rho / 2) (Pearson 1907). The
SRCC of a run varies over seeds with the stated standard deviation; the errors of any two runs on one image correlate at
SHARED_ERROR. Every ablation goes through the functions of iqa/report/statistics.py. Only the covariance of the runs
over resampled images comes from influence functions (infinitesimal jackknife) instead of 10,000 resamples; with one
seed, the percentiles are those of a normal distribution with that variance. `agreement` compares both.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from iqa.metrics import bootstrap_correlations, srcc  # noqa: E402
from iqa.report.statistics import ALPHA, Estimate, combined_estimate, gatekeeping, percentile_estimate  # noqa: E402

SHARED_ERROR = 0.7
BASELINE = 0.90  # true SRCC
NORMAL = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)


def simulate(levels, seeds, deviation: float, images: int, generator) -> tuple[np.ndarray, np.ndarray]:
    """MOS [N] and the scores of all runs [R, N]; `levels` and `seeds` have an entry for each variant."""
    runs = sum(seeds)
    mos, common = generator.standard_normal((2, images))
    drawn = np.repeat(levels, seeds) + deviation * generator.standard_normal(runs)
    rho = 2 * np.sin(np.pi * drawn / 6)[:, None]
    own = generator.standard_normal((runs, images))
    errors = math.sqrt(SHARED_ERROR) * common + math.sqrt(1 - SHARED_ERROR) * own
    return mos, rho * mos + np.sqrt(1 - rho**2) * errors


def measure(scores: np.ndarray, mos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SRCC of R runs [R] and their covariance over images [R, R]; no ties.

    With u and v the ranks of score and MOS divided by N, SRCC is 12 E[uv] - 3 but for a factor of 1 - 1/N^2. An image
    contributes its own product, the ranks that it adds to higher scores and those that it adds to higher MOS.
    """
    images = len(mos)
    ranks = (np.arange(images) + 0.5) / images
    scores = scores[:, np.argsort(mos)]
    by_score = np.argsort(scores, axis=1)
    u, above_score = np.empty_like(scores), np.empty_like(scores)
    np.put_along_axis(u, by_score, np.broadcast_to(ranks, scores.shape), axis=1)
    np.put_along_axis(above_score, by_score, np.cumsum(ranks[by_score][:, ::-1], axis=1)[:, ::-1], axis=1)
    above_mos = np.cumsum(u[:, ::-1], axis=1)[:, ::-1]
    influence = 12 * (u * ranks + (above_mos + above_score) / images)
    influence -= influence.mean(axis=1, keepdims=True)
    values = 12 * ((u @ ranks) / images - 0.25) * images**2 / (images**2 - 1)
    return values, influence @ influence.T / images**2


def runs_of(seeds) -> list[range]:
    """The runs of each variant."""
    ends = np.cumsum(seeds)
    return [range(end - count, end) for end, count in zip(ends, seeds, strict=True)]


def difference(values, covariance, after, before) -> Estimate:
    if min(len(after), len(before)) > 1:
        return combined_estimate(values, covariance, [(1, after), (-1, before)])
    weights = np.zeros(len(values))
    weights[list(after)] += 1 / len(after)
    weights[list(before)] -= 1 / len(before)
    value = float(weights @ values)
    return percentile_estimate(value, value + math.sqrt(weights @ covariance @ weights) * NORMAL)


def coverage(seeds, *, deviation: float, images: int, gain: float, ablations: int, seed: int) -> tuple[float, float]:
    """Share of intervals that include the true difference, and of those that exclude 0."""
    generator = np.random.default_rng([seed, images, *seeds])
    covered = shown = 0
    for _ in range(ablations):
        mos, scores = simulate((BASELINE, BASELINE + gain), seeds, deviation, images, generator)
        before, after = runs_of(seeds)
        found = difference(*measure(scores, mos), after, before)
        covered += found.low <= gain <= found.high
        shown += found.p_value < ALPHA
    return covered / ablations, shown / ablations


def familywise(seeds, levels, *, deviation: float, images: int, ablations: int, seed: int) -> tuple[float, float]:
    """Share of ablations with a false confirmatory claim, and of those that show the primary difference."""
    generator = np.random.default_rng([seed, *seeds, int(1e4 * sum(levels))])
    false = primary_shown = 0
    for _ in range(ablations):
        mos, scores = simulate(levels, seeds, deviation, images, generator)
        measured, (baseline, multiscale, full) = measure(scores, mos), runs_of(seeds)
        primary, *parts = (
            difference(*measured, after, before)
            for after, before in ((full, baseline), (multiscale, baseline), (full, multiscale))
        )
        truths = (levels[2] - levels[0], levels[1] - levels[0], levels[2] - levels[1])
        p_values = [primary.p_value, *gatekeeping(primary.p_value, [part.p_value for part in parts])]
        shown = [p_value < ALPHA for p_value in p_values]
        false += any(claim and abs(truth) < 1e-12 for claim, truth in zip(shown, truths, strict=True))
        primary_shown += shown[0]
    return false / ablations, primary_shown / ablations


def print_agreement(flags) -> None:
    """SRCC and standard errors of differences by influence functions and by the bootstrap."""
    print("\nStandard error of a difference by influence functions, divided by that of 4,000 resamples")
    for images in (300, 1000, 2000):
        generator = np.random.default_rng(flags.seed)
        ratios = []
        for _ in range(10):
            mos, scores = simulate((0.90, 0.91), (1, 1), 0.0, images, generator)
            values, covariance = measure(scores, mos)
            assert np.allclose(values, [srcc(row, mos) for row in scores], atol=1e-6)
            draws, _ = bootstrap_correlations(scores, mos, 4000, flags.seed)
            contrast = np.array([-1, 1])
            ratios.append(math.sqrt(contrast @ covariance @ contrast) / np.std(draws[1] - draws[0]))
        print(f"  {images} images: {np.mean(ratios):.3f}")


def print_coverage(flags) -> None:
    print(f"\nCoverage of the 95% interval of a difference of 0.01 ({flags.ablations} ablations each)")
    cases = ((1, 1), (2, 2), (3, 2), (3, 3), (5, 5))
    print("| images | deviation over seeds | " + " | ".join(f"{a}, {b} runs" for a, b in cases) + " |")
    for images in (300, 1000, 2000):
        for deviation in (0.0, 0.003, 0.01):
            cells = []
            for seeds in cases:
                if seeds == (1, 1) and deviation:
                    cells.append("–")  # the interval is for the trained models
                    continue
                share, _ = coverage(
                    seeds, deviation=deviation, images=images, gain=0.01, ablations=flags.ablations, seed=flags.seed
                )
                cells.append(f"{share:.1%}")
            print(f"| {images} | {deviation} | " + " | ".join(cells) + " |", flush=True)


def print_power(flags) -> None:
    print(f"\nPower for a gain of 0.01, deviation over seeds 0.003, 2,000 images ({flags.ablations} ablations each)")
    for seeds in ((2, 2), (3, 3), (5, 5)):
        _, shown = coverage(
            seeds, deviation=0.003, images=2000, gain=0.01, ablations=flags.ablations, seed=flags.seed + 1
        )
        print(f"  {seeds[0]} runs of each: {shown:.1%}", flush=True)


def print_familywise(flags) -> None:
    print(f"\nFamilywise error, primary difference and parts, 1,000 images, deviation 0.003 ({flags.ablations} each)")
    limit = 0.055 + 2 * math.sqrt(0.05 * 0.95 / flags.ablations)
    for name, levels in (("no effect", (0.90, 0.90, 0.90)), ("only multi-scale is real", (0.90, 0.91, 0.91))):
        for seeds in ((1, 1, 1), (3, 3, 3), (5, 5, 5)):
            deviation = 0.0 if seeds[0] == 1 else 0.003
            false, shown = familywise(
                seeds, levels, deviation=deviation, images=1000, ablations=flags.ablations, seed=flags.seed
            )
            print(
                f"  {name}, {seeds[0]} runs: {false:.1%} false (limit {limit:.1%}); primary shown in {shown:.1%}",
                flush=True,
            )


TABLES = {
    "agreement": print_agreement,
    "coverage": print_coverage,
    "power": print_power,
    "familywise": print_familywise,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; default: all")
    parser.add_argument(
        "--ablations", type=int, default=4000, help="simulated ablations of each case; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    flags = parser.parse_args()
    unknown = set(flags.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {min(unknown)!r}; there are {', '.join(TABLES)}")
    for name in flags.tables or TABLES:
        TABLES[name](flags)


if __name__ == "__main__":
    main()
