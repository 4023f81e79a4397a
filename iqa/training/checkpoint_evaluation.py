"""--evaluate: which images a checkpoint scores, and what is said and kept of it."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from iqa.cli import say
from iqa.data.labels import SHORT_NAMES, LabelledImages, QualityData, require_sets
from iqa.training.devices import device_name

CROPS = {"patch_size": int, "test_patch_num": int, "test_random_crop": bool, "seed": int}
DATA_DEFAULTS = {
    "dataset": "koniq-10k",
    "data_path": "./koniq-10k",
    "mos_range": None,
    "split_seed": 0,
    "split_file": None,
}


class ChosenImages(NamedTuple):
    """What is scored."""

    name: str  # val, test or all
    images: LabelledImages
    warnings: list[str]

    def alone_in(self, data: QualityData) -> QualityData:
        """The data set with no others, as its test set."""
        return dataclasses.replace(data, sets={"test": self.images})


class EvaluationFiles(NamedTuple):
    """Where an evaluation leaves what."""

    predictions: Path
    facts: Path

    @classmethod
    def of(cls, options: argparse.Namespace, chosen: ChosenImages) -> "EvaluationFiles":
        """The names, in a folder that is made; FileExistsError where an earlier evaluation would be replaced."""
        folder = Path(options.output_dir or f"logs/evaluation_{Path(options.evaluate).stem}")
        name = f"{options.dataset}_{chosen.name}"
        files = cls(folder / f"predictions_{name}.csv", folder / f"evaluation_{name}.json")
        if files.predictions.exists() and not options.overwrite:
            raise FileExistsError(f"{files.predictions}: exists; add --overwrite, or name another --output_dir")
        folder.mkdir(parents=True, exist_ok=True)
        return files


def with_settings(options: argparse.Namespace, config: dict[str, Any]) -> argparse.Namespace:
    """The flags of the command line, with those of the checkpoint's run where they are its business.

    Without --dataset the checkpoint's own data are meant. With the same one, its split is drawn in the same way.
    """
    if config["flags"].get("dataset", "") is None and options.dataset is None:
        raise ValueError(f"{options.evaluate}: published weights name no data set; add --dataset and --data_path")
    check_config(options.evaluate, config)
    flags, merged = config["flags"], argparse.Namespace(**vars(options))
    for key in CROPS:
        setattr(merged, key, flags[key])
    merged.resize = flags.get("resize", "keep")  # the flag is younger than the program
    own = {"split_seed"} if options.dataset == flags["dataset"] else set() if options.dataset else set(DATA_DEFAULTS)
    for key, default in DATA_DEFAULTS.items():
        if getattr(merged, key) is None:
            setattr(merged, key, flags.get(key, default) if key in own else default)
    return merged


def check_config(checkpoint: str, config: dict[str, Any]) -> None:
    """ValueError where a config lacks what an evaluation needs; `load_scorer` has checked what a score needs."""
    flags, split = config["flags"], config.get("split")
    kinds = {**CROPS, "dataset": str | None}  # None: of published weights
    wrong = [name for name, kind in kinds.items() if not isinstance(flags.get(name, ...), kind)]
    if wrong or not isinstance(split, dict):
        what = f"the flags {', '.join(wrong)}" if wrong else "the split"
        raise ValueError(f"{checkpoint}: its config lacks {what}; name a checkpoint of train_resnet_improved.py")


def choose_images(options: argparse.Namespace, data: QualityData, config: dict) -> ChosenImages:
    """The set that --evaluate_set names; "auto" is test where the run had these very labels and this split."""
    known = config["split"].get("sha256") == data.sha256
    name = options.evaluate_set
    if name == "auto":
        name = "test" if known else "all"
    related = options.dataset == config["flags"]["dataset"]
    warnings = []
    if config["flags"]["dataset"] is None:
        warnings.append("published weights do not say what they were trained on: images of it may be among these")
    elif known and name == "all":
        warnings.append("images that the checkpoint was trained on are among these")
    elif related and not known:
        warnings.append(
            f"the checkpoint was trained on {options.dataset} with other labels or another split: images "
            "that it was trained on may be among these"
        )
    if name == "all":
        return ChosenImages(name, together(data), warnings)
    require_sets(data, (SHORT_NAMES[name],))
    return ChosenImages(name, data.sets[SHORT_NAMES[name]], warnings)


def together(data: QualityData) -> LabelledImages:
    """The images of all sets."""
    parts = list(data.sets.values())
    names, paths = (tuple(item for part in parts for item in getattr(part, key)) for key in ("names", "paths"))
    return LabelledImages(names, np.concatenate([part.mos for part in parts]), paths)


def announce(options, scorer, data: QualityData, chosen: ChosenImages) -> None:
    trained = scorer.config["flags"]["dataset"]
    what = f"epoch {scorer.epoch}, trained on {trained}" if trained else "its published weights"
    say(f"Checkpoint: {options.evaluate}: {scorer.variant.log_name}, {what}")
    say(f"Device: {device_name(scorer.device)}, {scorer.precision}, torch {torch.__version__}")
    which = "every image" if chosen.name == "all" else f"the {SHORT_NAMES[chosen.name]} set"
    say(f"Scoring: {which} of {options.dataset} in {data.root}: {len(chosen.images):,} images, {crops(options)}")
    for line in [*([data.note] if data.note else []), *data.facts]:
        say(line)
    for text in [*data.warnings, *chosen.warnings]:
        say(f"Warning: {text}")


def crops(options: argparse.Namespace) -> str:
    kind = f"random crops of seed {options.seed}" if options.test_random_crop else "grid crops"
    squeezed = ", images squeezed to 384x512" if options.resize == "squeeze" else ""
    return f"{options.test_patch_num} {kind} of {options.patch_size} pixels{squeezed}"


def describe(options, scorer, data: QualityData, chosen: ChosenImages) -> dict[str, Any]:
    """evaluation_<data set>_<set>.json, but for the figures."""
    return {
        "checkpoint": str(options.evaluate),
        "run_id": scorer.config.get("run_id"),  # None: of published weights
        "seed": options.seed,
        "variant": scorer.variant.log_name,
        "epoch": scorer.epoch,
        "trained_on": {"dataset": scorer.config["flags"]["dataset"], "split": scorer.config["split"]},
        "dataset": options.dataset,
        "data_path": str(data.root),
        "split": {**data.sizes(), "sha256": data.sha256, "from": data.split},
        "set": chosen.name,
        "images": len(chosen.images),
        "crops": crops(options),
        "device": device_name(scorer.device),
        "precision": scorer.precision,
    }
