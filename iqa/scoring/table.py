"""Scored images as lines on the terminal, as csv and as JSON."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from iqa.cli import say
from iqa.scoring.files import printable

STAGES = ("stage1", "stage2", "stage3", "stage4")


class Row(NamedTuple):
    """One image as it is printed and written."""

    image: str  # the path
    score: float | None
    attention: tuple[float, ...] | None
    error: str | None
    picture: Any = None  # iqa.scoring.page.Picture, where a page is asked for
    patches: tuple[float, ...] | None = None  # the score of each

    name = property(lambda self: printable(self.image))
    reason = property(lambda self: printable(self.error or ""))


def whose(about: dict) -> str:
    """Whose scores they are."""
    return about["variant"] + (f", epoch {about['epoch']}" if about["epoch"] else ", its published weights")


def scale(about: dict, dash: str = "-") -> str:
    """Which scale they are on: weights as published do not say."""
    bounds = about["mos_range"]
    return "MOS scale " + ("of their training" if bounds is None else f"{bounds[0]:g}{dash}{bounds[1]:g}")


def describe(scorer, checkpoint: Path) -> dict:
    """What every score of this call depends on, but for the image."""
    return {
        "checkpoint": printable(str(checkpoint)),
        "variant": scorer.variant.log_name,
        "epoch": scorer.epoch,
        "mos_range": scorer.config.get("mos_range", [0, 100]),
        "patch_size": scorer.patch_size,
        "patches": scorer.patches,
        "device": scorer.device.type,
        "precision": scorer.precision,
    }


def print_table(rows: Iterator[Row], about: dict, attention: bool) -> list[Row]:
    """Print each row as soon as it is known; returns them all."""
    how = "the mean of {patches} patches of {patch_size}x{patch_size} pixels".format(**about)
    say(f"{whose(about)}: {how} on the {scale(about)}, {about['device']}, {about['precision']}")
    say("  score  " + "".join(f"{name:<8}" for name in STAGES if attention) + "image")
    kept = []
    for row in rows:
        kept.append(row)
        say(as_line(row, attention))
    return kept


def as_line(row: Row, attention: bool) -> str:
    if row.error is not None:
        return "  error  " + 8 * len(STAGES) * attention * " " + f"{row.name}: {row.reason}"
    return f"{row.score:7.2f}  " + "".join(f"{weight:<8.4f}" for weight in row.attention or ()) + row.name


def as_csv(rows: list[Row], attention: bool) -> str:
    """image, score, the four attention weights on request, error; numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "score", *(f"attention_{name}" for name in STAGES if attention), "error"])
    empty = [None] * len(STAGES) * attention
    writer.writerows([row.image, row.score, *(row.attention or empty), row.error] for row in rows)
    return text.getvalue()


def as_json(rows: list[Row], about: dict) -> str:
    """The settings, and under "images" one object per image; a score is null where there is an error."""
    images = [{"image": row.image, "score": row.score, "error": row.error} for row in rows]
    for image, row in zip(images, rows, strict=True):
        if row.attention:
            image["attention"] = dict(zip(STAGES, row.attention, strict=True))
    return json.dumps({**about, "images": images}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
