"""Error rates of the health checks: false warnings about healthy ablations, and detection of failed runs.

    python3 tools/simulate_health.py                            # about five minutes on one core

A healthy score is what an L1 loss learns: the median MOS given what the network sees, with MOS in (0, 100) distributed
as those of photographs. Healthy validation curves approach their limit exponentially, to 0.00025 SRCC at the last
epoch, with independent noise in each epoch.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import special, stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from iqa.health import LIMITATIONS, findings, is_improving, last_rise, run_health  # noqa: E402

SHARES = np.linspace(0.0005, 0.9995, 4000)
SKEWED = stats.beta(5, 3).ppf(SHARES)
CORRELATIONS = (0.65, 0.75, 0.85, 0.92)
FAILED_RUNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "constant": lambda scores, mos: np.full_like(scores, mos.mean()),
    "nearly constant": lambda scores, mos: mos.mean() + 0.1 * (scores - mos.mean()),
    "one-sided, nothing below the mean": lambda scores, mos: np.maximum(scores, mos.mean()),
    "one-sided, nothing above the mean": lambda scores, mos: np.minimum(scores, mos.mean()),
    "scores of other images": lambda scores, mos: scores[::-1],
    "scores off by 40 points": lambda scores, mos: scores + 40,
}


def healthy_scores(images: int, correlation: float, generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores and MOS of one healthy run."""
    quality, noise = generator.standard_normal((2, images))
    seen = correlation * quality + np.sqrt(1 - correlation**2) * noise
    scores, mos = (100 * np.interp(special.ndtr(z), SHARES, SKEWED) for z in (correlation * seen, quality))
    return scores, mos


def healthy_curves(runs: int, epochs: int, noise: float, generator) -> np.ndarray:
    """Validation SRCC [runs, epochs] of converged runs."""
    time = np.linspace(6 / epochs, 6, epochs)
    return 0.90 - 0.1 * np.exp(-time) + noise * generator.standard_normal((runs, epochs))


def kinds_of(scores: np.ndarray, mos: np.ndarray, curve: np.ndarray) -> set[str]:
    """Findings of a run with these test scores and this validation curve."""
    history = [
        {"epoch": epoch, "train_loss": 8.0, "val_srcc": float(value)} for epoch, value in enumerate(curve, start=1)
    ]
    health = run_health(
        scores=scores,
        mos=mos,
        mos_range=(0, 100),
        target_layers=[{"dead": 0.0, "saturated": 0.0, "either": 0.0}] * 4,
        selected_epoch=1 + int(np.argmax(curve)),
        history=history,
        select_on="val",
        constant_loss=15.0,
    )
    return {finding.kind for finding in findings(health)}


def warned_scores(images: int, runs: int, seed: int) -> np.ndarray:
    """Whether each of many healthy runs has a finding about anything but its curve."""
    generator = np.random.default_rng([seed, images])
    found = []
    for _ in range(runs):
        scores, mos = healthy_scores(images, CORRELATIONS[generator.integers(len(CORRELATIONS))], generator)
        curve = healthy_curves(1, 10, 0.001, generator)[0]
        found.append(bool(kinds_of(scores, mos, curve) - {"still_improving"}))
    return np.array(found)


def false_warnings(seeds: int, epochs: int, noise: float, warned: np.ndarray, ablations: int, seed: int) -> float:
    """Share of healthy ablations of three variants whose report has a warning; scores come from `warned` runs."""
    generator = np.random.default_rng([seed, seeds, epochs])
    count = 0
    for _ in range(ablations):
        curves = healthy_curves(3 * seeds, epochs, noise, generator).reshape(3, seeds, epochs)
        improving = any(is_improving(*last_rise(variant.mean(axis=0))) for variant in curves)
        first_epoch = bool((curves.argmax(axis=2) == 0).any())
        count += improving or first_epoch or warned[generator.integers(len(warned), size=3 * seeds)].any()
    return count / ablations


def detection(change, images: int, runs: int, seed: int) -> float:
    """Share of failed runs that are called failed."""
    generator = np.random.default_rng([seed, images])
    curve = healthy_curves(1, 10, 0.0, generator)[0]
    detected = 0
    for _ in range(runs):
        scores, mos = healthy_scores(images, CORRELATIONS[generator.integers(len(CORRELATIONS))], generator)
        detected += bool(kinds_of(change(scores, mos), mos, curve) - set(LIMITATIONS) - {"still_improving"})
    return detected / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablations", type=int, default=1000, help="of each case; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    flags = parser.parse_args()
    warned = warned_scores(300, flags.ablations, flags.seed)
    print(f"Healthy ablations with any warning ({warned.mean():.2%} of runs have one about their scores)")
    for seeds in (3, 5, 1):
        for epochs in (5, 10, 16):
            for noise in (0.001, 0.003):
                share = false_warnings(seeds, epochs, noise, warned, flags.ablations, flags.seed)
                print(f"  {3 * seeds} runs, {epochs} epochs, noise {noise}: {share:.1%}", flush=True)
    print("Failed runs that are called failed")
    for name, change in FAILED_RUNS.items():
        shares = [detection(change, images, flags.ablations, flags.seed) for images in (60, 300, 2000)]
        print(f"  {name}: " + ", ".join(f"{share:.1%}" for share in shares) + " (60, 300, 2,000 images)", flush=True)


if __name__ == "__main__":
    main()
