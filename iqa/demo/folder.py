"""The folder of the demo: its note, its csv with invented labels, and its images, which a later call completes."""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from iqa.atomic_files import csv_text, wait_for_lock, write_atomically
from iqa.cli import say
from iqa.data.readers import DEMO_NOTE, OFFICIAL_CSV
from iqa.demo.faults import BEST_MOS, WORST_MOS, demo_image
from iqa.demo.scenes import HEIGHT, WIDTH, random_generator
from iqa.processes import leave_signals_to_parent

NOTE = "Demo images: procedural scenes with synthetic faults, not KonIQ-10k's photographs."
IMAGE_FOLDER = f"{WIDTH}x{HEIGHT}"
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


@contextlib.contextmanager
def locked_folder(output: Path) -> Iterator[Path]:
    """Make the folder, and wait while another process writes it."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; give a folder")
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            wait_for_lock(descriptor, f"{output}: waiting for another process that writes it")
        yield output
    finally:
        os.close(descriptor)


def write_folder(output: Path, rows: list[Row], seed: int, workers: int) -> None:
    """Write the note, the csv, and the images that are missing or empty.

    Raises:
        ValueError: the folder contains something else.
    """
    prepare_folder(output, seed, as_csv(rows))
    folder = output / IMAGE_FOLDER
    for leftover in folder.glob(".*.tmp"):  # left by killed processes
        leftover.unlink()
    finished = {entry.name for entry in os.scandir(folder) if entry.stat().st_size > 0}
    missing = [row for row in rows if row["image_name"] not in finished]
    if len(missing) < len(rows):
        say(f"{output}: {len(rows) - len(missing)} of {len(rows)} images exist from an earlier call")
    tasks = [(folder / row["image_name"], seed, float(row["MOS"])) for row in missing]
    with ProcessPoolExecutor(workers, initializer=leave_signals_to_parent) as executor:
        try:
            for count, _ in enumerate(executor.map(write_image, tasks), start=1):
                if count * 10 // len(tasks) > (count - 1) * 10 // len(tasks):
                    say(f"demo images: {count} of {len(tasks)}")
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def as_csv(rows: list[Row]) -> str:
    return csv_text([rows[0], *(row.values() for row in rows)])


def prepare_folder(output: Path, seed: int, table: str) -> None:
    """Write the note and the csv, or check that existing ones have the same arguments."""
    note, labels = output / DEMO_NOTE, output / OFFICIAL_CSV
    checksum = hashlib.sha256(table.encode()).hexdigest()
    text = f"{NOTE}\nWritten by demo_dataset.py.\nseed {seed}\nSHA-256 of {OFFICIAL_CSV} {checksum}\n"
    if not note.is_file() and any(output.iterdir()):
        raise ValueError(f"--output {output} is not empty and has no {DEMO_NOTE}; give an empty folder or a new one")
    if note.is_file() and note.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"--output {output} is a demo made with other arguments; give the same --images and --seed, or a new folder"
        )
    if labels.is_file() and labels.read_text(encoding="utf-8") != table:
        raise ValueError(
            f"--output {output}: {OFFICIAL_CSV} was changed after it was written; remove it or give a new folder"
        )
    (output / IMAGE_FOLDER).mkdir(exist_ok=True)
    write_atomically(note, text)
    write_atomically(labels, table)


def write_image(task: tuple[Path, int, float]) -> None:
    """Write an image atomically, without a flush to disk: a later call writes an image that was lost."""
    path, seed, mos = task
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(demo_image(seed, path.name, mos))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
