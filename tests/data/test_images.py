"""Image files of every kind: equal pixels on every path, and one line for an unreadable file."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import torchvision
from conftest import ROOT, read_rows, run_program, write_image
from data_folders import check_folder, write_rows
from faults import inject
from PIL import Image, PngImagePlugin, TiffImagePlugin

from data_loader import Resize
from iqa.data import images as image_files
from iqa.data.image_cache import ImageCache
from iqa.data.images import SHORT_SIDE, DecodedImages, read_pixels

BYTE, ASCII, SHORT, LONG = 1, 2, 3, 4  # types of a TIFF tag
TRANSPOSES = dict(enumerate((Image.Transpose(i) for i in (0, 3, 1, 5, 4, 6, 2)), 2))  # by EXIF orientation, from 2 to 8


def decode(path, resize="keep") -> np.ndarray:
    return read_pixels(path, Resize(resize))


def save(path, image, **options):
    image.save(path, **options)
    return path


def photograph(size=(64, 48)) -> Image.Image:
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(np.stack([4 * x % 256, 5 * y % 256, (x * y) % 256], 2).astype(np.uint8))


pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow
GREY = np.asarray(photograph().convert("L")).astype(np.int64)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((1024, 768), (512, 384)),
        ((512, 384), (512, 384)),
        ((48, 64), (384, 512)),
        ((50, 50), (384, 384)),
        ((90, 30), (1152, 384)),
    ],
)
def test_the_shorter_side_becomes_384_and_the_aspect_is_kept(tmp_path, size, resized):
    path = save(tmp_path / "a.png", photograph(size))
    pixels = decode(path)
    assert pixels.shape == (resized[1], resized[0], 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(photograph(size).resize(resized, Image.Resampling.BILINEAR)))
    assert tuple(DecodedImages([path], Resize()).sizes()[0]) == pixels.shape[:2]
    assert min(pixels.shape[:2]) == SHORT_SIDE


@pytest.mark.parametrize("size", [(1024, 768), (48, 64), (384, 512), (90, 30)])
def test_squeeze_is_the_resize_of_the_published_programs(tmp_path, size):
    path = save(tmp_path / "a.png", photograph(size))
    theirs = torchvision.transforms.Resize((512, 384))(photograph(size))
    np.testing.assert_array_equal(decode(path, "squeeze"), np.asarray(theirs))
    assert theirs.size == (384, 512) and tuple(DecodedImages([path], Resize("squeeze")).sizes()[0]) == (512, 384)


# Orientation


def exif_bytes(*entries: tuple[int, int, int, bytes], offset: int = 8, next_ifd: int = 0) -> bytes:
    """EXIF with one directory of (tag, type, count, value or offset)."""
    fields = b"".join(
        struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0") for tag, kind, count, value in entries
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", offset, len(entries)) + fields + struct.pack("<I", next_ifd)


def orientation(value: int, kind: int = SHORT) -> tuple[int, int, int, bytes]:
    written = {
        ASCII: b"%d\0" % value,
        BYTE: bytes([value]),
        SHORT: struct.pack("<H", value),
        LONG: struct.pack("<I", value),
    }
    return 0x0112, kind, 2 if kind == ASCII else 1, written[kind]


def write_oriented(folder) -> dict:
    """Path -> expected pixels, for every format and orientation, and for every type of the tag."""
    expected, image = {}, photograph()
    for value in range(1, 10):
        for kind in (SHORT, LONG, ASCII, BYTE) if value == 6 else (SHORT,):
            is_turned = kind in (SHORT, LONG) and value in TRANSPOSES
            shown = np.asarray(image.transpose(TRANSPOSES[value]) if is_turned else image)
            for ending, options in (("jpg", {"quality": 100}), ("png", {}), ("webp", {"lossless": True})):
                path = folder / f"{value}-{kind}.{ending}"
                expected[save(path, image, exif=exif_bytes(orientation(value, kind)), **options)] = shown
            for compression in (None, "tiff_lzw") if kind == SHORT and value < 9 else (None,):
                tags = TiffImagePlugin.ImageFileDirectory_v2()
                tags.tagtype[0x0112] = kind
                tags[0x0112] = {ASCII: str(value), BYTE: bytes([value])}.get(kind, value)
                path = folder / f"{value}-{kind}-{compression}.tif"
                expected[save(path, image, tiffinfo=tags, compression=compression)] = shown
    return expected


def test_orientation_is_applied_alike_with_and_without_the_cache(tmp_path):
    (tmp_path / "data").mkdir()
    expected = write_oriented(tmp_path / "data")
    paths = list(expected)
    cached = ImageCache(tmp_path / "data", tmp_path / "cache", Resize()).open(paths)
    decoded = DecodedImages(paths, Resize())
    for path, one, other, header in zip(paths, cached, decoded, decoded.sizes(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert tuple(header) == one.shape[:2], path
        shown = Resize()(Image.fromarray(expected[path])).astype(int)
        assert np.abs(one - shown).mean() < (12 if path.suffix == ".jpg" else 1e-9), path


MALFORMED_EXIF = {
    "a tag of the wrong type": exif_bytes(orientation(6), (0x011A, SHORT, 1, b"\1")),
    "a tag that re-encodes to nothing": exif_bytes(orientation(6), (0x9000, 7, 4, b"0230"), (0x8769, ASCII, 3, b"ab")),
    "an unknown type": exif_bytes(orientation(6), (0x010F, 99, 1, b"x")),
    "a value beyond the end": exif_bytes(orientation(6), (0x010F, ASCII, 900, struct.pack("<I", 1000))),
    "a huge count": exif_bytes(orientation(6), (0x010F, 5, 0x7FFFFFFF, struct.pack("<I", 8))),
    "a loop of directories": exif_bytes(orientation(6), next_ifd=8),
    "a sub-directory that is its parent": exif_bytes(orientation(6), (0x8769, LONG, 1, struct.pack("<I", 8))),
    "a sub-directory beyond the end": exif_bytes(orientation(6), (0x8825, LONG, 1, struct.pack("<I", 0xFFFFFF))),
    "an orientation of two values": exif_bytes((0x0112, SHORT, 2, struct.pack("<HH", 6, 6))),
    "a truncated directory": exif_bytes(orientation(6), (0x010F, ASCII, 3, b"ab"))[:-8],
}
NO_ORIENTATION = {
    "a wrong header": b"Exif\0\0XX*\0\x08\0\0\0",
    "an empty block": b"Exif\0\0",
    "a first directory beyond the end": exif_bytes(orientation(6), offset=0xFFFF),
}


@pytest.mark.parametrize("kind", [*MALFORMED_EXIF, *NO_ORIENTATION])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_malformed_metadata_leave_the_orientation_and_the_pixels(tmp_path, kind, ending):
    exif = {**MALFORMED_EXIF, **NO_ORIENTATION}[kind]
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", photograph(), exif=exif, **options)
    plain = np.asarray(Image.open(save(tmp_path / f"b.{ending}", photograph(), **options)))
    shown = np.asarray(Image.fromarray(plain).transpose(TRANSPOSES[6])) if kind in MALFORMED_EXIF else plain
    np.testing.assert_array_equal(decode(path), Resize()(Image.fromarray(shown)))
    assert tuple(DecodedImages([path], Resize()).sizes()[0]) == decode(path).shape[:2]


# Colours and depth


def png_of(
    samples: np.ndarray, bits: int, transparent: tuple[int, ...] = (), *extra: tuple[bytes, bytes], size=None
) -> bytes:
    """A PNG file, written by hand: grey [H, W] or RGB [H, W, 3] of 1 to 16 bits, with a transparent colour."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    packed = rows.astype(">u2").view(np.uint8) if bits == 16 else rows.astype(np.uint8)
    if bits < 8:
        packed = np.packbits(np.unpackbits(packed[:, :, None], axis=2)[:, :, -bits:].reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra]
    chunks += [(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))] if transparent else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_every_mode_becomes_rgb(tmp_path):
    image = photograph()
    grey = decode(save(tmp_path / "grey.png", image.convert("L")))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    palette = image.quantize(256)
    np.testing.assert_array_equal(
        decode(save(tmp_path / "palette.png", palette)), decode(save(tmp_path / "flat.png", palette.convert("RGB")))
    )
    cmyk = decode(save(tmp_path / "cmyk.jpg", image.convert("CMYK"), quality=100))
    assert np.abs(cmyk.astype(int) - decode(save(tmp_path / "rgb.png", image))).mean() < 12
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode(save(tmp_path / "clear.png", clear)) == 255).all()


