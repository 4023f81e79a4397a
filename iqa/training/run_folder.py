"""The folder of a run: its files, its checkpoints, and which runs may write or continue them.

torch, which takes seconds to load, is imported only where a checkpoint is read or written.
"""

import contextlib
import filecmp
import itertools
import json
import os
import pickle
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from iqa.atomic_files import atomic_path, check_writable, hold_lock, link_or_copy, remove_leftovers, write_atomically
from iqa.cli import first_line, say
from iqa.json_files import read_json, write_json
from iqa.models.published import OWN
from iqa.predictions import Predictions
from iqa.training.recipe import PUBLISHED_RECIPE

NEWEST = Path("checkpoints")  # has the weights of the newest finished run of each tag, with --save_model
PICKLE = b"\x80"  # first byte of a pickle; a zip archive, which torch writes since 1.6, begins with PK

# Flags that say where and how fast a run computes. A resumed run may change them.
FREE_ON_RESUME = {
    *("data_path", "output_dir", "checkpoint_dir", "cache_dir", "no_cache", "preload_images", "num_workers", "device"),
    *("resume", "overwrite", "traceback", "precision", "tensorboard", "cuda_graph"),
}

# Values of flags that older runs did not record.
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
class RunFolder:
    """The files of one run; their names are a contract (docs/training.md).

    Args:
        output: the run's own folder.
        checkpoint_name: name of the checkpoints, without _best and _last.
        checkpoint_dir: folder of the checkpoints; None: the run's own folder.
    """

    output: Path
    checkpoint_name: str
    checkpoint_dir: Path | None = None

    config = property(lambda self: self.output / "config.json")
    metrics = property(lambda self: self.output / "metrics.jsonl")
    result = property(lambda self: self.output / "result.json")
    split = property(lambda self: self.output / "split.csv")
    log = property(lambda self: self.output.parent / f"{self.output.resolve().name}.log")
    best = property(lambda self: self.checkpoint_folder / f"{self.checkpoint_name}_best.pth")
    last = property(lambda self: self.checkpoint_folder / f"{self.checkpoint_name}_last.pth")
    checkpoint_folder = property(lambda self: self.checkpoint_dir or self.output)

    def predictions(self, name: str) -> Path:
        return self.output / f"predictions_{name}.csv"

    # Before a run begins

    def is_finished(self, flags: dict[str, Any]) -> bool:
        """Whether there is nothing left to resume; ValueError for a run with other settings."""
        if not self.result.exists():
            return False
        refuse_differences(self.output, self.read_config()["flags"], flags)
        return True

    def config_to_resume(self, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
        """The config of the run to continue, None for a new run; an error if the folders do not fit the flags."""
        if resume:
            if not self.config.exists():
                runs = sorted(str(path.parent) for path in self.output.parent.glob("*/config.json"))
                raise FileNotFoundError(
                    f"--resume: {self.output} holds no run ({self.config.name} is missing); "
                    + (f"--output_dir may be {' or '.join(runs)}" if runs else "leave --resume out to begin one")
                )
            return self.read_config()
        if self.config.exists() and not overwrite:
            raise FileExistsError(
                f"--output_dir {self.output}: holds a run; add --resume or --overwrite, or name another"
            )
        for path in (self.best, self.last):
            if path.exists() and not overwrite:
                raise FileExistsError(
                    f"--checkpoint_dir {self.checkpoint_folder}: contains {path.name} of another run; add --overwrite, "
                    "or name another"
                )
        return None

    def lock(self) -> list[TextIO]:
        """Lock this run's files while the returned files are open; remove the temporary files of a killed run."""
        locks = [hold_lock(self.output / ".run.lock")]
        try:
            if self.checkpoint_dir:
                locks.append(hold_lock(self.checkpoint_dir / f".{self.checkpoint_name}.lock"))
        except OSError:
            self.release()
            raise
        for path in (self.config, *self.results(), self.best, self.last):
            remove_leftovers(path)
        return locks

    def check_space(self, checkpoint_bytes: int, *, save_model: bool) -> None:
        """OSError if the files of the run cannot be written or the disk has no room for its checkpoints."""
        for path in (self.log, self.result, self.last, *([NEWEST / self.best.name] if save_model else [])):
            check_writable("--output_dir", path)
        needed = 3 * checkpoint_bytes  # the last one, the one before, and a new one
        free = shutil.disk_usage(self.checkpoint_folder).free
        free += sum(path.stat().st_size for path in (self.last, previous_path(self.last)) if path.exists())
        if needed > free:
            raise OSError(
                f"{self.checkpoint_folder}: the checkpoints of a run need {needed / 1e9:.2f} GB and "
                f"{free / 1e9:.2f} GB are free; make room, or name another --output_dir or --checkpoint_dir"
            )

    def release(self) -> None:
        """Remove the folder if no run began in it."""
        if not self.config.exists() and {path.name for path in self.output.glob("*")} == {".run.lock"}:
            shutil.rmtree(self.output, ignore_errors=True)
            with contextlib.suppress(OSError):  # it has other runs or does not exist
                Path("logs").rmdir()

    def flags_to_go_on(self) -> list[str]:
        """The flag that continues a stopped run; none if no run began."""
        if any(path.exists() for path in (self.result, self.last, previous_path(self.last))):
            return ["--resume"]
        return ["--overwrite"] if self.config.exists() else []

    def results(self) -> list[Path]:
        """Files that an earlier run may have left in the output folder, except config.json."""
        return [self.result, self.metrics, self.split, self.predictions("val"), self.predictions("test")]

    def read_config(self) -> dict[str, Any]:
        config = read_json(self.config, "start again with --overwrite")
        missing = [key for key in ("run_id", "flags", "precision", "split") if key not in config]
        if missing:
            raise ValueError(f"{self.config}: no {missing[0]}: not of this program; start again with --overwrite")
        return config

    # During a run

    def begin(self, config: dict[str, Any], split: str | None) -> None:
        """Write config.json, and the split if it was drawn, and remove the files of an earlier run."""
        newest = NEWEST / self.best.name
        if self.best.exists() and newest.exists() and newest.samefile(self.best):
            newest.unlink()
        for path in (*self.results(), self.last, previous_path(self.last), self.best):
            path.unlink(missing_ok=True)
        if split:
            write_atomically(self.split, split)
        write_json(self.config, config)

    def write_scores(self, history: list[dict[str, Any]], predictions: dict[str, Predictions]) -> None:
        """Write metrics.jsonl, predictions_val.csv and predictions_test.csv."""
        write_atomically(self.metrics, "".join(json.dumps(row, allow_nan=False) + "\n" for row in history))
        for name, of_set in predictions.items():
            write_atomically(self.predictions(name), of_set.to_csv())

    def load_last(self, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        """The last checkpoint of the run whose config is `before`, for a run with the same settings as config `now`."""
        refuse_differences(self.output, settings(before), settings(now))
        anew = f"to train it again, remove {self.output} and repeat the command"
        last = self.last
        if not (last.exists() or previous_path(last).exists()):  # older runs kept them in a common folder
            last = Path(before["flags"].get("checkpoint_dir") or self.checkpoint_folder) / last.name
        if not (last.exists() or previous_path(last).exists()):
            raise FileNotFoundError(
                f"--resume: no {self.last}: no epoch of this run was finished, or --checkpoint_dir differs; {anew}"
            )
        saved = load_last(last)
        if saved.get("run_id") != before["run_id"]:
            raise ValueError(
                f"--resume: {last} is not of the run in {self.output}: no epoch of it was finished, or another "
                f"run replaced it; {anew}"
            )
        flags = before["flags"]
        if "schedule" not in saved and (flags.get("warmup_steps") or flags.get("recipe") == PUBLISHED_RECIPE):
            raise ValueError(f"--resume: {last} has no position in the schedule; {anew}")
        refuse_other_head(saved["model"], last, anew)
        older = last.with_name(self.best.name)
        if older != self.best and older.exists() and load_checkpoint(older)["config"].get("run_id") == before["run_id"]:
            link_or_copy(older, self.best)
        return saved

    # After a run

    def finish(self, result: dict[str, Any], weights: dict, config: dict[str, Any], *, save_model: bool) -> None:
        """Keep the weights with their results, write result.json, and remove the files that only a resume needs.

        Args:
            weights: those of the last epoch, kept unless the weights of the selected epoch are.
        """
        state = best_state(weights, result["epochs"], config)
        if save_model and result["failure"] is None:
            try:
                state = load_checkpoint(self.best)
            except (OSError, ValueError) as error:
                say(f"Warning: the weights of the selected epoch are lost ({error}); those of the last epoch are kept")
        save_checkpoint(self.best, {**state, "results": result, "date": time.strftime("%Y-%m-%d")})
        if save_model and result["failure"] is None and not self.checkpoint_dir:
            self.publish(config["run_id"])
        write_json(self.result, result)
        for path in (self.last, previous_path(self.last)):
            path.unlink(missing_ok=True)

    def publish(self, run_id: str) -> None:
        """Link the weights in checkpoints/ instead of those of the previous run, whose own folder keeps them."""
        newest = NEWEST / self.best.name
        if newest.is_file() and is_only_copy(newest, run_id):
            written = time.strftime("%Y%m%d_%H%M%S", time.localtime(newest.stat().st_mtime))
            names = (f"{newest.stem}_{written}" + f"_{i}" * (i > 0) for i in itertools.count())
            kept = next(path for path in map(newest.with_stem, names) if not path.exists())
            say(f"Note: {newest} was the only copy of the weights of an earlier run; it is kept as {kept}")
            with contextlib.suppress(FileNotFoundError):  # another run that ends at this moment has moved it
                os.replace(newest, kept)
        NEWEST.mkdir(exist_ok=True)
        link_or_copy(self.best, newest)


def is_only_copy(newest: Path, run_id: str) -> bool:
    """Whether this is the checkpoint of a run other than `run_id` whose own folder does not have it."""
    if newest.is_symlink() or newest.stat().st_nlink > 1:
        return False
    try:
        config = load_checkpoint(newest)["config"]
        own = Path(config["flags"]["output_dir"] or f"logs/{config['variant']}") / newest.name
    except (KeyError, ValueError):
        return True
    return config.get("run_id") != run_id and not (own.is_file() and filecmp.cmp(own, newest, shallow=False))


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run and its continuation must share."""
    return {**config["flags"], "precision used": config["precision"], "split": config["split"]["sha256"]}


def refuse_differences(output: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """ValueError for a resume with other settings; flags that no longer exist are ignored."""
    before = {**BEFORE, **before}
    differing = [
        f"{key} {value}, now {now[key]}"
        for key, value in before.items()
        if key in now and key not in FREE_ON_RESUME and value != now[key]
    ]
    if differing:
        raise ValueError(
            f"--resume: the run in {output} has other settings: {'; '.join(differing)}; "
            "repeat its settings, or name another --output_dir"
        )


# Checkpoints: whole or not at all, tensors and plain values only


def best_state(weights: dict, epoch: int, config: dict[str, Any]) -> dict[str, Any]:
    """The content of _best.pth, on the CPU: it may be read without a GPU."""
    return {"model": {name: tensor.cpu() for name, tensor in weights.items()}, "epoch": epoch, "config": config}


def save_checkpoint(path: Path, state: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write `state` to `path` atomically, and keep the file that was there as `previous_path(path)` on request.

    At every moment `path` is absent, the old checkpoint or the new one. After the first save it is absent only on file
    systems without hard links, where `previous_path(path)` then exists.
    """
    with atomic_path(path) as temporary:
        write(state, temporary)
        if keep_previous and path.exists():
            try:
                previous_path(path).unlink(missing_ok=True)
                os.link(path, previous_path(path))
            except OSError:
                os.replace(path, previous_path(path))


def write(state: dict[str, Any], path: Path) -> None:
    """torch.save, which raises the cause of a failed write, such as a full disk, instead of torch's RuntimeError."""
    import torch

    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        cause = error
        while cause.__context__:
            cause = cause.__context__
        raise cause from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint, on the CPU, its checksums verified, no code run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, or more than tensors and plain values.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such checkpoint; train_resnet_improved.py --save_model and run_resnet_ablation.sh write them"
        )
    try:
        verify_checksums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: holds more than tensors and plain values; it was not loaded") from error
    except Exception as error:  # zipfile and torch raise many kinds
        raise ValueError(f"{path}: damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, not a checkpoint")
    return state


def refuse_other_head(state: dict[str, Any], path: str | os.PathLike, way: str) -> None:
    """ValueError for weights of an earlier version, whose target network had ReLU."""
    if "hyper_net.last_weight.weight" in state and "mos_deviation" not in state:
        raise ValueError(
            f"{path}: of a version whose target network had ReLU instead of sigmoid, so its scores cannot be "
            f"computed; {way}"
        )


def verify_checksums(path: Path) -> None:
    """Check the CRC-32 of each record, which torch.load does not. Files of torch before 1.6 have none."""
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def load_last(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, or the previous one, with a warning, if that is damaged or missing."""
    try:
        return load_checkpoint(path)
    except (FileNotFoundError, ValueError) as error:
        previous = previous_path(path)
        if not previous.exists():
            raise
        state = load_checkpoint(previous)
        say(f"Warning: {error}; continuing from the previous checkpoint, {previous}")
        return state


def previous_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_previous{path.suffix}")
