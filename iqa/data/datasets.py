"""The table of data sets, and how each becomes checked sets of labelled images."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqa.atomic_files import csv_text
from iqa.data import readers
from iqa.data.image_paths import Layout, check_distinct, locate_images
from iqa.data.labels import FOLDER_OF_SET, SETS, Label, LabelledImages, QualityData, check_names, require_sets
from iqa.data.splits import apply_split, draw_split, draw_validation

MosRange = tuple[float, float]  # lowest and highest of the scale


class Dataset(NamedTuple):
    """How one data set is read; `load_dataset` does the rest."""

    read: Callable[..., Iterable[Label]]  # of the paths of the label files; of the data folder, if none are named
    image_layouts: tuple[Layout, ...]  # the first that has all images is used
    label_files: tuple[str, ...] = ()
    title: str | None = None  # ends the sentence "Not results on KonIQ-10k: ..." of a report
    mos_range: MosRange | None = None  # None: from --mos_range, or the lowest and highest of the file
    sizes: tuple[int, ...] = ()  # number of images in the release: the total, or those of training, validation and test
    scale: str = "the scale of the data set"
    own_split: str | None = None  # origin of its split; None: a split is drawn
    draws_validation: bool = False  # whether validation images are drawn from its training set
    any_case: bool = False  # names and files differ in case
    advice: str = ""  # the source of a label file that is not in the release
    groups: str | None = None  # a regular expression: its group or match in a name is the kind of image, for the report


DATASETS = {
    "koniq-10k": Dataset(
        read=readers.read_koniq,
        image_layouts=(("1024x768",), ("512x384",), ("train", "test", "val"), ("images",), (".",)),
        mos_range=(0, 100),
        sizes=(7058, 1000, 2015),
        own_split="KonIQ-10k's own",
    ),
    "csv": Dataset(
        read=readers.read_csv,
        label_files=("labels.csv",),
        image_layouts=((".",), ("images",)),
        title="images and MOS of a labels.csv",
        own_split="that of labels.csv",
    ),
    "livec": Dataset(
        read=readers.read_livec,
        label_files=("Data/AllImages_release.mat", "Data/AllMOS_release.mat"),
        image_layouts=(("Images",),),
        title="LIVE In the Wild Image Quality Challenge",
        mos_range=(0, 100),
        sizes=(1162,),
    ),
    "biq2021": Dataset(
        read=readers.read_biq2021,
        label_files=("Train (Images and MOS).csv", "Test (Images and MOS).csv"),
        image_layouts=(("Images",),),
        title="BIQ2021, 12,000 photographs",
        mos_range=(0, 1),
        sizes=(9000, 1000, 2000),
        own_split="BIQ2021's own",
        draws_validation=True,
        any_case=True,
        groups=r"^ss\d\d",  # three sources of photographs
    ),
    "bid": Dataset(
        read=readers.read_bid,
        label_files=("DatabaseGrades.csv",),
        image_layouts=(("ImageDatabase",), (".",)),
        title="BID, blurred photographs",
        mos_range=(0, 5),
        sizes=(586,),
        any_case=True,
        advice="it is DatabaseGrades.xlsx, saved as csv by a spreadsheet program",
    ),
    "spaq": Dataset(
        read=readers.read_spaq,
        label_files=("Annotations/MOS and Image attribute scores.csv",),
        image_layouts=(("TestImage",),),
        title="SPAQ, photographs by smartphones",
        mos_range=(0, 100),
        sizes=(11125,),
        advice="it is the .xlsx of the same name, saved as csv by a spreadsheet program",
    ),
    "agiqa3k": Dataset(
        read=readers.read_agiqa3k,
        label_files=("data.csv",),
        image_layouts=(("AGIQA-3K",), ("images",), (".",)),
        title="AGIQA-3K, generated images",
        mos_range=(0, 5),
        sizes=(2982,),
    ),
    "kadid10k": Dataset(
        read=readers.read_kadid10k,
        label_files=("dmos.csv",),
        image_layouts=(("images",),),
        title="KADID-10k, synthetic distortions of 81 photographs",
        mos_range=(1, 5),
        sizes=(10125,),
    ),
    "tid2013": Dataset(
        read=readers.read_tid2013,
        label_files=("mos_with_names.txt",),
        image_layouts=(("distorted_images",),),
        title="TID2013, synthetic distortions of 25 images",
        mos_range=(0, 9),
        sizes=(3000,),
        any_case=True,
    ),
    "live": Dataset(
        read=readers.read_live,
        label_files=("dmos_realigned.mat", "refnames_all.mat"),
        image_layouts=((".",),),
        title="LIVE, synthetic distortions of 29 photographs",
        mos_range=(0, 100),
        sizes=(779,),
        scale="100 - DMOS, so that higher is better",
        groups=r"^(\w+)/",  # distortions
    ),
    "csiq": Dataset(
        read=readers.read_csiq,
        label_files=("csiq_label.txt",),
        image_layouts=(
            ("dst_imgs_all",),
            ("dst_imgs",),
            tuple(f"dst_imgs/{folder}" for folder in readers.CSIQ_FOLDERS),
        ),
        title="CSIQ, synthetic distortions of 30 photographs",
        mos_range=(0, 1),
        sizes=(866,),
        scale="1 - DMOS, so that higher is better",
        advice="it is in HyperIQA's repository, github.com/SSL92/hyperIQA",
        groups=r"\.(\w+)\.\d\.",  # distortions
    ),
}


def load_dataset(
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
        split_seed: seed of a drawn split or validation set.
        split_file: image,split columns, such as the split.csv of a run, which replace the data set's own split.

    Raises:
        FileNotFoundError: the folder, its labels, images or the split file are missing.
        ValueError: labels that contradict themselves or their scale.
    """
    if name not in DATASETS:  # from the checkpoint of another version
        raise ValueError(f"--dataset {name}: not one of {', '.join(DATASETS)}; name another")
    dataset, root = DATASETS[name], Path(root)
    labels = read_labels(name, root)
    mos_range, origin = choose_range(labels, mos_range, dataset, root)
    check_direction(labels, root)
    labels, split, drawn = choose_split(labels, dataset, split_seed, split_file)
    warnings = [*warn_of_size(labels, dataset, custom=bool(split_file)), *warn_of_unused(labels, split)]
    labels = [label for label in labels if label.set]
    paths = locate_images(root, labels, dataset.image_layouts, dataset.any_case)
    warnings += check_distinct(labels, paths)
    rows = "".join(f"{label.set},{label.name},{label.mos!r}\n" for label in sorted(labels))
    data = QualityData(
        root,
        {name: select_set(labels, paths, name) for name in SETS},
        hashlib.sha256(rows.encode()).hexdigest(),
        mos_range=mos_range,
        split=split,
        drawn=drawn,
        note=read_note(root) or dataset.title,
        groups=dataset.groups,
        warnings=warnings,
        facts=[f"MOS: {mos_range[0]:g} to {mos_range[1]:g}, {origin}", f"Split: {split}"],
    )
    if len(dataset.sizes) == len(SETS) and not split_file:
        require_sets(data)
    return data


