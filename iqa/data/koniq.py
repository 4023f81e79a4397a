"""KonIQ-10k's label files and splits -> labels. The only file that knows KonIQ's names and columns.

docs/data.md shows the layouts. Whatever is wrong with them is one error that names the file, the row and the value.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from iqa.data.labels import SETS, Label, check_name, read_mos, read_table
from iqa.data.matlab import numbers_of, read_mat

OFFICIAL_SIZES = (7058, 1000, 2015)  # to train, validate and test
OFFICIAL_CSV = "koniq10k_distributions_sets.csv"
SCORES_CSV = "koniq10k_scores_and_distributions.csv"
SPLIT_MAT = "koniq10k_distributions_sets.mat"
SPLIT_JSONS = {"training": "koniq_train.json", "validation": "koniq_val.json", "test": "koniq_test.json"}
SPLIT_SELECTIONS = {"training": "train_sel", "validation": "val_sel", "test": "test_sel"}
MOS_RANGE = (0, 100)
IMAGE_LAYOUTS = (("1024x768",), ("512x384",), ("train", "test", "val"), ("images",), (".",))
DEMO_NOTE = "DEMO_DATASET.txt"  # its first line says what the images are, where they are not photographs

Row = tuple[str, str, float]  # of the scores csv: where, name, MOS
Members = Iterator[tuple[int, str, str]]  # index into those rows, set, where


def read_koniq(root: Path) -> list[Label]:
    """The rows of the first label layout that is there; "" is the set of those that its split leaves out."""
    labels = list(read_official(root) if (root / OFFICIAL_CSV).exists() else read_scores(root))
    check_scale(labels)
    return labels


def read_official(root: Path) -> Iterator[Label]:
    for where, row in read_table(root / OFFICIAL_CSV, ("image_name", "MOS", "set")):
        mos = read_mos(row["MOS"], where, "MOS", *MOS_RANGE)
        yield Label(row["image_name"], mos, read_set(row["set"], where), where)


def read_set(text: str, where: str) -> str:
    if text not in SETS:
        raise ValueError(f"{where}: set is {text!r}, not one of {', '.join(SETS)}")
    return text


def read_scores(root: Path) -> Iterator[Label]:
    """The other official csv, in the order of the split that lies beside it."""
    if not (root / SCORES_CSV).exists():
        raise FileNotFoundError(f"--data_path {root}: holds neither {OFFICIAL_CSV} nor {SCORES_CSV}")
    rows = [
        (where, row["image_name"], read_mos(row["MOS_zscore"], where, "MOS_zscore", *MOS_RANGE))
        for where, row in read_table(root / SCORES_CSV, ("image_name", "MOS_zscore"))
    ]
    unused = set(range(len(rows)))
    for i, set_name, where in read_members(root, rows):
        unused.discard(i)
        yield Label(rows[i][1], rows[i][2], set_name, where)
    for i in sorted(unused):
        where, name, mos = rows[i]
        yield Label(name, mos, "", where)


def read_members(root: Path, rows: list[Row]) -> Members:
    if (root / SPLIT_JSONS["training"]).exists():
        return read_json_split(root, rows)
    if (root / SPLIT_MAT).exists():
        return read_mat_split(root / SPLIT_MAT, len(rows))
    raise FileNotFoundError(
        f"--data_path {root}: {SCORES_CSV} has no split; add {SPLIT_JSONS['training']} and {SPLIT_JSONS['test']}, "
        f"or {SPLIT_MAT}, or use {OFFICIAL_CSV}"
    )


def read_json_split(root: Path, rows: list[Row]) -> Members:
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
        for i, number in enumerate(numbers_of(selections, path, key)):
            where = f"{path}: {key} entry {i + 1}"
            if not (float(number).is_integer() and 1 <= number <= rows):
                raise ValueError(f"{where}: {number} is not a row number in 1-{rows} of {SCORES_CSV}")
            yield int(number) - 1, set_name, where


def check_scale(labels: list[Label]) -> None:
    highest = max(labels, key=lambda label: label.mos, default=None)
    if highest and highest.mos <= 5:
        raise ValueError(f"{highest.where}: the highest MOS is {highest.mos:g}: a 1-5 scale, where 0-100 is needed")
