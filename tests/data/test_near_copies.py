"""data_loader.py --near_copies: test images that are nearly copies of images to train or validate on."""

import numpy as np
import pytest
from conftest import assert_one_line_error
from data_folders import check_folder, write_rows
from PIL import Image

TEST = ("resaved.jpg", "brighter.png", "smaller.webp", "rotated.jpg", "mirrored.jpg", "new.jpg", "exact.jpg")


def write_photograph(path, seed):
    """A JPEG of large soft spots."""
    spots = np.random.default_rng(seed).integers(40, 160, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(spots).resize((200, 150), Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture
def photos(tmp_path):
    """Photographs to train and validate on, and test images made of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        write_photograph(folder / f"{i}.jpg", i)
    opened = [Image.open(folder / f"{i}.jpg") for i in range(12)]
    opened[0].save(folder / "resaved.jpg", quality=20)
    Image.fromarray((0.8 * np.asarray(opened[1]) + 50).clip(0, 255).astype(np.uint8)).save(folder / "brighter.png")
    opened[2].resize((100, 75)).save(folder / "smaller.webp")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: shown turned by 90 degrees to the right
    opened[3].transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.jpg", exif=exif, quality=95)
    opened[4].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.jpg", quality=95)
    write_photograph(folder / "new.jpg", 99)
    (folder / "exact.jpg").write_bytes((folder / "11.jpg").read_bytes())
    sets = [*((f"{i}.jpg", "val" if i > 8 else "train") for i in range(12)), *((name, "test") for name in TEST)]
    rows = [(name, i % 7, set_name) for i, (name, set_name) in enumerate(sets)]
    write_rows(folder / "labels.csv", ("image", "mos", "split"), *rows)
    return folder


def near_copies(folder, *flags):
    return check_folder(folder.name, "--dataset", "csv", "--near_copies", "near.txt", *flags, cwd=folder.parent)


def test_copies_are_found_whatever_their_format_size_exposure_and_rotation(photos):
    process = near_copies(photos)
    assert (process.returncode, process.stderr) == (0, "")
    lines = [line.split("\t") for line in (photos.parent / "near.txt").read_text().splitlines()]
    assert [line[:3] for line in lines] == [
        ["resaved.jpg", "0.jpg", "training"],
        ["brighter.png", "1.jpg", "training"],
        ["smaller.webp", "2.jpg", "training"],
        ["rotated.jpg", "3.jpg", "training"],
        ["exact.jpg", "11.jpg", "validation"],
    ]
    assert lines[-1][3] == "0" and all(0 <= int(line[3]) <= 2 for line in lines)
    last = process.stdout.splitlines()[-1]
    assert last.startswith("Near copies: 5 of 7 test images are within 2 of 64 bits")
    assert last.endswith("wrote near.txt")
    assert "(1 is when mirrored" in last  # mirrored.jpg, turned back


def test_the_distance_is_a_choice(photos):
    near_copies(photos, "--hash_distance", "0")
    strict = (photos.parent / "near.txt").read_text().splitlines()
    assert strict[-1] == "exact.jpg\t11.jpg\tvalidation\t0" and all(line.endswith("\t0") for line in strict)
    assert near_copies(photos, "--hash_distance", "32").stdout.splitlines()[-1].startswith("Near copies: 7 of 7")


def test_what_cannot_be_done_is_one_line(photos):
    alone = check_folder(photos, "--dataset", "csv", "--hash_distance", "3")
    assert_one_line_error(alone, "--hash_distance", "--near_copies FILE")
    assert_one_line_error(near_copies(photos, "--hash_distance", "33"), "--hash_distance", "'33'", "0 to 32")
    assert_one_line_error(near_copies(photos, "--near_copies", photos), "--near_copies", "is a folder")
    (photos / "3.jpg").write_bytes(b"no image")
    assert_one_line_error(near_copies(photos), "3.jpg: unreadable image")
    assert not (photos.parent / "near.txt").exists()
