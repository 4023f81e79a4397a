"""Behaviour of all data sets: the table, csv files, names, ranges and the places of images."""

import os
import re
import sys
import unicodedata

import pytest
from conftest import ROOT, assert_one_line_error, run_program
from data_folders import (
    MAKERS,
    PHOTOS,
    assert_refused,
    check_folder,
    make_csv,
    make_kadid,
    mos_of,
    names_of,
    paths_of,
    write_rows,
)

from iqa.data.datasets import DATASETS, load_dataset
from iqa.data.labels import SETS


def test_the_table_names_every_data_set_and_each_has_a_folder_in_these_tests():
    assert list(DATASETS)[0] == "koniq-10k" and set(DATASETS) == {"koniq-10k", *MAKERS}


def test_a_csv_of_names_and_mos_on_any_scale_gets_its_range_from_the_values(tmp_path):
    data = load_dataset("csv", make_csv(tmp_path))
    assert mos_of(data) == dict(PHOTOS) and data.mos_range == (1, 5)
    assert "MOS: 1 to 5, the lowest and highest of labels.csv" in data.facts
    assert load_dataset("csv", tmp_path, mos_range=(-1, 7)).mos_range == (-1, 7)


@pytest.mark.parametrize("splits", [("training", "validation", "test"), ("train", "val", "test")])
def test_the_split_column_counts(tmp_path, splits):
    data = load_dataset("csv", make_csv(tmp_path, splits))
    for i, name in enumerate(SETS):
        assert names_of(data)[name] == {photo for photo, _ in PHOTOS[i::3]}
    assert not data.drawn and "Split: that of labels.csv" in data.facts


def test_rows_of_empty_cells_are_not_images(tmp_path):
    with open(make_csv(tmp_path) / "labels.csv", "a") as file:
        file.write(",\n\n,\n")
    assert mos_of(load_dataset("csv", tmp_path)) == dict(PHOTOS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mos": "nan"}, r"row 4: mos is 'nan', not a finite number"),
        ({"mos": "fine"}, r"row 4: mos is 'fine'"),
        ({"mos": ""}, r"row 4: mos is ''"),
        ({"split": "training set"}, r"row 4: split is 'training set', not one of train, val, test, training, valid"),
        ({"split": ""}, r"row 4: split is ''"),
    ],
)
def test_a_bad_row_of_a_csv_is_an_error_with_file_and_row(tmp_path, changes, words):
    with pytest.raises(ValueError, match=f"labels.csv: {words}"):
        load_dataset("csv", make_csv(tmp_path, ("train", "val", "test"), **changes))


@pytest.mark.parametrize(
    ("mos_range", "words"),
    [((2, 5), r"row 2: MOS 1 is outside 2 to 5"), ((1, 4.5), r"row 13: MOS 4\.58 is outside 1 to 4\.5; .*--mos_range")],
)
def test_a_value_outside_the_given_range_is_an_error_with_file_and_row(tmp_path, mos_range, words):
    with pytest.raises(ValueError, match=words):
        load_dataset("csv", make_csv(tmp_path), mos_range=mos_range)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("image", "quality"), ("0.jpg", 1)], "labels.csv: no column mos; it has .*quality"),
        ([("image", "mos", "mos"), ("0.jpg", 3, 4)], "labels.csv: several columns mos"),
        ([("image", "mos")], "--data_path .*: its labels name no image"),
        ([("image", "mos"), ("0.jpg", 3), ("2.jpg", 3)], "--data_path .*: every MOS is 3"),
        ([("image", "mos", "Split"), ("0.jpg", 3, "train")], "labels.csv: has a column Split, but none named split"),
        ([("image", "mos"), ("0.jpg", "3_0")], "labels.csv: row 2: mos is '3_0'"),
        ([("image;mos",), ("0.jpg;3",)], "labels.csv: no column image, mos; it has 'image;mos'.* by commas"),
        ([()], "labels.csv: no column image, mos; it has none: it is empty"),
    ],
)
def test_a_csv_without_columns_rows_or_a_range_is_an_error(tmp_path, rows, words):
    write_rows(make_csv(tmp_path) / "labels.csv", *rows)
    with pytest.raises(ValueError, match=words):
        load_dataset("csv", tmp_path)


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ('"oops\n2.jpg,4,x', "row 4: unexpected end of data; close each quote"),
        ('"oops\n2.jpg,4,"', "row 3: .*comment contains a line break"),
        ('"oops "x" y"', "row 2: .*double the quotes inside a field"),
    ],
)
def test_a_quote_that_is_not_closed_is_an_error(tmp_path, comment, words):
    """The rows up to the next quote would be part of the field."""
    (make_csv(tmp_path) / "labels.csv").write_text(f"image,mos,comment\n0.jpg,3,{comment}\n4.jpg,1,y\n")
    with pytest.raises(ValueError, match=f"labels.csv.*{words}"):
        load_dataset("csv", tmp_path)


