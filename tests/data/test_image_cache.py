"""The cache of resized images: never stale, completed after an interruption, one line where it cannot be written."""

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
from conftest import ROOT, assert_one_line_error, train, write_image
from faults import inject

from data_loader import Resize
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages, read_pixels


def decode(path, resize="keep") -> np.ndarray:
    return read_pixels(path, Resize(resize))


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "data" / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(paths):
        write_image(path, 15 * i, (64, 48) if i % 2 else (48, 64))
    return paths


def open_cache(images):
    return ImageCache(images[0].parent, images[0].parent.parent / "cache", Resize()).open(images)


def cache_file(images, name):
    (path,) = (images[0].parent.parent / "cache").glob(f"*/{name}")
    return path


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
    kept, squeezed = (ImageCache(root, root.parent / "cache", Resize(resize)) for resize in ("keep", "squeeze"))
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


def test_the_second_opening_decodes_nothing_and_other_sets_share_the_cache(images, capsys):
    open_cache(images[:4])
    capsys.readouterr()
    open_cache(images[1:4])
    assert capsys.readouterr().out == ""
    assert_decoded(open_cache(images), images)
    assert "resizing 2 images" in capsys.readouterr().out


def replace(path, brightness, how) -> None:
    """Change the pixels of a file but not its size and modification time."""
    before = path.stat()
    write_image(path.with_name("new.jpg"), brightness, (64, 48))
    content = path.with_name("new.jpg").read_bytes()
    path.with_name("new.jpg").unlink()
    content += bytes(max(0, before.st_size - len(content)))
    if how == "a new file in its place":
        path.with_name("new.jpg").write_bytes(content)
        path.with_name("new.jpg").replace(path)
    else:
        path.write_bytes(content)
    if how != "another time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["a new file in its place", "written over", "another time"])
def test_a_changed_image_is_decoded_again(images, how):
    open_cache(images)
    for brightness in (90, 20):
        replace(images[2], brightness, how)
        assert_decoded(open_cache(images), images)


def test_an_index_without_inodes_stays_valid_for_what_it_knows(images, capsys):
    open_cache(images)
    index = cache_file(images, "index.jsonl")
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    index.write_text("".join(json.dumps(line[:6]) + "\n" for line in lines))
    capsys.readouterr()
    assert_decoded(open_cache(images), images)
    assert capsys.readouterr().out == ""
    write_image(images[2], 95, (48, 64))
    assert_decoded(open_cache(images), images)
    assert "resizing 1 images" in capsys.readouterr().out


def test_replaced_pixels_do_not_pile_up_and_an_opened_cache_keeps_its_own(images):
    first = open_cache(images)
    before = [np.array(image) for image in first]
    pixels = cache_file(images, "pixels.bin")
    whole, sizes = pixels.stat().st_size, []
    for round_number in range(8):
        for path in images:
            replace(path, 10 * round_number, "a new file in its place")
        assert_decoded(open_cache(images), images)
        sizes.append(pixels.stat().st_size)
    assert max(sizes) <= 2 * whole
    for image, kept in zip(first, before, strict=True):
        np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(("function", "number"), [("fcntl.flock", "ENOLCK"), ("mmap.mmap", "ENODEV")])
def test_a_file_system_without_locks_is_one_line_and_one_without_mapping_is_read(tiny_data, tmp_path, function, number):
    code = f"""
import errno, os, {function.partition(".")[0]}
def fail(*_, **__):
    raise OSError(errno.{number}, os.strerror(errno.{number}))
{function} = fail
"""
    flags = ("--data_path", tiny_data, "--cache_dir", "cache", "--epochs", "1", "--output_dir", "run")
    process = train(*flags, cwd=tmp_path, **inject(code))
    if "flock" in function:
        assert_one_line_error(process, "cache/", "cannot keep the image cache", "--cache_dir", "--no_cache")
    else:
        assert process.returncode == 0, process.stderr
        assert "cannot be mapped" in process.stdout and (tmp_path / "run/result.json").exists()


def test_a_half_written_index_line_or_lost_pixels_are_decoded_again(images):
    open_cache(images)
    index = cache_file(images, "index.jsonl")
    index.write_bytes(index.read_bytes()[:-20])
    assert_decoded(open_cache(images), images)
    pixels = index.with_name("pixels.bin")
    pixels.write_bytes(pixels.read_bytes()[:-1000])
    assert_decoded(open_cache(images), images)


@pytest.mark.parametrize("left", [0, 1000, None])
def test_lost_pixels_are_not_replaced_by_those_of_other_images(images, left):
    """The file was truncated or deleted, and then refilled with other images."""
    open_cache(images)
    pixels = cache_file(images, "pixels.bin")
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


def test_a_killed_build_is_completed(images, capsys):
    """The build is killed between two images, with pixels that no index line names."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from data_loader import Resize
from iqa.data import image_cache
image_cache.FLUSH_EVERY = 2
map_ahead = image_cache.map_ahead
def killed_after_three(*arguments):
    for i, item in enumerate(map_ahead(*arguments)):
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item
image_cache.map_ahead = killed_after_three
from pathlib import Path
paths = sorted(Path({str(images[0].parent)!r}).iterdir())
image_cache.ImageCache(paths[0].parent, paths[0].parent.parent / "cache", Resize()).open(paths)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -signal.SIGKILL
    assert_decoded(open_cache(images), images)
    assert "resizing 4 images" in capsys.readouterr().out


def test_too_little_disk_is_an_error_that_says_how_much_and_offers_no_cache(images, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"needs [1-9]\d* MB and 0 MB are free.*--cache_dir.*--no_cache"):
        open_cache(images)
