"""KonIQ-10k on disk -> labelled images and batches. The only file that knows KonIQ's names and columns.

    python3 data_loader.py ./koniq-10k          # check a data folder and print its split

A data folder holds labels and images; README.md shows the layouts. Whatever is wrong with them is one error that names
the file, the row and the value.
"""

import csv
import hashlib
import json
import math
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from image_cache import DecodedImages, ImageCache, StoredImages
from patches import DeviceImages, PatchBatch, PatchCutter, PatchTransform, as_tensors

SETS = ("training", "validation", "test")
OFFICIAL_SIZES = {"training": 7058, "validation": 1000, "test": 2015}
OFFICIAL_CSV = "koniq10k_distributions_sets.csv"
SCORES_CSV = "koniq10k_scores_and_distributions.csv"
SPLIT_MAT = "koniq10k_distributions_sets.mat"
SPLIT_JSONS = {"training": "koniq_train.json", "validation": "koniq_val.json", "test": "koniq_test.json"}
SPLIT_SELECTIONS = {"training": "train_sel", "validation": "val_sel", "test": "test_sel"}
IMAGE_LAYOUTS = (("1024x768",), ("512x384",), ("train", "test", "val"), ("images",), (".",))
FOLDER_OF_SET = {"training": "train", "validation": "val", "test": "test"}
DEMO_NOTE = "DEMO_DATASET.txt"  # its first line says what the images are, where they are not photographs


class Label(NamedTuple):
    """One row: the image's name, its MOS (0-100), its set and where that stands, for errors."""

    name: str
    mos: float
    set: str
    where: str


@dataclass(frozen=True)
class LabelledImages:
    """One set of the split: names, MOS [N] (0-100) and paths, in the order of the label file."""

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
    note: str | None = None
    warnings: list[str] = field(default_factory=list)

    def sizes(self) -> dict[str, int]:
        return {name: len(images) for name, images in self.sets.items()}


