"""Image files -> resized uint8 pixels, decoded once and kept in a memory-mapped file.

The cache is a folder with two files. `pixels.bin` holds the resized images one behind the other; `index.jsonl` says
where, one line per image, appended only after the pixels are on disk. So an interrupted build continues where it
stopped, a changed image (another size or modification time) is decoded again, and nothing stale is ever read.
"""

import collections
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from iqa.atomic_files import write_atomically

SHORT_SIDE = 384  # pixels; KonIQ's 1024x768 photographs become 512x384 (width x height)
MAX_PIXELS = 89_478_485  # a larger image is an error: decoding it would take over 256 MiB
MAX_ASPECT = 16  # long side over short side
FLUSH_EVERY = 256  # images between two flushes to disk: what a power cut can cost
LOG_EVERY = 10  # seconds between two lines of progress in a log
NOMINAL_BYTES = 512 * SHORT_SIDE * 3

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # an error here: see MAX_PIXELS


def decode(path: Path) -> np.ndarray:
    """Read an image and resize its shorter side to 384 pixels, aspect kept: uint8 [H, W, 3].

    EXIF rotation is applied; transparency is laid over white; 16-bit grey is scaled to 8 bits; every other mode
    (grey, palette, CMYK, YCbCr) goes through Pillow's ``convert("RGB")``. The resize is Pillow's antialiased bilinear.

    Raises:
        ValueError: names the file, where it is missing, truncated, not an image, or too large.
    """
    with readable(path) as image:
        return resized_pixels(image)


def resized_pixels(image: Image.Image) -> np.ndarray:
    """What `decode` does to an opened image: uint8 [H, W, 3]; ValueError for one outside the limits of size."""
    check_size(*image.size)
    image = to_rgb(ImageOps.exif_transpose(image))
    return np.asarray(image.resize(resized(*image.size), Image.Resampling.BILINEAR))


def resized(width: int, height: int) -> tuple[int, int]:
    """The (width, height) after the resize."""
    scale = SHORT_SIDE / min(width, height)
    return round(width * scale), round(height * scale)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of ``decode(path)``, without decoding."""
    with readable(path) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return resized(width, height) if turned else resized(width, height)[::-1]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Image.Image]:
    """The opened image, within the limits of size; every way to fail is a ValueError that names the file."""
    try:
        with Image.open(path) as image:
            check_size(*image.size)
            yield image
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds, a function of which byte is wrong
        raise ValueError(f"{path}: unreadable image ({error}); replace the file or remove its row") from error


def check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or not max(width, height) <= MAX_ASPECT * min(width, height) > 0:
        raise ValueError(f"{width}x{height} pixels, over {MAX_PIXELS:,} or longer than {MAX_ASPECT}:1")


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


class DecodedImages(Sequence):
    """No cache: ``images[i]`` decodes its file anew, uint8 [H, W, 3]."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode(self.paths[index])

    def part(self, start: int, end: int) -> "DecodedImages":
        return DecodedImages(self.paths[start:end])

    def sizes(self) -> np.ndarray:
        """[N, 2] height and width of each image after the resize, from the files' headers."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            return np.array(list(pool.map(size_of, self.paths))).reshape(-1, 2)

    def in_memory(self) -> "StoredImages":
        """All of them decoded, in one array of host memory."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            return stored_together(list(pool.map(decode, self.paths)))


class StoredImages(Sequence):
    """Views into one flat array of pixels: ``images[i]`` is uint8 [H, W, 3], without a copy."""

    def __init__(self, pixels: np.ndarray, offsets: np.ndarray, sizes: np.ndarray):
        self.pixels, self.offsets, self._sizes = pixels, offsets, sizes

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        offset, (height, width) = self.offsets[index], self._sizes[index]
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def part(self, start: int, end: int) -> "StoredImages":
        return StoredImages(self.pixels, self.offsets[start:end], self._sizes[start:end])

    def sizes(self) -> np.ndarray:
        """[N, 2] height and width of each image."""
        return self._sizes

    def in_memory(self) -> "StoredImages":
        """The same images, and no others, in one array of host memory."""
        return stored_together(list(self))


def stored_together(images: list[np.ndarray]) -> StoredImages:
    lengths = np.array([image.size for image in images], np.int64)
    pixels = np.concatenate([image.reshape(-1) for image in images])
    return StoredImages(pixels, np.cumsum(lengths) - lengths, np.array([image.shape[:2] for image in images]))


class ImageCache:
    """The cache of one folder of images, at `cache_dir`/<key of the folder and the resize settings>.

    Args:
        root: the folder that `paths` lie in.
        cache_dir: where caches are kept; made where it is missing.
        log: takes one line of progress.
    """

    def __init__(self, root: Path, cache_dir: Path, log: Callable[[str], None] = print):
        settings = [str(root.resolve()), SHORT_SIDE, "bilinear", PIL.__version__]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        self.root, self.folder, self.log = root, Path(cache_dir) / key, log
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
            for i, item in enumerate(decode_in_order(missing), 1):
                yield item
                bar.update()
                now = time.monotonic()
                if i == len(missing) or (bar.disable and now - shown > LOG_EVERY):
                    shown, rate = now, i / (now - start)
                    self.log(f"Cache: {i}/{len(missing)} images, {rate:.0f} images/s, {(len(missing) - i) / rate:.0f} s left")


def decode_in_order(missing: list) -> Iterator[tuple]:
    return map_ahead(lambda item: (item[0], decode(item[1])), missing)


def map_ahead(function: Callable, items: Iterable, *, threads: int | None = None) -> Iterator:
    """`map` by threads, since Pillow decodes and resizes outside the interpreter lock; eight items a thread ahead."""
    threads = threads or cpu_count()
    waiting = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 8 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def flush_to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
