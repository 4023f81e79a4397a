"""Splits for data sets without their own: drawn, or read from a file.

A drawn split depends on --split_seed and the names only, not on --seed, so that all variants and training seeds are
tested on the same images.
"""

import hashlib
from collections import Counter
from pathlib import Path

from iqa.data.label_files import read_table
from iqa.data.labels import FOLDER_OF_SET, SHORT_NAMES, Label, check_names

SHARES = {"test": 0.2, "validation": 0.1}  # shares of a drawn split; the rest is for training
SPLIT_VALUES = {**SHORT_NAMES, **{name: name for name in FOLDER_OF_SET}}  # train, val, test and the full names


def draw_split(labels: list[Label], seed: int, shares: dict[str, float] = SHARES) -> list[Label]:
    """Draw sets by a hash of the scenes; row order, MOS and machine do not affect the result.

    A validation set of one image is extended to two scenes if that leaves a scene for training, and dropped otherwise.
    """
    images = Counter(label.scene or label.name for label in labels)  # number of images of each scene
    order = sorted(images, key=lambda scene: hashlib.sha256(f"{seed}/{scene}".encode()).digest())
    sets, start = dict.fromkeys(order, "training"), 0
    for name, share in shares.items():
        count = max(1, round(share * len(order)))
        if name == "validation" and sum(images[scene] for scene in order[start : start + count]) < 2:
            count = 2 if start + 2 < len(order) else 0
        sets.update(dict.fromkeys(order[start : start + count], name))
        start += count
    return [label._replace(set=sets[label.scene or label.name]) for label in labels]


def draw_validation(labels: list[Label], seed: int) -> list[Label]:
    """The labels with a part of the training set drawn for validation, by the same rule."""
    training = draw_split([x for x in labels if x.set == "training"], seed, {"validation": SHARES["validation"]})
    drawn = {label.name: label for label in training}
    return [drawn.get(label.name, label) for label in labels]


def read_split(text: str | None, where: str) -> str:
    """The set that a split column names."""
    if text not in SPLIT_VALUES:
        raise ValueError(f"{where}: split is {text!r}, not one of {', '.join(SPLIT_VALUES)}")
    return SPLIT_VALUES[text]


def apply_split(labels: list[Label], path: Path) -> list[Label]:
    """The labels with the sets that a file of image,split columns gives them; "" if it has none."""
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
