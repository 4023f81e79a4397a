"""Authentic distortions and generated images: LIVE Challenge, BIQ2021, BID, SPAQ, AGIQA-3K."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conftest import read_rows
from data_folders import (
    assert_refused,
    cell_array,
    check_folder,
    make_agiqa3k,
    make_bid,
    make_biq2021,
    make_livec,
    mos_of,
    names_of,
    paths_of,
    write_rows,
)

from iqa.data.datasets import load_dataset

PART_OF_BIQ2021 = Path(__file__).parents[3] / "shared" / "biq2021"
BIQ2021 = Path(os.environ.get("BIQ2021", "BIQ2021"))  # the released repository, where it is named


# LIVE In the Wild Challenge


def test_the_challenge_leaves_out_the_seven_examples_of_its_study(tmp_path):
    data = load_dataset("livec", make_livec(tmp_path))
    everything = set.union(*names_of(data).values())
    assert everything == {f"{i}.bmp" for i in range(1, 11)} and data.mos_range == (0, 100)
    assert data.sizes() == {"training": 6, "validation": 2, "test": 2}
    assert "10 images; the release has 1,162" in data.warnings[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AllMOS_release", [[50.0, 60.0]], "AllMOS_release.mat: 2 MOS for the 17 names"),
        ("AllMOS_release", [[99.0] * 16 + [101.0]], "AllMOS_release.mat: entry 17: MOS 101 is outside 0 to 100"),
        ("AllMOS_release", [[99.0] * 16 + [np.nan]], "AllMOS_release.mat: entry 17: MOS is 'nan'"),
        ("AllMOS_release", cell_array([50.0] * 17), "AllMOS_release is missing or not a vector of numbers"),
        ("AllMOS_release", {"mos": 50.0}, "not a vector of numbers"),
        ("AllMOS_release", "fine", "not a vector of numbers"),
        ("AllMOS_release", [[1j] * 17], "not a vector of numbers"),
        ("AllMOS_release", scipy.sparse.eye(17), "not a vector of numbers"),
        ("AllMOS_release", np.zeros((0, 0)), "0 MOS for the 17 names"),
        ("AllImages_release", [[1.0] * 17], "not a cell array of texts"),
        ("AllImages_release", cell_array(["1.bmp"] * 15 + [7.0, []]), "AllImages_release entry 16 is not a text"),
        ("AllImages_release", cell_array([]), "17 MOS for the 0 names"),
    ],
)
def test_bad_matlab_values_are_one_line_with_file_and_entry(tmp_path, name, value, words):
    assert_refused(make_livec(tmp_path, **{name: value}), "livec", f"{name}.mat", words)


def test_names_in_a_matrix_of_characters_are_read_like_those_in_cells(tmp_path):
    names = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(1, 11)]
    data = load_dataset("livec", make_livec(tmp_path, AllImages_release=np.array(names)))
    assert set.union(*names_of(data).values()) == {f"{i}.bmp" for i in range(1, 11)}


def test_matlab_files_of_another_kind_are_an_error(tmp_path):
    path = make_livec(tmp_path) / "Data/AllImages_release.mat"
    scipy.io.savemat(path, {"other": [1]})
    with pytest.raises(ValueError, match="AllImages_release.mat: AllImages_release is missing"):
        load_dataset("livec", tmp_path)
    path.write_text("no")
    with pytest.raises(ValueError, match="AllImages_release.mat: not a MATLAB 5 file"):
        load_dataset("livec", tmp_path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ValueError, match="AllImages_release.mat: a MATLAB 7.3 file.*'-v7'"):
        load_dataset("livec", tmp_path)


# BIQ2021


def test_biq2021_keeps_its_test_set_and_draws_a_tenth_of_its_training_set_to_validate(tmp_path):
    data = load_dataset("biq2021", make_biq2021(tmp_path))
    assert data.sizes() == {"training": 36, "validation": 4, "test": 10} and data.drawn
    split = "Split: BIQ2021's own, a tenth of its training images drawn to validate with --split_seed 0"
    assert data.facts[1] == split
    assert data.warnings == ["36 / 4 / 10 images to train, validate and test; the release has 9,000 / 1,000 / 2,000"]
    other = load_dataset("biq2021", tmp_path, split_seed=1)
    assert names_of(other)["test"] == names_of(data)["test"]
    assert names_of(other)["validation"] != names_of(data)["validation"]


def test_a_name_whose_ending_is_in_other_case_than_its_file_s_is_found(tmp_path):
    paths = paths_of(load_dataset("biq2021", make_biq2021(tmp_path)))
    assert {name: path.name for name, path in paths.items() if name != path.name} == {"ss01 (1).jpg": "ss01 (1).JPG"}


def test_two_files_that_are_both_like_a_name_are_an_error(tmp_path):
    make_biq2021(tmp_path)
    (tmp_path / "Images/ss01 (1).Jpg").touch()
    if len(list((tmp_path / "Images").glob("ss01 (1).*"))) == 1:
        pytest.skip("this file system knows no capitals")
    with pytest.raises(ValueError, match=r"ss01 \(1\)\.JPG and ss01 \(1\)\.Jpg both match; keep one"):
        load_dataset("biq2021", tmp_path)


def test_an_image_that_is_in_both_files_is_an_error_whatever_its_case(tmp_path):
    make_biq2021(tmp_path)
    with open(tmp_path / "Test (Images and MOS).csv", "a") as file:
        file.write("SS01 (1).JPG,0.5\n")
    with pytest.raises(ValueError, match=r"Test .*row 12: SS01 \(1\).JPG is named in two sets, training and test"):
        load_dataset("biq2021", tmp_path)


@pytest.mark.parametrize("half", ["Train (Images and MOS).csv", "Test (Images and MOS).csv", "Images"])
def test_a_folder_that_lacks_half_of_biq2021_is_one_clear_line(tmp_path, half):
    (make_biq2021(tmp_path) / half).rename(tmp_path / "away")
    words = ["50 of 50 labelled images are missing", "looked in Images/"] if half == "Images" else [f"no {half};"]
    assert_refused(tmp_path, "biq2021", str(tmp_path), *words)


@pytest.mark.skipif(not BIQ2021.exists(), reason=f"the repository of BIQ2021 is not at {BIQ2021}")
def test_the_repository_of_biq2021_is_read_as_it_is():
    data = load_dataset("biq2021", BIQ2021)
    assert data.sizes() == {"training": 9000, "validation": 1000, "test": 2000} and data.warnings == []
    assert min(mos_of(data).values()) == 0 and max(mos_of(data).values()) == 1
    paths = set(paths_of(data).values())
    assert len(paths) == 12_000 and [path.name for path in paths if path.suffix != ".jpg"] == ["ss02 (1014).JPG"]


@pytest.mark.skipif(not PART_OF_BIQ2021.exists(), reason=f"the photographs of BIQ2021 are not at {PART_OF_BIQ2021}")
def test_a_thousand_real_photographs_are_read_as_a_csv_of_one_s_own():
    process = check_folder(PART_OF_BIQ2021, "--dataset", "csv", "--mos_range", "0", "1")
    assert process.returncode == 0, process.stderr
    assert "700 training, 100 validation, 200 test images" in process.stdout
    assert "MOS: 0 to 1, given by --mos_range" in process.stdout and "Warning" not in process.stdout


# BID, SPAQ, AGIQA-3K


@pytest.mark.parametrize("folder", ["ImageDatabase", "."])
def test_bid_s_images_are_named_by_their_numbers(tmp_path, folder):
    data = load_dataset("bid", make_bid(tmp_path, numbers=["1", "2.0", "586"], folder=folder))
    assert set(mos_of(data)) == {"DatabaseImage0001.JPG", "DatabaseImage0002.JPG", "DatabaseImage0586.JPG"}
    assert data.mos_range == (0, 5)


@pytest.mark.parametrize("number", ["1.5", "0", "10000", "one", "nan"])
def test_a_number_that_names_no_image_of_bid_is_an_error_with_file_and_row(tmp_path, number):
    make_bid(tmp_path)
    write_rows(tmp_path / "DatabaseGrades.csv", ("Image Number", "Average Subjective Grade"), (1, 2), (number, 3))
    with pytest.raises(ValueError, match=f"DatabaseGrades.csv: row 3: Image Number is '{number}'"):
        load_dataset("bid", tmp_path)


@pytest.mark.parametrize("folder", ["AGIQA-3K", "images", "."])
def test_agiqa_s_images_of_one_prompt_stay_together_and_its_mos_is_that_of_quality(tmp_path, folder):
    data = load_dataset("agiqa3k", make_agiqa3k(tmp_path, folder=folder))
    assert data.sizes() == {"training": 21, "validation": 3, "test": 6}
    prompts = [{name[-7:-4] for name in names} for names in names_of(data).values()]
    assert [len(x) for x in prompts] == [7, 1, 2] and len(set.union(*prompts)) == 10
    assert mos_of(data) == {row["name"]: float(row["mos_quality"]) for row in read_rows(tmp_path / "data.csv")}
