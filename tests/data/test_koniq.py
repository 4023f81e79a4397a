"""KonIQ-10k: every layout of labels, splits and image folders, and the errors of wrong ones."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conftest import SIZES, assert_one_line_error, make_data, make_rows, read_rows, write_official_csv
from data_folders import check_folder
from faults import files_below

from iqa.data.datasets import load_dataset
from iqa.data.labels import FOLDER_OF_SET

OFFICIAL = Path(__file__).parents[3] / "shared" / "koniq" / "koniq10k_distributions_sets.csv"


def load_koniq(root: Path):
    return load_dataset("koniq-10k", root)


def write_scores_csv(root: Path, rows) -> None:
    """The second official csv: MOS on 1-5, MOS_zscore on 0-100, no sets."""
    with open(root / "koniq10k_scores_and_distributions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_name", "MOS", "SD", "MOS_zscore"])
        writer.writerows([name, 1 + mos / 25, 0.5, mos] for name, mos, _ in rows)


def write_json_split(root: Path, rows, with_validation=True) -> None:
    for name, short in FOLDER_OF_SET.items():
        if name != "validation" or with_validation:
            entries = [{"image": f"1024x768/{image}"} for image, _, set_name in rows if set_name == name]
            (root / f"koniq_{short}.json").write_text(json.dumps(entries))


def write_mat_split(root: Path, rows, with_validation=True) -> None:
    selections = {
        f"{short}_sel": np.array([[i + 1] for i, row in enumerate(rows) if row[2] == name], np.float64)
        for name, short in FOLDER_OF_SET.items()
        if name != "validation" or with_validation
    }
    scipy.io.savemat(root / "koniq10k_distributions_sets.mat", selections)


@pytest.fixture
def root(tmp_path) -> Path:
    return make_data(tmp_path / "koniq")


@pytest.fixture
def unsplit(root) -> Path:
    """The folder with the scores csv in place of the official one, and without a split."""
    (root / "koniq10k_distributions_sets.csv").unlink()
    write_scores_csv(root, make_rows())
    return root


def assert_refused(root: Path, words: str) -> str:
    """The check of the folder fails with one line that matches `words` and changes no file; returns the line."""
    before = files_below(root)
    process = check_folder(root, cwd=root.parent)
    assert process.returncode == 1 and process.stdout == ""
    assert_one_line_error(process)
    assert re.search(words, process.stderr), process.stderr
    assert files_below(root) == before
    return process.stderr


def test_every_label_layout_gives_the_same_labels_and_split(tmp_path, unsplit):
    rows, expected = make_rows(), load_koniq(make_data(tmp_path / "official"))
    for name, images in expected.sets.items():
        assert list(zip(images.names, images.mos, strict=True)) == [row[:2] for row in rows if row[2] == name]
    write_mat_split(unsplit, rows)
    assert load_koniq(unsplit).sizes() == SIZES and load_koniq(unsplit).sha256 == expected.sha256
    write_json_split(unsplit, rows)
    (unsplit / "koniq10k_distributions_sets.mat").write_text("not read if there are lists")
    assert load_koniq(unsplit).sizes() == SIZES and load_koniq(unsplit).sha256 == expected.sha256


@pytest.mark.parametrize("write_split", [write_json_split, write_mat_split])
def test_a_split_may_lack_validation_and_says_which_images_it_does_not_use(unsplit, write_split):
    write_split(unsplit, make_rows(), with_validation=False)
    data = load_koniq(unsplit)
    assert data.sizes() == {**SIZES, "validation": 0}
    assert any("4 of 16 images are in no set" in warning for warning in data.warnings)


def test_the_official_csv_counts_over_the_others(root):
    write_scores_csv(root, [(name, 50, set_name) for name, _, set_name in make_rows()])
    assert load_koniq(root).sets["training"].mos[0] == make_rows()[0][1]


@pytest.mark.parametrize("folder", ["1024x768", "512x384", "images", "."])
def test_every_image_folder_is_found(tmp_path, folder):
    root = make_data(tmp_path / "koniq", folder)
    assert load_koniq(root).sets["test"].paths[0].parent == root / folder


@pytest.mark.parametrize("with_validation", [True, False])
def test_images_in_folders_of_the_sets(root, with_validation):
    for name, _, set_name in make_rows():
        folder = FOLDER_OF_SET[set_name] if with_validation or set_name != "validation" else "train"
        (root / folder).mkdir(exist_ok=True)
        (root / "1024x768" / name).rename(root / folder / name)
    paths = load_koniq(root).sets["validation"].paths
    assert {path.parent.name for path in paths} == {"val" if with_validation else "train"}


def test_the_larger_folder_comes_first_unless_it_lacks_images(tmp_path):
    root = make_data(make_data(tmp_path / "koniq", "1024x768"), "512x384")
    assert load_koniq(root).sets["test"].paths[0].parent.name == "1024x768"
    next((root / "1024x768").iterdir()).unlink()
    assert load_koniq(root).sets["test"].paths[0].parent.name == "512x384"


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"the official metadata is not at {OFFICIAL}")
def test_the_full_official_csv(tmp_path):
    os.symlink(OFFICIAL, tmp_path / OFFICIAL.name)
    (tmp_path / "images").mkdir()
    rows = read_rows(OFFICIAL)
    for row in rows:
        (tmp_path / "images" / row["image_name"]).touch()
    data = load_koniq(tmp_path)
    assert data.sizes() == {"training": 7058, "validation": 1000, "test": 2015} and data.warnings == []
    everything = np.concatenate([images.mos for images in data.sets.values()])
    assert (round(everything.min(), 2), round(everything.max(), 2)) == (3.91, 88.39)


def test_byte_order_mark_and_crlf_are_fine(root):
    path = root / "koniq10k_distributions_sets.csv"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_koniq(root).sizes() == SIZES


def change_row(root: Path, **changes) -> None:
    """Change the third row of data, line 4 of the csv."""
    rows = read_rows(root / "koniq10k_distributions_sets.csv")
    rows[2] |= changes
    write_official_csv(root, [tuple(row.values()) for row in rows])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MOS": "inf"}, r"row 4.*'inf'"),
        ({"MOS": "-1"}, r"row 4.*'-1'.*0-100"),
        ({"set": "train"}, r"row 4.*'train'.*training, validation, test"),
        ({"image_name": "/etc/passwd.jpg"}, r"row 4.*'/etc/passwd\.jpg'"),
        ({"image_name": "a/../../secret.jpg"}, r"row 4.*secret"),
        ({"image_name": "C:\\secret.jpg"}, r"row 4.*secret"),
        ({"image_name": ""}, r"row 4.*''"),
        ({"image_name": "00000.jpg"}, r"row 4.*00000\.jpg is named twice.*row 2"),
        ({"image_name": "00000.jpg", "set": "test"}, r"row 4.*in two sets, training and test.*row 2"),
    ],
)
def test_a_bad_row_is_an_error_with_file_and_row(root, changes, words):
    change_row(root, **changes)
    assert "koniq10k_distributions_sets.csv" in assert_refused(root, words)


def test_an_image_with_two_rows_of_scores_is_an_error_even_if_no_set_has_it(root):
    (root / "koniq10k_distributions_sets.csv").unlink()
    write_scores_csv(root, [*make_rows(), ("other.jpg", 50, ""), ("other.jpg", 60, "")])
    write_mat_split(root, make_rows())
    assert_refused(root, r"row 19: other\.jpg is named twice; first at .*row 18")


def test_a_one_to_five_column_is_noticed(root):
    write_official_csv(root, [(name, 1 + mos / 25, set_name) for name, mos, set_name in make_rows()])
    assert_refused(root, "1-5 scale")


def test_a_short_row_is_an_error(root):
    with open(root / "koniq10k_distributions_sets.csv", "a") as file:
        file.write("lonely.jpg\n")
    assert_refused(root, "row 18: no value for MOS, set")


@pytest.mark.parametrize("emptied", ["training", "test"])
def test_a_set_without_images_is_an_error(root, emptied):
    write_official_csv(root, [row for row in make_rows() if row[2] != emptied])
    assert_refused(root, f"no {emptied} images")


def test_missing_images_are_counted_and_the_first_five_named(root):
    names = [name for name, _, _ in make_rows()][2:9]
    for name in names:
        (root / "1024x768" / name).unlink()
    line = assert_refused(root, "7 of 16")
    assert ", ".join(names[:5]) in line and names[5] not in line


def test_a_folder_without_labels_names_what_is_looked_for(tmp_path):
    root = tmp_path / "koniq"
    for add, words in (
        (lambda: None, "no such folder"),
        (root.mkdir, "neither koniq10k_distributions_sets.csv nor koniq10k_scores"),
        (lambda: write_scores_csv(root, make_rows()), "no split"),
    ):
        add()
        assert str(root) in assert_refused(root, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "missing"),
        ("[", r"not a JSON file"),
        ('[{"image": "größe.jpg"}]', r"not a JSON file in UTF-8"),
        ("{}", r"contains a dict, not a list"),
        ('["a.jpg"]', r"entry 1.*\"image\""),
        ('[{"image": "1024x768/99999.jpg"}]', r"entry 1: 99999\.jpg is not in"),
        ('[{"image": "../00012.jpg"}]', r"entry 1.*'\.\.'"),
        ('[{"image": "x/00000.jpg"}]', r"entry 1: 00000\.jpg is named in two sets"),
        ('[{"image": "x/00012.jpg"}, {"image": "x/00012.jpg"}]', r"entry 2: 00012\.jpg is named twice"),
    ],
)
def test_a_bad_json_split_is_an_error_with_file_and_entry(unsplit, text, words):
    write_json_split(unsplit, make_rows())
    if text is None:
        (unsplit / "koniq_test.json").unlink()
    else:
        (unsplit / "koniq_test.json").write_text(text, encoding="latin-1")
    assert_refused(unsplit, rf"koniq_test\.json: {words}")


@pytest.mark.parametrize(
    ("selections", "words"),
    [
        ({"train_sel": [1, 2]}, "test_sel is missing"),
        ({"train_sel": [1, 2], "test_sel": [0]}, "test_sel entry 1: 0"),
        ({"train_sel": [1, 2], "test_sel": [17]}, "test_sel entry 1: 17.*1-16"),
        ({"train_sel": [1, 2], "test_sel": [1.5]}, r"test_sel entry 1: 1\.5"),
        ({"train_sel": [1, 2], "test_sel": [2]}, "test_sel entry 1: 00001.jpg is named in two sets"),
        ({"train_sel": [1, 2], "test_sel": [np.nan]}, "test_sel entry 1: nan"),
        ({"train_sel": "1, 2", "test_sel": [4]}, "train_sel is .*not a vector"),
        ({"train_sel": [True, False], "test_sel": [4]}, "train_sel entry 2: 0 is not a row number"),
    ],
)
def test_a_bad_mat_split_is_an_error_with_file_and_entry(unsplit, selections, words):
    scipy.io.savemat(unsplit / "koniq10k_distributions_sets.mat", selections)
    assert "koniq10k_distributions_sets.mat" in assert_refused(unsplit, words)


def test_an_empty_selection_is_an_error(unsplit):
    scipy.io.savemat(unsplit / "koniq10k_distributions_sets.mat", {"train_sel": [1, 2], "test_sel": []})
    assert_refused(unsplit, "the split has no test images")
