"""Invented labels of the demo, as rows of the official csv."""

from collections import Counter

import numpy as np

from iqa.demo.faults import BEST_MOS, WORST_MOS
from iqa.demo.scenes import random_generator

Row = dict[str, str]  # a row of the csv, by column
COLUMNS = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD", "set")
SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}  # KonIQ-10k: 7,058 / 1,000 / 2,015
RATING_SPREAD = 0.57  # standard deviation of the ratings of an image on the 1-5 scale; the median SD of KonIQ-10k


def invent_rows(images: int, seed: int) -> list[Row]:
    """Rows whose MOS are uniform on the scale. Each set has at least 20 images, or a quarter of a small number."""
    rng = random_generator(seed, "labels", images)
    least = max(2, min(20, images // 4))
    sizes = {name: max(least, round(images * share)) for name, share in SHARES.items()}
    sizes["training"] = images - sizes["validation"] - sizes["test"]
    sets = rng.permutation([name for name, size in sizes.items() for _ in range(size)])
    return [invent_row(f"{index:08d}.jpg", str(set_name), rng) for index, set_name in enumerate(sets, start=1)]


def invent_row(name: str, set_name: str, rng: np.random.Generator) -> Row:
    """The ratings, 1 to 5, of 90 to 130 raters. The MOS is their mean on 0-100, the SD theirs on 1-5."""
    raters, opinion = int(rng.integers(90, 131)), 1 + rng.uniform(WORST_MOS, BEST_MOS) / 25
    ratings = np.rint(rng.normal(opinion, RATING_SPREAD, raters)).clip(1, 5)
    fractions = np.bincount(ratings.astype(int), minlength=6)[1:] / raters
    mos, deviation = 25 * (ratings.mean() - 1), ratings.std(ddof=1)
    numbers = [*(f"{part:.12g}" for part in fractions), str(raters), f"{mos:.12g}", f"{deviation:.12g}"]
    return dict(zip(COLUMNS, [name, *numbers, set_name], strict=True))


def describe_sizes(rows: list[Row]) -> str:
    counts = Counter(row["set"] for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in SHARES)
