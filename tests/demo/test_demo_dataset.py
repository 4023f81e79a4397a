"""The demo data set: KonIQ's layout, images as a function of (seed, name, MOS), errors of one line."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, read_rows, run_main
from PIL import Image

from iqa.demo.faults import FAULTS, demo_image
from iqa.demo.folder import as_csv, invent_rows, write_image
from iqa.demo.scenes import draw_scene, random_generator

PROGRAM = ROOT / "demo_dataset.py"
CSV_NAME = "koniq10k_distributions_sets.csv"
HEADER = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "set"
    result = run("--output", folder, "--images", 6, "--workers", 2)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_folder_is_koniqs_with_a_marker_that_these_are_no_photographs(demo):
    rows = read_rows(demo / CSV_NAME)
    assert "not KonIQ-10k's photographs" in (demo / "DEMO_DATASET.txt").read_text().splitlines()[0]
    assert (demo / CSV_NAME).read_text().splitlines()[0] == HEADER
    assert {row["set"] for row in rows} == {"training", "validation", "test"}
    assert sorted(row["image_name"] for row in rows) == sorted(os.listdir(demo / "1024x768"))
    for row in rows:
        assert row["image_name"].removesuffix(".jpg").isdigit()
        with Image.open(demo / "1024x768" / row["image_name"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (1024, 768))


def test_the_labels_follow_the_official_conventions(demo):
    for row in read_rows(demo / CSV_NAME):
        raters, fractions = int(row["c_total"]), np.array([float(row[f"c{rating}"]) for rating in range(1, 6)])
        mean = fractions @ np.arange(1, 6)
        deviation = np.sqrt(fractions @ (np.arange(1, 6) - mean) ** 2 * raters / (raters - 1))
        assert fractions.sum() == pytest.approx(1, abs=1e-9)
        assert float(row["MOS"]) == pytest.approx(25 * (mean - 1), abs=1e-6)
        assert float(row["SD"]) == pytest.approx(deviation, abs=1e-6)


def test_the_labels_are_those_of_the_reported_results():
    rows = as_csv(invent_rows(300, seed=42)).partition("\n")[2].rstrip("\n")
    assert hashlib.sha256(rows.encode()).hexdigest()[:12] == "1c04ae5413cf"


def test_two_processes_write_the_bytes_that_one_with_more_workers_writes(demo, tmp_path):
    command = [sys.executable, str(PROGRAM), "--output", str(tmp_path / "demo"), "--images", "6", "--workers", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in both] == [(b"", 0)] * 2
    assert contents(tmp_path / "demo") == contents(demo)


@pytest.mark.parametrize("images", [6, 10, 60, 300, 10073])
def test_every_set_has_a_usable_size(images):
    rows = invent_rows(images, seed=1)
    counts = Counter(row["set"] for row in rows)
    assert sum(counts.values()) == images == len({row["image_name"] for row in rows})
    assert min(counts.values()) >= min(20, images // 4) and counts["training"] == max(counts.values())
    if images >= 300:
        assert counts == {
            "training": images - round(images * 0.1) - round(images * 0.2),
            "validation": round(images * 0.1),
            "test": round(images * 0.2),
        }


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stronger_fault_changes_the_scene_more(fault):
    scene = draw_scene(random_generator("a scene"))
    faulty = [fault(scene, strength, np.random.default_rng(0)) for strength in (0, 0.2, 0.5, 1)]
    errors = [np.square(np.asarray(image, float) - np.asarray(scene, float)).mean() for image in faulty]
    assert errors == sorted(errors) and errors[0] < 1 and errors[1] > 1


def test_one_scene_gets_worse_as_its_mos_falls_and_another_seed_gives_another():
    assert demo_image(1, "1.jpg", 50.0) != demo_image(2, "1.jpg", 50.0)
    best, *others = (decoded(demo_image(1, "1.jpg", mos)) for mos in (90.0, 70.0, 40.0, 10.0))
    errors = [np.square(other - best).mean() for other in others]
    assert errors == sorted(errors) and errors[0] > 1


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), float)


def test_an_interrupted_build_is_completed(tmp_path):
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--output", str(tmp_path / "demo"), "--images", "5000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    images = tmp_path / "demo" / "1024x768"
    try:
        wait_for(lambda: images.is_dir() and any(images.glob("*.jpg")))
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == 130 and len(errors.splitlines()) == 1
    for path in images.glob("*.jpg"):
        Image.open(path).load()


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_missing_and_empty_images_are_made_again_and_the_others_left(demo):
    before = contents(demo)
    first, second, third = sorted((demo / "1024x768").iterdir())[:3]
    first.unlink()
    second.write_bytes(b"")
    kept = third.stat().st_mtime_ns
    result = run("--output", demo, "--images", 6)
    assert result.returncode == 0 and "4 of 6 images" in result.stdout
    assert contents(demo) == before and third.stat().st_mtime_ns == kept


def test_an_output_with_other_files_and_one_that_is_a_file_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    assert_refused(["--output", tmp_path, "--images", 6], "--output", "not empty")
    assert_refused(["--output", tmp_path / "mine.txt", "--images", 6], "--output", "is a file")
    assert os.listdir(tmp_path) == ["mine.txt"] and (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("arguments", [("--images", 7), ("--images", 6, "--seed", 1)])
def test_a_demo_with_other_arguments_is_refused(demo, arguments):
    before = contents(demo)
    assert_refused(["--output", demo, *arguments], "--output", "other arguments")
    assert contents(demo) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--images",)),
        (("--images", 3), ("--images", "'3'", "6 to 1000000")),
        (("--images", "many"), ("--images", "many")),
        (("--images", 6, "--workers", 0), ("--workers", "'0'")),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, words):
    assert_refused(["--output", "demo", *arguments], *words, cwd=tmp_path)


def assert_refused(arguments, *words: str, cwd: Path = ROOT) -> None:
    process = run_main("demo_dataset", *arguments, cwd=cwd)
    assert process.returncode == 2
    assert_one_line_error(process, *words)


def test_an_image_that_cannot_be_written_leaves_no_temporary_file(tmp_path):
    (tmp_path / "1.jpg").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError):
        write_image((tmp_path / "1.jpg", 42, 50.0))
    assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]
