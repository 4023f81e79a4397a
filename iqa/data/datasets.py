"""The data sets other than KonIQ-10k -> labelled images: each is one small function and one row of a table.

    python3 other_datasets.py livec ./ChallengeDB_release          # check a data folder and print its split

A data set without a split of its own gets one of 70/10/20 % that is a function of --split_seed and of the names alone:
not of --seed, so that every variant and every training seed is tested on the same images.
"""

import csv
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqa.data.koniq import load_koniq
from iqa.data.labels import (
    FOLDER_OF_SET,
    SHORT_NAMES,
    Label,
    Layout,
    QualityData,
    check_names,
    locate_images,
    print_check,
    quality_data,
    read_mat,
    read_mos,
    read_table,
)

SHARES = {"test": 0.2, "validation": 0.1}  # of a drawn split; the rest is for training
SPLIT_VALUES = {**SHORT_NAMES, **{name: name for name in FOLDER_OF_SET}}  # train, val, test and the full names
LIVEC_EXAMPLES = 7  # the first images of the release, which its study trained the raters with

MosRange = tuple[float, float]  # lowest and highest of the scale


def read_csv(root: Path) -> Iterator[Label]:
    """labels.csv: image,mos[,split]; the MOS on any scale."""
    for where, row in read_table(root / "labels.csv", ("image", "mos")):
        split = read_split(row["split"], where) if "split" in row else ""
        yield Label(row["image"], read_mos(row["mos"], where, "mos"), split, where)


def read_livec(root: Path) -> Iterator[Label]:
    """LIVE In the Wild Challenge: a MATLAB cell array of names and a vector of MOS, in one order."""
    files = [root / f"Data/{key}.mat" for key in ("AllImages_release", "AllMOS_release")]
    names, mos = (read_texts(path, path.stem) for path in files)
    if len(names) != len(mos):
        raise ValueError(f"{files[1]}: {len(mos)} MOS for the {len(names)} names of {files[0].name}")
    for i in range(LIVEC_EXAMPLES, len(names)):
        where = f"{files[1]}: entry {i + 1}"
        yield Label(names[i], read_mos(mos[i], where, "MOS"), "", where)


def read_kadid10k(root: Path) -> Iterator[Label]:
    """KADID-10k: dmos.csv; in spite of its name a higher dmos is better. Its scenes are its reference images."""
    for where, row in read_table(root / "dmos.csv", ("dist_img", "ref_img", "dmos")):
        yield Label(row["dist_img"], read_mos(row["dmos"], where, "dmos"), "", where, scene=row["ref_img"])


class OtherDataset(NamedTuple):
    """How one data set is read; `load_other` does the rest."""

    read: Callable[[Path], Iterator[Label]]
    label_files: tuple[str, ...]
    image_layouts: tuple[Layout, ...]  # the first that holds the images counts
    title: str  # ends the sentence "Not results on KonIQ-10k: ..." of a report
    mos_range: MosRange | None = None  # None: from --mos_range, or the lowest and highest of the file
    images: int | None = None  # of the release, where it has a known size


OTHER_DATASETS = {
    "csv": OtherDataset(read_csv, ("labels.csv",), ((".",), ("images",)), "images and MOS of a labels.csv"),
    "livec": OtherDataset(
        read_livec, ("Data/AllImages_release.mat", "Data/AllMOS_release.mat"), (("Images",),),
        "LIVE In the Wild Image Quality Challenge", (0, 100), 1162,
    ),
    "kadid10k": OtherDataset(
        read_kadid10k, ("dmos.csv",), (("images",),), "KADID-10k, synthetic distortions of 81 photographs", (1, 5), 10125
    ),
}  # fmt: skip


def load_dataset(name: str, root: str | os.PathLike, **settings) -> QualityData:
    """KonIQ-10k, which has a scale and a split of its own, or a data set of the table with `load_other`'s settings."""
    if name == "koniq-10k":
        return load_koniq(root)
    if name not in OTHER_DATASETS:  # of a checkpoint, which may know more than this program
        raise ValueError(f"--dataset {name}: not one of koniq-10k, {', '.join(OTHER_DATASETS)}; name another")
    return load_other(name, root, **settings)


def load_other(
    name: str,
    root: str | os.PathLike,
    *,
    mos_range: MosRange | None = None,
    split_seed: int = 0,
    split_file: str | os.PathLike | None = None,
) -> QualityData:
    """Read and check the labels, the split and the image locations of a data set of the table; opens no image.

    Args:
        mos_range: lowest and highest of the scale, for a data set whose table row has none.
        split_seed: of the split that is drawn where the data set has none.
        split_file: image,split columns that count over the data set's own split, such as the split.csv of a run.

    Raises:
        FileNotFoundError: the folder, its labels, images or the split file are missing.
        ValueError: labels that contradict themselves or their scale.
    """
    dataset, root = OTHER_DATASETS[name], Path(root)
    check_files(name, root)
    labels = list(dataset.read(root))
    check_names(labels)
    mos_range, origin = choose_range(labels, mos_range, dataset, root)
    warnings = warn_of_size(labels, dataset)
    own = any(label.set for label in labels)
    if split_file:
        labels, split = apply_split(labels, Path(split_file)), f"from {split_file}"
        warnings += warn_of_unused(labels, split_file)
    elif own:
        split = f"that of {dataset.label_files[0]}"
    else:
        labels, split = draw_split(labels, split_seed), f"drawn 70/10/20 from the names with --split_seed {split_seed}"
    labels = [label for label in labels if label.set]
    return quality_data(
        root, labels, locate_images(root, labels, dataset.image_layouts), mos_range=mos_range, split=split,
        drawn=bool(split_file) or not own, note=dataset.title, warnings=warnings,
        facts=[f"MOS: {mos_range[0]:g} to {mos_range[1]:g}, {origin}", f"Split: {split}"],
    )  # fmt: skip