def select_set(labels: list[Label], paths: dict[str, Path], name: str) -> LabelledImages:
    chosen = [label for label in labels if label.set == name]
    names = tuple(label.name for label in chosen)
    return LabelledImages(names, np.array([label.mos for label in chosen]), tuple(map(paths.get, names)))


# Labels


def read_labels(name: str, root: Path) -> list[Label]:
    paths = [root / file for file in DATASETS[name].label_files] or [root]
    try:
        check_files(name, root)
        labels = list(DATASETS[name].read(*paths))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{suggest_dataset(name, root)}") from error
    check_names(labels, DATASETS[name].any_case)
    return labels


def check_files(name: str, root: Path) -> None:
    dataset = DATASETS[name]
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise FileNotFoundError(f"--data_path {root}: {what}; docs/data.md says where the data sets come from")
    missing = [file for file in dataset.label_files if not (root / file).is_file()]
    if missing:
        folders = " or ".join(f"{'/ + '.join(layout)}/" for layout in dataset.image_layouts)
        advice = f"; {dataset.advice}" if dataset.advice else ""
        raise FileNotFoundError(
            f"--data_path {root}: no {' and no '.join(missing)}; --dataset {name} reads "
            f"{' and '.join(dataset.label_files)}, and images in {folders}{advice}"
        )


