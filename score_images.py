#!/usr/bin/env python3
"""Score images with a trained model, or evaluate it on a labelled data set.

    python3 score_images.py --checkpoint checkpoints/resnet_improved_ms_att_best.pth photo.jpg holiday/ 'shots/*.png'
    python3 score_images.py --checkpoint ... holiday/ --output scores.csv --report scores.html
    python3 score_images.py --checkpoint koniq_pretrained.pkl photo.jpg   # weights published for HyperIQA or SMART-IQA
    python3 score_images.py --checkpoint ... --dataset livec --data_path ChallengeDB_release      # SRCC and PLCC

From Python, with paths, PIL images or tensors [3, H, W] (uint8, or floats in 0-1):

    from score_images import load_scorer
    scores = load_scorer("checkpoints/resnet_improved_ms_att_best.pth")(["photo.jpg", image, tensor])
"""

import sys

from iqa.atomic_files import check_writable
from iqa.cli import Command, say
from iqa.scoring.files import find_images
from iqa.scoring.options import parse_options


def main(argv: list[str] | None = None, about: str = "") -> int:
    """Score the images or evaluate on the data set that the flags name; returns the exit status.

    `about` is put before an error in the flags.
    """
    with Command(argv) as command:
        options = parse_options(__doc__, argv, about)
        if options.images:
            command.when_stopped = "--output and --report are written when every image is scored."
            paths = find_images(options.images)
            check_writable("--output", options.output)
            check_writable("--report", options.report)
            from score_images import run  # it loads torch, which takes seconds

            command.status = run(options, paths)
        else:
            from score_images import evaluate  # it loads torch, which takes seconds

            evaluate(options)
    return command.status


if __name__ == "__main__":
    sys.exit(main())

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import data_loader
import train_resnet_improved as training
from data_loader import PatchTransform, Resize, mean_per_image
from iqa.atomic_files import write_atomically
from iqa.data.datasets import load_dataset
from iqa.data.images import RESIZES, SHORT_SIDE, cpu_count, map_ahead
from iqa.data.labels import QualityData
from iqa.json_files import write_json
from iqa.metrics import srcc_and_plcc
from iqa.models.backbones import BACKBONES, backbone_problem
from iqa.models.folding import fold_batch_norms
from iqa.models.published import MODELS, OWN, PUBLISHED, build_published, published_model, scoring_flags
from iqa.predictions import Predictions
from iqa.processes import is_first
from iqa.scoring.evaluation import Evaluation, data_source
from iqa.scoring.grid import Grid, smallest_shape
from iqa.scoring.page import page
from iqa.scoring.pixels import AnyImage, picture_of, pixels_of, reason
from iqa.scoring.results import ModelFacts, ScoredImage, as_csv, as_json, print_scores
from iqa.training import distributed
from iqa.training.devices import EVALUATION_BATCH, autocast, choose_precision, open_device
from iqa.training.run_folder import load_checkpoint, refuse_other_head
from models_resnet_improved import ImageQualityResNet

ENOUGH = 0.8  # share of an image that its patches must cover, unless --patches says otherwise
DECODERS = 8  # threads at most: an image of 89 million pixels takes half a gigabyte while it is decoded
# The flags of a run that a score depends on
CROPS = {"patch_size": int, "test_patch_num": int, "test_random_crop": bool, "seed": int}
TYPES = {"use_multiscale": bool, "use_attention": bool, **CROPS}
CHOICES = {"model": MODELS, "resize": RESIZES}
OLDER = {"model": OWN, "resize": "keep", "backbone": "resnet50"}  # what runs did that did not record these flags


def load_scorer(
    checkpoint: str | os.PathLike,
    *,
    patches: str | int = "auto",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
) -> "Scorer":
    """The scorer of a `_best.pth`, a `_last.pth` or of published weights; the arguments are those of score_images.py.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: damaged, of another program, or a device that does not exist.
    """
    if patches not in ("auto", "checkpoint") and not (isinstance(patches, int) and patches > 0):
        raise ValueError(f"patches: {patches!r} is not 'auto', 'checkpoint' or a number of patches, at least 1")
    where = open_device(device)
    saved = load_checkpoint(Path(checkpoint))
    model, config, epoch = load_published(saved, checkpoint) or load_own(saved, checkpoint)
    if precision == "auto" and config.get("precision") == "fp32":
        precision = "fp32"
    return Scorer(
        model.eval().to(where),
        config,
        results={"date": saved.get("date"), **saved.get("results", {})},
        epoch=epoch,
        choice=patches,
        device=where,
        precision=choose_precision(precision, where),
        batch_size=batch_size or EVALUATION_BATCH[where.type],
    )


