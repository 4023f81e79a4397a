"""The cache of resized images: decoded once and kept in a memory-mapped file.

The cache is a folder with two files. `pixels.bin` has the resized images one after the other; `index.jsonl` has the
place of each, one line per image, which is appended only after the pixels are on disk. So an interrupted build
continues where it stopped, and a changed image (another size, inode or time) is decoded again. If replaced images
take more than half of `pixels.bin`, both files are written again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL

from iqa.atomic_files import wait_for_lock, write_atomically
from iqa.cli import say
from iqa.data.images import Resize, StoredImages, map_ahead, read_pixels, with_progress

FLUSH_EVERY = 256  # images between two flushes to disk, the most that a power cut loses
LOG_EVERY = 10  # seconds between two lines of progress in a log


class Entry(NamedTuple):
    """A line of the index: a file as it was when it was decoded, and the place of its pixels."""

    name: str
    size: int
    modified: int  # nanoseconds
    offset: int = 0
    height: int = 0
    width: int = 0
    inode: int | None = None  # None in an index of an earlier version
    changed: int | None = None

    def is_of(self, file: "Entry") -> bool:
        """Whether this entry describes the file as it is now."""
        return self[:3] == file[:3] and (self.inode is None or self[6:] == file[6:])

    def bytes(self) -> int:
        return 3 * self.height * self.width


class ImageCache:
    """The cache of one folder of images, at `cache_dir`/<key of the folder and the resize settings>.

    Args:
        root: the folder that the images are in.
        cache_dir: the folder of all caches; made if it is missing.
    """

    def __init__(self, root: Path, cache_dir: Path, resize: Resize):
        settings = [str(root.resolve()), resize.short_side, "bilinear", PIL.__version__]
        settings += [] if resize.name == "keep" else [resize.name]  # the key of a cache from before --resize
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        self.root, self.folder, self.resize = root, Path(cache_dir) / key, resize
        self.pixels, self.index = self.folder / "pixels.bin", self.folder / "index.jsonl"

    def open(self, paths: Sequence[Path]) -> StoredImages:
        """The images at `paths`; those that the cache lacks are decoded.

        Raises:
            ValueError: an image that cannot be read.
            OSError: the folder cannot be written or locked, or the disk is too full.
        """
        files = [self.state_of(path) for path in paths]
        while True:
            if missing_of(files, self.read_index()):
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    with open(self.folder / "lock", "w") as lock:  # for one builder at a time
                        wait_for_lock(lock, f"Cache: another run is filling {self.folder}; waiting for it")
                        self.fill(files)
                except OSError as error:
                    ways = "move it with --cache_dir, or train without a cache: --no_cache"
                    why = error.strerror or error
                    raise OSError(f"{self.folder}: cannot keep the image cache ({why}); {ways}") from error
            with contextlib.suppress(FileNotFoundError), open(self.pixels, "rb") as pixels:
                entries = self.read_index()
                begun_anew = not os.path.samestat(os.fstat(pixels.fileno()), self.pixels.stat())  # by another run
                if not (begun_anew or missing_of(files, entries)):
                    table = np.array([entries[file.name][3:6] for file in files], np.int64)
                    return StoredImages(self.map_pixels(pixels), table[:, 0], table[:, 1:])

    def state_of(self, path: Path) -> Entry:
        status, name = path.stat(), str(path.relative_to(self.root))
        return Entry(name, status.st_size, status.st_mtime_ns, inode=status.st_ino, changed=status.st_ctime_ns)

    def read_index(self) -> dict[str, Entry]:
        """Name -> newest entry, from complete lines whose pixels exist."""
        if not (self.index.exists() and self.pixels.exists()):
            return {}
        available, entries = self.pixels.stat().st_size, {}
        for line in self.index.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):  # the last line of an interrupted build
                entry = Entry(*json.loads(line))
                if entry.offset + entry.bytes() <= available:
                    entries[entry.name] = entry
        return entries

    def map_pixels(self, file: BinaryIO) -> np.ndarray:
        try:
            return np.memmap(file, np.uint8, "r")
        except OSError as error:  # a file system without memory mapping
            say(f"Cache: {self.pixels} cannot be mapped ({error.strerror}); reading it into memory")
            file.seek(0)
            return np.fromfile(file, np.uint8)

    def fill(self, files: list[Entry]) -> None:
        """Append the missing images, to a new file if most pixels of the old one belong to replaced images."""
        entries = self.read_index()
        stale = {file.name for file in missing_of(files, entries)}
        if not stale:  # another run has filled the cache
            return
        kept = {name: entry for name, entry in entries.items() if name not in stale}
        if self.pixels.exists() and self.pixels.stat().st_size > 2 * sum(entry.bytes() for entry in kept.values()):
            self.index.unlink(missing_ok=True)  # first, so that it never describes other pixels
            self.pixels.unlink()
            kept = {}
        else:  # drop lines whose pixels are lost: the next images would make them valid again
            write_atomically(self.index, "".join(json.dumps(entry) + "\n" for entry in kept.values()))
        missing = missing_of(files, kept)
        needed = len(missing) * 4 * self.resize.short_side**2  # bytes of RGB at 4:3
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(f"it needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free")
        with open(self.pixels, "ab") as pixels, open(self.index, "ab") as index:
            lines = []
            for i, (file, image) in enumerate(zip(missing, self.decoded(missing), strict=True), 1):
                entry = file._replace(offset=pixels.tell(), height=image.shape[0], width=image.shape[1])
                lines.append(json.dumps(entry) + "\n")
                pixels.write(image)
                if i % FLUSH_EVERY == 0 or i == len(missing):
                    flush_to_disk(pixels)
                    index.write("".join(lines).encode())
                    flush_to_disk(index)
                    lines = []

    def decoded(self, files: list[Entry]) -> Iterator[np.ndarray]:
        """The resized images in order, with a progress bar on a terminal or regular lines in a log."""
        say(f"Cache: resizing {len(files)} images, kept in {self.folder}")
        start = shown = time.monotonic()
        images = map_ahead(lambda file: read_pixels(self.root / file.name, self.resize), files)
        with with_progress(images, "Cache", len(files)) as bar:
            for i, image in enumerate(bar, 1):
                yield image
                now = time.monotonic()
                if i == len(files) or (bar.disable and now - shown > LOG_EVERY):
                    shown, rate = now, i / (now - start)
                    say(f"Cache: {i}/{len(files)} images, {rate:.0f} images/s, {(len(files) - i) / rate:.0f} s left")


def missing_of(files: list[Entry], entries: dict[str, Entry]) -> list[Entry]:
    """The files that have no valid entry."""
    return [file for file in files if file.name not in entries or not entries[file.name].is_of(file)]


def flush_to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())
