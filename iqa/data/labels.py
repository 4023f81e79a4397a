"""Labels and checked sets of labelled images, of any data set. No file of this package but cutting.py loads torch."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np

SETS = ("training", "validation", "test")
SHORT_NAMES = {"train": "training", "val": "validation", "test": "test"}  # in folders, files and log lines
FOLDER_OF_SET = {name: short for short, name in SHORT_NAMES.items()}


class Label(NamedTuple):
    """A row of a label file."""

    name: str
    mos: float  # higher is better
    set: str  # "" if it has none
    where: str  # file and row, for errors
    scene: str = ""  # images of one scene are drawn into one set; "": the image is its own scene
    level: int = 0  # strength of the distortion, from 1; 0 if it is unknown


@dataclass(frozen=True)
class LabelledImages:
    """One set of the split: names, MOS [N] and paths, in the order of the label file."""

    names: tuple[str, ...]
    mos: np.ndarray
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, numbers: np.ndarray) -> "LabelledImages":
        """The images at these indices."""
        names, paths = (tuple(part[i] for i in numbers) for part in (self.names, self.paths))
        return LabelledImages(names, self.mos[numbers], paths)


@dataclass(frozen=True)
class QualityData:
    """A checked data folder: its sets, and what is reported about it."""

    root: Path
    sets: dict[str, LabelledImages]
    sha256: str  # hash of the sorted (set, name, MOS) rows
    mos_range: tuple[float, float]  # ends of the scale, also of the scores
    split: str  # its origin, as a phrase
    drawn: bool = False  # the split is not the data set's own and is kept with the run
    note: str | None = None
    groups: str | None = None  # a regular expression that finds the kind of an image in its name
    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def sizes(self) -> dict[str, int]:
        return {name: len(images) for name, images in self.sets.items()}

    def paths(self) -> list[Path]:
        return [path for images in self.sets.values() for path in images.paths]

    def undefined_correlation(self, name: str) -> str | None:
        """The reason why no SRCC is defined on a set that has images."""
        mos = self.sets[name].mos
        if len(mos) and mos.min() == mos.max():
            reason = "it has a single image" if len(mos) == 1 else f"every MOS in it is {mos[0]:g}"
            return f"SRCC is undefined on the {name} set: {reason}"
        return None


def require_sets(data: QualityData, names: tuple[str, ...] = ("training", "test")) -> None:
    for name in names:
        if not len(data.sets[name]):
            raise ValueError(f"--data_path {data.root}: the split has no {name} images ({data.split})")


def require_correlation(data: QualityData, *names: str) -> None:
    """Refuse a data folder if SRCC cannot be computed on one of these sets."""
    for reason in filter(None, map(data.undefined_correlation, names)):
        raise ValueError(f"--data_path {data.root}: {reason}; add images to it or change the split ({data.split})")


def check_names(labels: list[Label], any_case: bool = False) -> None:
    """Refuse names that leave the folder or occur twice; with `any_case`, in any case."""
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