def load_koniq(root: str | os.PathLike) -> QualityData:
    """Read and check KonIQ-10k's labels, split and image locations; opens no image.

    Raises:
        FileNotFoundError: the folder, the labels or images are missing.
        ValueError: labels that contradict themselves or KonIQ's scale.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"--data_path {root}: no such folder; see README.md, 'The data', for where to get it")
    labels, warnings = read_labels(root)
    check_labels(labels, root)
    paths = locate_images(root, labels)
    rows = "".join(f"{label.set},{label.name},{label.mos!r}\n" for label in sorted(labels))
    note = root / DEMO_NOTE
    return QualityData(
        root=root,
        sets={name: select_set(labels, paths, name) for name in SETS},
        sha256=hashlib.sha256(rows.encode()).hexdigest(),
        note=note.read_text(encoding="utf-8").splitlines()[0] if note.exists() else None,
        warnings=warnings,
    )


DATASETS: dict[str, Callable[[str], QualityData]] = {"koniq-10k": load_koniq}


def select_set(labels: list[Label], paths: dict[str, Path], name: str) -> LabelledImages:
    chosen = [label for label in labels if label.set == name]
    mos = np.array([label.mos for label in chosen])
    return LabelledImages(tuple(x.name for x in chosen), mos, tuple(paths[x.name] for x in chosen))


# Labels and split


def read_labels(root: Path) -> tuple[list[Label], list[str]]:
    """The rows of the first label layout that is there, and warnings about it."""
    if (root / OFFICIAL_CSV).exists():
        labels = [
            Label(row["image_name"], read_mos(row["MOS"], where, "MOS"), read_set(row["set"], where), where)
            for where, row in read_table(root / OFFICIAL_CSV, ("image_name", "MOS", "set"))
        ]
        return labels, warn_of_sizes(labels)
    if not (root / SCORES_CSV).exists():
        raise FileNotFoundError(f"--data_path {root}: holds neither {OFFICIAL_CSV} nor {SCORES_CSV}")
    rows = [
        (where, row["image_name"], read_mos(row["MOS_zscore"], where, "MOS_zscore"))
        for where, row in read_table(root / SCORES_CSV, ("image_name", "MOS_zscore"))
    ]
    if (root / SPLIT_JSONS["training"]).exists():
        members = list(read_json_split(root, rows))
    elif (root / SPLIT_MAT).exists():
        members = list(read_mat_split(root / SPLIT_MAT, len(rows)))
    else:
        raise FileNotFoundError(
            f"--data_path {root}: {SCORES_CSV} has no split; add {SPLIT_JSONS['training']} and {SPLIT_JSONS['test']}, "
            f"or {SPLIT_MAT}, or use {OFFICIAL_CSV}"
        )
    labels = [Label(rows[row][1], rows[row][2], set_name, where) for row, set_name, where in members]
    unused = len(rows) - len({row for row, _, _ in members})
    return labels, [f"{SCORES_CSV}: {unused} of {len(rows)} images are in no set and not used"] if unused else []


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


def read_mos(text: str, where: str, column: str) -> float:
    try:
        mos = float(text)
    except ValueError:
        mos = math.nan
    if not 0 <= mos <= 100:
        raise ValueError(f"{where}: {column} is {text!r}, not a number in 0-100")
    return mos


def read_set(text: str, where: str) -> str:
    if text not in SETS:
        raise ValueError(f"{where}: set is {text!r}, not one of {', '.join(SETS)}")
    return text


def warn_of_sizes(labels: list[Label]) -> list[str]:
    found = Counter(label.set for label in labels)
    if all(found[name] == size for name, size in OFFICIAL_SIZES.items()):
        return []
    sizes = " / ".join(f"{found[name]:,}" for name in SETS)
    return [f"{OFFICIAL_CSV}: {sizes} images to train, validate and test; KonIQ-10k's split is 7,058 / 1,000 / 2,015"]


Members = Iterator[tuple[int, str, str]]  # index into the rows of the scores csv, set, where


def read_json_split(root: Path, rows: list) -> Members:
    """Lists of {"image": "<folder>/<name>.jpg"}; validation may be absent."""
    index = {name: i for i, (_, name, _) in enumerate(rows)}
    for set_name, file_name in SPLIT_JSONS.items():
        path = root / file_name
        if set_name == "validation" and not path.exists():
            continue
        for i, entry in enumerate(read_json_list(path)):
            where = f"{path}: entry {i + 1}"
            image = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(image, str):
                raise ValueError(f'{where}: {entry!r} is not {{"image": "<folder>/<name>.jpg"}}')
            check_name(image, where)
            name = PurePosixPath(image).name
            if name not in index:
                raise ValueError(f"{where}: {name} is not in {SCORES_CSV}")
            yield index[name], set_name, where


def read_json_list(path: Path) -> list:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: missing; the split needs it beside the other lists") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: holds a {type(entries).__name__}, not a list")
    return entries


def read_mat_split(path: Path, rows: int) -> Members:
    """MATLAB 5 vectors of 1-based row numbers; val_sel may be absent."""
    try:
        selections = scipy.io.loadmat(path)
    except Exception as error:  # scipy raises many kinds for a file that is not MATLAB 5
        raise ValueError(f"{path}: not a MATLAB 5 file ({error})") from error
    for set_name, key in SPLIT_SELECTIONS.items():
        if key not in selections:
            if set_name == "validation":
                continue
            raise ValueError(f"{path}: no {key}; it needs train_sel and test_sel")
        for i, number in enumerate(np.ravel(selections[key])):
            where = f"{path}: {key} entry {i + 1}"
            if not (float(number).is_integer() and 1 <= number <= rows):
                raise ValueError(f"{where}: {number} is not a row number in 1-{rows} of {SCORES_CSV}")
            yield int(number) - 1, set_name, where


def check_labels(labels: list[Label], root: Path) -> None:
    """Names that stay in the folder and occur once, a 0-100 scale, images to train and to test on."""
    seen: dict[str, Label] = {}
    for label in labels:
        check_name(label.name, label.where)
        if label.name in seen:
            first = seen[label.name]
            clash = "twice" if first.set == label.set else f"in two sets, {first.set} and {label.set}"
            raise ValueError(f"{label.where}: {label.name} is named {clash}; first at {first.where}")
        seen[label.name] = label
    for name in ("training", "test"):
        if not any(label.set == name for label in labels):
            raise ValueError(f"--data_path {root}: the split has no {name} images")
    highest = max(labels, key=lambda label: label.mos)
    if highest.mos <= 5:
        raise ValueError(f"{highest.where}: the highest MOS is {highest.mos:g}: a 1-5 scale, where 0-100 is needed")


def check_name(name: str, where: str) -> None:
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\")
    if not name.strip() or "\0" in name or absolute or ".." in PureWindowsPath(name).parts:
        raise ValueError(f"{where}: image name {name!r} is empty, absolute or leaves its folder through '..'")


# Images


def locate_images(root: Path, labels: list[Label]) -> dict[str, Path]:
    """Name -> path, in the first layout that holds every image."""
    found = {layout: find_in_layout(root, layout, labels) for layout in IMAGE_LAYOUTS}
    layout = max(IMAGE_LAYOUTS, key=lambda layout: len(found[layout]))  # the first, where several hold as many
    paths = found[layout]
    missing = [label.name for label in labels if label.name not in paths]
    if missing:
        looked = ", ".join("/ + ".join(names) + "/" for names in IMAGE_LAYOUTS)
        raise FileNotFoundError(
            f"--data_path {root}: {len(missing)} of {len(labels)} labelled images are missing, first "
            f"{', '.join(missing[:5])}; looked in {looked}" + f"; {'/ + '.join(layout)}/ holds the most" * bool(paths)
        )
    for label in labels:
        check_stays_inside(paths[label.name], root, layout, label)
    return paths


def find_in_layout(root: Path, layout: tuple[str, ...], labels: list[Label]) -> dict[str, Path]:
    """An image is looked for in the folder of its own set first, where the layout has one."""
    folders = [name for name in layout if (root / name).is_dir()]
    found = {}
    for label in labels:
        own = FOLDER_OF_SET[label.set]
        for folder in sorted(folders, key=lambda name, own=own: name != own):
            path = root / folder / label.name
            if path.is_file():
                found[label.name] = path
                break
    return found


def check_stays_inside(path: Path, root: Path, layout: tuple[str, ...], label: Label) -> None:
    """A link to a whole image folder is the user's own; an image that a link takes elsewhere is refused."""
    if path.is_symlink() or len(PurePosixPath(label.name).parts) > 1:
        allowed = [root.resolve(), *((root / folder).resolve() for folder in layout)]
        real = path.resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise ValueError(f"{label.where}: {label.name} is a link out of the data folder, to {real}")


