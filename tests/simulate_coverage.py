"""How often the 95% intervals of a difference in SRCC cover the true one, on simulated data.

    python3 tests/simulate_coverage.py                           # 1,000 simulations a case: an hour on one core
    python3 tests/simulate_coverage.py --only interaction        # the differences of two differences
    python3 tests/simulate_coverage.py --simulations 100 --draws 500 --images 500

MOS and scores are jointly normal, so that the true SRCC of a correlation rho is known: (6 / pi) asin(rho / 2)
(Pearson 1907; Kruskal 1958, Ordinal measures of association, J. Am. Stat. Assoc. 53, 814-861). With several
seeds each run's rho is itself drawn, and the true difference is that of the means over all seeds.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from iqa.metrics import bootstrap_correlations, crossed_interval, srcc  # noqa: E402


@dataclass(frozen=True)
class Case:
    """Two models, or baseline and full variant on two backbones; their correlations with the MOS, and what their errors on
    an image have in common. The difference is that of the two models, or the second backbone's less the first's.
    """

    name: str
    correlations: tuple[float, ...]  # two, or four: (baseline, full, other baseline, other full)
    shared_error: float  # correlation of any two runs' errors on the same image
    seeds: int = 1
    seed_deviation: float = 0.0  # standard deviation over seeds of a run's correlation with the MOS

    @property
    def signs(self) -> np.ndarray:
        """Of the models in the difference."""
        return np.array({2: (-1, 1), 4: (1, -1, -1, 1)}[len(self.correlations)])


CASES = [
    Case("equal, one seed", (0.90, 0.90), 0.5),
    Case("0.90 and 0.91, one seed", (0.90, 0.91), 0.5),
    Case("0.70 and 0.80, one seed", (0.70, 0.80), 0.2),
    Case("equal, three seeds that agree", (0.90, 0.90), 0.5, seeds=3),
    Case("0.90 and 0.91, two seeds that vary much", (0.90, 0.91), 0.5, seeds=2, seed_deviation=0.006),
    Case("0.90 and 0.91, three seeds that vary much", (0.90, 0.91), 0.5, seeds=3, seed_deviation=0.006),
    Case("0.90 and 0.91, three seeds", (0.90, 0.91), 0.5, seeds=3, seed_deviation=0.002),
    Case("0.90 and 0.91, five seeds that vary much", (0.90, 0.91), 0.5, seeds=5, seed_deviation=0.006),
    Case("interaction of 0.010, one seed", (0.900, 0.902, 0.925, 0.936), 0.5),
    Case(
        "interaction of 0.010, three seeds that vary much",
        (0.900, 0.902, 0.925, 0.936),
        0.5,
        seeds=3,
        seed_deviation=0.006,
    ),
    Case("interaction of 0.010, three seeds", (0.900, 0.902, 0.925, 0.936), 0.5, seeds=3, seed_deviation=0.002),
]


def true_srcc(rho: np.ndarray | float) -> np.ndarray | float:
    """Spearman's correlation of a bivariate normal population with Pearson correlation rho."""
    return 6 / math.pi * np.arcsin(np.asarray(rho) / 2)


def true_difference(case: Case) -> float:
    """The mean over all seeds of the difference in SRCC: Gauss-Hermite quadrature over rho."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    means = [weights @ true_srcc(rho + case.seed_deviation * nodes) / weights.sum() for rho in case.correlations]
    return float(case.signs @ means)


def simulate(case: Case, images: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """MOS (images,) and scores (models, seeds, images)."""
    models = len(case.correlations)
    mos, common = generator.standard_normal((2, images))
    own = generator.standard_normal((models, case.seeds, images))
    errors = math.sqrt(case.shared_error) * common + math.sqrt(1 - case.shared_error) * own
    drawn = generator.standard_normal((models, case.seeds)) * case.seed_deviation
    rho = (np.array(case.correlations)[:, None] + drawn)[:, :, None]
    return mos, rho * mos + np.sqrt(1 - rho**2) * errors


def covers(case: Case, images: int, draws: int, generator: np.random.Generator) -> bool:
    """Whether the interval of one simulated test set holds the true difference."""
    mos, scores = simulate(case, images, generator)
    ranked, _ = bootstrap_correlations(scores.reshape(-1, images), mos, draws, seed=int(generator.integers(2**31)))
    ranked = ranked.reshape(-1, case.seeds, draws)
    levels = np.array([[srcc(run, mos) for run in model] for model in scores])
    interval = crossed_interval(case.signs @ levels, np.tensordot(case.signs, ranked, 1))
    return interval.low <= true_difference(case) <= interval.high


def coverage(case: Case, simulations: int, images: int, draws: int, seed: int) -> float:
    """The share of simulations whose interval covers the truth; its own standard error is about 0.007 at 1,000."""
    generator = np.random.default_rng(seed)
    return sum(covers(case, images, draws, generator) for _ in range(simulations)) / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000, help="simulated test sets per case")
    parser.add_argument("--images", type=int, default=2015, help="images of a test set")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws per simulation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their names")
    flags = parser.parse_args()
    for case in CASES:
        if flags.only not in case.name:
            continue
        share = coverage(case, flags.simulations, flags.images, flags.draws, flags.seed)
        print(f"{case.name:<48} true difference {true_difference(case):+.4f}   coverage {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
