"""Run folders on disk -> checked runs, and whether they may be compared."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iqa.metrics import checked_pair, plcc, srcc
from iqa.models.published import OWN
from iqa.predictions import ATTENTION_COLUMNS, read_predictions
from iqa.report.rows import folders_of

STAGES = list(ATTENTION_COLUMNS)

# Flags in which runs may differ: they make the variant, name the seed, say where files lie or how fast to go, or
# are compared by what they came to (precision and select_on have the value "auto").
FREE_FLAGS = {
    "use_multiscale",
    "use_attention",
    "seed",
    "data_path",
    "output_dir",
    "checkpoint_dir",
    "checkpoint_suffix",
    "cache_dir",
    "save_model",
    "resume",
    "overwrite",
    "traceback",
    "tensorboard",
    "device",
    "num_workers",
    "preload_images",
    "no_cache",
    "compile",
    "cuda_graph",
    "deterministic",
    "precision",
    "select_on",
    "backbone",
    "model",
}
# What belongs to a backbone is compared among the runs of one, what belongs to this program's own model among those of it; a
# published model's own recipe with no other.
BACKBONE_FLAGS = {"drop_path_rate", "weights"}
MODEL_FLAGS = {"dropout_rate"}
RECIPE_FLAGS = {
    "recipe",
    "optimizer",
    "lr",
    "weight_decay",
    "batch_size",
    "epochs",
    "train_patch_num",
    "test_patch_num",
    "max_grad_norm",
    "warmup_steps",
    "loss",
    "head_lr_ratio",
    "lr_schedule",
    "ema",
    "freeze_batch_norm",
}


@dataclass(frozen=True)
class Run:
    """One finished run. Scores, MOS and attention belong to the test images, in the order of `names`."""

    folder: Path
    variant: str
    seed: int
    config: dict
    result: dict
    epochs: list[dict]  # the lines of metrics.jsonl
    names: list[str]
    mos: np.ndarray  # (n,)
    scores: np.ndarray  # (n,)
    attention: np.ndarray | None  # (n, 4), rows sum to 1

    @property
    def name(self) -> str:
        return self.folder.name


def read_runs(log_folder: Path, variants: Iterable[str]) -> tuple[list[Run], list[str]]:
    """The finished runs, in the order of these variants and of the seeds, and the names of the unfinished folders."""
    order = list(variants)
    folders = [(variant, folder) for variant in order for folder in folders_of(log_folder, variant)]
    finished = [(variant, folder) for variant, folder in folders if (folder / "result.json").exists()]
    if not finished:
        raise FileNotFoundError(
            f"{log_folder}: no finished run (no {order[0]}/result.json or the like); "
            "train the variants first, with run_resnet_ablation.sh or train_resnet_improved.py"
        )
    runs = sorted((_read_run(*pair) for pair in finished), key=lambda run: (order.index(run.variant), run.seed))
    for first, second in zip(runs, runs[1:], strict=False):
        if (first.variant, first.seed) == (second.variant, second.seed):
            raise ValueError(
                f"{first.folder} and {second.folder}: both are {first.variant} with seed {first.seed}; "
                "move one of them elsewhere"
            )
    return runs, [folder.name for variant, folder in folders if (variant, folder) not in finished]


def _read_run(variant: str, folder: Path) -> Run:
    config, result = read_json(folder / "config.json"), read_json(folder / "result.json")
    for file, contents, keys in (
        ("config.json", config, ("variant", "flags", "split", "parameters")),
        ("result.json", result, ("variant", "seed", "selected_epoch", "best_test_srcc", "seconds")),
    ):
        absent = [key for key in keys if key not in contents]
        if absent:
            raise ValueError(f"{folder / file}: no key {absent[0]!r}; was it written by train_resnet_improved.py?")
        if contents["variant"] != variant:
            raise ValueError(f"{folder / file}: variant is {contents['variant']!r}, but the folder is {variant}'s")
    for key in ("seed", "selected_epoch"):
        if not isinstance(result[key], int):
            raise ValueError(f"{folder / 'result.json'}: {key} is {result[key]!r}, not a whole number; repeat the run")
    if not _is_health(result.get("health", {})):
        raise ValueError(
            f"{folder / 'result.json'}: 'health' is not as train_resnet_improved.py writes it; repeat the run"
        )
    return Run(
        folder,
        variant,
        result["seed"],
        config,
        result,
        _read_epochs(folder / "metrics.jsonl"),
        *read_checked_predictions(folder / "predictions_test.csv"),
    )


def _is_health(health: object) -> bool:
    """Whether what only training can know, of all that a run tells of its health, has the right kind."""
    layers, loss = (health.get(key) for key in ("target_layers", "loss")) if isinstance(health, dict) else (0, 0)
    if not (isinstance(layers, list | None) and isinstance(loss, dict | None)):
        return False
    shares = [
        layer.get(key) if isinstance(layer, dict) else layer
        for layer in layers or []
        for key in ("dead", "saturated", "either")
    ]
    losses = [(loss or {}).get(key) for key in ("training", "constant")]
    return all(isinstance(value, int | float | None) for value in shares + losses)


def read_json(path: Path, way_out: str = "repeat the run") -> dict:
    """A JSON object; ValueError or FileNotFoundError names the file and the way out."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: missing beside result.json; the run's folder is not whole") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); {way_out}") from None
    if not isinstance(contents, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(contents).__name__}; {way_out}")
    return contents


