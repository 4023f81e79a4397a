"""python3 data_loader.py: output and errors of the check of a folder."""

import pytest
from conftest import SIZES, assert_one_line_error, make_data
from data_folders import check_folder, make_csv, make_kadid, write_rows

from iqa.data.datasets import load_dataset


def test_the_check_prints_scale_split_sizes_and_sha(tmp_path):
    data = load_dataset("kadid10k", make_kadid(tmp_path / "kadid"), split_seed=2)
    process = check_folder("kadid", "--dataset", "kadid10k", "--split_seed", "2", cwd=tmp_path)
    assert process.returncode == 0 and process.stderr == ""
    assert process.stdout.splitlines() == [
        "Data set: kadid10k, KADID-10k, synthetic distortions of 81 photographs",
        "MOS: 1 to 5, the scale of the data set",
        "Split: drawn 70/10/20 from the names with --split_seed 2",
        "Warning: 30 images; the release has 10,125",
        f"kadid: 21 training, 3 validation, 6 test images, split SHA-256 {data.sha256}",
    ]


def test_koniq_in_its_usual_folder_needs_no_argument(tmp_path):
    make_data(tmp_path / "koniq-10k")
    (tmp_path / "koniq-10k/DEMO_DATASET.txt").write_text("Drawn, not photographed\nseed 1\n")
    process = check_folder(cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0] == "Data set: koniq-10k, Drawn, not photographed"
    assert "Warning: 8 / 4 / 4 images to train, validate and test; the release has 7,058 / 1,000 / 2,015" in lines
    assert lines[-1].startswith("koniq-10k: 8 training, 4 validation, 4 test images, split SHA-256 ")


def test_a_folder_without_validation_images_is_told_what_that_means(tmp_path):
    root = make_data(tmp_path / "koniq", sizes={**SIZES, "validation": 0})
    process = check_folder(root)
    assert process.returncode == 0
    words = "0 validation images: a run chooses its epoch on test, so that its Selected Test is the peak"
    assert words in process.stdout
    make_data(tmp_path / "koniq")
    assert "0 validation" not in check_folder(root).stdout


@pytest.mark.parametrize(
    ("splits", "words"),
    [(("train",), "0 test images: a run cannot be tested"), (("test",), "0 training images: a run cannot train")],
)
def test_a_folder_that_serves_for_one_purpose_only_is_told_so(tmp_path, splits, words):
    process = check_folder(make_csv(tmp_path, splits), "--dataset", "csv")
    assert process.returncode == 0 and words in process.stdout


def test_a_range_and_a_split_file_mean_what_they_mean_in_training(tmp_path):
    make_csv(tmp_path / "photos")
    write_rows(tmp_path / "mine.csv", ("image", "split"), ("0.jpg", "train"), ("2.jpg", "val"), ("4.jpg", "test"))
    flags = ("--dataset", "csv", "--mos_range", "0", "10", "--split_file", "mine.csv")
    process = check_folder("photos", *flags, cwd=tmp_path)
    assert "MOS: 0 to 10, given by --mos_range\nSplit: from mine.csv\n" in process.stdout
    assert "photos: 1 training, 1 validation, 1 test images" in process.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--split_seed", "1"], ["--split_seed is for csv, livec", "named with --dataset"]),
        (["--split_file", "x.csv"], ["--split_file is for csv, livec"]),
        (["--mos_range", "1", "5"], ["--mos_range is for --dataset csv"]),
        (["--dataset", "spaq", "--mos_range", "1", "5"], ["--mos_range is for --dataset csv"]),
        (["--dataset", "csv", "--mos_range", "5", "1"], ["--mos_range 5 1: LOW must be below HIGH"]),
        (["--dataset", "csv", "--mos_range", "3", "3"], ["--mos_range 3 3: LOW must be below HIGH"]),
        (["--dataset", "csv", "--mos_range", "1", "inf"], ["--mos_range", "'inf'", "finite"]),
        (["--dataset", "gone"], ["--dataset", "gone", "koniq-10k"]),
        (["--dataset", "csv", "--split_file", ""], ["--split_file", "empty"]),
        (["two", "folders"], ["folders"]),
    ],
)
def test_flags_that_do_not_fit_are_one_line(tmp_path, flags, words):
    process = check_folder(*flags, cwd=tmp_path)
    assert process.returncode == 2 and process.stdout == ""
    assert_one_line_error(process, *words)
