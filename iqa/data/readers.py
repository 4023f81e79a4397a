"""One reader for each data set: its label files, or KonIQ-10k's folder -> labels. Only this file knows their columns.

A reader yields a `Label` for each image, with set "" if the data set has no split or leaves the image out. Higher
MOS are better: a DMOS, the difference from a reference, is inverted. docs/data.md shows the layouts.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from iqa.data.label_files import MatFile, read_json_list, read_mos, read_table, read_words
from iqa.data.labels import SETS, Label, check_name, check_names
from iqa.data.splits import read_split

Labels = Iterator[Label]

# KonIQ-10k

OFFICIAL_CSV = "koniq10k_distributions_sets.csv"
SCORES_CSV = "koniq10k_scores_and_distributions.csv"
SPLIT_MAT = "koniq10k_distributions_sets.mat"
SPLIT_JSONS = {"training": "koniq_train.json", "validation": "koniq_val.json", "test": "koniq_test.json"}
SPLIT_SELECTIONS = {"training": "train_sel", "validation": "val_sel", "test": "test_sel"}
DEMO_NOTE = "DEMO_DATASET.txt"  # its first line describes images that are not photographs


def read_koniq(root: Path) -> list[Label]:
    """The first label layout that exists: the official csv, or the scores csv with a split beside it."""
    labels = list(read_official(root) if (root / OFFICIAL_CSV).is_file() else read_scores(root))
    highest = max(labels, key=lambda label: label.mos, default=None)
    if highest and highest.mos <= 5:
        raise ValueError(f"{highest.where}: the highest MOS is {highest.mos:g}: a 1-5 scale, where 0-100 is needed")
    return labels


def read_official(root: Path) -> Labels:
    for where, row in read_table(root / OFFICIAL_CSV, ("image_name", "MOS", "set")):
        if row["set"] not in SETS:
            raise ValueError(f"{where}: set is {row['set']!r}, not one of {', '.join(SETS)}")
        yield Label(row["image_name"], read_mos(row["MOS"], where, "MOS", 0, 100), row["set"], where)


def read_scores(root: Path) -> list[Label]:
    """The scores csv, in the order of its split."""
    if not (root / SCORES_CSV).is_file():
        raise FileNotFoundError(f"--data_path {root}: has neither {OFFICIAL_CSV} nor {SCORES_CSV}")
    rows = [
        Label(row["image_name"], read_mos(row["MOS_zscore"], where, "MOS_zscore", 0, 100), "", where)
        for where, row in read_table(root / SCORES_CSV, ("image_name", "MOS_zscore"))
    ]
    check_names(rows)
    if (root / SPLIT_JSONS["training"]).is_file():
        members = list(read_json_split(root, rows))
    elif (root / SPLIT_MAT).is_file():
        members = list(read_mat_split(root / SPLIT_MAT, rows))
    else:
        raise FileNotFoundError(
            f"--data_path {root}: {SCORES_CSV} has no split; add {SPLIT_JSONS['training']} and {SPLIT_JSONS['test']}, "
            f"or {SPLIT_MAT}, or use {OFFICIAL_CSV}"
        )
    used = {label.name for label in members}
    return members + [label for label in rows if label.name not in used]


def read_json_split(root: Path, rows: list[Label]) -> Labels:
    """Lists of {"image": "<folder>/<name>.jpg"}; the one for validation may be absent."""
    row_of = {row.name: row for row in rows}
    for set_name, file_name in SPLIT_JSONS.items():
        path = root / file_name
        if set_name == "validation" and not path.exists():
            continue
        for i, entry in enumerate(read_json_list(path), 1):
            where = f"{path}: entry {i}"
            image = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(image, str):
                raise ValueError(f'{where}: {entry!r} is not {{"image": "<folder>/<name>.jpg"}}')
            check_name(image, where)
            name = PurePosixPath(image).name
            if name not in row_of:
                raise ValueError(f"{where}: {name} is not in {SCORES_CSV}")
            yield row_of[name]._replace(set=set_name, where=where)


def read_mat_split(path: Path, rows: list[Label]) -> Labels:
    """Vectors of 1-based row numbers; val_sel may be absent."""
    file = MatFile(path)
    for set_name, key in SPLIT_SELECTIONS.items():
        if set_name == "validation" and key not in file.variables:
            continue
        for i, number in enumerate(file.numbers(key), 1):
            where = f"{path}: {key} entry {i}"
            if not (float(number).is_integer() and 1 <= number <= len(rows)):
                raise ValueError(f"{where}: {number} is not a row number in 1-{len(rows)} of {SCORES_CSV}")
            yield rows[int(number) - 1]._replace(set=set_name, where=where)


# Photographs and generated images

LIVEC_EXAMPLES = 7  # the first images of the release, with which its study trained the raters


def read_csv(table: Path) -> Labels:
    """labels.csv: image,mos[,split], with MOS on any scale."""
    for where, row in read_table(table, ("image", "mos")):
        similar = [name for name in row if name.lower() == "split"]
        if similar and "split" not in row:
            raise ValueError(f"{table}: has a column {similar[0]}, but none named split; rename it")
        split = read_split(row["split"], where) if "split" in row else ""
        yield Label(row["image"], read_mos(row["mos"], where, "mos"), split, where)


def read_livec(names_file: Path, mos_file: Path) -> Labels:
    """LIVE In the Wild Challenge: a cell array of names and a vector of MOS, in one order."""
    names, mos = MatFile(names_file).texts(names_file.stem), MatFile(mos_file).numbers(mos_file.stem)
    if len(names) != len(mos):
        raise ValueError(f"{mos_file}: {len(mos)} MOS for the {len(names)} names of {names_file.name}")
    for i in range(LIVEC_EXAMPLES, len(names)):
        where = f"{mos_file}: entry {i + 1}"
        yield Label(names[i], read_mos(str(mos[i]), where, "MOS"), "", where)


def read_biq2021(training: Path, test: Path) -> Labels:
    """BIQ2021: a csv for training and one for test."""
    for set_name, table in (("training", training), ("test", test)):
        for where, row in read_table(table, ("Image Name", "MOS")):
            yield Label(row["Image Name"], read_mos(row["MOS"], where, "MOS"), set_name, where)


def read_bid(table: Path) -> Labels:
    """BID: the number of each image and its grade, as a spreadsheet program exports them."""
    for where, row in read_table(table, ("Image Number", "Average Subjective Grade")):
        number = read_mos(row["Image Number"], where, "Image Number")
        if not (number.is_integer() and 0 < number < 10_000):
            raise ValueError(f"{where}: Image Number is {row['Image Number']!r}, not an integer in 1-9999")
        mos = read_mos(row["Average Subjective Grade"], where, "Average Subjective Grade")
        yield Label(f"DatabaseImage{int(number):04d}.JPG", mos, "", where)


def read_spaq(table: Path) -> Labels:
    """SPAQ: names and MOS, as a spreadsheet program exports them."""
    for where, row in read_table(table, ("Image name", "MOS")):
        yield Label(row["Image name"], read_mos(row["MOS"], where, "MOS"), "", where)


def read_agiqa3k(table: Path) -> Labels:
    """AGIQA-3K: several models' images of each prompt, which is their scene; the MOS of quality, not of alignment."""
    for where, row in read_table(table, ("name", "prompt", "mos_quality")):
        yield Label(row["name"], read_mos(row["mos_quality"], where, "mos_quality"), "", where, scene=row["prompt"])


