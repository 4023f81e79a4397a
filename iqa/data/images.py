"""Image files -> upright RGB pixels, and the resized images of a data set.

`open_image` decides which files are read; `upright_size` and `to_upright_rgb` define the orientation and colours of an
image. The cached and the uncached path, scoring and the search for near copies use these functions. docs/data.md lists
their rules.
"""

import collections
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from tqdm import tqdm

Resize = Any  # data_loader.Resize
SHORT_SIDE = 384  # the default of Resize.short_side, for flags that are checked before torch is loaded
RESIZES = ("keep", "squeeze")
FORMATS = (  # raster formats only: opening an EPS file starts Ghostscript. The last two have no signature
    "AVIF BMP DDS DIB GIF HEIF ICNS ICO JPEG JPEG2000 MPO PCX PNG PPM PSD QOI SGI SUN TIFF WEBP IM TGA".split()
)
RAW_ENDINGS = frozenset(".3fr .arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf .rw2 .srw".split())
HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx mif1 msf1".split())
MAX_PIXELS = 89_478_485  # 256 MiB as RGB; a larger image is an error
MAX_JPEG_PIXELS = 250_000_000  # a JPEG above MAX_PIXELS is decoded at a quarter of its width and height
MAX_ASPECT = 16  # long side over short side
MAX_PNG_METADATA = 1 << 20  # bytes of a chunk
PNG_METADATA = frozenset(b"iCCP tEXt zTXt iTXt cHRM gAMA sRGB pHYs".split())
TRANSPOSES = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_one_large_image = threading.Lock()  # decoding a progressive JPEG takes up to 8 bytes a pixel

Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2  # Pillow refuses an image of more than twice as many
warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata and large images; an unreadable image is an error


# Image files


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet.

    Raises:
        ValueError: the image cannot be opened, or not decoded in the body; names the file and the reason.
    """
    try:
        if path.suffix.lower() in RAW_ENDINGS:
            raise ValueError("a RAW file; convert it to JPEG or 8-bit TIFF")
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")  # a named pipe would block
        with open(path, "rb") as file, open_raster(file) as image:
            check_size(*image.size, MAX_JPEG_PIXELS if isinstance(image, JpegImagePlugin.JpegImageFile) else MAX_PIXELS)
            is_large = image.width * image.height > MAX_PIXELS
            with _one_large_image if is_large else contextlib.nullcontext():
                if is_large:
                    image.draft(None, (image.width // 4, image.height // 4))
                yield image
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise ValueError(f"{path}: unreadable image ({error}); replace the file or remove its row") from error


def open_raster(file: BinaryIO) -> Image.Image:
    """Image.open for the formats of FORMATS."""
    head = file.read(64)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and b"avif" not in head:
        register_heif()
    Image.init()
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise ValueError("not an image in a supported format") from error
    if image.format == "PNG" and "transparency" in image.info:
        scale_transparency(image)
    return image


def register_heif() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise ValueError("a HEIC file; to read it, pip install pillow-heif") from error
    pillow_heif.register_heif_opener()


class TolerantPngStream(PngImagePlugin.PngStream):
    """Skips metadata above MAX_PNG_METADATA, and those for which Pillow would refuse the image."""

    def call(self, kind: bytes, start: int, length: int) -> bytes | None:
        is_ancillary = kind[0] & 0x20
        if not (is_ancillary and length > MAX_PNG_METADATA):
            try:
                return super().call(kind, start, length)
            except Exception:  # malformed, or text and profiles of over 1 MB after decompression
                if kind not in PNG_METADATA:
                    raise
        self.fp.seek(start + length)
        return None

    def crc(self, kind: bytes, data: bytes | None) -> None:
        if data is None:
            self.crc_skip(kind, data)
        else:
            super().crc(kind, data)


PngImagePlugin.PngStream = TolerantPngStream  # PngImageFile looks it up here


def scale_transparency(image: PngImagePlugin.PngImageFile) -> None:
    """The transparent colour of a PNG file in the 0-255 of the pixels; Pillow leaves it in the file's own bit depth."""
    color, rawmode = image.info["transparency"], image.tile[0][3]
    if rawmode in ("1", "L;2", "L;4"):
        image.info["transparency"] = min(255, color * {"1": 255, "L;2": 85, "L;4": 17}[rawmode])
    elif rawmode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    if width * height > limit or not max(width, height) <= MAX_ASPECT * min(width, height) > 0:
        raise ValueError(f"{width}x{height} pixels, over {limit:,} or longer than {MAX_ASPECT}:1")


# Orientation and colours


