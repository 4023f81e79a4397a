"""Save and load checkpoints: whole or not at all, tensors and plain values only."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from iqa.atomic_files import atomic_path
from iqa.cli import first_line

PICKLE = b"\x80"  # the first byte of a pickle; a zip archive, which torch writes since 1.6, begins with PK


def save_checkpoint(path: Path, state: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write `state` to `path` atomically; the file that was there stays, on request, as `previous_path(path)`.

    At every moment `path` is absent, the old checkpoint or the new one.
    """
    with atomic_path(path) as temporary:
        write(state, temporary)
        if keep_previous and path.exists():
            previous_path(path).unlink(missing_ok=True)
            os.link(path, previous_path(path))


def write(state: dict[str, Any], path: Path) -> None:
    """torch.save, with the error that broke a write (a full disk, a lost worker) in place of torch's about positions."""
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        cause = error
        while cause.__context__:
            cause = cause.__context__
        raise cause from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary that `save_checkpoint` or torch.save wrote, on the CPU, its checksums verified, no code run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, or more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        verify_checksums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: holds more than tensors and plain values; it was not loaded") from error
    except Exception as error:  # zipfile and torch raise a dozen kinds, a function of which bit is wrong
        raise ValueError(f"{path}: damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, not a checkpoint")
    return state


def refuse_other_head(state: dict[str, Any], path: str | os.PathLike, way: str) -> None:
    """ValueError for the weights of a model whose target network had ReLU, and scores no start of their own."""
    if "hyper_net.last_weight.weight" in state and "mos_deviation" not in state:
        raise ValueError(
            f"{path}: of a version whose target network had ReLU where it now has sigmoid, so its scores cannot be had; {way}"
        )


def verify_checksums(path: Path) -> None:
    """Check the CRC-32 of each record, which torch.load itself does not. Files of torch before 1.6 have none."""
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def load_last(path: Path, warn) -> dict[str, Any]:
    """The checkpoint at `path`, or the one before it where that is damaged or gone, with a warning that names both."""
    try:
        return load_checkpoint(path)
    except (FileNotFoundError, ValueError) as error:
        previous = previous_path(path)
        if not previous.exists():
            raise
        state = load_checkpoint(previous)
        warn(f"Warning: {error}; going on from the checkpoint before it, {previous}")
        return state


def previous_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_previous{path.suffix}")
