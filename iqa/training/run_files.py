"""The files of a run: their names, who may write them, and what a run must share with one that it continues."""

import argparse
import fcntl
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from iqa.atomic_files import remove_leftovers, write_atomically
from iqa.models.published import OWN
from iqa.models.variants import Variant
from iqa.training.recipe import PUBLISHED_RECIPE

# Where and how fast a run computes, not what: a resumed run may change these.
FREE_ON_RESUME = (
    "data_path",
    "output_dir",
    "checkpoint_dir",
    "cache_dir",
    "no_cache",
    "preload_images",
    "num_workers",
    "device",
    "resume",
    "overwrite",
    "traceback",
    "precision",
    "tensorboard",
    "cuda_graph",
)

# What runs did that were begun before there were these flags.
BEFORE = {
    "backbone": "resnet50",
    "model": OWN,
    "recipe": OWN,
    "resize": "keep",
    "loss": "l1",
    "lr_schedule": "constant",
    "ema": 0.0,
    "freeze_batch_norm": False,
    "head_lr_ratio": 1.0,
}


@dataclass(frozen=True)
class RunFiles:
    """Where a run leaves what; the names are a contract (docs/training.md)."""

    output: Path
    checkpoints: Path
    name: str  # of the checkpoints, without best or last

    @classmethod
    def of(cls, options: argparse.Namespace, variant: Variant) -> "RunFiles":
        output = Path(options.output_dir or f"logs/{variant.log_name}")
        return cls(output, Path(options.checkpoint_dir), f"resnet_improved_{variant.tag}{options.checkpoint_suffix}")

    config = property(lambda self: self.output / "config.json")
    metrics = property(lambda self: self.output / "metrics.jsonl")
    result = property(lambda self: self.output / "result.json")
    split = property(lambda self: self.output / "split.csv")
    best = property(lambda self: self.checkpoints / f"{self.name}_best.pth")
    last = property(lambda self: self.checkpoints / f"{self.name}_last.pth")

    def predictions(self, name: str) -> Path:
        return self.output / f"predictions_{name}.csv"

    def results(self) -> list[Path]:
        """What an earlier run may have left in the output folder, but for config.json."""
        return [self.result, self.metrics, self.split, self.predictions("val"), self.predictions("test")]

    def lock(self) -> list[TextIO]:
        """Keep other runs from writing these files until the program ends; remove what a killed one left half-written."""
        locks = [hold_lock(self.output / ".run.lock"), hold_lock(self.checkpoints / f".{self.name}.lock")]
        for path in (self.config, *self.results(), self.best, self.last):
            remove_leftovers(path)
        return locks

    def is_finished(self, options: argparse.Namespace) -> bool:
        """Whether there is nothing to resume; a run of other settings is an error."""
        finished = options.resume and self.result.exists()
        if finished:
            refuse_differences(self, self.read_config()["flags"], vars(options))
        return finished

    def config_to_resume(self, options: argparse.Namespace) -> dict[str, Any] | None:
        """That of the run to continue, None for a new run; an error where the folder is not as the flags have it."""
        if self.config.exists() and not (options.resume or options.overwrite):
            raise FileExistsError(
                f"--output_dir {self.output}: holds a run; add --resume or --overwrite, or name another"
            )
        if options.resume and not self.config.exists():
            raise FileNotFoundError(f"--resume: {self.output} holds no run ({self.config.name} is missing)")
        return self.read_config() if options.resume else None

    def read_config(self) -> dict[str, Any]:
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
            missing = [key for key in ("run_id", "flags", "precision", "split") if key not in config]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{self.config}: unreadable ({error}); start again with --overwrite") from error
        if missing:
            raise ValueError(f"{self.config}: no {missing[0]} in it: not of this program; start again with --overwrite")
        return config

    def start(self, config: dict[str, Any], split: str | None) -> None:
        """Begin a new run: config.json, the split where it was drawn, and nothing of an earlier run beside them."""
        for path in self.results():
            path.unlink(missing_ok=True)
        if split:
            write_atomically(self.split, split)
        write_json(self.config, config)

    def load_last(self, before: dict[str, Any], now: dict[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
        """The last checkpoint of the run that config.json describes, for a run with the same settings."""
        from iqa.training.checkpoints import load_last, previous_path, refuse_other_head  # only now: it loads torch

        refuse_differences(self, settings(before), settings(now))
        if not (self.last.exists() or previous_path(self.last).exists()):
            raise FileNotFoundError(
                f"--resume: no {self.last}: no epoch of this run was finished, or --checkpoint_dir is another; "
                "to start again, --overwrite"
            )
        saved = load_last(self.last, warn)
        if saved.get("run_id") != before["run_id"]:
            raise ValueError(
                f"--resume: {self.last} is not of the run in {self.output}: no epoch of it was finished, or another "
                "run took its place; to start again, --overwrite"
            )
        if "schedule" not in saved and (
            before["flags"].get("warmup_steps") or before["flags"].get("recipe") == PUBLISHED_RECIPE
        ):
            raise ValueError(
                f"--resume: {self.last} does not say how far the schedule had come; to start again, --overwrite"
            )
        refuse_other_head(saved["model"], self.last, "to start again, --overwrite")
        return saved


def hold_lock(path: Path) -> TextIO:
    """Keep other processes out while the returned file is open; workers do not inherit a POSIX lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "a+")
    except OSError as error:
        raise OSError(f"{path.parent}: cannot be written ({error.strerror}); name another folder") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX leaves the choice
        lock.seek(0)
        holder = lock.read().strip()
        raise OSError(f"{path.parent}: process {holder} is running here; wait, or name another") from error
    lock.truncate(0)
    lock.write(f"{os.getpid()} on {platform.node()}\n")
    lock.flush()
    return lock


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What two runs must share for one to continue the other."""
    return {**config["flags"], "precision used": config["precision"], "split": config["split"]["sha256"]}


def refuse_differences(files: RunFiles, before: dict[str, Any], now: dict[str, Any]) -> None:
    """A run is resumed with the settings it began with, or not at all."""
    before = {**BEFORE, **before}
    differing = [
        f"{key} {before[key]}, now {now.get(key)}"
        for key in before
        if key not in FREE_ON_RESUME and before[key] != now.get(key)
    ]
    if differing:
        raise ValueError(
            f"--resume: the run in {files.output} has other settings: {'; '.join(differing)}; "
            "repeat its settings, or name another --output_dir"
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
