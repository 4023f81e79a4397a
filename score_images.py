#!/usr/bin/env python3
"""Score the quality of your own images with a trained model.

    python3 score_images.py --checkpoint checkpoints/resnet_improved_ms_att_best.pth photo.jpg holiday/ 'shots/*.png'
    python3 score_images.py --checkpoint ... holiday/ --output scores.csv --report scores.html

From Python, with paths, PIL images or tensors [3, H, W] (uint8, or floats in 0-1):

    from score_images import load_scorer
    scores = load_scorer("checkpoints/resnet_improved_ms_att_best.pth")(["photo.jpg", image, tensor])

This file holds the flags, the search for images and what is written; scoring.py holds the scores.
"""

import argparse
import csv
import glob
import io
import json
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iqa.atomic_files import check_writable, write_atomically
from iqa.command_line import OneLineParser, Stopped, number, one_line, stop_on_signals
from iqa.console import say

# What a folder is searched for; a file that is named, or matches a pattern, is tried whatever its ending.
ENDINGS = frozenset(".avif .bmp .gif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split())
STAGES = ("stage1", "stage2", "stage3", "stage4")


class Row(NamedTuple):
    """One image as it is printed and written."""

    image: str  # the path
    score: float | None
    attention: tuple[float, ...] | None
    error: str | None
    thumbnail: bytes | None = None  # JPEG

    name = property(lambda self: printable(self.image))
    reason = property(lambda self: printable(self.error or ""))


def load_scorer(checkpoint: str | os.PathLike, **settings):
    """See scoring.load_scorer, which needs torch: device, precision, batch_size -> a function of a list of images."""
    import scoring

    return scoring.load_scorer(checkpoint, **settings)


# The flags


def ending(*allowed: str):
    """An argparse type: a path with one of the endings."""

    def parse(text):
        path = Path(text)
        if path.suffix.lower() not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(allowed)}")
        return path

    return parse


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE",
                        help="a file, a folder (searched with all below it) or a quoted pattern")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="PATH",
                        help="a _best.pth or _last.pth; variant, patch size and number of patches come from it")
    parser.add_argument("--attention", action="store_true", help="add the weights of the four scales")

    output = parser.add_argument_group("output")
    output.add_argument("--output", type=ending(".csv", ".json"), metavar="FILE", help="scores.csv or scores.json")
    output.add_argument("--report", type=ending(".html", ".htm"), metavar="FILE", help="a page to look at in a browser")
    output.add_argument("--traceback", action="store_true", help="show where an error came from")

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    machine.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                         help="of the arithmetic before the score path; auto: that of the run, but bf16 only where "
                              "the device has it natively")
    machine.add_argument("--batch_size", type=number(int, 1), metavar="N",
                         help="patches at a time; default: 64 on a CPU, 256 on a GPU")
    return parser  # fmt: skip


# The images


def find_images(arguments: list[str]) -> list[str]:
    """Paths in the order of the arguments, sorted within a folder or pattern, none twice.

    Raises:
        FileNotFoundError: names an argument that leads to no image.
    """
    found = {}
    for argument in arguments:
        for path in expand(argument):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return search(argument)
    if os.path.lexists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise FileNotFoundError(f"{argument}: no such file or folder")
    matches = sorted(glob.glob(argument, recursive=True))
    if not matches:
        raise FileNotFoundError(f"{argument}: no file matches this pattern")
    return [path for match in matches for path in (search(match) if os.path.isdir(match) else [match])]


def search(folder: str) -> list[str]:
    """The images in a folder and all below it; links to further folders are not followed."""
    files = sorted(os.path.join(where, name) for where, _, names in os.walk(folder, onerror=fail) for name in names)
    images = [path for path in files if is_image_name(os.path.basename(path))]
    others = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in set(files) - set(images))
    if not images:
        raise FileNotFoundError(f"{folder}: holds no image; looked for {' '.join(sorted(ENDINGS))}")
    if others:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(others.items()))
        reason = "left out what does not end like an image, or is hidden"
        print(f"Note: {printable(folder)}: {reason}: {counts}", flush=True)
    return images


def is_image_name(name: str) -> bool:
    """Hidden files are left out: macOS keeps a `._photo.jpg`, which is no image, beside each photo.jpg."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def fail(error: OSError) -> None:
    raise error


def printable(text: str) -> str:
    """Control characters and bytes that are no UTF-8 as escapes: no name can steer a terminal or end a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_utf8(text: str) -> str:
    """The text as it is, but for bytes of a file name that are no UTF-8, which become escapes."""
    return text.encode(errors="backslashreplace").decode()


# The scores


def run(options: argparse.Namespace) -> int:
    """Score, print and write; returns the exit status."""
    paths = find_images(options.images)
    check_writable("--output", options.output)
    check_writable("--report", options.report)
    scorer = load_scorer(
        options.checkpoint, device=options.device, precision=options.precision, batch_size=options.batch_size
    )
    if options.attention and not scorer.variant.use_attention:
        raise ValueError(f"--attention: {options.checkpoint} is {scorer.variant.log_name}, which has no attention")
    about = describe(scorer, options.checkpoint)
    if scorer.config["flags"].get("test_random_crop"):
        say("Note: this run was evaluated on random crops; the scores below are of the fixed grid and differ a little")
    rows = print_table(score(paths, scorer, options), about, options.attention)
    if options.output:
        content = as_csv(rows, options.attention) if options.output.suffix.lower() == ".csv" else as_json(rows, about)
        write_atomically(options.output, content)
    if options.report:
        from iqa.scoring import page as scores_page

        write_atomically(options.report, scores_page.page(rows, about, STAGES if options.attention else ()))
    unreadable = sum(row.error is not None for row in rows)
    written = "".join(f"; wrote {path}" for path in (options.output, options.report) if path)
    say(f"Scored {len(rows) - unreadable} of {len(rows)} images, {unreadable} unreadable{written}")
    return 1 if unreadable else 0


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


def score(paths: list[str], scorer, options: argparse.Namespace) -> Iterator[Row]:
    """One row per path, in order, with a progress bar on a terminal."""
    from tqdm import tqdm

    thumbnail = None
    if options.report:
        from iqa.scoring.page import thumbnail
    with tqdm(total=len(paths), desc="Scoring", unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:
        for path, scored in zip(paths, scorer.stream(paths, thumbnail), strict=True):
            attention = scored.attention if options.attention else None
            with bar.external_write_mode():  # the row takes the place of the bar
                yield Row(as_utf8(path), scored.score, attention, scored.error, scored.extra)
            bar.update()


def print_table(rows: Iterator[Row], about: dict, attention: bool) -> list[Row]:
    """Print each row as soon as it is known; returns them all."""
    say("{variant}, epoch {epoch}: the mean of {patches} patches of {patch_size}x{patch_size} pixels on the MOS scale "
        "{mos_range[0]:g}-{mos_range[1]:g}, {device}, {precision}".format(**about))  # fmt: skip
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


def main() -> int:
    stop_on_signals()
    options = build_parser().parse_args()
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what cannot be read is an error of its own
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(options)
    except Stopped as stop:
        name = signal.Signals(stop.args[0]).name
        print(f"Stopped by {name}; --output and --report are written when every image is scored.", file=sys.stderr)
        return 128 + stop.args[0]
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        if options.traceback:
            raise
        print(f"error: {printable(one_line(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
