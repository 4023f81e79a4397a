"""Label files -> checked sets of images, for any data set; KonIQ's names are in data_loader.py, others' in
other_datasets.py.

Whatever is wrong is one error that names the file, the row and the value. This file does without torch, so that the
flags can be checked before it is loaded.
"""

import csv
import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

SETS = ("training", "validation", "test")
SHORT_NAMES = {"train": "training", "val": "validation", "test": "test"}  # of folders, files and lines of the log
FOLDER_OF_SET = {name: short for short, name in SHORT_NAMES.items()}


class Label(NamedTuple):
    """One row: the image's name, its MOS, its set ("" where it has none) and where that stands, for errors.

    Images of one scene stay together where a split is drawn; "" is a scene of its own.
    """

    name: str
    mos: float
    set: str
    where: str
    scene: str = ""


@dataclass(frozen=True)
class LabelledImages:
    """One set of the split: names, MOS [N] and paths, in the order of the label file."""

    names: tuple[str, ...]
    mos: np.ndarray
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)


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
    """("file: row N", row) of a csv with a header; a byte-order mark and CRLF are fine."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: no column {', '.join(missing)}; it has {reader.fieldnames}")
            for row in reader:
                where = f"{path}: row {reader.line_num}"
                short = [column for column in columns if row[column] is None]
                if short:
                    raise ValueError(f"{where}: no value for {', '.join(short)}")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a csv file in UTF-8 ({error})") from error


def read_mos(text: str, where: str, column: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        mos = float(text)
    except ValueError:
        mos = math.nan
    if not (math.isfinite(mos) and low <= mos <= high):
        scale = f" in {low:g}-{high:g}" if math.isfinite(high - low) else ""
        raise ValueError(f"{where}: {column} is {text!r}, not a {'finite ' * (not scale)}number{scale}")
    return mos


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """The variables of a MATLAB 5 file."""
    import scipy.io  # only now: it is slow to load, and few label files need it

    try:
        return scipy.io.loadmat(path)
    except Exception as error:  # scipy raises many kinds for a file that is not MATLAB 5
        raise ValueError(f"{path}: not a MATLAB 5 file ({error})") from error


def check_names(labels: list[Label]) -> None:
    """Names that stay in the folder and occur once."""
    seen: dict[str, Label] = {}
    for label in labels:
        check_name(label.name, label.where)
        if label.name in seen:
            first = seen[label.name]
            clash = "twice" if first.set == label.set else f"in two sets, {first.set} and {label.set}"
            raise ValueError(f"{label.where}: {label.name} is named {clash}; first at {first.where}")
        seen[label.name] = label


def check_name(name: str, where: str) -> None:
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\")
    if not name.strip() or "\0" in name or absolute or ".." in PureWindowsPath(name).parts:
        raise ValueError(f"{where}: image name {name!r} is empty, absolute or leaves its folder through '..'")


# Images


Layout = tuple[str, ...]  # folders that hold the images together


def locate_images(root: Path, labels: list[Label], layouts: tuple[Layout, ...]) -> dict[str, Path]:
    """Name -> path, in the first layout that holds every image."""
    found = {layout: find_in_layout(root, layout, labels) for layout in layouts}
    layout = max(layouts, key=lambda layout: len(found[layout]))  # the first, where several hold as many
    paths = found[layout]
    missing = [label.name for label in labels if label.name not in paths]
    if missing:
        looked = ", ".join("/ + ".join(names) + "/" for names in layouts)
        raise FileNotFoundError(
            f"--data_path {root}: {len(missing)} of {len(labels)} labelled images are missing, first "
            f"{', '.join(missing[:5])}; looked in {looked}" + f"; {'/ + '.join(layout)}/ holds the most" * bool(paths)
        )
    for label in labels:
        check_stays_inside(paths[label.name], root, layout, label)
    return paths


def find_in_layout(root: Path, layout: Layout, labels: list[Label]) -> dict[str, Path]:
    """An image is looked for in the folder of its own set first, where the layout has one."""
    folders = [name for name in layout if (root / name).is_dir()]
    found = {}
    for label in labels:
        own = FOLDER_OF_SET.get(label.set)
        for folder in sorted(folders, key=lambda name, own=own: name != own):
            path = root / folder / label.name
            if path.is_file():
                found[label.name] = path
                break
    return found


def check_stays_inside(path: Path, root: Path, layout: Layout, label: Label) -> None:
    """A link to a whole image folder is the user's own; an image that a link takes elsewhere is refused."""
    if path.is_symlink() or len(PurePosixPath(label.name).parts) > 1:
        allowed = [root.resolve(), *((root / folder).resolve() for folder in layout)]
        real = path.resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise ValueError(f"{label.where}: {label.name} is a link out of the data folder, to {real}")


def print_check(load: Callable[[], QualityData]) -> int:
    """What a data folder holds, or the one line that says what is wrong with it; returns the exit status."""
    try:
        data = load()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join([*data.warnings, *data.facts, f"{data.root}: {data.sizes()}, split SHA-256 {data.sha256}"]))
    return 0