def _read_epochs(path: Path) -> list[dict]:
    """The whole lines of metrics.jsonl; a last line that a killed run left half-written is passed over."""
    epochs = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            epoch = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not JSON; repeat the run") from None
            continue
        if not (isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int)):
            raise ValueError(f"{path}: line {number} is not that of an epoch; repeat the run")
        epochs.append(epoch)
    return epochs


def read_checked_predictions(
    path: Path, way_out: str = "repeat the run"
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray | None]:
    """Names, MOS, scores and attention of a file of predictions, sorted by name; refuses what has no correlation."""
    found = read_predictions(path, way_out)
    try:
        checked_pair(found.scores, found.mos)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return found.names, found.mos, found.scores, found.attention


# ---- may they be compared? -----------------------------------------------------------------------------------


def mismatches(runs: list[Run]) -> list[str]:
    """In words, everything in which runs differ that ought to be the same, or disagree with their own files."""
    settings = {
        "code (commit)": [run.config.get("commit") for run in runs],
        "precision": [run.config.get("precision") for run in runs],
        "epoch chosen on": [run.result.get("select_on") for run in runs],
        "split": [_split(run) for run in runs],
        "data set": [run.config.get("dataset_note") or "as given by --dataset" for run in runs],
    }
    found = [_difference(name, runs, values) for name, values in settings.items() if not _all_same(values)]
    return _flag_mismatches(runs) + found + _seed_mismatches(runs) + _image_mismatches(runs) + _result_mismatches(runs)


def notes(runs: list[Run]) -> list[str]:
    """What does not forbid a comparison, but a reader should know."""
    sentences = []
    for name, values in (
        ("device", [run.config.get("device") for run in runs]),
        ("library versions", [_plain(run.config.get("versions")) for run in runs]),
    ):
        if not _all_same(values):
            sentences.append(f"The runs differ in what should hardly matter: {_difference(name, runs, values)}.")
    commits = {run.config.get("commit") for run in runs}
    if None in commits or any(str(commit).endswith("-dirty") for commit in commits):
        sentences.append("The code of a run had no commit or had changes beyond it, so it cannot be named exactly.")
    return sentences


def _flag_mismatches(runs: list[Run]) -> list[str]:
    """Flags that differ among all runs, or among those which have to share them."""
    found = []
    for flag in sorted({flag for run in runs for flag in run.config["flags"]} - FREE_FLAGS):
        for group in _groups(runs, flag):
            values = [run.config["flags"].get(flag) for run in group]
            if not _all_same(values):
                found.append(_difference(f"--{flag}", group, values))
    starts = ["random" if run.config["flags"].get("weights") == "none" else "trained" for run in runs]
    if len(_groups(runs, "weights")) > 1 and not _all_same(starts):
        found.append(_difference("weights to start from", runs, starts))
    return found


