"""The folder of a run: its files, its checkpoints, and which runs may write or continue them.

torch, which takes seconds to load, is imported only where a checkpoint is read or written.
"""

import contextlib
import dataclasses
import filecmp
import itertools
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqa.atomic_files import (
    atomic_path,
    check_writable,
    hold_lock,
    link_or_copy,
    missing_folders,
    remove_empty,
    remove_leftovers,
)
from iqa.cli import first_line, say
from iqa.json_files import read_json
from iqa.processes import is_first
from iqa.training.recipe import PUBLISHED_RECIPE

NEWEST = Path("checkpoints")  # has the weights of the newest finished run of each tag, with --save_model
RESULTS = ("result.json", "metrics.jsonl", "split.csv", "predictions_val.csv", "predictions_test.csv")
LOCK = ".run.lock"
PUBLISHING = 50  # tries, a tenth of a second apart, to replace the newest weights
PICKLE = b"\x80"  # first byte of a pickle


@dataclass
class RunFolder:
    """The files of one run; their names are a contract (docs/training.md).

    Args:
        output: the run's own folder.
        log: what the run prints.
        best_pth, last_pth: the checkpoints, in the run's own folder or in another.
        begun: this process has begun a new run in the folder.
    """

    output: Path
    log: Path
    best_pth: Path
    last_pth: Path
    begun: bool = False

    config = property(lambda self: self.output / "config.json")
    result = property(lambda self: self.output / "result.json")
    split = property(lambda self: self.output / "split.csv")
    checkpoint_folder = property(lambda self: self.best_pth.parent)
    newest = property(lambda self: NEWEST / self.best_pth.name)

    # Before a run begins

    def config_to_resume(self, options: Any) -> dict[str, Any] | None:
        """config.json of the run to continue, None for a new run; an error if the folders do not fit the flags.

        A run that was stopped in its first epoch is a new one.
        """
        if options.resume:
            config = self.read_config(options)
            lasts = (*both(self.last_pth), *both(self.last_of(config)))
            if any(path.exists() for path in (self.output / "metrics.jsonl", *lasts)):
                return config
        if options.overwrite:
            return None
        if self.config.exists() and not options.resume:
            raise FileExistsError(
                f"--output_dir {self.output}: holds a run; add --resume or --overwrite, or name another"
            )
        for path in (self.best_pth, self.last_pth):
            if path.exists():
                raise FileExistsError(
                    f"--checkpoint_dir {self.checkpoint_folder}: contains {path.name} of another run; name another, or "
                    "replace it by --overwrite"
                )
        return None

    def last_of(self, config: dict[str, Any]) -> Path:
        """The last checkpoint in the folder that a run began with; older runs kept them in a common folder."""
        return Path(config["flags"].get("checkpoint_dir") or self.output) / self.last_pth.name

    def refuse_change(self, options: Any, before: dict[str, Any] | None) -> None:
        """FileExistsError if another process has begun or ended a run here before this one got the lock."""
        if is_first() and (self.config_to_resume(options) != before or before and self.result.exists()):
            raise FileExistsError(f"--output_dir {self.output}: another process has written here; repeat the command")

    def read_config(self, options: Any) -> dict[str, Any]:
        """config.json of a run with the same flags as `options`, but for those that may change."""
        if not self.config.exists():
            runs = [*self.output.parent.glob("*/config.json"), *self.output.parent.glob("*/*/config.json")]
            runs = sorted(str(path.parent) for path in runs)
            raise FileNotFoundError(
                f"--resume: {self.output} holds no run ({self.config.name} is missing); "
                + (f"--output_dir may be {' or '.join(runs)}" if runs else "leave --resume out to begin one")
            )
        config = read_json(self.config, "start again with --overwrite")
        for key in ("run_id", "flags", "precision", "split"):
            if key not in config:
                raise ValueError(f"{self.config}: no {key}: not of this program; start again with --overwrite")
        # A run from before a flag existed did what the flag's default does.
        self.refuse_differences(
            (field.name, config["flags"].get(field.name, field.default), getattr(options, field.name))
            for field in dataclasses.fields(options)
            if not field.metadata["may_change"]
        )
        return config

    def refuse_differences(self, settings: Iterable[tuple[str, Any, Any]]) -> None:
        """ValueError if a setting (name, value in the run to resume, value now) differs."""
        differing = [f"{name} {before}, now {now}" for name, before, now in settings if before != now]
        if differing:
            raise ValueError(
                f"--resume: the run in {self.output} has other settings: {'; '.join(differing)}; "
                "repeat its settings, or name another --output_dir"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this run's files, and remove the temporary files of a killed run; at the end an unused folder, too."""
        missing = [*missing_folders(self.config), *missing_folders(self.best_pth)]
        with contextlib.ExitStack() as locks:
            locks.enter_context(hold_lock(self.output / LOCK))
            new_locks = [self.output / LOCK]
            locks.callback(self.remove_unused, new_locks, missing)
            if self.checkpoint_folder != self.output:
                lock = lock_of(self.best_pth)
                was_there = lock.exists()
                locks.enter_context(hold_lock(lock))
                new_locks += [] if was_there else [lock]
            for path in (self.config, *(self.output / name for name in RESULTS), self.best_pth, *both(self.last_pth)):
                remove_leftovers(path)
            if self.best_pth.exists():  # in checkpoints/ other runs may be writing theirs now
                remove_leftovers(self.newest, only=self.best_pth)
            yield

    def remove_unused(self, locks: list[Path], missing: list[Path]) -> None:
        """If no run began in the folder, remove its locks and the folders that were missing before."""
        if not self.config.exists():
            for path in locks:
                path.unlink(missing_ok=True)
            remove_empty(missing)

    # During a run

    def check_space(self, weights: int, state: int, *, publish: bool) -> None:
        """OSError if the files of the run cannot be written or the disk has no room for its checkpoints.

        Args:
            weights, state: bytes of _best.pth and of _last.pth.
            publish: the weights are also linked in checkpoints/.
        """
        for path in (self.log, self.result):
            check_writable("--output_dir", path)
        for path in (self.last_pth, *([self.newest] if publish else [])):
            check_writable("--checkpoint_dir", path)
        needed = 3 * state + weights  # the last one, the one before, a new one, and the best one
        free = shutil.disk_usage(self.checkpoint_folder).free
        free += sum(path.stat().st_size for path in both(self.last_pth) if path.exists())
        if needed > free:
            raise OSError(
                f"{self.checkpoint_folder}: the checkpoints of a run need {needed / 1e9:.2f} GB and "
                f"{free / 1e9:.2f} GB are free; make room, or name another --output_dir or --checkpoint_dir"
            )

    def remove_earlier_results(self) -> None:
        """Remove the files of an earlier run."""
        self.begun = True
        if self.best_pth.exists() and self.newest.exists() and self.newest.samefile(self.best_pth):
            self.newest.unlink()
        for path in (self.config, *(self.output / name for name in RESULTS), *both(self.last_pth), self.best_pth):
            path.unlink(missing_ok=True)

    def load_last(self, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        """The last checkpoint of the run whose config is `before`, for a run whose config is `now`."""
        pairs = (
            ("precision used", before["precision"], now["precision"]),
            ("split", before["split"]["sha256"], now["split"]["sha256"]),
        )
        self.refuse_differences(pairs)
        anew, flags = f"to train it again, remove {self.output} and repeat the command", before["flags"]
        last = self.last_pth
        if not any(path.exists() for path in both(last)):
            last = self.last_of(before)
        if not any(path.exists() for path in both(last)):
            raise FileNotFoundError(
                f"--resume: no {self.last_pth}: --checkpoint_dir differs, or the file was removed; {anew}"
            )
        saved = load_last(last)
        if saved.get("run_id") != before["run_id"]:
            raise ValueError(f"--resume: {last} is not of the run in {self.output}: another run replaced it; {anew}")
        if last != self.last_pth and self.best_pth.exists() and not is_of_run(self.best_pth, before["run_id"]):
            raise FileExistsError(
                f"--checkpoint_dir {self.checkpoint_folder}: contains {self.best_pth.name} of another run; name another"
            )
        if "schedule" not in saved and (flags.get("warmup_steps") or flags.get("recipe") == PUBLISHED_RECIPE):
            raise ValueError(f"--resume: {last} has no position in the schedule; {anew}")
        refuse_other_head(saved["model"], last, anew)
        older = last.with_name(self.best_pth.name)
        if older != self.best_pth and older.exists() and is_of_run(older, before["run_id"]):
            link_or_copy(older, self.best_pth)
        return saved

    # After a run

    def link_in_checkpoints(self, run_id: str) -> None:
        """Link the weights in checkpoints/ instead of those of the previous run, whose own folder keeps them."""
        for _ in range(PUBLISHING):
            try:
                with hold_lock(lock_of(self.newest)):
                    self.replace_newest(self.newest, run_id)
                    return lock_of(self.newest).unlink(missing_ok=True)
            except OSError as error:  # another run publishes its weights, or has --checkpoint_dir checkpoints
                reason = error
                time.sleep(0.1)
        say(f"Warning: {self.newest} was not replaced ({reason}); the weights are in {self.best_pth}")

    def replace_newest(self, newest: Path, run_id: str) -> None:
        if newest.is_file() and is_only_copy(newest, run_id):
            written = time.strftime("%Y%m%d_%H%M%S", time.localtime(newest.stat().st_mtime))
            names = (f"{newest.stem}_{written}" + f"_{i}" * (i > 0) for i in itertools.count())
            kept = next(path for path in map(newest.with_stem, names) if not path.exists())
            say(f"Note: {newest} was the only copy of the weights of an earlier run; it is kept as {kept}")
            with contextlib.suppress(FileNotFoundError):  # another run that ends at this moment has moved it
                os.replace(newest, kept)
        link_or_copy(self.best_pth, newest)

    def remove_last(self, config: dict[str, Any]) -> None:
        """Remove the checkpoints that only a resume needs, also from the folder that the run began with."""
        for path in both(self.last_pth):
            path.unlink(missing_ok=True)
        for path in both(self.last_of(config)):
            if path.exists() and is_of_run(path, config["run_id"]):
                path.unlink(missing_ok=True)


def lock_of(checkpoint: Path) -> Path:
    """The lock of a checkpoint that is not in the folder of its run."""
    return checkpoint.with_name(f".{checkpoint.name}.lock")


def is_of_run(checkpoint: Path, run_id: str) -> bool:
    try:
        return load_checkpoint(checkpoint)["config"]["run_id"] == run_id
    except (KeyError, TypeError, ValueError):
        return False


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


# Checkpoints: whole or not at all, tensors and plain values only


def best_state(weights: dict, epoch: int, config: dict[str, Any]) -> dict[str, Any]:
    """The content of _best.pth, on the CPU: it may be read without a GPU."""
    return {"model": {name: tensor.cpu() for name, tensor in weights.items()}, "epoch": epoch, "config": config}


def save_checkpoint(path: Path, state: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write `state` to `path` atomically, and keep the file that was there as `previous_path(path)` on request.

    At every moment `path` is absent, the old checkpoint or the new one. After the first save it is absent only on file
    systems without hard links, where `previous_path(path)` then exists.
    """
    import torch

    with atomic_path(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # torch's, of a failed write; its cause is, say, that the disk is full
            cause = error
            while cause.__context__:
                cause = cause.__context__
            raise cause from None
        if keep_previous and path.exists():
            try:
                previous_path(path).unlink(missing_ok=True)
                os.link(path, previous_path(path))
            except OSError:
                os.replace(path, previous_path(path))


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
        with open(path, "rb") as file:
            # torch.load does not check the CRC-32 of the records, which pickles, the format of torch before 1.6, lack.
            if file.read(1) != PICKLE and (damaged := zipfile.ZipFile(file).testzip()):
                raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
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


def both(path: Path) -> tuple[Path, Path]:
    """A checkpoint and the one before."""
    return path, previous_path(path)
