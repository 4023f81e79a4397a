"""Data sets of photographs as they were taken, and of generated images: each reader is the only place that knows its
data set's files and columns.
"""

from collections.abc import Iterator
from pathlib import Path

from iqa.data.labels import Label, read_mos, read_table
from iqa.data.matlab import numbers_of, read_mat, texts_of
from iqa.data.splits import read_split

LIVEC_EXAMPLES = 7  # the first images of the release, which its study trained the raters with
LIVEC_FILES = ("Data/AllImages_release.mat", "Data/AllMOS_release.mat")
BIQ2021_FILES = {"training": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}
BID_CSV = "DatabaseGrades.csv"
SPAQ_CSV = "Annotations/MOS and Image attribute scores.csv"


def read_csv(root: Path) -> Iterator[Label]:
    """labels.csv: image,mos[,split]; the MOS on any scale."""
    for where, row in read_table(root / "labels.csv", ("image", "mos")):
        split = read_split(row["split"], where) if "split" in row else ""
        yield Label(row["image"], read_mos(row["mos"], where, "mos"), split, where)


def read_livec(root: Path) -> Iterator[Label]:
    """LIVE In the Wild Challenge: a MATLAB cell array of names and a vector of MOS, in one order."""
    files = [root / name for name in LIVEC_FILES]
    names = texts_of(read_mat(files[0]), files[0], files[0].stem)
    mos = numbers_of(read_mat(files[1]), files[1], files[1].stem)
    if len(names) != len(mos):
        raise ValueError(f"{files[1]}: {len(mos)} MOS for the {len(names)} names of {files[0].name}")
    for i in range(LIVEC_EXAMPLES, len(names)):
        where = f"{files[1]}: entry {i + 1}"
        yield Label(names[i], read_mos(str(mos[i]), where, "MOS"), "", where)


def read_biq2021(root: Path) -> Iterator[Label]:
    """BIQ2021: a csv for training and one for test, the first with two empty columns at the end."""
    for set_name, file_name in BIQ2021_FILES.items():
        for where, row in read_table(root / file_name, ("Image Name", "MOS")):
            yield Label(row["Image Name"], read_mos(row["MOS"], where, "MOS"), set_name, where)


def read_bid(root: Path) -> Iterator[Label]:
    """BID: the number of each image and its grade, as a spreadsheet program exports them."""
    for where, row in read_table(root / BID_CSV, ("Image Number", "Average Subjective Grade")):
        number = read_mos(row["Image Number"], where, "Image Number")
        if not (number.is_integer() and 0 < number < 10_000):
            raise ValueError(f"{where}: Image Number is {row['Image Number']!r}, not an integer in 1-9999")
        mos = read_mos(row["Average Subjective Grade"], where, "Average Subjective Grade")
        yield Label(f"DatabaseImage{int(number):04d}.JPG", mos, "", where)


def read_spaq(root: Path) -> Iterator[Label]:
    """SPAQ: names and MOS, as a spreadsheet program exports them."""
    for where, row in read_table(root / SPAQ_CSV, ("Image name", "MOS")):
        yield Label(row["Image name"], read_mos(row["MOS"], where, "MOS"), "", where)


def read_agiqa3k(root: Path) -> Iterator[Label]:
    """AGIQA-3K: several models' images of each prompt, which is their scene; the MOS of quality, not of alignment."""
    for where, row in read_table(root / "data.csv", ("name", "prompt", "mos_quality")):
        yield Label(row["name"], read_mos(row["mos_quality"], where, "mos_quality"), "", where, scene=row["prompt"])