def load_published(saved: dict, checkpoint: str | os.PathLike) -> tuple[nn.Module, dict, None] | None:
    """HyperIQA or SMART-IQA as its authors published it, and a config for it; None for any other file.

    Batch norms are not folded and the memory format is not changed, so that the scores equal the authors' to the bit.
    """
    try:
        model = published_model(saved)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
    if model is None:
        return None
    config = {"flags": scoring_flags(model.variant), "precision": "fp32", "mos_range": None, "split": {}}
    return model, config, None


def load_own(saved: dict, checkpoint: str | os.PathLike) -> tuple[nn.Module, dict, int]:
    """A model that train_resnet_improved.py trained, its config and the epoch of its weights."""
    flags = check_flags(saved, checkpoint)
    if flags["model"] == OWN:
        settings = {key: flags[key] for key in ("backbone", "use_multiscale", "use_attention", "patch_size")}
        model = ImageQualityResNet(**settings, weights="none")
    else:
        backbone = PUBLISHED[flags["model"]].variant.backbone
        model = build_published(flags["model"], BACKBONES[backbone].build())
    refuse_other_head(saved["model"], checkpoint, "train it again")
    try:
        model.load_state_dict(saved["model"])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{checkpoint}: its weights are not those of {model.variant.log_name}") from error
    model = fold_batch_norms(model).to(memory_format=torch.channels_last)
    return model, saved["config"] | {"flags": flags}, saved.get("epoch") or len(saved.get("history", ()))


def check_flags(saved: dict, checkpoint: str | os.PathLike) -> dict:
    """The flags of the run; ValueError for a dictionary that train_resnet_improved.py did not save."""
    ways = "name a _best.pth or _last.pth of train_resnet_improved.py, or weights published for HyperIQA or SMART-IQA"
    missing = [key for key in ("model", "config") if not isinstance(saved.get(key), dict)]
    if missing:
        raise ValueError(f"{checkpoint}: holds no {' and no '.join(missing)}, so its settings are unknown; {ways}")
    flags = {**OLDER, **saved["config"].get("flags", {})}
    wrong = [name for name, kind in TYPES.items() if not isinstance(flags.get(name), kind)]
    if wrong or not (1 <= flags["patch_size"] <= SHORT_SIDE and flags["test_patch_num"] >= 1):
        raise ValueError(f"{checkpoint}: the flags of its run lack {', '.join(wrong) or 'a usable patch size'}; {ways}")
    for name, values in CHOICES.items():
        if flags[name] not in values:
            raise ValueError(f"{checkpoint}: of a run with --{name} {flags[name]}; known are {', '.join(values)}")
    problem = backbone_problem(str(flags["backbone"]), patch_size=flags["patch_size"])
    if problem and flags["model"] == OWN:
        raise ValueError(f"{checkpoint}: of a run with {problem}")
    return flags


