"""Decoding, and the cache of decoded images: the pixels are Pillow's to the bit, and never stale."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import PIL
import pytest
import torchvision
from conftest import ROOT, write_image
from PIL import Image

from data_loader import Resize
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages, read_pixels


def decode(path, resize="keep") -> np.ndarray:
    return read_pixels(path, Resize(resize))


def save(path, image, **options):
    image.save(path, **options)
    return path


def photograph(size=(64, 48)) -> Image.Image:
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(np.stack([4 * x % 256, 5 * y % 256, (x * y) % 256], 2).astype(np.uint8))


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


@pytest.mark.parametrize("size", [(1024, 768), (48, 64), (384, 512), (90, 30)])
def test_squeeze_is_the_resize_of_the_published_programs(tmp_path, size):
    path = save(tmp_path / "a.png", photograph(size))
    theirs = torchvision.transforms.Resize((512, 384))(photograph(size))
    np.testing.assert_array_equal(decode(path, "squeeze"), np.asarray(theirs))
    assert theirs.size == (384, 512) and tuple(DecodedImages([path], Resize("squeeze")).sizes()[0]) == (512, 384)


def test_every_mode_becomes_rgb(tmp_path):
    image = photograph()
    grey = decode(save(tmp_path / "grey.png", image.convert("L")))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(save(tmp_path / "deep.png", deep)), grey)
    palette = image.quantize(256)
    np.testing.assert_array_equal(
        decode(save(tmp_path / "palette.png", palette)), decode(save(tmp_path / "flat.png", palette.convert("RGB")))
    )
    cmyk = decode(save(tmp_path / "cmyk.jpg", image.convert("CMYK"), quality=100))
    assert np.abs(cmyk.astype(int) - decode(save(tmp_path / "rgb.png", image))).mean() < 12
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode(save(tmp_path / "clear.png", clear)) == 255).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", photograph(), exif=exif)
    assert decode(path).shape == (512, 384, 3)
    assert tuple(DecodedImages([path], Resize()).sizes()[0]) == (512, 384)
    turned = photograph().transpose(Image.Transpose.ROTATE_270).resize((384, 512), Image.Resampling.BILINEAR)
    assert np.abs(decode(path, "squeeze").astype(int) - np.asarray(turned)).mean() < 12  # as a JPEG keeps it
    assert tuple(DecodedImages([path], Resize("squeeze")).sizes()[0]) == (512, 384)


def make_unreadable(path, how):
    write_image(path, 50, (640, 480))
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"not an image"}[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_an_unreadable_image_is_an_error_that_names_it(tmp_path, how):
    make_unreadable(tmp_path / "bad.jpg", how)
    with pytest.raises(ValueError, match=r"bad\.jpg: unreadable image"):
        decode(tmp_path / "bad.jpg")


@pytest.mark.parametrize("size", [(20000, 5000), (30000, 30000), (1000, 10)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_or_a_ribbon_is_an_error(tmp_path, size):
    Image.new("1", size).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png: unreadable image"):
        decode(tmp_path / "bomb.png")


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "data" / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(paths):
        write_image(path, 15 * i, (64, 48) if i % 2 else (48, 64))
    return paths


def open_cache(images, log=lambda line: None):
    return ImageCache(images[0].parent, images[0].parent.parent / "cache", Resize(), log).open(images)


def assert_decoded(stored, paths):
    assert len(stored) == len(paths)
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(stored[i], decode(path))


def test_cached_preloaded_and_uncached_pixels_are_the_same(images):
    stored = open_cache(images)
    for source in (
        stored,
        stored.in_memory(),
        DecodedImages(images, Resize()),
        DecodedImages(images, Resize()).in_memory(),
        stored.chosen(np.arange(6)),
    ):
        assert_decoded(source, images)
        np.testing.assert_array_equal(source.sizes(), [decode(path).shape[:2] for path in images])
    assert_decoded(stored.chosen(np.arange(2, 4)).in_memory(), images[2:4])


def test_kept_and_squeezed_pixels_lie_apart_and_the_cache_of_before_stays(images):
    root = images[0].parent
    kept, squeezed = (
        ImageCache(root, root.parent / "cache", Resize(resize), lambda line: None) for resize in ("keep", "squeeze")
    )
    settings = json.dumps([str(root.resolve()), 384, "bilinear", PIL.__version__])  # the key of before --resize
    assert kept.folder.name == hashlib.sha256(settings.encode()).hexdigest()[:16] != squeezed.folder.name
    assert_decoded(kept.open(images), images)
    for source in (
        squeezed.open(images),
        DecodedImages(images, Resize("squeeze")).chosen(np.arange(6)),
        DecodedImages(images, Resize("squeeze")).in_memory(),
    ):
        np.testing.assert_array_equal(source.sizes(), [[512, 384]] * 6)
        for pixels, path in zip(source, images, strict=True):
            np.testing.assert_array_equal(pixels, decode(path, "squeeze"))


def test_the_second_opening_decodes_nothing_and_other_sets_share_the_cache(images):
    open_cache(images[:4])
    lines = []
    open_cache(images[1:4], lines.append)
    assert lines == []
    assert_decoded(open_cache(images, lines.append), images)
    assert "resizing 2 images" in lines[0]


def test_a_changed_image_is_decoded_again(images):
    open_cache(images)
    before = images[2].stat()
    write_image(images[2], 90, (64, 48))
    assert_decoded(open_cache(images), images)
    write_image(images[2], 91, (64, 48))
    os.utime(images[2], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert_decoded(open_cache(images), images)


def test_a_half_written_index_line_or_lost_pixels_are_decoded_again(images):
    open_cache(images)
    (index,) = (images[0].parent.parent / "cache").glob("*/index.jsonl")
    index.write_bytes(index.read_bytes()[:-20])
    assert_decoded(open_cache(images), images)
    pixels = index.with_name("pixels.bin")
    pixels.write_bytes(pixels.read_bytes()[:-1000])
    assert_decoded(open_cache(images), images)


@pytest.mark.parametrize("left", [0, 1000, None])
def test_lost_pixels_are_not_replaced_by_those_of_other_images(images, left):
    """Of a file that was cut short, or deleted, and began anew with other images."""
    open_cache(images)
    (pixels,) = (images[0].parent.parent / "cache").glob("*/pixels.bin")
    pixels.unlink() if left is None else pixels.write_bytes(pixels.read_bytes()[:left])
    assert_decoded(open_cache(images[::-1][:2]), images[::-1][:2])
    assert_decoded(open_cache(images), images)


def test_an_unreadable_image_ends_the_build_and_leaves_a_cache_that_can_be_completed(images):
    content = images[3].read_bytes()
    images[3].write_bytes(content[:200])
    with pytest.raises(ValueError, match=r"3\.jpg"):
        open_cache(images)
    images[3].write_bytes(content)
    assert_decoded(open_cache(images), images)


def test_a_killed_build_is_completed(images, tmp_path):
    """The builder is killed while it waits between two images, with pixels written that no index line names."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from data_loader import Resize
from iqa.data import image_cache
image_cache.FLUSH_EVERY = 2
decode = image_cache.decode_in_order
def killed_after_three(*arguments):
    for i, item in enumerate(decode(*arguments)):
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item
image_cache.decode_in_order = killed_after_three
from pathlib import Path
paths = sorted(Path({str(images[0].parent)!r}).iterdir())
image_cache.ImageCache(paths[0].parent, paths[0].parent.parent / "cache", Resize()).open(paths)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -signal.SIGKILL
    lines = []
    assert_decoded(open_cache(images, lines.append), images)
    assert "resizing 4 images" in lines[0]


def test_too_little_disk_is_an_error_that_says_how_much_and_offers_no_cache(images, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"needs 0\.0 GB.*--cache_dir.*--no_cache"):
        open_cache(images)


def test_a_folder_that_cannot_be_written_is_an_error_with_both_ways_out(images):
    (images[0].parent.parent / "cache").write_text("a file in the way")
    with pytest.raises(OSError, match=r"--cache_dir.*--no_cache"):
        open_cache(images)
