"""Labels of the demo as rows of the official csv: invented, or taken from an official csv."""

from collections import Counter
from pathlib import Path

import numpy as np

from iqa.data.label_files import read_mos, read_table
from iqa.data.labels import Label, check_names
from iqa.data.readers import OFFICIAL_CSV
from iqa.demo.faults import BEST_MOS, WORST_MOS
from iqa.demo.scenes import random_generator

Row = dict[str, str]  # a row of the csv, by column
COLUMNS = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD", "set")
SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}  # KonIQ-10k: 7,058 / 1,000 / 2,015
RATING_SPREAD = 0.57  # standard deviation of the ratings of an image on the 1-5 scale; the median SD of KonIQ-10k


def choose_rows(images: int | None, metadata: str | None, seed: int) -> list[Row]:
    """The rows that --images and --metadata ask for."""
    if images is None and metadata is None:
        raise ValueError("--images is missing; give a number, such as --images 300, or a csv with --metadata")
    if images is not None and images < 6:
        raise ValueError(f"--images {images} is too small for three sets; give 6 or more")
    if metadata is None:
        return invent_rows(images, seed)
    rows = read_rows(metadata)
    if images is not None and images > len(rows):
        raise ValueError(f"--images {images}: {metadata} has only {len(rows)} rows; leave --images out for all of them")
    return rows if images is None else evenly_spaced(rows, images)


def invent_rows(images: int, seed: int) -> list[Row]:
    """Rows whose MOS are uniform on the scale. Each set has at least 20 images, or a quarter of a small number."""
    rng = random_generator(seed, "labels", images)
    sizes = split_sizes(images, SHARES, at_least=max(2, min(20, images // 4)))
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


def read_rows(path: str) -> list[Row]:
    """The rows of an official csv, whose names, MOS and sets are checked."""
    if not Path(path).is_file():
        raise ValueError(f"--metadata {path}: no such file; give the path of {OFFICIAL_CSV}")
    rows, labels = [], []
    for where, row in read_table(Path(path), ("image_name", "MOS", "set")):
        name = row["image_name"]
        if Path(name).name != name or not name.lower().endswith(".jpg"):
            raise ValueError(f"{where}: image_name {name!r} is not a file name that ends in .jpg")
        if row["set"] not in SHARES:
            raise ValueError(f"{where}: set {row['set']!r} is none of {', '.join(SHARES)}")
        labels.append(Label(name, read_mos(row["MOS"], where, "MOS", 0, 100), row["set"], where))
        rows.append(row)
    check_names(labels)
    if not rows:
        raise ValueError(f"--metadata {path} has no rows; give the official {OFFICIAL_CSV}")
    return rows


def evenly_spaced(rows: list[Row], images: int) -> list[Row]:
    """A part of the rows in their order: each set in proportion, and evenly spaced within its rows."""
    members = {name: [row for row in rows if row["set"] == name] for name in SHARES}
    available = {name: len(rows_of_set) for name, rows_of_set in members.items() if rows_of_set}
    chosen = set()
    for name, size in split_sizes(images, available, at_least=1).items():
        chosen.update(members[name][index * available[name] // size]["image_name"] for index in range(size))
    return [row for row in rows if row["image_name"] in chosen]


def split_sizes(images: int, available: dict[str, float], at_least: int) -> dict[str, int]:
    """Share the images among the sets in proportion to `available`; the largest set gets the rest."""
    total, largest = sum(available.values()), max(available, key=available.get)
    sizes = {name: max(at_least, round(images * part / total)) for name, part in available.items()}
    sizes[largest] = images - sum(size for name, size in sizes.items() if name != largest)
    return sizes


def describe_sizes(rows: list[Row]) -> str:
    counts = Counter(row["set"] for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in SHARES)