@dataclass
class Scorer:
    """Scores images as the evaluation of a run does: each by the mean over its patches."""

    model: nn.Module  # with the weights of the chosen epoch, in evaluation mode
    config: dict[str, Any]  # of the run, as in its config.json
    results: dict[str, Any]  # of the run, as in its result.json, with the date of its end; empty if they are unknown
    epoch: int | None  # of the weights; None for published weights
    choice: str | int  # "auto", "checkpoint" or a number of patches, as --patches
    device: torch.device
    precision: str  # fp32 or bf16
    batch_size: int  # patches at a time

    variant = property(lambda self: self.model.variant)
    flags = property(lambda self: self.config["flags"])
    patch_size = property(lambda self: self.flags["patch_size"])
    patches = property(lambda self: self.flags["test_patch_num"] if isinstance(self.choice, str) else self.choice)

    def __post_init__(self):
        self.transform = PatchTransform().to(self.device)

    def __call__(self, images: Iterable[AnyImage]) -> np.ndarray:
        """[N] scores of paths, PIL images or tensors [3, H, W], which are uint8 or floats in 0-1.

        Raises:
            ValueError: names the first image that cannot be scored, and why.
        """
        if isinstance(images, (str, os.PathLike, Image.Image)) or getattr(images, "ndim", 4) == 3:
            raise ValueError("one image was given where several are expected: put it in a list")
        scores = []
        for i, scored in enumerate(self.stream(images)):
            if scored.error:
                raise ValueError(f"image {i}: " + (f"{scored.name}: " if scored.image else "") + scored.error)
            scores.append(scored.score)
        return np.array(scores, np.float64)

    def stream(self, images: Iterable[AnyImage], *, with_pictures: bool = False) -> Iterator[ScoredImage]:
        """One result per image, in order; a few images are in memory at a time, however many there are.

        Args:
            with_pictures: keep a small picture of each image for the page.
        """

        def decode(image: AnyImage) -> ScoredImage:
            path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
            path = path.encode(errors="backslashreplace").decode()  # a file name may have bytes that are not UTF-8
            try:
                pixels = pixels_of(image, Resize(self.flags["resize"]))
                picture = picture_of(pixels) if with_pictures else None
                return ScoredImage(path, pixels, self.choose_grid(path, pixels.shape[:2]), picture=picture)
            except Exception as error:  # damaged files make Pillow raise almost anything
                return ScoredImage(path, error=reason(error))

        for batch in self.batches(map_ahead(decode, images, threads=min(cpu_count(), DECODERS))):
            self.score_batch([image for image in batch if not image.error])
            yield from batch

    def choose_grid(self, path: str, size: tuple[int, int]) -> Grid:
        """The patches of an image of this size, (height, width)."""

        def grid_at(positions: np.ndarray, replaced: float | None = None) -> Grid:
            tops, lefts = data_loader.corners(np.array([size]), positions, self.patch_size)
            return Grid(size, self.patch_size, tops, lefts, replaced)

        if self.choice == "checkpoint" and self.flags["test_random_crop"]:
            if not path:
                raise ValueError("the random crops of the evaluation depend on the file name, and this is no path")
            return grid_at(data_loader.random_positions(Path(path).name, self.patches, self.flags["seed"]))
        grid = grid_at(data_loader.grid_positions(self.patches))
        if self.choice == "auto" and grid.coverage < ENOUGH:
            rows, columns = map(data_loader.evenly_spaced, smallest_shape(size, self.patch_size, ENOUGH))
            grid = grid_at(np.array([(y, x) for y in rows for x in columns]), replaced=grid.coverage)
        return grid

    def batches(self, images: Iterator[ScoredImage]) -> Iterator[list[ScoredImage]]:
        """Lists of images with at most `batch_size` patches together, or of one image."""
        batch, patches = [], 0
        for image in images:
            count = self.patches if image.error else len(image.grid)
            if batch and patches + count > self.batch_size:
                yield batch
                batch, patches = [], 0
            batch.append(image)
            patches += count
        if batch:
            yield batch

    @torch.inference_mode()
    def score_batch(self, images: list[ScoredImage]) -> None:
        """Fill in the scores and attention of images, each the mean over the image's patches, and drop the pixels."""
        if not images:
            return
        patches, outputs = [patch for image in images for patch in image.grid.cut(image.pixels)], []
        for start in range(0, len(patches), self.batch_size):
            pixels = torch.from_numpy(np.stack(patches[start : start + self.batch_size])).to(self.device)
            inputs = self.transform(pixels)
            with autocast(self.device, self.precision):
                outputs.append(self.model.describe(inputs))
        scores = torch.cat([output.scores for output in outputs]).double().cpu()
        if not scores.isfinite().all():
            raise ValueError("the checkpoint gives scores that are not finite; its run has diverged")
        counts = [len(image.grid) for image in images]
        for image, values in zip(images, scores.split(counts), strict=True):
            image.score, image.patches = mean_per_image(values, 1).item(), tuple(values.tolist())
            image.pixels = None
        if self.variant.use_attention:
            attention = torch.cat([output.attention for output in outputs]).double().cpu()
            for image, weights in zip(images, attention.split(counts), strict=True):
                image.attention = tuple(mean_per_image(weights, 1)[0].tolist())


