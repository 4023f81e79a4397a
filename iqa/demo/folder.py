"""The folder of the demo: its note, its csv and its images, which a later call completes."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from iqa.atomic_files import csv_text, wait_for_lock, write_atomically
from iqa.cli import say
from iqa.data.readers import DEMO_NOTE, OFFICIAL_CSV
from iqa.demo.faults import demo_image
from iqa.demo.rows import Row
from iqa.demo.scenes import HEIGHT, WIDTH

NOTE = "Demo images: procedural scenes with synthetic faults, not KonIQ-10k's photographs."
IMAGE_FOLDER = f"{WIDTH}x{HEIGHT}"


@contextlib.contextmanager
def locked_folder(output: Path) -> Iterator[Path]:
    """Make the folder, and wait while another process writes it."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; give a folder")
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            wait_for_lock(descriptor, say, f"{output}: waiting for another process that writes it")
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
    with ProcessPoolExecutor(workers, initializer=follow_parent) as executor:
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
    temporary.write_bytes(demo_image(seed, path.name, mos))
    os.replace(temporary, path)


def follow_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