def suggest_dataset(name: str, root: Path) -> str:
    """A hint for a folder with the label files of another data set."""
    for other, dataset in DATASETS.items():
        if other != name and dataset.label_files and all((root / file).is_file() for file in dataset.label_files):
            return f"; for this folder add --dataset {other}"
    return ""


def read_note(root: Path) -> str | None:
    note = root / readers.DEMO_NOTE
    lines = note.read_text(encoding="utf-8", errors="replace").splitlines() if note.is_file() else []
    return lines[0] if lines else None


def choose_range(labels: list[Label], given: MosRange | None, dataset: Dataset, root: Path) -> tuple[MosRange, str]:
    """The range of the scale, within which all MOS must be, and its origin."""
    if not labels:
        raise ValueError(f"--data_path {root}: its labels name no image")
    values = [label.mos for label in labels]
    if min(values) == max(values):
        raise ValueError(f"--data_path {root}: every MOS is {values[0]:g}, so no correlation can be computed")
    if not (given or dataset.mos_range):
        return (min(values), max(values)), f"the lowest and highest of {dataset.label_files[0]}"
    low, high = given or dataset.mos_range
    for label in labels:
        if not low <= label.mos <= high:
            ways = "correct the row or --mos_range" if given else "is this the release's own file?"
            raise ValueError(f"{label.where}: MOS {label.mos:g} is outside {low:g} to {high:g}; {ways}")
    return (low, high), "given by --mos_range" if given else dataset.scale


def check_direction(labels: list[Label], root: Path) -> None:
    """Refuse an inverted scale: on average the strongest distortions must have the worst MOS."""
    levels = sorted({label.level for label in labels if label.level})
    if len(levels) < 2:
        return
    weakest, strongest = (
        sum(label.mos for label in chosen) / len(chosen)
        for chosen in ([x for x in labels if x.level == level] for level in (levels[0], levels[-1]))
    )
    if strongest > weakest:
        raise ValueError(
            f"--data_path {root}: the strongest distortions have the better MOS, {strongest:.4g} on average and "
            f"{weakest:.4g} for the weakest; is this the release's own file?"
        )


# Splits


def choose_split(
    labels: list[Label], dataset: Dataset, seed: int, split_file: str | os.PathLike | None
) -> tuple[list[Label], str, bool]:
    """The labels with their sets, the origin of the split, and whether the run keeps a copy of it."""
    if split_file:
        return apply_split(labels, Path(split_file)), f"from {split_file}", True
    if not any(label.set for label in labels):
        return draw_split(labels, seed), f"drawn 70/10/20 from the names with --split_seed {seed}", True
    if dataset.draws_validation:
        split = f"{dataset.own_split}, a tenth of its training images drawn to validate with --split_seed {seed}"
        return draw_validation(labels, seed), split, True
    return labels, dataset.own_split, False


def warn_of_size(labels: list[Label], dataset: Dataset, custom: bool) -> list[str]:
    """Report numbers of images that differ from those of the release."""
    found = Counter(label.set for label in labels)
    if len(dataset.sizes) == len(SETS) and not custom:
        sizes = tuple(found[name] for name in SETS)
        if sizes != dataset.sizes:
            ours, theirs = (" / ".join(f"{size:,}" for size in three) for three in (sizes, dataset.sizes))
            return [f"{ours} images to train, validate and test; the release has {theirs}"]
    elif dataset.sizes and len(labels) != sum(dataset.sizes):
        return [f"{len(labels):,} images; the release has {sum(dataset.sizes):,}"]
    return []


def warn_of_unused(labels: list[Label], split: str) -> list[str]:
    unused = sum(not label.set for label in labels)
    return [f"{unused} of {len(labels)} images are in no set and not used; split: {split}"] if unused else []


def split_csv(data: QualityData) -> str:
    """A csv of image,mos,split, for --split_file or as a labels.csv."""
    rows = [
        (name, mos, FOLDER_OF_SET[set_name])
        for set_name, images in data.sets.items()
        for name, mos in zip(images.names, images.mos.tolist(), strict=True)
    ]
    return csv_text([("image", "mos", "split"), *rows])
