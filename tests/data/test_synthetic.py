"""Distorted copies of reference images: KADID-10k, TID2013, CSIQ, LIVE."""

import numpy as np
import pytest
import scipy.io
from data_folders import (
    CSIQ_FOLDERS,
    LIVE_FOLDERS,
    assert_refused,
    cell_array,
    make_csiq,
    make_kadid,
    make_live,
    make_tid2013,
    mos_of,
    names_of,
    paths_of,
    write_rows,
)

from iqa.data.datasets import load_dataset


@pytest.mark.parametrize(
    ("name", "make", "reference", "per_reference"),
    [
        ("kadid10k", make_kadid, lambda name: name[:3], 3),
        ("tid2013", make_tid2013, lambda name: name[:3].lower(), 10),
        ("csiq", make_csiq, lambda name: name.split(".")[0], 30),
    ],
)
def test_no_reference_is_in_two_sets(tmp_path, name, make, reference, per_reference):
    data = load_dataset(name, make(tmp_path))
    scenes = [{reference(image) for image in names} for names in names_of(data).values()]
    assert [len(x) for x in scenes] == [7, 1, 2] and len(set.union(*scenes)) == 10
    assert list(data.sizes().values()) == [7 * per_reference, per_reference, 2 * per_reference] and data.drawn


@pytest.mark.parametrize(("name", "make"), [("tid2013", make_tid2013), ("csiq", make_csiq)])
def test_a_scale_that_stands_on_its_head_is_noticed(tmp_path, name, make):
    make(tmp_path, worse=-1)
    assert_refused(tmp_path, name, str(tmp_path), "the strongest distortions have the better MOS")


def test_kadid_s_levels_tell_the_direction_too(tmp_path):
    rows = [(f"I01_01_{level:02d}.png", "I01.png", level, 1) for level in range(1, 6)]
    write_rows(tmp_path / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), *rows)
    with pytest.raises(ValueError, match="the strongest distortions have the better MOS, 5 on average and 1"):
        load_dataset("kadid10k", tmp_path)


# TID2013


def test_tid2013_s_names_are_found_in_whatever_case_they_are_listed(tmp_path):
    data = load_dataset("tid2013", make_tid2013(tmp_path))
    paths = paths_of(data)
    assert len(paths) == 100 and any(name != path.name for name, path in paths.items())
    assert all(name.lower() == path.name.lower() for name, path in paths.items())
    assert data.mos_range == (0, 9) and "the release has 3,000" in data.warnings[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("5.5", ["row 1: '5.5' is not MOS and name"]),
        ("5.5 I01.BMP", ["row 1: image name 'I01.BMP' has no reference and level, as i01_01_1.bmp"]),
        ("9.5 I01_01_1.bmp", ["row 1: MOS 9.5 is outside 0 to 9"]),
        ("I01_01_1.bmp 5.5", ["row 1: image name '5.5'"]),
        ("5.5 I01_01_2.bmp", ["row 2: i01_01_2.bmp is named twice; first at", "row 1"]),
    ],
)
def test_a_bad_line_of_tid2013_is_an_error_with_file_and_row(tmp_path, line, words):
    file = make_tid2013(tmp_path) / "mos_with_names.txt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([f"{line}\n", *lines[1:]]))
    assert_refused(tmp_path, "tid2013", "mos_with_names.txt", *words)
    file.write_bytes(b"\xff\xfe")
    assert_refused(tmp_path, "tid2013", "mos_with_names.txt", "UTF-8")


# CSIQ


@pytest.mark.parametrize("folder", ["dst_imgs_all", "dst_imgs", None])
def test_csiq_s_images_are_found_in_one_folder_or_in_those_of_their_kinds_and_its_dmos_is_turned(tmp_path, folder):
    folders = dict.fromkeys(CSIQ_FOLDERS, folder) if folder else None
    data = load_dataset("csiq", make_csiq(tmp_path, folders=folders))
    lines = [line.split() for line in (tmp_path / "csiq_label.txt").read_text().splitlines()]
    assert mos_of(data) == {name: 1 - float(dmos) for name, dmos in lines}
    assert "MOS: 0 to 1, 1 - DMOS, so that higher is better" in data.facts
    assert data.warnings == ["300 images; the release has 866"]


def test_a_dmos_off_csiq_s_scale_is_an_error_with_file_and_row(tmp_path):
    file = make_csiq(tmp_path) / "csiq_label.txt"
    file.write_text("1600.AWGN.1.png 61.9\n" + file.read_text())
    with pytest.raises(ValueError, match=r"csiq_label.txt: row 1: DMOS is '61.9', not a number in 0-1"):
        load_dataset("csiq", tmp_path)


# LIVE


def test_live_leaves_out_the_undistorted_images_turns_its_dmos_and_has_no_reference_in_two_sets(tmp_path):
    data = load_dataset("live", make_live(tmp_path))
    variables = scipy.io.loadmat(tmp_path / "dmos_realigned.mat")
    names = [f"{folder}/img{i + 1}.bmp" for folder, count in LIVE_FOLDERS.items() for i in range(count)]
    expected = {
        name: 100 - dmos
        for name, dmos, undistorted in zip(names, variables["dmos_new"][0], variables["orgs"][0], strict=True)
        if not undistorted
    }
    assert mos_of(data) == expected and "MOS: 0 to 100, 100 - DMOS, so that higher is better" in data.facts

    numbers = {name: i % 29 for i, name in enumerate(names)}
    scenes = [{numbers[name] for name in names} for names in names_of(data).values()]
    assert [len(x) for x in scenes] == [20, 3, 6] and len(set.union(*scenes)) == 29


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dmos_new": np.zeros((1, 779))}, ["dmos_realigned.mat", "dmos_new has 779 entries", "982 images"]),
        ({"refnames_all": cell_array(["a.bmp"] * 3)}, ["refnames_all.mat", "refnames_all has 3 entries"]),
        ({"refnames_all": cell_array([1.0] * 982)}, ["refnames_all.mat", "refnames_all entry 1 is not a text"]),
        ({"dmos_new": np.full((1, 982), 111.8)}, ["dmos_realigned.mat: entry 2: dmos_new is '111.8'", "in 0-100"]),
        ({"orgs": np.array([[i % 5 != 0 for i in range(982)]])}, ["the undistorted images have the higher DMOS"]),
        ({"orgs": np.ones((1, 982))}, ["its labels name no image"]),
    ],
)
def test_bad_values_of_live_are_one_line_with_the_file(tmp_path, changes, words):
    assert_refused(make_live(tmp_path, **changes), "live", *words)