# Scores of images


def run(options: argparse.Namespace, paths: list[str]) -> int:
    """Score, print and write; returns the exit status."""
    scorer = load_scorer(
        options.checkpoint,
        patches=options.patches,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    if options.attention and not scorer.variant.use_attention:
        raise ValueError(f"--attention: {options.checkpoint} is {scorer.variant.log_name}, which has no attention")
    facts = ModelFacts.of(scorer, str(options.checkpoint))
    for note in notes(scorer):
        say(f"Note: {note}")
    results = scorer.stream(paths, with_pictures=bool(options.report))
    images = print_scores(results, len(paths), facts, options.attention)
    if options.output:
        is_csv = options.output.suffix.lower() == ".csv"
        content = as_csv(images, options.attention) if is_csv else as_json(images, facts, options.attention)
        write_atomically(options.output, content)
    if options.report:
        write_atomically(options.report, page(images, facts, options.attention))
    unreadable = sum(image.error is not None for image in images)
    written = "".join(f"; wrote {path}" for path in (options.output, options.report) if path)
    say(f"Scored {len(images) - unreadable} of {len(images)} images, {unreadable} unreadable{written}")
    return 1 if unreadable else 0


def notes(scorer: Scorer) -> Iterator[str]:
    """How images are treated otherwise than in the run's evaluation, or than a user expects."""
    if scorer.flags["test_random_crop"] and scorer.choice != "checkpoint":
        yield (
            "this run was evaluated on random crops, the scores below are of an even grid; "
            "--patches checkpoint uses the random crops, which depend on the file names"
        )
    if scorer.flags["resize"] == "squeeze":
        source = "published weights" if scorer.epoch is None else "a run with --resize squeeze"
        yield f"{source}: every image is squeezed to 384x512 pixels (width x height), whatever its aspect"


# Evaluation of a labelled data set


def evaluate(options: argparse.Namespace) -> None:
    """Score a data set by the patches of the checkpoint's run, print SRCC and PLCC, and write the predictions."""
    scorer = load_scorer(options.checkpoint, device=options.device, precision=options.precision)
    source = data_source(options, scorer.config)
    with distributed.joined(scorer.device):  # with the other processes of torchrun, if there are some
        data = load_dataset(**source)
        distributed.check_same_everywhere(data)
        evaluation = Evaluation.choose(options.checkpoint, scorer, source["name"], data, options.set)
        path, facts_path = distributed.by_first(
            lambda: evaluation.files(options.output_dir, overwrite=options.overwrite)
        )
        evaluation.announce()
        predictions = predict(scorer, replace(data, sets={"test": evaluation.images}), options)
        srcc, plcc, note = srcc_and_plcc(predictions.scores, predictions.mos)
        if note:
            raise ValueError(f"{options.checkpoint}: SRCC and PLCC are undefined on {data.root}: {note}")
        if is_first():
            write_atomically(path, predictions.to_csv())
            write_json(facts_path, evaluation.facts(srcc, plcc))
        say(f"SRCC: {srcc:.4f}\nPLCC: {plcc:.4f}\nPredictions: {path}")


def predict(scorer: Scorer, data: QualityData, options: argparse.Namespace) -> Predictions:
    """The scores of the test set of `data`, computed as in the evaluation of the checkpoint's run."""
    images = data.sets["test"]
    settings = training.Options(
        **{name: scorer.flags[name] for name in (*CROPS, "resize")},
        cache_dir=options.cache_dir,
        no_cache=options.no_cache,
        preload_images=options.preload_images,
        num_workers=options.num_workers,
    )
    opened, cutting = training.open_pixels(settings, data, scorer.device)
    loader = training.evaluation_set(settings, images, opened["test"], cutting).loader
    scored = training.evaluate(scorer.model.describe, loader, len(images), precision=scorer.precision, title="Scoring")
    return Predictions(images.names, images.mos, scored.scores, scored.attention)
