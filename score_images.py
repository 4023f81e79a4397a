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
import warnings

from iqa.atomic_files import check_writable
from iqa.cli import Command, say
from iqa.scoring.files import as_utf8, find_images
from iqa.scoring.options import parse_options


def main(argv: list[str] | None = None, about: str = "") -> int:
    """Score the images or evaluate on the data set that the flags name; returns the exit status.

    `about` is put before an error in the flags.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; an unreadable file is an error of its own
    sys.stdout.reconfigure(errors="backslashreplace")
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

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import train_resnet_improved as training
from data_loader import (
    PatchBatch,
    PatchTransform,
    Resize,
    corners,
    evenly_spaced,
    grid_positions,
    mean_per_image,
    random_positions,
)
from iqa.atomic_files import write_atomically
from iqa.data.datasets import load_dataset
from iqa.data.images import RESIZES, SHORT_SIDE, cpu_count, map_ahead, with_progress
from iqa.json_files import write_json
from iqa.metrics import srcc_and_plcc
from iqa.models.backbones import BACKBONES, backbone_problem
from iqa.models.normalisation import fold_batch_norms
from iqa.models.published import MODELS, OWN, PUBLISHED, build_published, published_model, scoring_flags
from iqa.predictions import Predictions
from iqa.processes import is_first
from iqa.scoring.evaluation import Evaluation, data_source
from iqa.scoring.grid import Grid, smallest_shape
from iqa.scoring.page import page, picture_of
from iqa.scoring.pixels import AnyImage, Pixels, pixels_of, reason
from iqa.scoring.results import ModelFacts, ScoredImage, as_csv, as_json, print_scores
from iqa.training import distributed
from iqa.training.devices import EVALUATION_BATCH, autocast, choose_precision, open_device
from iqa.training.run_folder import load_checkpoint, refuse_other_head
from models_resnet_improved import ImageQualityResNet, PatchScores

ENOUGH = 0.8  # share of an image that its patches must cover, unless --patches says otherwise
DECODERS = 8  # threads at most: an image of 89 million pixels takes half a gigabyte while it is decoded
CROPS = {"patch_size": int, "test_patch_num": int, "test_random_crop": bool, "seed": int}
FLAGS = {"use_multiscale": bool, "use_attention": bool, **CROPS}  # that a score needs
YOUNGER = {"model": MODELS, "resize": RESIZES}  # flags that older runs lack; the first value is what those runs did

Decoded = tuple[ScoredImage, Pixels | None]  # an image before it is scored; no pixels if it cannot be read


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
    where = open_device(device)
    saved = load_checkpoint(Path(checkpoint))
    model, config, epoch = load_published(saved, checkpoint) or load_own(saved, checkpoint)
    if precision == "auto" and config.get("precision") == "fp32":
        precision = "fp32"
    return Scorer(
        model.to(where),
        config,
        results={"date": saved.get("date"), **saved.get("results", {})},
        epoch=epoch,
        patches=patches,
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
    config = check_config(saved, checkpoint)
    flags, name = config["flags"], config["flags"].get("model", OWN)
    fusion = {key: flags[key] for key in ("use_multiscale", "use_attention")}
    if name == OWN:
        backbone = flags.get("backbone", "resnet50")
        model = ImageQualityResNet(backbone=backbone, **fusion, weights="none", patch_size=flags["patch_size"])
    else:
        model = build_published(name, BACKBONES[PUBLISHED[name].variant.backbone].build())
    refuse_other_head(saved["model"], checkpoint, "train it again")
    try:
        model.load_state_dict(saved["model"])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{checkpoint}: its weights are not those of {model.variant.log_name}") from error
    model = fold_batch_norms(model).to(memory_format=torch.channels_last)
    return model, config, saved.get("epoch") or len(saved.get("history", ()))


def check_config(saved: dict, checkpoint: str | os.PathLike) -> dict:
    """The run's config; ValueError for a dictionary that train_resnet_improved.py did not save."""
    ways = "name a _best.pth or _last.pth of train_resnet_improved.py, or weights published for HyperIQA or SMART-IQA"
    missing = [key for key in ("model", "config") if not isinstance(saved.get(key), dict)]
    if missing:
        raise ValueError(f"{checkpoint}: holds no {' and no '.join(missing)}, so its settings are unknown; {ways}")
    flags = saved["config"].get("flags", {})
    wrong = [name for name, kind in FLAGS.items() if not isinstance(flags.get(name), kind)]
    if wrong or not (1 <= flags["patch_size"] <= SHORT_SIDE and flags["test_patch_num"] >= 1):
        raise ValueError(f"{checkpoint}: the flags of its run lack {', '.join(wrong) or 'a usable patch size'}; {ways}")
    for name, values in YOUNGER.items():
        if flags.get(name, next(iter(values))) not in list(values):
            raise ValueError(f"{checkpoint}: of a run with --{name} {flags[name]}; known are {', '.join(values)}")
    problem = backbone_problem(str(flags.get("backbone", "resnet50")), patch_size=flags["patch_size"])
    if problem and flags.get("model", OWN) == OWN:
        raise ValueError(f"{checkpoint}: of a run with {problem}")
    return saved["config"]