# Distorted copies of reference images, which are their scenes; the references themselves are left out

LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the labels
CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
TID2013_NAME = re.compile(r"(i\d\d)_\d\d_(\d)\.bmp", re.IGNORECASE)  # reference, distortion, level
CSIQ_NAME = re.compile(r"(.+)\.\w+\.(\d)\.png", re.IGNORECASE)
KADID10K_LEVEL = re.compile(r".*_(\d\d)\.png", re.IGNORECASE)


def read_kadid10k(table: Path) -> Labels:
    """KADID-10k; in spite of its name a higher dmos is better."""
    for where, row in read_table(table, ("dist_img", "ref_img", "dmos")):
        match = KADID10K_LEVEL.fullmatch(row["dist_img"])
        mos = read_mos(row["dmos"], where, "dmos")
        yield Label(row["dist_img"], mos, "", where, scene=row["ref_img"], level=int(match[1]) if match else 0)


def read_tid2013(list_file: Path) -> Labels:
    """TID2013: lines of MOS and name."""
    for where, row in read_words(list_file, ("MOS", "name")):
        scene, level = reference_and_level(row["name"], TID2013_NAME, "i01_01_1.bmp", where)
        yield Label(row["name"], read_mos(row["MOS"], where, "MOS"), "", where, scene.upper(), level)


def read_csiq(list_file: Path) -> Labels:
    """CSIQ: lines of name and DMOS in 0-1."""
    for where, row in read_words(list_file, ("name", "DMOS")):
        scene, level = reference_and_level(row["name"], CSIQ_NAME, "1600.AWGN.1.png", where)
        yield Label(row["name"], 1 - read_mos(row["DMOS"], where, "DMOS", 0, 1), "", where, scene, level)


def reference_and_level(name: str, pattern: re.Pattern, example: str, where: str) -> tuple[str, int]:
    match = pattern.fullmatch(name)
    if not match:
        raise ValueError(f"{where}: image name {name!r} has no reference and level, as {example} has")
    return match[1], int(match[2])


def read_live(dmos_file: Path, references_file: Path) -> Labels:
    """LIVE, release 2: vectors over the images of five folders; `orgs` marks the undistorted ones."""
    dmos, undistorted = map(MatFile(dmos_file).numbers, ("dmos_new", "orgs"))
    references = MatFile(references_file).texts("refnames_all")
    names = [f"{folder}/img{i + 1}.bmp" for folder, count in LIVE_FOLDERS.items() for i in range(count)]
    vectors = (
        (dmos_file, "dmos_new", dmos),
        (dmos_file, "orgs", undistorted),
        (references_file, "refnames_all", references),
    )
    for file, key, values in vectors:
        if len(values) != len(names):
            raise ValueError(f"{file}: {key} has {len(values)} entries; the five folders have {len(names)} images")
    undistorted = undistorted.astype(bool)
    for i in np.flatnonzero(~undistorted):
        where = f"{dmos_file}: entry {i + 1}"
        yield Label(names[i], 100 - read_mos(str(dmos[i]), where, "dmos_new", 0, 100), "", where, scene=references[i])
    if undistorted.any() and not undistorted.all() and dmos[undistorted].mean() > dmos[~undistorted].mean():
        raise ValueError(f"{dmos_file}: the undistorted images have the higher DMOS, where 0 is perfect")
