"""KonIQ-10k on disk -> labelled images. The only file that knows KonIQ's names and columns.

    python3 data_loader.py ./koniq-10k          # check a data folder and print its split

A data folder holds labels and images; README.md shows the layouts. Whatever is wrong with them is one error that names
the file, the row and the value.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from iqa.data.labels import (
    SETS,
    Label,
    QualityData,
    check_name,
    check_names,
    locate_images,
    print_check,
    quality_data,
    read_mat,
    read_mos,
    read_table,
    require_sets,
)

OFFICIAL_SIZES = {"training": 7058, "validation": 1000, "test": 2015}
OFFICIAL_CSV = "koniq10k_distributions_sets.csv"
SCORES_CSV = "koniq10k_scores_and_distributions.csv"
SPLIT_MAT = "koniq10k_distributions_sets.mat"
SPLIT_JSONS = {"training": "koniq_train.json", "validation": "koniq_val.json", "test": "koniq_test.json"}
SPLIT_SELECTIONS = {"training": "train_sel", "validation": "val_sel", "test": "test_sel"}
MOS_RANGE = (0, 100)
IMAGE_LAYOUTS = (("1024x768",), ("512x384",), ("train", "test", "val"), ("images",), (".",))
DEMO_NOTE = "DEMO_DATASET.txt"  # its first line says what the images are, where they are not photographs


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
    if not labels:
        raise ValueError(f"--data_path {root}: its labels name no image")
    check_names(labels)
    check_scale(labels)
    note = root / DEMO_NOTE
    data = quality_data(
        root, labels, locate_images(root, labels, IMAGE_LAYOUTS), mos_range=MOS_RANGE, split="KonIQ-10k's own",
        note=note.read_text(encoding="utf-8").splitlines()[0] if note.exists() else None, warnings=warnings,
    )  # fmt: skip
    require_sets(data)
    return data


# Labels and split


def read_labels(root: Path) -> tuple[list[Label], list[str]]:
    """The rows of the first label layout that is there, and warnings about it."""
    if (root / OFFICIAL_CSV).exists():
        labels = [
            Label(row["image_name"], read_mos(row["MOS"], where, "MOS", *MOS_RANGE), read_set(row["set"], where), where)
            for where, row in read_table(root / OFFICIAL_CSV, ("image_name", "MOS", "set"))
        ]
        return labels, warn_of_sizes(labels)
    if not (root / SCORES_CSV).exists():
        raise FileNotFoundError(f"--data_path {root}: holds neither {OFFICIAL_CSV} nor {SCORES_CSV}")
    rows = [
        (where, row["image_name"], read_mos(row["MOS_zscore"], where, "MOS_zscore", *MOS_RANGE))
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
    index = {}
    for i, (where, name, _) in enumerate(rows):
        if index.setdefault(name, i) != i:
            raise ValueError(f"{where}: {name} is named twice; first at {rows[index[name]][0]}")
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
    selections = read_mat(path)
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


def check_scale(labels: list[Label]) -> None:
    highest = max(labels, key=lambda label: label.mos)
    if highest.mos <= 5:
        raise ValueError(f"{highest.where}: the highest MOS is {highest.mos:g}: a 1-5 scale, where 0-100 is needed")


if __name__ == "__main__":
    sys.exit(print_check(lambda: load_koniq(sys.argv[1] if len(sys.argv) > 1 else "./koniq-10k")))