# Label files


def check_files(name: str, root: Path) -> None:
    dataset = OTHER_DATASETS[name]
    if not root.is_dir():
        raise FileNotFoundError(f"--data_path {root}: no such folder")
    missing = [file for file in dataset.label_files if not (root / file).is_file()]
    if missing:
        folders = " or ".join(f"{'/ + '.join(layout)}/" for layout in dataset.image_layouts)
        raise FileNotFoundError(
            f"--data_path {root}: no {' and no '.join(missing)}; --dataset {name} reads "
            f"{' and '.join(dataset.label_files)}, and images in {folders}"
        )


def read_texts(path: Path, key: str) -> list[str]:
    """A vector or cell array of a MATLAB file, each entry as text."""
    variables = read_mat(path)
    if key not in variables:
        raise ValueError(f"{path}: no variable {key}")
    return [str(np.squeeze(entry)) for entry in np.ravel(variables[key])]


def read_split(text: str | None, where: str) -> str:
    """One of the three sets, from train, val or test or from their full names."""
    if text not in SPLIT_VALUES:
        raise ValueError(f"{where}: split is {text!r}, not one of {', '.join(SPLIT_VALUES)}")
    return SPLIT_VALUES[text]


def choose_range(
    labels: list[Label], given: MosRange | None, dataset: OtherDataset, root: Path
) -> tuple[MosRange, str]:
    """The range of the scale, within which all MOS lie, and where it comes from."""
    file = root / dataset.label_files[-1]
    if not labels:
        raise ValueError(f"{file}: names no images")
    values = [label.mos for label in labels]
    if min(values) == max(values):
        raise ValueError(f"{file}: every MOS is {values[0]:g}, so there is nothing to tell apart")
    if not (given or dataset.mos_range):
        return (min(values), max(values)), f"the lowest and highest of {file.name}"
    low, high = given or dataset.mos_range
    for label in labels:
        if not low <= label.mos <= high:
            ways = "correct the row or --mos_range" if given else "is this the release's own file?"
            raise ValueError(f"{label.where}: MOS {label.mos:g} is outside {low:g} to {high:g}; {ways}")
    return (low, high), "given by --mos_range" if given else "the scale of the data set"


def warn_of_size(labels: list[Label], dataset: OtherDataset) -> list[str]:
    if dataset.images in (None, len(labels)):
        return []
    return [f"{dataset.label_files[0]}: {len(labels):,} images; the release has {dataset.images:,}"]


# Splits


def draw_split(labels: list[Label], seed: int) -> list[Label]:
    """Shares of the scenes in the order of a hash: other rows' order, MOS or machine change nothing."""
    scenes = {label.scene or label.name for label in labels}
    order = sorted(scenes, key=lambda scene: hashlib.sha256(f"{seed}/{scene}".encode()).digest())
    sets, start = dict.fromkeys(order, "training"), 0
    for name, share in SHARES.items():
        end = start + max(1, round(share * len(order)))
        sets.update(dict.fromkeys(order[start:end], name))
        start = end
    return [label._replace(set=sets[label.scene or label.name]) for label in labels]


def apply_split(labels: list[Label], path: Path) -> list[Label]:
    """The labels with the sets that a file of image,split columns gives them; "" where it has none."""
    if not path.is_file():
        raise FileNotFoundError(f"--split_file {path}: no such file")
    rows = [
        Label(row["image"], 0, read_split(row["split"], where), where)
        for where, row in read_table(path, ("image", "split"))
    ]
    check_names(rows)
    known = {label.name for label in labels}
    for row in rows:
        if row.name not in known:
            raise ValueError(f"{row.where}: {row.name} is not among the {len(known)} images of the data set")
    sets = {row.name: row.set for row in rows}
    return [label._replace(set=sets.get(label.name, "")) for label in labels]


def warn_of_unused(labels: list[Label], split_file: str | os.PathLike) -> list[str]:
    unused = sum(not label.set for label in labels)
    return [f"{split_file}: {unused} of {len(labels)} images are in no set and not used"] if unused else []


def split_csv(data: QualityData) -> str:
    """image,mos,split: what --split_file reads, and a labels.csv of its own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mos", "split"])
    for name, images in data.sets.items():
        writer.writerows(
            [image, mos, FOLDER_OF_SET[name]] for image, mos in zip(images.names, images.mos.tolist(), strict=True)
        )
    return text.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in OTHER_DATASETS:
        sys.exit(f"usage: python3 other_datasets.py {'|'.join(OTHER_DATASETS)} FOLDER")
    sys.exit(print_check(lambda: load_other(*sys.argv[1:])))
