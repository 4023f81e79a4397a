"""Labels, checked sets of images, and the label files that they come from, for any data set.

Which files and columns a data set has is in koniq.py, authentic.py and synthetic.py, the table of all in datasets.py.
Whatever is wrong is one error that names the file, the row and the value. None of these files loads torch, so that the
flags and labels can be checked before it is.
"""

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

SETS = ("training", "validation", "test")
SHORT_NAMES = {"train": "training", "val": "validation", "test": "test"}  # of folders, files and lines of the log
FOLDER_OF_SET = {name: short for short, name in SHORT_NAMES.items()}


class Label(NamedTuple):
    """One row: the image's name, its MOS (higher is better), its set ("" where it has none) and where that stands.

    Images of one scene stay together where a split is drawn; "" is a scene of its own. The level is the strength of a
    distortion, from 1; 0 where it is unknown.
    """

    name: str
    mos: float
    set: str
    where: str
    scene: str = ""
    level: int = 0


@dataclass(frozen=True)
class LabelledImages:
    """One set of the split: names, MOS [N] and paths, in the order of the label file."""

    names: tuple[str, ...]
    mos: np.ndarray
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, numbers: np.ndarray) -> "LabelledImages":
        """Those with these numbers."""
        names, paths = (tuple(part[i] for i in numbers) for part in (self.names, self.paths))
        return LabelledImages(names, self.mos[numbers], paths)


@dataclass(frozen=True)
class QualityData:
    """A checked data folder: its sets, and what the log must say of it."""

    root: Path
    sets: dict[str, LabelledImages]
    sha256: str  # of the sorted (set, name, MOS) rows
    mos_range: tuple[float, float]  # of the scale, which the scores are on too
    split: str  # where it comes from, in words
    drawn: bool = False  # the split is not the data set's own, and has to be kept with the run
    note: str | None = None
    groups: str | None = None  # a regular expression that tells the kind of an image from its name
    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def sizes(self) -> dict[str, int]:
        return {name: len(images) for name, images in self.sets.items()}


def quality_data(root: Path, labels: list[Label], paths: dict[str, Path], **facts: Any) -> QualityData:
    """The labels as sets; those without a set are left out. `facts` are the further fields of QualityData."""
    rows = "".join(f"{label.set},{label.name},{label.mos!r}\n" for label in sorted(labels) if label.set)
    sets = {name: select_set(labels, paths, name) for name in SETS}
    return QualityData(root, sets, hashlib.sha256(rows.encode()).hexdigest(), **facts)


def select_set(labels: list[Label], paths: dict[str, Path], name: str) -> LabelledImages:
    chosen = [label for label in labels if label.set == name]
    mos = np.array([label.mos for label in chosen])
    return LabelledImages(tuple(x.name for x in chosen), mos, tuple(paths[x.name] for x in chosen))


def require_sets(data: QualityData, names: tuple[str, ...] = ("training", "test")) -> None:
    for name in names:
        if not len(data.sets[name]):
            raise ValueError(f"--data_path {data.root}: the split has no {name} images ({data.split})")


# Label files


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file: row N", row) of a csv with a header; a byte-order mark, CRLF and rows of empty cells are fine."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: no column {', '.join(missing)}; it has {reader.fieldnames}")
            for row in reader:
                where = f"{path}: row {reader.line_num}"
                if not any(row.values()):  # such as spreadsheets leave at the end
                    continue
                short = [column for column in columns if row[column] is None]
                if short:
                    raise ValueError(f"{where}: no value for {', '.join(short)}")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a csv file in UTF-8 ({error})") from error


def read_words(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file: row N", row) of a text file without a header, whose words are the columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error})") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and len(words) != len(columns):
            raise ValueError(f"{path}: row {number}: {line.strip()!r} is not {' and '.join(columns)}")
        if words:
            yield f"{path}: row {number}", dict(zip(columns, words, strict=True))


def read_mos(text: str, where: str, column: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        mos = float(text)
    except ValueError:
        mos = math.nan
    if not (math.isfinite(mos) and low <= mos <= high):
        scale = f" in {low:g}-{high:g}" if math.isfinite(high - low) else ""
        raise ValueError(f"{where}: {column} is {text!r}, not a {'finite ' * (not scale)}number{scale}")
    return mos


def check_names(labels: list[Label], any_case: bool = False) -> None:
    """Names that stay in the folder and occur once; with `any_case`, in capitals or not."""
    seen: dict[str, Label] = {}
    for label in labels:
        check_name(label.name, label.where)
        first = seen.setdefault(label.name.casefold() if any_case else label.name, label)
        if first is not label:
            clash = "twice" if first.set == label.set else f"in two sets, {first.set} and {label.set}"
            raise ValueError(f"{label.where}: {label.name} is named {clash}; first at {first.where}")


def check_name(name: str, where: str) -> None:
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\")
    if not name.strip() or "\0" in name or absolute or ".." in PureWindowsPath(name).parts:
        raise ValueError(f"{where}: image name {name!r} is empty, absolute or leaves its folder through '..'")
