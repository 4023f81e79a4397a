"""The demo's labels: invented ones, or those of an official csv, as rows of a csv with KonIQ's columns."""

import csv
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from iqa.data.readers import OFFICIAL_CSV
from iqa.demo.faults import BEST_MOS, WORST_MOS
from iqa.demo.scenes import random_generator

COLUMNS = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD", "set")
SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}  # KonIQ-10k: 7,058 / 1,000 / 2,015
RATING_SPREAD = 0.57  # standard deviation of one image's ratings on the 1-5 scale; KonIQ's median SD


class Row(NamedTuple):
    """One image of the csv: its name, its MOS (0-100), its set, and its line in the file."""

    name: str
    mos: float
    set_name: str
    line: str


def chosen_rows(images: int | None, metadata: str | None, seed: int) -> tuple[str, list[Row]]:
    """The csv's header and rows that the arguments ask for."""
    if images is None and metadata is None:
        raise ValueError("--images is missing; give a number, such as --images 300, or a csv with --metadata")
    if images is not None and images < 6:
        raise ValueError(f"--images {images} is too small for three sets; give 6 or more")
    if metadata is None:
        return ",".join(COLUMNS), invented_rows(images, seed)
    header, rows = read_metadata(metadata)
    if images is not None and images > len(rows):
        raise ValueError(f"--images {images}: {metadata} has only {len(rows)} rows; leave --images out for all of them")
    return header, rows if images is None else evenly_spaced(rows, images)


def split_sizes(images: int, available: dict[str, float], at_least: int) -> dict[str, int]:
    """Share `images` among the sets in proportion to `available`, with `at_least` in each; the largest gets the rest."""
    total, largest = sum(available.values()), max(available, key=available.get)
    sizes = {name: max(at_least, round(images * part / total)) for name, part in available.items()}
    sizes[largest] = images - sum(size for name, size in sizes.items() if name != largest)
    return sizes


def invented_rows(images: int, seed: int) -> list[Row]:
    """Rows with MOS spread evenly over the scale; no set has fewer than 20 images, or a quarter of a small number."""
    rng = random_generator(seed, "labels", images)
    sizes = split_sizes(images, SHARES, at_least=max(2, min(20, images // 4)))
    sets = rng.permutation([name for name, size in sizes.items() for _ in range(size)])
    return [invented_row(f"{index:08d}.jpg", str(set_name), rng) for index, set_name in enumerate(sets, start=1)]


def invented_row(name: str, set_name: str, rng: np.random.Generator) -> Row:
    """Let 90 to 130 raters choose 1 to 5; the MOS is their mean on the 0-100 scale, the SD theirs on 1-5."""
    raters, opinion = int(rng.integers(90, 131)), 1 + rng.uniform(WORST_MOS, BEST_MOS) / 25
    ratings = np.rint(rng.normal(opinion, RATING_SPREAD, raters)).clip(1, 5)
    fractions = np.bincount(ratings.astype(int), minlength=6)[1:] / raters
    mos, deviation = 25 * (ratings.mean() - 1), ratings.std(ddof=1)
    numbers = [*(f"{part:.12g}" for part in fractions), raters, f"{mos:.12g}", f"{deviation:.12g}"]
    return Row(name, float(f"{mos:.12g}"), set_name, ",".join(map(str, [name, *numbers, set_name])))


def read_metadata(path: str) -> tuple[str, list[Row]]:
    """The header and the rows of an official csv."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--metadata {path}: {error}; give the path of {OFFICIAL_CSV}") from error
    header = next(csv.reader(lines[:1]), [])
    missing = [column for column in ("image_name", "MOS", "set") if column not in header]
    if missing:
        raise ValueError(f"--metadata {path}: no column {', '.join(missing)}; give the official {OFFICIAL_CSV}")
    rows = [metadata_row(line, header, f"--metadata {path}, line {n}") for n, line in enumerate(lines[1:], 2) if line]
    if not rows:
        raise ValueError(f"--metadata {path} has no rows; give the official {OFFICIAL_CSV}")
    refuse_duplicates(rows, path)
    return lines[0], rows


def metadata_row(line: str, header: list[str], place: str) -> Row:
    fields = dict(zip(header, next(csv.reader([line]), []), strict=False))
    name, mos, set_name = (fields.get(column, "") for column in ("image_name", "MOS", "set"))
    if PurePath(name).name != name or "\\" in name or not name.lower().endswith(".jpg"):
        raise ValueError(f"{place}: image_name {name!r} is not a plain file name that ends in .jpg")
    if not is_score(mos):
        raise ValueError(f"{place}: MOS {mos!r} is not a number from 0 to 100")
    if set_name not in SHARES:
        raise ValueError(f"{place}: set {set_name!r} is none of {', '.join(SHARES)}")
    return Row(name, float(mos), set_name, line)


def is_score(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def refuse_duplicates(rows: list[Row], path: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise ValueError(f"--metadata {path}: image_name {row.name!r} is there twice; remove one of the rows")
        seen.add(row.name)


def evenly_spaced(rows: list[Row], images: int) -> list[Row]:
    """`images` of the rows, each set in proportion and evenly spaced within its rows, in the file's order."""
    by_set = {name: [row for row in rows if row.set_name == name] for name in SHARES}
    available = {name: len(members) for name, members in by_set.items() if members}
    chosen: set[str] = set()
    for name, size in split_sizes(images, available, at_least=1).items():
        chosen.update(by_set[name][index * available[name] // size].name for index in range(size))
    return [row for row in rows if row.name in chosen]


def sizes_line(rows: list[Row]) -> str:
    return ", ".join(f"{sum(row.set_name == name for row in rows)} {name}" for name in SHARES)