def test_linked_images_are_read_wherever_they_point(tmp_path):
    root = make_csv(tmp_path / "photos")
    (root / "holiday/3.png").rename(tmp_path / "3.png")
    with pytest.raises(FileNotFoundError, match="1 of 20 labelled images are missing, first holiday/3.png"):
        load_dataset("csv", root)
    (root / "holiday/3.png").symlink_to("../3.png")  # as in a snapshot of Hugging Face
    (root / "holiday").rename(tmp_path / "elsewhere")
    (root / "holiday").symlink_to(tmp_path / "elsewhere")
    assert mos_of(load_dataset("csv", root)) == dict(PHOTOS)


@pytest.mark.parametrize(
    ("name", "file"), [("csv", "labels.csv"), ("biq2021", "Test (Images and MOS).csv"), ("kadid10k", "dmos.csv")]
)
def test_a_row_with_more_fields_than_the_header_is_an_error_unless_they_are_empty(tmp_path, name, file):
    path = MAKERS[name](tmp_path) / file
    header, first, *rest = path.read_text().splitlines()
    for surplus in (", ,", "85", ",85", " x ,"):  # 3,85 is 3.85 with a decimal comma
        path.write_text("\n".join([header, f"{first},{surplus}", *rest, ""]))
        process = check_folder(tmp_path, "--dataset", name)
        if surplus.strip(" ,"):
            assert_one_line_error(process, f"{file}: row 2: more fields", surplus.strip(" ,"))
        else:
            assert process.returncode == 0


@pytest.mark.parametrize("name", ["labels.csv", "split.csv"])
def test_a_table_in_another_encoding_is_an_error_that_names_it(tmp_path, name):
    make_csv(tmp_path)
    write_rows(tmp_path / "split.csv", ("image", "split"), ("0.jpg", "train"))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + "größe.jpg,3".encode("latin-1"))
    process = check_folder(tmp_path, "--dataset", "csv", "--split_file", tmp_path / "split.csv")
    assert_one_line_error(process, name, "UTF-8")


