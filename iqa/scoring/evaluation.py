"""Evaluation of a checkpoint on a labelled data set: its images, output and files."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iqa.atomic_files import check_writable
from iqa.cli import say
from iqa.data.labels import SHORT_NAMES, LabelledImages, QualityData, require_correlation, require_sets
from iqa.training.devices import device_name

DATA_DEFAULTS = {
    "dataset": "koniq-10k",
    "data_path": "./koniq-10k",
    "mos_range": None,
    "split_seed": 0,
    "split_file": None,
}


def data_source(options: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `load_dataset`, from the command line or from the run of the checkpoint.

    Without --dataset they are those of the run. With the data set of the run, its split is drawn in the same way.
    """
    flags = config["flags"]
    missing = [name for name, holder in (("dataset", flags), ("split", config)) if name not in holder]
    if missing:
        raise ValueError(f"{options.checkpoint}: its config lacks {missing[0]}, so its data are unknown; score images")
    if flags["dataset"] is None and options.dataset is None:
        raise ValueError(f"{options.checkpoint}: published weights name no data set; add --dataset and --data_path")
    from_run = ["split_seed"] if options.dataset == flags["dataset"] else []
    own = {key: flags[key] for key in (from_run if options.dataset else DATA_DEFAULTS) if key in flags}
    given = {key: getattr(options, key) for key in DATA_DEFAULTS if getattr(options, key) is not None}
    source = DATA_DEFAULTS | own | given
    return {"name": source.pop("dataset"), "root": source.pop("data_path"), **source}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A checkpoint and the images that it is evaluated on."""

    checkpoint: Path
    scorer: Any
    dataset: str
    data: QualityData
    set: str  # val, test or all
    images: LabelledImages
    warning: str | None

    @classmethod
    def choose(cls, checkpoint: Path, scorer, dataset: str, data: QualityData, name: str) -> "Evaluation":
        """The set that --set names; "auto" is test if the run had the same labels and split, otherwise all images."""
        trained_on = scorer.flags["dataset"]
        same = scorer.config["split"].get("sha256") == data.sha256
        if name == "auto":
            name = "test" if same else "all"
        warning = None
        if trained_on is None:
            warning = "published weights do not name their training data, which may include some of these images"
        elif same and name == "all":
            warning = "images that the checkpoint was trained on are among these"
        elif dataset == trained_on and not same:
            warning = (
                f"the checkpoint was trained on {dataset} with other labels or another split: images that it was "
                "trained on may be among these"
            )
        if name == "all":
            parts = data.sets.values()
            names, paths = (sum((getattr(part, key) for part in parts), ()) for key in ("names", "paths"))
            images = LabelledImages(names, np.concatenate([part.mos for part in parts]), paths)
        else:
            require_sets(data, (SHORT_NAMES[name],))
            require_correlation(data, SHORT_NAMES[name])
            images = data.sets[SHORT_NAMES[name]]
        return cls(checkpoint, scorer, dataset, data, name, images, warning)

    @property
    def crops(self) -> str:
        flags = self.scorer.flags
        kind = f"random crops of seed {flags['seed']}" if flags["test_random_crop"] else "grid crops"
        squeezed = ", images squeezed to 384x512" if flags["resize"] == "squeeze" else ""
        return f"{flags['test_patch_num']} {kind} of {flags['patch_size']} pixels{squeezed}"

    def files(self, folder: str | None, *, overwrite: bool) -> tuple[Path, Path]:
        """Paths of the predictions and of the facts, in a folder that is made if it is missing."""
        folder = Path(folder or f"logs/evaluation_{self.checkpoint.stem}")
        name = f"{self.dataset}_{self.set}"
        predictions = folder / f"predictions_{name}.csv"
        if predictions.exists() and not overwrite:
            raise FileExistsError(f"{predictions}: exists; add --overwrite, or name another --output_dir")
        check_writable("--output_dir", predictions)
        return predictions, folder / f"evaluation_{name}.json"

    def announce(self) -> None:
        scorer, data, trained_on = self.scorer, self.data, self.scorer.flags["dataset"]
        what = f"epoch {scorer.epoch}, trained on {trained_on}" if trained_on else "its published weights"
        say(f"Checkpoint: {self.checkpoint}: {scorer.variant.log_name}, {what}")
        say(f"Device: {device_name(scorer.device)}, {scorer.precision}, torch {torch.__version__}")
        which = "every image" if self.set == "all" else f"the {SHORT_NAMES[self.set]} set"
        say(f"Scoring: {which} of {self.dataset} in {data.root}: {len(self.images):,} images, {self.crops}")
        warnings = [f"Warning: {text}" for text in (*data.warnings, self.warning) if text]
        for line in filter(None, [data.note, *data.facts, *warnings]):
            say(line)

    def facts(self, srcc: float, plcc: float) -> dict[str, Any]:
        """The content of evaluation_<data set>_<set>.json."""
        scorer, config, data = self.scorer, self.scorer.config, self.data
        return {
            "checkpoint": str(self.checkpoint),
            "run_id": config.get("run_id"),  # None for published weights
            "seed": config["flags"]["seed"],
            "variant": scorer.variant.log_name,
            "epoch": scorer.epoch,
            "trained_on": {"dataset": config["flags"]["dataset"], "split": config["split"]},
            "dataset": self.dataset,
            "data_path": str(data.root),
            "split": {**data.sizes(), "sha256": data.sha256, "from": data.split},
            "set": self.set,
            "images": len(self.images),
            "crops": self.crops,
            "device": device_name(scorer.device),
            "precision": scorer.precision,
            "srcc": srcc,
            "plcc": plcc,
        }
