"""Drawn and given splits."""

import sys

import pytest
from conftest import ROOT, assert_one_line_error, refuse, run_program, train
from data_folders import PHOTOS, check_folder, make_csv, names_of, write_rows

from iqa.data.datasets import load_dataset, split_csv
from iqa.data.labels import SETS
from iqa.data.readers import read_csv
from iqa.data.splits import draw_split


def test_a_drawn_split_depends_on_its_seed_and_the_names_alone(tmp_path):
    data = load_dataset("csv", make_csv(tmp_path))
    assert data.sizes() == {"training": 14, "validation": 2, "test": 4} and data.drawn
    assert names_of(data)["test"] == {"2.jpg", "6.jpg", "10.jpg", "16.jpg"}  # on every machine
    rows = [(name, 6 - mos) for name, mos in reversed(PHOTOS)]
    write_rows(tmp_path / "labels.csv", ("image", "mos"), *rows)
    assert names_of(load_dataset("csv", tmp_path)) == names_of(data)
    assert names_of(load_dataset("csv", tmp_path, split_seed=1)) != names_of(data)


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(3, (2, 0, 1)), (4, (1, 2, 1)), (10, (6, 2, 2)), (14, (9, 2, 3)), (15, (10, 2, 3)), (20, (14, 2, 4))],
)
def test_a_drawn_validation_set_has_two_images_or_more_or_there_is_none(tmp_path, images, sizes):
    labels = list(read_csv(make_csv(tmp_path) / "labels.csv"))[:images]
    sets = [label.set for label in draw_split(labels, 0)]
    assert tuple(map(sets.count, SETS)) == sizes
    scenes = [label._replace(scene=f"scene {i // 2}") for i, label in enumerate(labels)]
    assert [label.set for label in draw_split(scenes, 0)].count("validation") in (0, 2, 4)


def test_a_split_file_counts_over_the_drawn_split_and_what_it_leaves_out_is_said(tmp_path):
    make_csv(tmp_path)
    rows = (("0.jpg", "train"), ("2.jpg", "val"), ("holiday/1.png", "test"))
    write_rows(tmp_path / "mine.csv", ("image", "split"), *rows)
    data = load_dataset("csv", tmp_path, split_file=tmp_path / "mine.csv")
    assert names_of(data) == {"training": {"0.jpg"}, "validation": {"2.jpg"}, "test": {"holiday/1.png"}}
    assert "17 of 20 images are in no set" in data.warnings[0]
    write_rows(tmp_path / "mine.csv", ("image", "split"), ("x.jpg", "train"))
    with pytest.raises(ValueError, match="mine.csv: row 2: x.jpg is not among the 20 images"):
        load_dataset("csv", tmp_path, split_file=tmp_path / "mine.csv")
    with pytest.raises(FileNotFoundError, match="--split_file .*no such file"):
        load_dataset("csv", tmp_path, split_file=tmp_path / "none.csv")


def test_a_split_that_was_kept_gives_the_same_sets_again(tmp_path):
    data = load_dataset("csv", make_csv(tmp_path), split_seed=3)
    (tmp_path / "split.csv").write_text(split_csv(data))
    again = load_dataset("csv", tmp_path, split_file=tmp_path / "split.csv")
    assert again.sha256 == data.sha256 and names_of(again) == names_of(data) and again.drawn


SETS_OF_ROWS = {  # MOS of the training, validation and test images, and the undefined set
    "one test image": ((1, 2, 3), (1, 2), (4,), "test", "single image"),
    "test images of one MOS": ((1, 2, 3), (1, 2), (4, 4, 4), "test", "every MOS in it is 4"),
    "one validation image": ((1, 2, 3), (1,), (4, 5), "validation", "single image"),
    "validation images of one MOS": ((1, 2, 3), (2, 2), (4, 5), "validation", "every MOS in it is 2"),
}


@pytest.mark.parametrize("kind", SETS_OF_ROWS)
@pytest.mark.parametrize("flags", [(), ("--select_on", "val"), ("--select_on", "test")])
def test_a_set_without_a_defined_srcc_is_a_warning_and_refused_where_it_decides(tmp_path, kind, flags):
    *sets, name, reason = SETS_OF_ROWS[kind]
    rows = [(set_name, mos) for set_name, values in zip(("train", "val", "test"), sets, strict=True) for mos in values]
    named = [(photo, mos, set_name) for (photo, _), (set_name, mos) in zip(PHOTOS, rows, strict=False)]
    write_rows(make_csv(tmp_path) / "labels.csv", ("image", "mos", "split"), *named)
    process = check_folder(tmp_path, "--dataset", "csv")
    assert process.returncode == 0
    assert f"Warning: SRCC is undefined on the {name} set: " in process.stdout and reason in process.stdout
    flags = ("--dataset", "csv", "--data_path", tmp_path, "--output_dir", tmp_path / "run", *flags)
    if name == "test" or "test" not in flags:
        assert_one_line_error(refuse(*flags, cwd=tmp_path), "--data_path", f"undefined on the {name} set", reason)
        assert not (tmp_path / "run/config.json").exists()


def test_a_set_that_decides_nothing_may_have_no_srcc(tmp_path):
    sets = 8 * ["train"] + ["val", "test", "test"]
    rows = [(photo, mos, name) for (photo, mos), name in zip(PHOTOS, sets, strict=False)]
    write_rows(make_csv(tmp_path) / "labels.csv", ("image", "mos", "split"), *rows)
    flags = "--dataset csv --select_on test --epochs 1 --output_dir run".split()
    process = train("--data_path", tmp_path, *flags, cwd=tmp_path)
    assert process.returncode == 0 and (tmp_path / "run/result.json").exists(), process.stderr


def test_scoring_refuses_a_set_without_a_defined_srcc_before_it_decodes_an_image(tmp_path, finished_run):
    rows = [(photo, mos, "train") for photo, mos in PHOTOS[:8]] + [(*PHOTOS[8], "test")]
    write_rows(make_csv(tmp_path) / "labels.csv", ("image", "mos", "split"), *rows)
    (tmp_path / PHOTOS[8][0]).write_bytes(b"not an image")
    checkpoint = next(finished_run.rglob("resnet_improved_ms_att_best.pth"))
    flags = ["--checkpoint", checkpoint, "--data_path", tmp_path, *"--dataset csv --set test --device cpu".split()]
    process = run_program(sys.executable, ROOT / "score_images.py", *flags, cwd=tmp_path)
    assert_one_line_error(process, "--data_path", "SRCC is undefined on the test set", "single image")