def orientation_of(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # malformed metadata, of which Pillow raises many kinds
        return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of `to_upright_rgb(image)`, without decoding a file."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:  # not loaded: Pillow may have turned the size
        width, height = (image.tag_v2[key] for key in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    return (height, width) if orientation_of(image) in (5, 6, 7, 8) else (width, height)


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """The decoded image as RGB, turned by its EXIF orientation, transparency laid over white."""
    size = upright_size(image)
    image.load()  # turns a TIFF
    transpose = TRANSPOSES.get(orientation_of(image))
    if image.mode.startswith(("I", "F")):
        image = deep_to_grey(image)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("RGB")
    image = image if transpose is None else image.transpose(transpose)
    if image.size != size:
        raise ValueError(f"{size[0]}x{size[1]} pixels by its header, {image.width}x{image.height} when decoded")
    return image


def deep_to_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits -> 8 bits: 16-bit values by the header's depth, others where their range is known."""
    values, bits = np.asarray(image), bit_depth(image)
    low, high = values.min(), values.max()
    if image.mode == "F" and 0 <= low and high <= 255:
        levels = np.rint(255 * values) if high <= 1 else values
    elif image.mode != "F" and (bits <= 16 or 0 <= low and 255 < high <= 65535):
        levels = (values >> (min(bits, 16) - 8)).clip(0, 255)
    else:
        raise ValueError(
            f"mode {image.mode} with values {low:g} to {high:g}, of unknown range; save it with 8 or 16 bits"
        )
    levels = levels.astype(np.uint8)
    if "transparency" in image.info:
        levels[values == image.info["transparency"]] = 255
    return Image.fromarray(levels)


def bit_depth(image: Image.Image) -> int:
    """Bits of a grey value by the file's header."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    return 16 if image.mode.startswith("I;16") or image.format in ("PNG", "PPM") else 32


# Resized images


def read_pixels(path: Path, resize: Resize) -> np.ndarray:
    """The image of a file, resized: uint8 [H, W, 3]; ValueError names a file that cannot be read."""
    with open_image(path) as image:
        return resize(to_upright_rgb(image))


def decoding_errors(paths: Sequence[Path]) -> Iterator[ValueError]:
    """The errors of the files that cannot be decoded; a progress bar on a terminal."""

    def decode(path: Path) -> ValueError | None:
        try:
            with open_image(path) as image:
                to_upright_rgb(image)
        except ValueError as error:
            return error

    return filter(None, with_progress(map_ahead(decode, paths), "Decoding", len(paths)))


class ResizedImages(Sequence):
    """A sequence of resized images: ``images[i]`` is uint8 [H, W, 3]."""

    def in_memory(self) -> "StoredImages":
        """A copy of all images in one array of host memory."""
        images = list(map_ahead(self.__getitem__, range(len(self))))
        lengths = np.array([image.size for image in images], np.int64)
        pixels = np.concatenate([image.reshape(-1) for image in images])
        return StoredImages(pixels, np.cumsum(lengths) - lengths, np.array([image.shape[:2] for image in images]))


class DecodedImages(ResizedImages):
    """Images without a cache, decoded at each access."""

    def __init__(self, paths: Sequence[Path], resize: Resize):
        self.paths, self.resize = list(paths), resize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_pixels(self.paths[index], self.resize)

    def chosen(self, numbers: Iterable[int]) -> "DecodedImages":
        return DecodedImages([self.paths[i] for i in numbers], self.resize)

    def sizes(self) -> np.ndarray:
        """[N, 2] height and width of each image after the resize, from the files' headers."""

        def read_size(path: Path) -> tuple[int, int]:
            with open_image(path) as image:
                return self.resize.size(*upright_size(image))[::-1]

        return np.array(list(map_ahead(read_size, self.paths)))


class StoredImages(ResizedImages):
    """Views into one flat array of pixels."""

    def __init__(self, pixels: np.ndarray, offsets: np.ndarray, sizes: np.ndarray):
        self.pixels, self.offsets, self._sizes = pixels, offsets, sizes

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        offset, (height, width) = self.offsets[index], self._sizes[index]
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def chosen(self, numbers: Iterable[int]) -> "StoredImages":
        return type(self)(self.pixels, self.offsets[numbers], self._sizes[numbers])

    def sizes(self) -> np.ndarray:
        """[N, 2] height and width of each image."""
        return self._sizes


def map_ahead(function: Callable, items: Iterable, *, threads: int | None = None) -> Iterator:
    """`map` in threads, eight items per thread in advance; Pillow releases the interpreter lock."""
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


def with_progress(items: Iterable, title: str, total: int) -> tqdm:
    """The items, with a bar on a terminal that vanishes at the end."""
    return tqdm(items, desc=title, unit="image", total=total, leave=False, disable=not sys.stderr.isatty())


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
