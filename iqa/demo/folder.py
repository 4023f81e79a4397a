"""The demo's folder: its marker and csv, and its images, written by several processes and completed by a later call."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from iqa.atomic_files import write_atomically
from iqa.cli import say
from iqa.data.readers import DEMO_NOTE, OFFICIAL_CSV
from iqa.demo.faults import demo_image
from iqa.demo.scenes import HEIGHT, WIDTH

NOTE = "Demo images: procedural scenes with synthetic faults, not KonIQ-10k's photographs."
IMAGE_FOLDER = f"{WIDTH}x{HEIGHT}"


def marker_text(seed: int, table: str) -> str:
    """The marker's content: two runs with the same arguments have the same, and only they."""
    checksum = hashlib.sha256(table.encode()).hexdigest()
    return f"{NOTE}\nWritten by demo_dataset.py.\nseed {seed}\nSHA-256 of {OFFICIAL_CSV} {checksum}\n"


def prepare_folder(output: Path, seed: int, table: str) -> None:
    """Write the marker and the csv, or see that they are those of the same arguments."""
    marker, labels, text = output / DEMO_NOTE, output / OFFICIAL_CSV, marker_text(seed, table)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; give a folder")
    if marker.is_file() and marker.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"--output {output} holds a demo made with other arguments; give the same --images, --seed and --metadata, "
            "or a new folder"
        )
    if output.is_dir() and any(output.iterdir()) and not marker.is_file():
        raise ValueError(f"--output {output} is not empty and holds no {DEMO_NOTE}; give an empty folder or a new one")
    if labels.is_file() and labels.read_text(encoding="utf-8") != table:
        raise ValueError(
            f"--output {output}: {OFFICIAL_CSV} was changed after it was written; remove it or give a new folder"
        )
    (output / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(marker, text)
    write_atomically(labels, table)


def write_image(task: tuple[Path, int, str, float]) -> None:
    """Write one image whole or not at all. It is not flushed to disk: a lost image is made again by the next call."""
    path, seed, name, mos = task
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(demo_image(seed, name, mos))
    os.replace(temporary, path)


def write_images(tasks: list[tuple[Path, int, str, float]], workers: int) -> None:
    """Write all images, (path, seed, name, MOS), with `workers` processes."""
    with ProcessPoolExecutor(workers, initializer=follow_the_parent) as executor:
        try:
            for _ in progress(executor.map(write_image, tasks), len(tasks)):
                pass
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed left half-written; the caller makes sure that nobody writes now."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()


def follow_the_parent() -> None:
    """Let a worker leave Ctrl-C to its parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def progress(done: Iterable[None], total: int) -> Iterator[None]:
    """Show a bar on a terminal, and elsewhere a line at every tenth of the way."""
    if sys.stderr.isatty():
        yield from tqdm(done, total=total, unit="image", desc="demo images")
        return
    for count, item in enumerate(done, start=1):
        if count * 10 // total > (count - 1) * 10 // total:
            say(f"demo images: {count} of {total}")
        yield item