# Batches


@dataclass(frozen=True)
class ImageSource:
    """How the images of every set are read: one of cache, memory or the files themselves.

    Args:
        cache_dir: of the decoded images; None decodes a file for each of its patches.
        preload: hold the decoded pixels in host memory.
    """

    data: QualityData
    cache_dir: Path | None
    preload: bool
    log: Callable[[str], None] = print

    def open(self) -> dict[str, StoredImages | DecodedImages]:
        """The images of every set that has some."""
        paths = [path for images in self.data.sets.values() for path in images.paths]
        images = DecodedImages(paths)
        if self.cache_dir is not None:
            images = ImageCache(self.data.root, self.cache_dir, self.log).open(paths)
        if self.preload:
            images = images.in_memory()
        ends = np.cumsum([len(images) for images in self.data.sets.values()])
        parts = zip(self.data.sets, [0, *ends[:-1]], ends, strict=True)
        return {name: images.part(start, end) for name, start, end in parts if end > start}


class PatchLoader:
    """Iterates over a plan: (inputs [B, 3, P, P], planned batch), both on the device.

    Args:
        images: `StoredImages` or `DecodedImages` that the plan's image numbers count.
        plan: `TrainingPlan` or `EvaluationPlan`.
        color_jitter: change the colours by the plan's amounts.
        num_workers: processes that cut patches ahead; 0 cuts them in this one.
        on_device: hold the images (which must be `StoredImages`) in the device's memory.
    """

    def __init__(self, images, plan, *, patch_size: int, color_jitter: bool, device, num_workers: int, on_device=False):
        self.plan, self.device = plan, device
        self.transform = PatchTransform(color_jitter=color_jitter).to(device)
        self.device_images = DeviceImages(images, patch_size, device) if on_device else None
        self.cut = self.plan if on_device else DataLoader(
            PatchCutter(images, patch_size),
            sampler=plan,
            batch_size=None,  # the plan's items are whole batches
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the one that dropout uses
            worker_init_fn=leave_signals_to_parent,
            multiprocessing_context="fork" if num_workers else None,  # a fresh interpreter would copy the pixels
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, PatchBatch]]:
        for batch in self.cut:
            if self.device_images:
                batch = self.to_device(as_tensors(batch))
                batch = batch._replace(pixels=self.device_images.cut(batch))
            else:
                batch = self.to_device(batch)
            yield self.transform(batch), batch

    def to_device(self, batch: PatchBatch) -> PatchBatch:
        return PatchBatch(*(x if x is None else x.to(self.device, non_blocking=True) for x in batch))


def leave_signals_to_parent(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: the parent ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    data = load_koniq(sys.argv[1] if len(sys.argv) > 1 else "./koniq-10k")
    print("\n".join([*data.warnings, f"{data.root}: {data.sizes()}, split SHA-256 {data.sha256}"]))