def as_file(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path)
    return path


DARK = GREY // 2  # to 127
TWINS = {  # file name -> content, and the 8-bit grey or RGB that it shows
    "16-bit.png": (png_of(GREY * 257, 16), GREY),
    "16-bit that ends at 255.png": (png_of(GREY, 16), GREY // 256),
    "16-bit.tif": (GREY.astype(np.uint16) * 257, GREY),
    "16-bit that ends at 255.tif": (GREY.astype(np.uint16), GREY // 256),
    "16-bit.pgm": (b"P5 64 48 65535\n" + (GREY * 257).astype(">u2").tobytes(), GREY),
    "16-bit that ends at 255.pgm": (b"P5 64 48 65535\n" + GREY.astype(">u2").tobytes(), GREY // 256),
    "32-bit of 16 bits.tif": (GREY.astype(np.int32) * 257, GREY),
    "floats of 0-1.tif": ((GREY / 255).astype(np.float32), GREY),
    "dark floats of 0-1.tif": ((DARK / 255).astype(np.float32), DARK),
    "floats to 255.tif": (GREY.astype(np.float32), GREY),
    "black floats.tif": (np.zeros((48, 64), np.float32), 0 * GREY),
    "16-bit transparent.png": (png_of(GREY * 257, 16, (100 * 257,)), np.where(GREY == 100, 255, GREY)),
    "16-bit transparent in the low byte.png": (
        png_of(GREY * 256 + (np.arange(64) < 9), 16, (100 * 256 + 1,)),
        np.where((GREY == 100) & (np.arange(64) < 9), 255, GREY),
    ),
    "16-bit RGB transparent.png": (
        png_of(np.dstack([GREY * 257] * 3), 16, (100 * 257,) * 3),
        np.where(GREY == 100, 255, GREY),
    ),
    "8-bit transparent.png": (png_of(GREY, 8, (100,)), np.where(GREY == 100, 255, GREY)),
    "4-bit transparent.png": (png_of(GREY // 16, 4, (5,)), np.where(GREY // 16 == 5, 255, GREY // 16 * 17)),
    "2-bit transparent.png": (png_of(GREY // 64, 2, (1,)), np.where(GREY // 64 == 1, 255, GREY // 64 * 85)),
    "1-bit transparent.png": (png_of(GREY // 128, 1, (0,)), 0 * GREY + 255),
}


@pytest.mark.parametrize("name", TWINS)
def test_deep_and_transparent_files_look_like_their_8_bit_twins(tmp_path, name):
    content, twin = TWINS[name]
    pixels = decode(as_file(tmp_path / name, content))
    np.testing.assert_array_equal(pixels, Resize()(Image.fromarray(twin.astype(np.uint8)).convert("RGB")))


# Metadata of PNG files


def test_png_files_with_large_metadata_are_read_and_keep_their_orientation(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * (3 << 20), zip=True)
    text.add_itxt("workflow", "y" * (3 << 20), zip=True)
    text.add_text("raw", "z" * (3 << 20))
    text.add(b"prVt", bytes(3 << 20))
    metadata = {"pnginfo": text, "icc_profile": bytes(3 << 20), "exif": exif_bytes(orientation(6))[6:]}
    path = save(tmp_path / "a.png", photograph(), **metadata)
    np.testing.assert_array_equal(decode(path), Resize()(photograph().transpose(TRANSPOSES[6])))
    after = io.BytesIO()  # metadata may follow the pixels
    photograph().save(after, "png")
    bomb = b"Comment\0\0" + zlib.compress(bytes(50 << 20), 9)
    chunk = struct.pack(">I", len(bomb)) + b"zTXt" + bomb + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))
    content = after.getvalue()
    (tmp_path / "b.png").write_bytes(content[:-12] + chunk + content[-12:])
    np.testing.assert_array_equal(decode(tmp_path / "b.png"), Resize()(photograph()))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"iCCP", b"name\0\x07junk"),
        (b"iCCP", b"name\0\0junk"),
        (b"gAMA", b""),
        (b"pHYs", b"\1"),
        (b"zTXt", b"key\0\0junk"),
        (b"iTXt", b"\xff"),
    ],
)
def test_malformed_png_metadata_are_ignored(tmp_path, kind, data):
    (tmp_path / "a.png").write_bytes(png_of(GREY, 8, (), (kind, data)))
    grey = Image.fromarray(GREY.astype(np.uint8)).convert("RGB")
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), Resize()(grey))


# What cannot be read


def truncated(format: str, **options) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, format, **options)
    return file.getvalue()[: len(file.getvalue()) // 2]


BAD = {
    "empty.jpg": (b"", "not an image in a supported format"),
    "text.jpg": (b"not an image", "not an image in a supported format"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image in a supported"),
    "truncated.jpg": (truncated("JPEG"), ""),
    "truncated.png": (truncated("PNG"), ""),
    "truncated.webp": (truncated("WEBP"), ""),
    "truncated.tif": (truncated("TIFF"), ""),
    "truncated.gif": (truncated("GIF"), ""),
    "camera.dng": (truncated("TIFF"), "RAW file; convert it"),
    "camera.CR2": (b"II*\0", "RAW file; convert it"),
    "32-bit to 255.tif": (GREY.astype(np.int32), "mode I with values 0 to 236"),
    "32-bit beyond 16 bits.tif": (GREY.astype(np.int32) * 300, "mode I with values 0 to 7"),
    "negative 32-bit.tif": (GREY.astype(np.int32) - 300, "mode I with values -300"),
    "negative floats.tif": (GREY.astype(np.float32) - 9, "mode F with values -9"),
    "floats beyond 255.tif": (GREY.astype(np.float32) * 257, "mode F with values 0 to 6"),
    "no number.tif": (np.full((48, 64), np.nan, np.float32), "mode F with values nan"),
    "ribbon.png": (png_of(np.zeros((10, 1000)), 8), "1000x10 pixels"),
    "bomb.png": (png_of(np.zeros((1, 1)), 8, size=(30000, 30000)), "exceeds limit"),
    "large.png": (png_of(np.zeros((9500, 9500)), 8), "9500x9500 pixels"),
    "broken link.jpg": ("nowhere", "No such file"),
    "pipe.jpg": (None, "not a regular file"),
}


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """A csv data set with a good photograph between bad files of every kind."""
    root = tmp_path_factory.mktemp("bad")
    for name, (content, _) in BAD.items():
        if content is None:
            os.mkfifo(root / name)
        elif isinstance(content, str):
            (root / name).symlink_to(content)
        else:
            as_file(root / name, content)
    content, twin = TWINS["16-bit transparent.png"]
    as_file(root / "deep.png", content)
    as_file(root / "twin.png", twin.astype(np.uint8))
    write_image(root / "good.jfif", 50)
    (root / "linked.jpg").symlink_to("good.jfif")
    photograph().save(root / "two.mpo", save_all=True, append_images=[photograph()])
    return root


GOOD = ("good.jfif", "linked.jpg", "two.mpo")


def test_decode_lists_every_image_that_cannot_be_read(bad_files):
    listed = [name for name in BAD if name not in ("pipe.jpg", "broken link.jpg")]  # these two count as missing
    rows = [(name, i % 5, ("train", "test")[i % 2]) for i, name in enumerate(["good.jfif", "two.mpo", *listed])]
    write_rows(bad_files / "labels.csv", ("image", "mos", "split"), *rows)
    process = check_folder(bad_files, "--dataset", "csv", "--decode")
    assert process.returncode == 1 and process.stderr == ""
    lines = {line.split(": ")[0]: line for line in process.stdout.splitlines() if "unreadable image" in line}
    assert sorted(lines) == sorted(f"{bad_files}/{name}" for name in listed)
    assert all(BAD[name][1] in lines[f"{bad_files}/{name}"] for name in listed)
    assert process.stdout.splitlines()[-1] == f"Decoded 2 of {len(rows)} images, {len(listed)} unreadable"
    write_rows(bad_files / "labels.csv", ("image", "mos", "split"), *rows[:2])
    assert check_folder(bad_files, "--dataset", "csv", "--decode").returncode == 0


def test_scoring_gives_every_bad_file_its_reason_and_scores_the_others(bad_files, finished_run):
    checkpoint = finished_run / "checkpoints/resnet_improved_ms_att_best.pth"
    command = (sys.executable, ROOT / "score_images.py", "--checkpoint", checkpoint, "--device", "cpu", *BAD, ".")
    process = run_program(*command, "--output", "scores.csv", cwd=bad_files)
    assert process.returncode == 1 and process.stderr == ""
    lines = process.stdout.splitlines()
    for name, (_, reason) in BAD.items():
        assert any(f"error  {name}: " in line and reason in line for line in lines), name
    for name in GOOD:
        assert any(line.endswith(f"./{name}") and "error" not in line for line in lines), name
    scores = {row["image"]: row["score"] for row in read_rows(bad_files / "scores.csv")}
    assert scores["./deep.png"] == scores["./twin.png"] != ""


def test_heic_needs_a_package_that_the_message_names(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"a\.heic: .*HEIC.*pip install pillow-heif"):
        decode(tmp_path / "a.heic")


def test_heic_is_read_where_the_package_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(photograph()).save(tmp_path / "a.jpg", quality=100)  # whatever the name
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - Resize()(photograph())).mean() < 12


# Large photographs


def test_large_jpeg_files_are_decoded_at_a_quarter_of_their_size_and_others_refused(tmp_path, monkeypatch):
    smooth = Image.fromarray(np.add.outer(np.arange(900), np.arange(1200)).astype(np.uint8)).convert("RGB")
    options = {"quality": 95, "exif": exif_bytes(orientation(6))}
    paths = [save(tmp_path / f"{i}.jpg", smooth, progressive=bool(i), **options) for i in (0, 1)]
    paths.append(save(tmp_path / "2.mpo", smooth, save_all=True, append_images=[smooth], **options))
    whole = [decode(path).astype(int) for path in paths]
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1_000_000)
    for path, before in zip(paths, whole, strict=True):
        assert before.shape == (512, 384, 3) and np.abs(decode(path) - before).mean() < 2
        assert tuple(DecodedImages([path], Resize()).sizes()[0]) == (512, 384)
    monkeypatch.setattr(image_files, "MAX_JPEG_PIXELS", 1_050_000)
    for path in (*paths, save(tmp_path / "3.png", smooth)):
        with pytest.raises(ValueError, match=f"{path.name}: .*1200x900 pixels"):
            decode(path)


def test_a_photograph_of_200_megapixels_and_a_metadata_bomb_take_bounded_memory(tmp_path):
    """Less than 900 MB with the interpreter; in full the photograph takes 800 MB more, the text 1 GB."""
    Image.new("L", (16320, 12240), 90).save(tmp_path / "phone.jpg", progressive=True)
    with open(tmp_path / "bomb.png", "wb") as file:
        head, rest = png_of(GREY, 8)[:33], png_of(GREY, 8)[33:]
        file.write(head + struct.pack(">I", 1 << 30) + b"tEXt")
        file.seek((1 << 30) + 4, os.SEEK_CUR)
        file.write(rest)
    write_rows(tmp_path / "labels.csv", ("image", "mos", "split"), ("phone.jpg", 1, "train"), ("bomb.png", 2, "test"))
    limit = inject("import resource; resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20))")
    command = (sys.executable, ROOT / "data_loader.py", tmp_path, "--dataset", "csv", "--decode")
    process = run_program(*command, cwd=tmp_path, **limit, OPENBLAS_NUM_THREADS="1", SMALL_CNN="")
    assert "Decoded 2 of 2 images, 0 unreadable" in process.stdout, process.stdout + process.stderr
