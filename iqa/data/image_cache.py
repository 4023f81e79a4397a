"""The cache of resized images: decoded once and kept in a memory-mapped file.

The cache is a folder with two files. `pixels.bin` holds the resized images one behind the other; `index.jsonl` says
where, one line per image, appended only after the pixels are on disk. So an interrupted build continues where it
stopped, a changed image (another size or modification time) is decoded again, and nothing stale is ever read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from iqa.atomic_files import write_atomically
from iqa.data.images import SHORT_SIDE, Resize, StoredImages, map_ahead, read_pixels

FLUSH_EVERY = 256  # images between two flushes to disk: what a power cut can cost
LOG_EVERY = 10  # seconds between two lines of progress in a log
NOMINAL_BYTES = 512 * SHORT_SIDE * 3


class ImageCache:
    """The cache of one folder of images, at `cache_dir`/<key of the folder and the resize settings>.

    Args:
        root: the folder that `paths` lie in.
        cache_dir: where caches are kept; made where it is missing.
        log: takes one line of progress.
        resize: one of RESIZES; each has a cache of its own.
    """

    def __init__(self, root: Path, cache_dir: Path, resize: Resize, log: Callable[[str], None] = print):
        settings = [str(root.resolve()), SHORT_SIDE, "bilinear", PIL.__version__]
        settings += [] if resize.name == "keep" else [resize.name]  # the key of a cache from before --resize
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        self.root, self.folder, self.log, self.resize = root, Path(cache_dir) / key, log, resize
        self.pixels, self.index = self.folder / "pixels.bin", self.folder / "index.jsonl"

    def open(self, paths: Sequence[Path]) -> StoredImages:
        """The images at `paths`, decoded where the cache lacks them.

        Raises:
            ValueError: an image that cannot be read.
            OSError: a folder that cannot be written, or too little disk; names both ways out.
        """
        wanted = [self.fingerprint(path) for path in paths]
        entries = self.read_index()
        if any(key not in entries for key in wanted):
            with self.locked():
                entries = self.read_index()
                self.keep(entries)
                self.decode_missing([(k, p) for k, p in zip(wanted, paths, strict=True) if k not in entries])
            entries = self.read_index()
        table = np.array([entries[key] for key in wanted], np.int64).reshape(-1, 3)
        return StoredImages(np.memmap(self.pixels, np.uint8, "r"), table[:, 0], table[:, 1:])

    def fingerprint(self, path: Path) -> tuple[str, int, int]:
        status = path.stat()
        return str(path.relative_to(self.root)), status.st_size, status.st_mtime_ns

    def read_index(self) -> dict[tuple[str, int, int], tuple[int, int, int]]:
        """Fingerprint -> (offset, height, width), of the lines that are whole and whose pixels are there."""
        if not (self.index.exists() and self.pixels.exists()):
            return {}
        available, entries = self.pixels.stat().st_size, {}
        for line in self.index.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last line of an interrupted build
                name, size, modified, offset, height, width = json.loads(line)
                if offset + height * width * 3 <= available:
                    entries[name, size, modified] = (offset, height, width)
        return entries

    def keep(self, entries: dict) -> None:
        """Take other lines out of the index: those whose pixels are lost would count again for the next ones."""
        lines = "".join(json.dumps([*key, *place]) + "\n" for key, place in entries.items())
        with self.explained():
            if self.index.exists() and self.index.read_text(encoding="utf-8") != lines:
                write_atomically(self.index, lines)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One builder at a time; the lock dies with its process."""
        with self.explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / "lock", "w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.log(f"Cache: another run is filling {self.folder}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            ways = "move it with --cache_dir, or train without with --no_cache"
            raise OSError(f"{self.folder}: cannot keep the image cache ({error.strerror or error}); {ways}") from error

    def decode_missing(self, missing: list[tuple[tuple[str, int, int], Path]]) -> None:
        needed, free = len(missing) * NOMINAL_BYTES, shutil.disk_usage(self.folder).free
        if missing and needed > free:
            raise OSError(
                f"{self.folder}: the image cache needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
                "move it with --cache_dir, or train without with --no_cache"
            )
        with self.explained(), open(self.pixels, "ab") as pixels, open(self.index, "ab") as index:
            lines, offset = [], pixels.tell()
            for i, (fingerprint, image) in enumerate(self.progress(missing), 1):
                pixels.write(image)
                lines.append(json.dumps([*fingerprint, offset, *image.shape[:2]]) + "\n")
                offset += image.size
                if i % FLUSH_EVERY == 0 or i == len(missing):
                    flush_to_disk(pixels)
                    index.write("".join(lines).encode())
                    flush_to_disk(index)
                    lines = []

    def progress(self, missing: list) -> Iterator[tuple[tuple[str, int, int], np.ndarray]]:
        """Decode in parallel, in order, with a bar on a terminal or a plain line now and then in a log."""
        start = shown = time.monotonic()
        self.log(f"Cache: resizing {len(missing)} images, kept in {self.folder}")
        with tqdm(total=len(missing), desc="Cache", unit="image", disable=not sys.stderr.isatty()) as bar:
            for i, item in enumerate(decode_in_order(missing, self.resize), 1):
                yield item
                bar.update()
                now = time.monotonic()
                if i == len(missing) or (bar.disable and now - shown > LOG_EVERY):
                    shown, rate = now, i / (now - start)
                    self.log(
                        f"Cache: {i}/{len(missing)} images, {rate:.0f} images/s, {(len(missing) - i) / rate:.0f} s left"
                    )


def decode_in_order(missing: list, resize: Resize) -> Iterator[tuple]:
    return map_ahead(lambda item: (item[0], read_pixels(item[1], resize)), missing)


def flush_to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())