def _groups(runs: list[Run], flag: str) -> list[list[Run]]:
    """The runs that have to share the value of a flag."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        flags = run.config["flags"]
        own_recipe = flag in RECIPE_FLAGS and flags.get("recipe") == "published" and run.variant
        own_backbone = flag in BACKBONE_FLAGS and (flags.get("backbone") or "resnet50")
        own_model = flag in MODEL_FLAGS and (flags.get("model") or OWN)
        groups.setdefault(own_recipe or own_backbone or own_model or "", []).append(run)
    return list(groups.values())


def _split(run: Run) -> str:
    split = run.config["split"]
    sizes = " / ".join(str(split.get(part)) for part in ("training", "validation", "test"))
    return f"{sizes} images with SHA-256 {str(split.get('sha256'))[:12]}"


def _seed_mismatches(runs: list[Run]) -> list[str]:
    seeds = {
        variant: [run.seed for run in runs if run.variant == variant]
        for variant in dict.fromkeys(run.variant for run in runs)
    }
    if _all_same(list(seeds.values())):
        return []
    return ["seeds: " + "; ".join(f"{', '.join(map(str, s))} for {variant}" for variant, s in seeds.items())]


def _image_mismatches(runs: list[Run]) -> list[str]:
    first = runs[0]
    others = [run.name for run in runs if run.names != first.names]
    return [f"test images: those of {', '.join(others)} are not those of {first.name}"] if others else []


def _result_mismatches(runs: list[Run]) -> list[str]:
    """A result.json that its own predictions do not give: the files are from two runs."""
    return [
        f"{run.name}: result.json says {key} {run.result[key]:.6f}, predictions_test.csv gives {value:.6f}"
        for run in runs
        for key, value in (
            ("selected_test_srcc", srcc(run.scores, run.mos)),
            ("selected_test_plcc", plcc(run.scores, run.mos)),
        )
        if run.result.get(key) is not None and abs(run.result[key] - value) > 1e-5
    ]


def differences_in(name: str, runs: list[Run], values: list) -> str | None:
    """In words, who has which value; None where all have the same."""
    return None if _all_same(values) else _difference(name, runs, values)


def _difference(name: str, runs: list[Run], values: list) -> str:
    """'--epochs: 10 in exp1_baseline; 5 in exp2_multiscale'"""
    holders: dict[str, list[str]] = {}
    for run, value in zip(runs, values, strict=True):
        holders.setdefault(_plain(value), []).append(run.name)
    return f"{name}: " + "; ".join(f"{value} in {', '.join(names)}" for value, names in holders.items())


def _all_same(values: list) -> bool:
    return all(value == values[0] for value in values)


def _plain(value: object) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def on_common_images(runs: list[Run]) -> list[Run]:
    """The runs, cut down to the test images that all of them scored, which must have one MOS each."""
    common = set.intersection(*(set(run.names) for run in runs))
    if len(common) < 2:
        raise ValueError(
            f"{runs[0].folder.parent}: the runs have {len(common)} test images in common, and 2 is the "
            "least that can be compared; repeat them with one split"
        )
    runs = [run if len(common) == len(run.names) else _cut(run, common) for run in runs]
    for run in runs:
        if not np.allclose(run.mos, runs[0].mos, rtol=0, atol=1e-6):
            raise ValueError(
                f"{run.folder / 'predictions_test.csv'}: its MOS are not those of {runs[0].name} for the "
                "same images; repeat the runs with one label file"
            )
    return runs


def _cut(run: Run, common: set[str]) -> Run:
    return on_images(run, [place for place, name in enumerate(run.names) if name in common])


def on_images(run: Run, places: list[int]) -> Run:
    """The run, cut down to the test images at some places."""
    return replace(
        run,
        names=[run.names[place] for place in places],
        mos=run.mos[places],
        scores=run.scores[places],
        attention=None if run.attention is None else run.attention[places],
    )
