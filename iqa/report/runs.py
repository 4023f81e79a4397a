"""Read run folders, and check whether the runs may be compared."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np

from iqa.health import FAILURES, LIMITATIONS, findings, run_health
from iqa.json_files import read_json
from iqa.metrics import plcc, srcc, srcc_and_plcc
from iqa.models.published import OWN
from iqa.predictions import Predictions, read_predictions
from iqa.report.rows import Row, refuse_duplicates, run_folders

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
    """One finished run. A run without any defined score has no predictions and no limitations."""

    folder: Path
    variant: str
    seed: int
    config: dict
    result: dict
    epochs: list[dict]  # the lines of metrics.jsonl
    predictions: Predictions | None = None  # of the test images
    limitations: tuple[str, ...] = ()  # keys of LIMITATIONS
    failure: str | None = None  # why the run counts as failed

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
    """Return the finished runs on their common test images, the names of unfinished folders, and the mismatches.

    Raises:
        FileNotFoundError, ValueError: names the file.
    """
    order, by_name = [row.log_name for row in rows], run_folders(log_folder)
    folders = [(variant, folder) for variant in order for folder in by_name.get(variant, [])]
    finished = [(variant, folder) for variant, folder in folders if (folder / "result.json").exists()]
    if not finished:
        raise FileNotFoundError(
            f"{log_folder}: no finished run (no {order[0]}/result.json or the like); train the variants first"
        )
    runs = sorted((_read_run(*pair) for pair in finished), key=lambda run: (order.index(run.variant), run.seed))
    refuse_duplicates((run.folder, f"{run.variant} with seed {run.seed}") for run in runs)
    if not any(run.predictions for run in runs):
        reasons = "; ".join(f"{run.name}: {run.failure}" for run in runs)
        raise ValueError(f"{log_folder}: no run has scores to report ({reasons}); look at the logs and train again")
    found = mismatches(runs)
    if found and not allow_mismatch:
        raise ValueError(
            f"{log_folder}: the runs differ in more than their variant and are not compared. {'. '.join(found)}. "
            "Repeat the runs that differ, or pass --allow_mismatch"
        )
    unfinished = [folder.name for variant, folder in folders if (variant, folder) not in finished]
    return on_common_images(runs), unfinished, found


def _read_run(variant: str, folder: Path) -> Run:
    config = read_json(folder / "config.json", keys=("variant", "flags", "split", "parameters"))
    result = read_json(folder / "result.json", keys=("variant", "seed", "selected_epoch", "best_test_srcc", "seconds"))
    for file, contents in (("config.json", config), ("result.json", result)):
        if contents["variant"] != variant:
            raise ValueError(f"{folder / file}: variant is {contents['variant']!r}, but the folder is {variant}'s")
    failure = result.get("failure")
    for key in ("seed",) if failure else ("seed", "selected_epoch"):
        if not isinstance(result[key], int):
            raise ValueError(f"{folder / 'result.json'}: {key} is {result[key]!r}, not a whole number; repeat the run")
    run = Run(folder, variant, result["seed"], config, result, _read_epochs(folder / "metrics.jsonl"), failure=failure)
    if failure:
        return run
    predictions = read_predictions(folder / "predictions_test.csv")
    _, _, reason = srcc_and_plcc(predictions.scores, predictions.mos)
    if reason:
        return replace(run, failure=f"no defined score ({reason})")
    try:
        kinds = [finding.kind for finding in findings(_health(run, predictions))]
    except (AttributeError, TypeError):
        raise ValueError(f"{folder / 'result.json'}: 'health' has an unknown format; repeat the run") from None
    failure = ", ".join(FAILURES[kind] for kind in kinds if kind in FAILURES) or None
    limitations = tuple(kind for kind in kinds if kind in LIMITATIONS)
    return replace(run, predictions=predictions, limitations=limitations, failure=failure)


def _health(run: Run, predictions: Predictions) -> dict:
    """Health by the present rules; result.json has what only the training could measure."""
    stored = {} if run.result.get("health") is None else run.result["health"]
    loss = stored.get("loss") or {}
    return run_health(
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


def _read_epochs(path: Path) -> list[dict]:
    """The lines of metrics.jsonl without a last one that has no line break, as a killed run may leave it."""
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
    epochs = []
    for number, line in enumerate(lines, start=1):
        try:
            epoch = json.loads(line)
        except ValueError:
            raise ValueError(f"{path}: line {number} is not JSON; repeat the run") from None
        if not (isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int)):
            raise ValueError(f"{path}: line {number} does not describe an epoch; repeat the run")
        epochs.append(epoch)
    return epochs


# ---- comparability -------------------------------------------------------------------------------------------


def mismatches(runs: Sequence[Run]) -> list[str]:
    """Describe each setting that differs between runs and should not, and each file that contradicts another."""
    found = _flag_mismatches(runs)
    for name, values in {
        "code (commit)": [run.config.get("commit") for run in runs],
        "precision": [run.config.get("precision") for run in runs],
        "epoch chosen on": [run.select_on for run in runs],
        "split": [_split(run) for run in runs],
        "data set": [run.config.get("dataset_note") or "as given by --dataset" for run in runs],
    }.items():
        found += difference(name, runs, values)
    scored = [run for run in runs if run.predictions]
    return found + image_mismatches("test images: those", scored) + _result_mismatches(scored)


def notes(runs: Sequence[Run]) -> list[str]:
    """Describe differences that do not prevent a comparison."""
    found = difference("device", runs, [run.config.get("device") for run in runs])
    found += difference("library versions", runs, [run.config.get("versions") for run in runs])
    sentences = [f"The runs differ in {text}." for text in found]
    commits = {run.config.get("commit") for run in runs}
    if None in commits or any(str(commit).endswith("-dirty") for commit in commits):
        sentences.append("A run's code has no commit or has uncommitted changes.")
    return sentences


def difference(name: str, runs: Sequence[Run], values: Sequence[object]) -> list[str]:
    """['--epochs: 10 in exp1_baseline; 5 in exp2_multiscale'], or [] if all values are equal."""
    if all(value == values[0] for value in values):
        return []
    holders: dict[str, list[str]] = {}
    for run, value in zip(runs, values, strict=True):
        text = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        holders.setdefault(text, []).append(run.name)
    return [f"{name}: " + "; ".join(f"{text} in {', '.join(names)}" for text, names in holders.items())]


def _flag_mismatches(runs: Sequence[Run]) -> list[str]:
    found = []
    for flag in sorted({flag for run in runs for flag in run.config["flags"]} - FREE_FLAGS):
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(_shares_flag_with(run, flag), []).append(run)
        for group in groups.values():
            found += difference(f"--{flag}", group, [run.config["flags"].get(flag) for run in group])
    if len({_backbone(run) for run in runs}) > 1:
        starts = ["random" if run.config["flags"].get("weights") == "none" else "trained" for run in runs]
        found += difference("initial weights", runs, starts)
    return found


def _shares_flag_with(run: Run, flag: str) -> str:
    """A key of the runs among which the values of the flag are compared."""
    flags = run.config["flags"]
    if flag in RECIPE_FLAGS and flags.get("recipe") == "published":
        return run.variant
    if flag in BACKBONE_FLAGS:
        return _backbone(run)
    return flags.get("model") or OWN if flag in MODEL_FLAGS else ""


def _backbone(run: Run) -> str:
    return run.config["flags"].get("backbone") or "resnet50"  # older runs have no such flag


def _split(run: Run) -> str:
    split = run.config["split"]
    sizes = " / ".join(str(split.get(part)) for part in ("training", "validation", "test"))
    return f"{sizes} images with SHA-256 {str(split.get('sha256'))[:12]}"


def image_mismatches(what: str, scored: Sequence[Run]) -> list[str]:
    """Name the runs whose images are not those of the first; `what` begins the sentence."""
    first, *others = scored
    names = [run.name for run in others if run.predictions.names != first.predictions.names]
    return [f"{what} of {', '.join(names)} are not those of {first.name}"] if names else []


def _result_mismatches(scored: Sequence[Run]) -> list[str]:
    """Runs whose result.json and predictions_test.csv are from two different runs."""
    found = []
    for run in scored:
        for metric in (srcc, plcc):
            key, value = f"selected_test_{metric.__name__}", metric(run.predictions.scores, run.predictions.mos)
            stored = run.result.get(key)
            if stored is not None and not (isinstance(stored, Real) and abs(stored - value) <= 1e-5):
                shown = f"{stored:.6f}" if isinstance(stored, Real) else repr(stored)
                found.append(f"{run.name}: {key} is {shown} in result.json, {value:.6f} by predictions_test.csv")
    return found


def on_common_images(runs: Sequence[Run], what: str = "runs") -> list[Run]:
    """Restrict the runs to the images that all of them scored, which must have one MOS each."""
    first, *others = [run for run in runs if run.predictions]
    common = set(first.predictions.names).intersection(*(run.predictions.names for run in others))
    if len(common) < 2:
        raise ValueError(
            f"{first.folder.parent}: the {what} have {len(common)} images in common, too few to compare; "
            "repeat them with one split"
        )
    mos = on_images(first, common).predictions.mos
    cut = [on_images(run, common) if run.predictions else run for run in runs]
    for run in cut:
        if run.predictions and not np.allclose(run.predictions.mos, mos, rtol=0, atol=1e-6):
            raise ValueError(
                f"{run.folder}: the MOS of {run.name} are not those of {first.name} for the same images; "
                "repeat the runs with one label file"
            )
    return cut


def on_images(run: Run, names: set[str]) -> Run:
    """Restrict a run to the images of these names."""
    keep = [index for index, name in enumerate(run.predictions.names) if name in names]
    return run.on(run.predictions.select(keep))