@pytest.mark.parametrize(
    "spelling", ["./0.jpg", "holiday/./../0.jpg", ".//0.jpg", "link.jpg", "folder/0.jpg", "chain.jpg"]
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_file_by_two_names_is_an_error_in_two_sets_and_a_warning_in_one(tmp_path, spelling, split):
    make_csv(tmp_path)
    (tmp_path / "link.jpg").symlink_to("0.jpg")
    (tmp_path / "chain.jpg").symlink_to(tmp_path / "link.jpg")
    (tmp_path / "folder").symlink_to(".")
    rows = [("0.jpg", 3, "train"), ("2.jpg", 4, "train"), ("4.jpg", 2, "test"), ("6.jpg", 5, "test")]
    write_rows(tmp_path / "labels.csv", ("image", "mos", "split"), *rows, (spelling, 3, split))
    process = check_folder(tmp_path, "--dataset", "csv")
    if ".." in spelling:
        assert_one_line_error(process, "row 6", spelling, "'..'")
    elif split == "test":
        assert_one_line_error(process, f"row 6: {spelling} is the same file as 0.jpg", "row 2", "training and test")
    else:
        assert process.returncode == 0
        assert f"Warning: {tmp_path}/labels.csv: row 6: {spelling} is the same file as 0.jpg" in process.stdout


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_the_other_unicode_form_where_one_file_has_it(tmp_path, form):
    listed, stored = (
        unicodedata.normalize(name, "Fotos é/Ångström ü.jpg") for name in (form, {"NFC": "NFD", "NFD": "NFC"}[form])
    )
    make_csv(tmp_path, image=listed)
    (tmp_path / stored).parent.mkdir()
    (tmp_path / "2.jpg").rename(tmp_path / stored)
    data = load_dataset("csv", tmp_path)
    assert paths_of(data)[listed] == tmp_path / stored
    mixed = (tmp_path / stored).with_name(unicodedata.normalize("NFC", "Ångström ") + "u\u0308.jpg")
    mixed.touch()
    assert_refused(tmp_path, "csv", "missing", "both match; keep one")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    make_csv(tmp_path)
    (tmp_path / "0.jpg").unlink()
    os.mkfifo(tmp_path / "0.jpg")
    assert_refused(tmp_path, "csv", "1 of 20 labelled images are missing, first 0.jpg")
    (tmp_path / "labels.csv").unlink()
    os.mkfifo(tmp_path / "labels.csv")
    assert_refused(tmp_path, "csv", "no labels.csv")


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_without_labels_is_one_line_that_names_the_files_that_are_needed(tmp_path, name):
    words = [*DATASETS[name].label_files, f"--dataset {name} reads", DATASETS[name].advice]
    assert_refused(tmp_path, name, *words)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"csv"}))
def test_a_known_data_set_has_its_own_scale_and_says_which_images_are_missing(tmp_path, name):
    data = load_dataset(name, MAKERS[name](tmp_path / name))
    low, high = data.mos_range
    assert all(low <= mos <= high for mos in mos_of(data).values()) and data.mos_range == DATASETS[name].mos_range
    assert f"MOS: {low} to {high}, {DATASETS[name].scale}" in data.facts and data.note == DATASETS[name].title
    assert len(data.warnings) == 1 and "the release has" in data.warnings[0]
    assert all(len(images) for images in data.sets.values())
    data.sets["test"].paths[0].unlink()
    assert_refused(tmp_path / name, name, "labelled images are missing", data.sets["test"].names[0])


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("biq2021", {"ss01", "ss02", "ss03"}),
        ("live", {"jp2k", "jpeg", "wn", "gblur", "fastfading"}),
        ("csiq", {"AWGN", "BLUR", "contrast", "fnoise", "JPEG", "jpeg2000"}),
    ],
)
def test_a_data_set_of_several_kinds_says_how_a_name_tells_its_own(tmp_path, name, groups):
    data = load_dataset(name, MAKERS[name](tmp_path))
    pattern = re.compile(data.groups)
    assert {found[1] if pattern.groups else found[0] for found in map(pattern.search, mos_of(data))} == groups


def test_an_unknown_name_of_a_data_set_is_an_error_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="--dataset gone: not one of koniq-10k, csv, livec"):
        load_dataset("gone", tmp_path)


def test_labels_are_checked_without_torch_and_without_scipy_where_no_file_is_matlab(tmp_path):
    make_kadid(tmp_path / "kadid")
    for name in ("torch", "scipy", "PIL", "pandas"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was loaded')")
    command = (sys.executable, ROOT / "data_loader.py", tmp_path / "kadid", "--dataset", "kadid10k")
    process = run_program(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.returncode == 0, process.stderr