class Scorer:
    """Scores images as the evaluation of a run does: each by the mean over its patches.

    Args:
        model: with the weights of the chosen epoch, for evaluation.
        config: of the run, as in its config.json.
        results: of the run, as in its result.json, with the date of its end; empty if the checkpoint has none.
        epoch: of the weights; None for published weights.
        patches: "auto", the evaluation's number of patches if they cover 80% of an image, otherwise the smallest grid
            that does; "checkpoint", exactly the patches of the evaluation; or the number of patches of an even grid.
        device, precision: where and in which arithmetic; neither is "auto".
        batch_size: patches at a time.
    """

    def __init__(
        self,
        model: nn.Module,
        config: dict,
        *,
        results: dict,
        epoch: int | None,
        patches: str | int,
        device,
        precision: str,
        batch_size: int,
    ):
        if patches not in ("auto", "checkpoint") and not (isinstance(patches, int) and patches > 0):
            raise ValueError(f"patches: {patches!r} is not 'auto', 'checkpoint' or a number of patches, at least 1")
        flags = config["flags"]
        self.model, self.config, self.results, self.epoch = model.eval(), config, results, epoch
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.patch_size, self.resize = flags["patch_size"], flags.get("resize", "keep")
        self.patches = patches if isinstance(patches, int) else flags["test_patch_num"]
        self.covering, self.as_evaluated = patches == "auto", patches == "checkpoint"
        self.variant = model.variant
        self.transform = PatchTransform(color_jitter=False).to(device)

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

    def stream(self, images: Iterable[AnyImage], extra: Callable[[Pixels], Any] | None = None) -> Iterator[ScoredImage]:
        """One result per image, in order; a few images are in memory at a time, however many there are.

        `extra` is computed from the resized pixels of an image and kept in its result.
        """

        def decode(image: AnyImage) -> Decoded:
            path = as_utf8(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else ""
            try:
                pixels = pixels_of(image, Resize(self.resize))
                grid = self.choose_grid(path, pixels)
                return ScoredImage(path, grid=grid, extra=extra(pixels) if extra else None), pixels
            except Exception as error:  # damaged files make Pillow raise almost anything
                return ScoredImage(path, error=reason(error)), None

        for batch in self.batches(map_ahead(decode, images, threads=min(cpu_count(), DECODERS))):
            scored = iter(self.score_batch([item for item in batch if not item[0].error]))
            yield from (image if image.error else next(scored) for image, _ in batch)

    def choose_grid(self, path: str, pixels: Pixels) -> Grid:
        size, flags = pixels.shape[:2], self.config["flags"]
        if self.covering:
            return covering_grid(size, self.patch_size, self.patches)
        if self.as_evaluated and flags.get("test_random_crop"):
            if not path:
                raise ValueError("the random crops of the evaluation depend on the file name, and this is no path")
            positions = random_positions(Path(path).name, self.patches, flags["seed"])
            return grid_of(positions, size, self.patch_size)
        return even_grid(size, self.patch_size, self.patches)

    def batches(self, images: Iterator[Decoded]) -> Iterator[list[Decoded]]:
        """Lists of images with at most `batch_size` patches together, or of one image."""
        batch, patches = [], 0
        for image, pixels in images:
            count = self.patches if image.error else len(image.grid)
            if batch and patches + count > self.batch_size:
                yield batch
                batch, patches = [], 0
            batch.append((image, pixels))
            patches += count
        if batch:
            yield batch

    @torch.inference_mode()
    def score_batch(self, images: list[Decoded]) -> list[ScoredImage]:
        """The images' scores and attention, each the mean over the image's patches."""
        outputs = [self.score_patches(inputs) for inputs in self.cut(images)]
        if not outputs:
            return []
        counts = [len(image.grid) for image, _ in images]
        scores = torch.cat([output.scores for output in outputs]).double().cpu()
        if not scores.isfinite().all():
            raise ValueError("the checkpoint gives scores that are not finite; its run has diverged")
        attention = itertools.repeat(None)
        if self.variant.use_attention:
            attention = torch.cat([output.attention for output in outputs]).double().cpu().split(counts)
        results = []
        for (image, _), values, weights in zip(images, scores.split(counts), attention, strict=False):
            weights = None if weights is None else tuple(mean_per_image(weights, 1)[0].tolist())
            mean = mean_per_image(values, 1).item()
            results.append(replace(image, score=mean, attention=weights, patches=tuple(values.tolist())))
        return results

    def cut(self, images: list[Decoded]) -> Iterator[Tensor]:
        """The patches of all images as inputs [B, 3, P, P] on the device, B at most `batch_size`."""
        size = self.patch_size
        patches = [
            pixels[top : top + size, left : left + size]
            for image, pixels in images
            for top, left in zip(image.grid.tops, image.grid.lefts, strict=True)
        ]
        for start in range(0, len(patches), self.batch_size):
            pixels = torch.from_numpy(np.stack(patches[start : start + self.batch_size])).to(self.device)
            still = torch.zeros(len(pixels), dtype=torch.bool, device=self.device)
            yield self.transform(PatchBatch(None, None, None, still, None, None, pixels))

    def score_patches(self, inputs: Tensor) -> PatchScores:
        """[B, 3, P, P] normalised patches on the device -> scores [B], attention [B, 4] (None without attention)."""
        with autocast(self.device, self.precision):
            return self.model.describe(inputs)


# Patches


def grid_of(positions: np.ndarray, size: tuple[int, int], patch_size: int, **fields: float) -> Grid:
    """The patches at positions [patches, 2] in 0-1, down and across."""
    return Grid(size, patch_size, *corners(np.array([size]), positions, patch_size), **fields)


@functools.lru_cache(1024)
def even_grid(size: tuple[int, int], patch_size: int, patches: int) -> Grid:
    """The grid of so many patches that an evaluation uses."""
    return grid_of(grid_positions(patches), size, patch_size)


@functools.lru_cache(1024)
def covering_grid(size: tuple[int, int], patch_size: int, patches: int) -> Grid:
    """`even_grid` if it covers enough of the image, otherwise the smallest grid of rows and columns that does."""
    own = even_grid(size, patch_size, patches)
    if own.coverage >= ENOUGH:
        return own
    down, across = map(evenly_spaced, smallest_shape(size, patch_size, ENOUGH))
    return grid_of(np.array(list(itertools.product(down, across))), size, patch_size, replaced=own.coverage)


# Scores of images


def run(options, paths: list[str]) -> int:
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
    images = print_scores(score(paths, scorer, with_pictures=bool(options.report)), facts, options.attention)
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
    if scorer.config["flags"].get("test_random_crop") and not scorer.as_evaluated:
        yield (
            "this run was evaluated on random crops, the scores below are of an even grid; "
            "--patches checkpoint uses the random crops, which depend on the file names"
        )
    if scorer.resize == "squeeze":
        source = "published weights" if scorer.epoch is None else "a run with --resize squeeze"
        yield f"{source}: every image is squeezed to 384x512 pixels (width x height), whatever its aspect"


def score(paths: list[str], scorer: Scorer, *, with_pictures: bool = False) -> Iterator[ScoredImage]:
    """One result per path, in order, with a progress bar on a terminal."""
    results = scorer.stream(paths, picture_of if with_pictures else None)
    with with_progress(results, "Scoring", len(paths)) as bar:
        for scored in bar:
            with bar.external_write_mode():  # the row takes the place of the bar
                yield scored


# Evaluation of a labelled data set


def evaluate(options) -> None:
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
        predictions = predict(evaluation, options)
        srcc, plcc, note = srcc_and_plcc(predictions.scores, predictions.mos)
        if note:
            raise ValueError(f"{options.checkpoint}: SRCC and PLCC are undefined on {data.root}: {note}")
        if is_first():
            write_atomically(path, predictions.to_csv())
            write_json(facts_path, evaluation.facts(srcc, plcc))
        say(f"SRCC: {srcc:.4f}\nPLCC: {plcc:.4f}\nPredictions: {path}")


def predict(evaluation: Evaluation, options) -> Predictions:
    """The scores of the images, computed as in the evaluation of the checkpoint's run."""
    scorer, images, flags = evaluation.scorer, evaluation.images, evaluation.scorer.config["flags"]
    settings = training.Options(
        **{name: flags[name] for name in CROPS},
        resize=scorer.resize,
        cache_dir=options.cache_dir,
        no_cache=options.no_cache,
        preload_images=options.preload_images,
        num_workers=options.num_workers,
    )
    data = replace(evaluation.data, sets={"test": images})
    opened, cutting = training.open_pixels(settings, data, scorer.device)
    loader = training.evaluation_set(settings, images, opened["test"], cutting).loader
    scored = training.evaluate(scorer.score_patches, loader, len(images), precision=scorer.precision, title="Scoring")
    return Predictions(images.names, images.mos, scored.scores, scored.attention)
