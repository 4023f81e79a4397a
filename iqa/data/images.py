"""Image files -> resized pixels, uint8 [H, W, 3]: decoded anew for each use, or views into one array of all."""

import collections
import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

SHORT_SIDE = 384  # pixels; KonIQ's 1024x768 photographs become 512x384 (width x height)
SQUEEZED = (384, 512)  # width x height of every image with `squeeze`, whatever its aspect
RESIZES = ("keep", "squeeze")  # the aspect; Resize((512, 384)) of HyperIQA and SMART-IQA is height x width
MAX_PIXELS = 89_478_485  # a larger image is an error: decoding it would take over 256 MiB
MAX_ASPECT = 16  # long side over short side

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # an error here: see MAX_PIXELS


def decode(path: Path, resize: str = "keep") -> np.ndarray:
    """Read an image and resize it: uint8 [H, W, 3]. Its shorter side becomes 384 pixels, or all of it 384x512.

    EXIF rotation is applied; transparency is laid over white; 16-bit grey is scaled to 8 bits; every other mode
    (grey, palette, CMYK, YCbCr) goes through Pillow's ``convert("RGB")``. The resize is Pillow's antialiased bilinear.

    Raises:
        ValueError: names the file, where it is missing, truncated, not an image, or too large.
    """
    with readable(path) as image:
        return resized_pixels(image, resize)


def resized_pixels(image: Image.Image, resize: str = "keep") -> np.ndarray:
    """What `decode` does to an opened image: uint8 [H, W, 3]; ValueError for one outside the limits of size."""
    check_size(*image.size)
    image = to_rgb(ImageOps.exif_transpose(image))
    return np.asarray(image.resize(resized(*image.size, resize), Image.Resampling.BILINEAR))


def resized(width: int, height: int, resize: str = "keep") -> tuple[int, int]:
    """The (width, height) after the resize, one of RESIZES."""
    if resize == "squeeze":
        return SQUEEZED
    scale = SHORT_SIDE / min(width, height)
    return round(width * scale), round(height * scale)


def size_of(path: Path, resize: str = "keep") -> tuple[int, int]:
    """(height, width) of ``decode(path, resize)``, without decoding."""
    with readable(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
            width, height = height, width
        return resized(width, height, resize)[::-1]


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

    def __init__(self, paths: Sequence[Path], resize: str = "keep"):
        self.paths, self.resize = list(paths), resize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode(self.paths[index], self.resize)

    def part(self, start: int, end: int) -> "DecodedImages":
        return DecodedImages(self.paths[start:end], self.resize)

    def chosen(self, numbers: np.ndarray) -> "DecodedImages":
        return DecodedImages([self.paths[i] for i in numbers], self.resize)

    def sizes(self) -> np.ndarray:
        """[N, 2] height and width of each image after the resize, from the files' headers."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            return np.array(list(pool.map(size_of, self.paths, itertools.repeat(self.resize)))).reshape(-1, 2)

    def in_memory(self) -> "StoredImages":
        """All of them decoded, in one array of host memory."""
        with ThreadPoolExecutor(cpu_count()) as pool:
            return stored_together(list(pool.map(decode, self.paths, itertools.repeat(self.resize))))


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

    def chosen(self, numbers: np.ndarray) -> "StoredImages":
        return StoredImages(self.pixels, self.offsets[numbers], self._sizes[numbers])

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


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
