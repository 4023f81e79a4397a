"""Read run folders, and check whether the runs may be compared."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iqa.health import FAILURES, Finding, findings, run_health
from iqa.json_files import read_json
from iqa.metrics import srcc_and_plcc
from iqa.models.published import OWN
from iqa.predictions import Predictions, read_predictions
from iqa.report.rows import Row, run_folders

# Flags in which runs may differ: they make the variant, name the seed, place files or set the speed, or have the
# value "auto" and are compared by their effect (precision, select_on).
FREE_FLAGS = frozenset(
    """use_multiscale use_attention seed data_path output_dir checkpoint_dir checkpoint_suffix cache_dir save_model
    resume overwrite traceback tensorboard device num_workers preload_images no_cache compile deterministic precision
    select_on backbone model cuda_graph""".split()
)
# Flags that are compared among the runs of one backbone only, of this program's own model only, and not at all for a
# published model with its own recipe.
BACKBONE_FLAGS = frozenset(("drop_path_rate", "weights"))
MODEL_FLAGS = frozenset(("dropout_rate",))
RECIPE_FLAGS = frozenset(
    "recipe optimizer lr weight_decay batch_size epochs train_patch_num test_patch_num max_grad_norm warmup_steps loss "
    "head_lr_ratio lr_schedule ema freeze_batch_norm".split()
)


@dataclass(frozen=True)
class Run:
    """One finished run. A run without any defined score has no predictions and no health."""

    folder: Path
    variant: str
    seed: int
    config: dict
    result: dict
    epochs: list[dict]  # the lines of metrics.jsonl
    predictions: Predictions | None  # of the test images
    health: dict | None
    findings: tuple[Finding, ...]
    failure: str | None  # why the run counts as failed

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def select_on(self) -> str:
        return self.result.get("select_on") or "val"

    def on(self, predictions: Predictions) -> "Run":
        """Return the run with other predictions, of the same or other images."""
        return replace(self, predictions=predictions)


def comparable_runs(
    log_folder: Path, rows: Iterable[Row], *, allow_mismatch: bool
) -> tuple[list[Run], list[str], list[str]]:
    """Return the finished runs on their common test images, the names of unfinished folders, and the mismatches."""
    runs, unfinished = read_runs(log_folder, rows)
    found = mismatches(runs)
    if found and not allow_mismatch:
        raise ValueError(
            f"{log_folder}: the runs differ in more than their variant and are not compared. {'. '.join(found)}. "
            "Repeat the runs that differ, or pass --allow_mismatch"
        )
    return on_common_images(runs), unfinished, found


def read_runs(log_folder: Path, rows: Iterable[Row]) -> tuple[list[Run], list[str]]:
    """Return the finished runs in the order of rows and seeds, and the names of unfinished folders.

    Raises:
        FileNotFoundError, ValueError: names the file.
    """
    order = [row.log_name for row in rows]
    folders = [(variant, folder) for variant in order for folder in run_folders(log_folder, variant)]
    finished = [(variant, folder) for variant, folder in folders if (folder / "result.json").exists()]
    if not finished:
        raise FileNotFoundError(
            f"{log_folder}: no finished run (no {order[0]}/result.json or the like); train the variants first"
        )
    runs = sorted((_read_run(*pair) for pair in finished), key=lambda run: (order.index(run.variant), run.seed))
    for first, second in zip(runs, runs[1:], strict=False):
        if (first.variant, first.seed) == (second.variant, second.seed):
            raise ValueError(
                f"{first.folder} and {second.folder}: both are {first.variant} with seed {first.seed}; "
                "move one of them to another folder"
            )
    if not any(run.predictions for run in runs):
        reasons = "; ".join(f"{run.name}: {run.failure}" for run in runs)
        raise ValueError(f"{log_folder}: no run has scores to report ({reasons}); look at the logs and train again")
    return runs, [folder.name for variant, folder in folders if (variant, folder) not in finished]


def _read_run(variant: str, folder: Path) -> Run:
    config, result = read_json(folder / "config.json"), read_json(folder / "result.json")
    for file, contents, keys in (
        ("config.json", config, ("variant", "flags", "split", "parameters")),
        ("result.json", result, ("variant", "seed", "selected_epoch", "best_test_srcc", "seconds")),
    ):
        missing = [key for key in keys if key not in contents]
        if missing:
            raise ValueError(f"{folder / file}: no key {missing[0]!r}; was it written by train_resnet_improved.py?")
        if contents["variant"] != variant:
            raise ValueError(f"{folder / file}: variant is {contents['variant']!r}, but the folder is {variant}'s")
    whole = ("seed",) if result.get("failure") else ("seed", "selected_epoch")
    for key in whole:
        if not isinstance(result[key], int):
            raise ValueError(f"{folder / 'result.json'}: {key} is {result[key]!r}, not a whole number; repeat the run")
    epochs = _read_epochs(folder / "metrics.jsonl")
    run = Run(folder, variant, result["seed"], config, result, epochs, None, None, (), result.get("failure"))
    if run.failure:
        return run
    predictions = read_predictions(folder / "predictions_test.csv")
    try:
        return _with_scores(run, predictions)
    except (AttributeError, TypeError):
        raise ValueError(f"{folder / 'result.json'}: 'health' has an unknown format; repeat the run") from None


def _with_scores(run: Run, predictions: Predictions) -> Run:
    """The run with its predictions and health; without them if its scores have no correlation."""
    _, _, reason = srcc_and_plcc(predictions.scores, predictions.mos)
    if reason:
        return replace(run, failure=f"no defined score ({reason})")
    stored = {} if run.result.get("health") is None else run.result["health"]
    loss = stored.get("loss") or {}
    health = run_health(
        scores=predictions.scores,
        mos=predictions.mos,
        mos_range=run.config.get("mos_range") or (0, 100),
        target_layers=stored.get("target_layers"),
        selected_epoch=run.result["selected_epoch"],
        history=run.epochs,
        select_on=run.select_on,
        train_loss=loss.get("training"),
        epochs=run.result.get("epochs"),
        constant_loss=loss.get("constant") if loss.get("constant_from") == "training MOS" else None,
    )
    found = tuple(findings(health))
    failure = ", ".join(FAILURES[finding.kind] for finding in found if finding.failed) or None
    return replace(run, predictions=predictions, health=health, findings=found, failure=failure)


def _read_epochs(path: Path) -> list[dict]:
    """The complete lines of metrics.jsonl; a last line that is incomplete is skipped, as a killed run leaves it."""
    epochs = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            epoch = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not JSON; repeat the run") from None
            continue
        if not (isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int)):
            raise ValueError(f"{path}: line {number} does not describe an epoch; repeat the run")
        epochs.append(epoch)
    return epochs


# ---- comparability -------------------------------------------------------------------------------------------


def mismatches(runs: list[Run]) -> list[str]:
    """Describe each setting that differs between runs and should not, and each file that contradicts another."""
    settings = {
        "code (commit)": [run.config.get("commit") for run in runs],
        "precision": [run.config.get("precision") for run in runs],
        "epoch chosen on": [run.select_on for run in runs],
        "split": [_split(run) for run in runs],
        "data set": [run.config.get("dataset_note") or "as given by --dataset" for run in runs],
    }
    found = _flag_mismatches(runs)
    found += [text for name, values in settings.items() if (text := difference(name, runs, values))]
    return found + _image_mismatches(runs) + _result_mismatches(runs)


def notes(runs: list[Run]) -> list[str]:
    """Describe differences that do not prevent a comparison."""
    settings = {
        "device": [run.config.get("device") for run in runs],
        "library versions": [_text(run.config.get("versions")) for run in runs],
    }
    found = [text for name, values in settings.items() if (text := difference(name, runs, values))]
    sentences = [f"The runs differ in {text}." for text in found]
    commits = {run.config.get("commit") for run in runs}
    if None in commits or any(str(commit).endswith("-dirty") for commit in commits):
        sentences.append("A run's code has no commit or has uncommitted changes.")
    return sentences


def difference(name: str, runs: list[Run], values: list) -> str | None:
    """'--epochs: 10 in exp1_baseline; 5 in exp2_multiscale', or None if all values are equal."""
    if all(value == values[0] for value in values):
        return None
    holders: dict[str, list[str]] = {}
    for run, value in zip(runs, values, strict=True):
        holders.setdefault(_text(value), []).append(run.name)
    return f"{name}: " + "; ".join(f"{value} in {', '.join(names)}" for value, names in holders.items())


def _text(value: object) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def _flag_mismatches(runs: list[Run]) -> list[str]:
    found = []
    for flag in sorted({flag for run in runs for flag in run.config["flags"]} - FREE_FLAGS):
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(_shares_flag_with(run, flag), []).append(run)
        for group in groups.values():
            text = difference(f"--{flag}", group, [run.config["flags"].get(flag) for run in group])
            found += [text] if text else []
    starts = ["random" if run.config["flags"].get("weights") == "none" else "trained" for run in runs]
    backbones = {run.config["flags"].get("backbone") or "resnet50" for run in runs}
    text = difference("initial weights", runs, starts) if len(backbones) > 1 else None
    return found + ([text] if text else [])


def _shares_flag_with(run: Run, flag: str) -> str:
    """A key of the runs among which the values of the flag are compared."""
    flags = run.config["flags"]
    if flag in RECIPE_FLAGS and flags.get("recipe") == "published":
        return run.variant
    if flag in BACKBONE_FLAGS:
        return flags.get("backbone") or "resnet50"
    return flags.get("model") or OWN if flag in MODEL_FLAGS else ""


def _split(run: Run) -> str:
    split = run.config["split"]
    sizes = " / ".join(str(split.get(part)) for part in ("training", "validation", "test"))
    return f"{sizes} images with SHA-256 {str(split.get('sha256'))[:12]}"


def _image_mismatches(runs: list[Run]) -> list[str]:
    first, *others = [run for run in runs if run.predictions]
    names = [run.name for run in others if run.predictions.names != first.predictions.names]
    return [f"test images: those of {', '.join(names)} are not those of {first.name}"] if names else []


def _result_mismatches(runs: list[Run]) -> list[str]:
    """Runs whose result.json and predictions_test.csv are from two different runs."""
    found = []
    for run in runs:
        computed = srcc_and_plcc(run.predictions.scores, run.predictions.mos)[:2] if run.predictions else (None, None)
        for key, value in zip(("selected_test_srcc", "selected_test_plcc"), computed, strict=True):
            stored = run.result.get(key)
            if stored is not None and value is not None and abs(stored - value) > 1e-5:
                found.append(f"{run.name}: {key} is {stored:.6f} in result.json, {value:.6f} by predictions_test.csv")
    return found


def on_common_images(runs: list[Run], what: str = "runs") -> list[Run]:
    """Restrict the runs to the images that all of them scored, which must have one MOS each."""
    first, *_ = scored = [run for run in runs if run.predictions]
    common = set.intersection(*(set(run.predictions.names) for run in scored))
    if len(common) < 2:
        raise ValueError(
            f"{first.folder.parent}: the {what} have {len(common)} images in common, too few to compare; "
            "repeat them with one split"
        )
    cut = [on_images(run, common) if run.predictions else run for run in runs]
    reference = next(run.predictions.mos for run in cut if run.predictions)
    for run in cut:
        if run.predictions and not np.allclose(run.predictions.mos, reference, rtol=0, atol=1e-6):
            raise ValueError(
                f"{run.folder}: the MOS of {run.name} are not those of {first.name} for the same images; "
                "repeat the runs with one label file"
            )
    return cut


def on_images(run: Run, names: set[str]) -> Run:
    """Restrict a run to the images of these names."""
    keep = [index for index, name in enumerate(run.predictions.names) if name in names]
    return run.on(run.predictions.select(keep))
