"""--evaluate: the images of any data set, scored by a checkpoint as its own run would score them.

The model, the crops and their seed come from the checkpoint; the flags are described in train_resnet_improved.py.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iqa.atomic_files import write_atomically
from iqa.console import say
from iqa.data.datasets import load_dataset
from iqa.data.labels import SHORT_NAMES, LabelledImages, QualityData, require_sets
from iqa.processes import is_first
from iqa.training.devices import device_name
from iqa.training.distributed import by_first, joined
from iqa.training.run_files import write_json
from scoring import Scorer, load_scorer
from training import (
    Scored,
    check_same_everywhere,
    correlate,
    evaluate,
    evaluation_loader,
    open_images,
    predictions_csv,
)

CROPS = {"patch_size": int, "test_patch_num": int, "test_random_crop": bool, "seed": int}
DATA = {"dataset": "koniq-10k", "data_path": "./koniq-10k", "mos_range": None, "split_seed": 0, "split_file": None}


def run(options: argparse.Namespace) -> None:
    """Score the images that the flags name, print SRCC and PLCC, and leave predictions and a summary."""
    scorer = load_scorer(options.evaluate, device=options.device, precision=options.precision)
    check_config(options.evaluate, scorer.config)
    with joined(scorer.device):
        evaluate_checkpoint(with_settings(options, scorer.config["flags"]), scorer)


def evaluate_checkpoint(options: argparse.Namespace, scorer: Scorer) -> None:
    data = load_dataset(options.dataset, options.data_path, mos_range=options.mos_range, split_seed=options.split_seed,
                        split_file=options.split_file)  # fmt: skip
    check_same_everywhere(data)
    name, images, warnings = choose_images(options, data, scorer.config)
    folder = Path(options.output_dir or f"logs/evaluation_{Path(options.evaluate).stem}")
    predictions = folder / f"predictions_{options.dataset}_{name}.csv"
    if by_first(predictions.exists) and not options.overwrite:
        raise FileExistsError(f"{predictions}: exists; add --overwrite, or name another --output_dir")
    by_first(lambda: folder.mkdir(parents=True, exist_ok=True))
    announce(options, scorer, data, name, images, warnings)
    scored = score(options, scorer, data, images)
    facts = describe(options, scorer, data, name, images, scored)
    if is_first():
        write_atomically(predictions, predictions_csv(images, scored))
        write_json(folder / f"evaluation_{options.dataset}_{name}.json", facts)
    say(f"SRCC: {facts['srcc']:.4f}")
    say(f"PLCC: {facts['plcc']:.4f}")
    say(f"Predictions: {predictions}")


def check_config(checkpoint: str, config: dict[str, Any]) -> None:
    """ValueError where a config lacks what an evaluation needs; `load_scorer` has checked what a score needs."""
    flags, split = config["flags"], config.get("split")
    wrong = [name for name, kind in {**CROPS, "dataset": str}.items() if not isinstance(flags.get(name), kind)]
    if wrong or not isinstance(split, dict):
        what = f"the flags {', '.join(wrong)}" if wrong else "the split"
        raise ValueError(f"{checkpoint}: its config lacks {what}; name a checkpoint of train_resnet_improved.py")


def with_settings(options: argparse.Namespace, flags: dict[str, Any]) -> argparse.Namespace:
    """The flags of the command line, with those of the checkpoint's run where they are its business.

    Without --dataset the checkpoint's own data are meant. With the same one, its split is drawn in the same way.
    """
    merged = argparse.Namespace(**vars(options))
    for key in CROPS:
        setattr(merged, key, flags[key])
    own = {"split_seed"} if options.dataset == flags["dataset"] else set() if options.dataset else set(DATA)
    for key, default in DATA.items():
        if getattr(merged, key) is None:
            setattr(merged, key, flags.get(key, default) if key in own else default)
    return merged


def choose_images(
    options: argparse.Namespace, data: QualityData, config: dict
) -> tuple[str, LabelledImages, list[str]]:
    """The name of the set (val, test or all), its images, and what has to be said of it."""
    known = config["split"].get("sha256") == data.sha256
    name = options.evaluate_set
    if name == "auto":
        name = "test" if known else "all"
    related = options.dataset == config["flags"]["dataset"]
    warnings = []
    if known and name == "all":
        warnings.append("images that the checkpoint was trained on are among these")
    elif related and not known:
        warnings.append(f"the checkpoint was trained on {options.dataset} with other labels or another split: images "
                        "that it was trained on may be among these")  # fmt: skip
    if name == "all":
        return name, together(data), warnings
    require_sets(data, (SHORT_NAMES[name],))
    return name, data.sets[SHORT_NAMES[name]], warnings


def together(data: QualityData) -> LabelledImages:
    """The images of all sets."""
    parts = list(data.sets.values())
    names, paths = (tuple(item for part in parts for item in getattr(part, key)) for key in ("names", "paths"))
    return LabelledImages(names, np.concatenate([part.mos for part in parts]), paths)


def announce(options, scorer: Scorer, data: QualityData, name: str, images: LabelledImages, warnings) -> None:
    trained = scorer.config["flags"]["dataset"]
    say(f"Checkpoint: {options.evaluate}: {scorer.variant.log_name}, epoch {scorer.epoch}, trained on {trained}")
    say(f"Device: {device_name(scorer.device)}, {scorer.precision}, torch {torch.__version__}")
    which = "every image" if name == "all" else f"the {SHORT_NAMES[name]} set"
    say(f"Scoring: {which} of {options.dataset} in {data.root}: {len(images):,} images, {crops(options)}")
    for line in [*([data.note] if data.note else []), *data.facts]:
        say(line)
    for text in [*data.warnings, *warnings]:
        say(f"Warning: {text}")


def crops(options: argparse.Namespace) -> str:
    kind = f"random crops of seed {options.seed}" if options.test_random_crop else "grid crops"
    return f"{options.test_patch_num} {kind} of {options.patch_size} pixels"


def score(options: argparse.Namespace, scorer: Scorer, data: QualityData, images: LabelledImages) -> Scored:
    opened, shared = open_images(options, dataclasses.replace(data, sets={"chosen": images}), scorer.device)
    loader = evaluation_loader(options, images, opened["chosen"], shared)
    return evaluate(scorer.score_patches, loader, len(images), "Scoring")


def describe(options, scorer: Scorer, data: QualityData, name: str, images: LabelledImages, scored: Scored) -> dict:
    """evaluation_<data set>_<set>.json."""
    srcc, plcc, note = correlate(scored.scores, images.mos)
    if note:
        raise ValueError(f"{options.evaluate}: SRCC and PLCC are undefined on {data.root}: {note}")
    return {
        "checkpoint": str(options.evaluate),
        "variant": scorer.variant.log_name,
        "epoch": scorer.epoch,
        "trained_on": {"dataset": scorer.config["flags"]["dataset"], "split": scorer.config["split"]},
        "dataset": options.dataset,
        "data_path": str(data.root),
        "split": {**data.sizes(), "sha256": data.sha256, "from": data.split},
        "set": name,
        "images": len(images),
        "crops": crops(options),
        "device": device_name(scorer.device),
        "precision": scorer.precision,
        "srcc": srcc,
        "plcc": plcc,
    }
