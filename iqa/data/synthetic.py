"""Data sets of distorted copies of reference images, which are their scenes; the references themselves are left out.

Each reader is the only place that knows its data set's files and columns. A DMOS, the difference from the reference,
is turned so that higher is better.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iqa.data.labels import Label, read_mos, read_table, read_words
from iqa.data.matlab import numbers_of, read_mat, texts_of

LIVE_FILES = ("dmos_realigned.mat", "refnames_all.mat")
LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the labels
LIVE_WORST = 100
CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
TID2013_NAME = re.compile(r"(i\d\d)_\d\d_(\d)\.bmp", re.IGNORECASE)  # reference, distortion, level
CSIQ_NAME = re.compile(r"(.+)\.\w+\.(\d)\.png", re.IGNORECASE)
KADID10K_LEVEL = re.compile(r".*_(\d\d)\.png", re.IGNORECASE)


def read_kadid10k(root: Path) -> Iterator[Label]:
    """KADID-10k: dmos.csv; in spite of its name a higher dmos is better."""
    for where, row in read_table(root / "dmos.csv", ("dist_img", "ref_img", "dmos")):
        match = KADID10K_LEVEL.fullmatch(row["dist_img"])
        mos = read_mos(row["dmos"], where, "dmos")
        yield Label(row["dist_img"], mos, "", where, scene=row["ref_img"], level=int(match[1]) if match else 0)


def read_tid2013(root: Path) -> Iterator[Label]:
    """TID2013: lines of MOS and name."""
    for where, row in read_words(root / "mos_with_names.txt", ("MOS", "name")):
        scene, level = take_apart(row["name"], TID2013_NAME, "i01_01_1.bmp", where)
        yield Label(row["name"], read_mos(row["MOS"], where, "MOS"), "", where, scene.upper(), level)


def read_csiq(root: Path) -> Iterator[Label]:
    """CSIQ: lines of name and DMOS in 0-1."""
    for where, row in read_words(root / "csiq_label.txt", ("name", "DMOS")):
        scene, level = take_apart(row["name"], CSIQ_NAME, "1600.AWGN.1.png", where)
        yield Label(row["name"], 1 - read_mos(row["DMOS"], where, "DMOS", 0, 1), "", where, scene, level)


def take_apart(name: str, pattern: re.Pattern, example: str, where: str) -> tuple[str, int]:
    """The reference and the level that a name tells."""
    match = pattern.fullmatch(name)
    if not match:
        raise ValueError(f"{where}: image name {name!r} tells no reference and level, as {example} does")
    return match[1], int(match[2])


def read_live(root: Path) -> Iterator[Label]:
    """LIVE, release 2: vectors over the images of five folders; those without a distortion are marked in `orgs`."""
    dmos_file, references_file = (root / name for name in LIVE_FILES)
    variables = read_mat(dmos_file)
    dmos, undistorted = (numbers_of(variables, dmos_file, key) for key in ("dmos_new", "orgs"))
    references = texts_of(read_mat(references_file), references_file, "refnames_all")
    names = [f"{folder}/img{i + 1}.bmp" for folder, count in LIVE_FOLDERS.items() for i in range(count)]
    for file, key, values in (
        (dmos_file, "dmos_new", dmos),
        (dmos_file, "orgs", undistorted),
        (references_file, "refnames_all", references),
    ):
        if len(values) != len(names):
            raise ValueError(f"{file}: {key} has {len(values)} entries; the five folders have {len(names)} images")
    undistorted = undistorted.astype(bool)
    for i in np.flatnonzero(~undistorted):
        where = f"{dmos_file}: entry {i + 1}"
        mos = LIVE_WORST - read_mos(str(dmos[i]), where, "dmos_new", 0, LIVE_WORST)
        yield Label(names[i], mos, "", where, scene=references[i])
    if undistorted.any() and not undistorted.all() and dmos[undistorted].mean() > dmos[~undistorted].mean():
        raise ValueError(f"{dmos_file}: the undistorted images have the higher DMOS, where 0 is perfect")
