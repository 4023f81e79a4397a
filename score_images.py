#!/usr/bin/env python3
"""Score the quality of your own images with a trained model.

    python3 score_images.py --checkpoint checkpoints/resnet_improved_ms_att_best.pth photo.jpg holiday/ 'shots/*.png'
    python3 score_images.py --checkpoint ... holiday/ --output scores.csv --report scores.html
    python3 score_images.py --checkpoint koniq_pretrained.pkl photo.jpg       # weights published for HyperIQA or SMART-IQA

From Python, with paths, PIL images or tensors [3, H, W] (uint8, or floats in 0-1):

    from score_images import load_scorer
    scores = load_scorer("checkpoints/resnet_improved_ms_att_best.pth")(["photo.jpg", image, tensor])
"""

import sys
import warnings

from iqa.atomic_files import check_writable
from iqa.cli import Command, say
from iqa.scoring.files import as_utf8, find_images
from iqa.scoring.options import build_parser


def main(argv: list[str] | None = None) -> int:
    """Score the images that the flags name; returns the exit status."""
    when_stopped = "--output and --report are written when every image is scored."
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; an unreadable file is an error of its own
    sys.stdout.reconfigure(errors="backslashreplace")
    with Command(argv, when_stopped=when_stopped) as command:
        options = build_parser(__doc__).parse_args(argv)
        paths = find_images(options.images)
        check_writable("--output", options.output)
        check_writable("--report", options.report)
        from score_images import run  # it loads torch, which takes seconds

        command.status = run(options, paths)
    return command.status


if __name__ == "__main__":
    sys.exit(main())

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from data_loader import EvaluationPlan, PatchLoader, Resize, corners, grid_positions, mean_per_image
from iqa.atomic_files import write_atomically
from iqa.data.images import RESIZES, SHORT_SIDE, cpu_count, map_ahead
from iqa.models.backbones import BACKBONES, backbone_problem
from iqa.models.folding import fold_batch_norms
from iqa.models.published import MODELS, OWN, PUBLISHED, build_published, published_model, scoring_flags
from iqa.scoring import page as scores_page
from iqa.scoring.pixels import AnyImage, Pixels, pixels_of, reason
from iqa.scoring.table import STAGES, Row, as_csv, as_json, describe, print_table
from iqa.training.checkpoints import load_checkpoint, refuse_other_head
from iqa.training.devices import EVALUATION_BATCH, autocast, choose_precision, open_device
from models_resnet_improved import ImageQualityResNet, PatchScores

DECODERS = 8  # threads at most: an image of 89 million pixels takes half a gigabyte while it is decoded
FLAGS = {"use_multiscale": bool, "use_attention": bool, "patch_size": int, "test_patch_num": int}  # that a score needs
YOUNGER = {
    "model": MODELS,
    "resize": RESIZES,
}  # flags that came later: first what was done before


def load_scorer(
    checkpoint: str | os.PathLike, *, device: str = "auto", precision: str = "auto", batch_size: int | None = None
) -> "Scorer":
    """The scorer of a `_best.pth`, a `_last.pth` or of published weights; the arguments are those of score_images.py.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: damaged, of another program, or a device that is not there.
    """
    where = open_device(device)
    saved = load_checkpoint(Path(checkpoint))
    model, config, epoch = load_published(saved, checkpoint) or load_own(saved, checkpoint)
    if precision == "auto" and config.get("precision") == "fp32":
        precision = "fp32"
    return Scorer(
        model.to(where),
        config,
        device=where,
        precision=choose_precision(precision, where),
        batch_size=batch_size or EVALUATION_BATCH[where.type],
        epoch=epoch,
    )


def load_published(saved: dict, checkpoint: str | os.PathLike) -> tuple[nn.Module, dict, None] | None:
    """HyperIQA or SMART-IQA as its authors published it, and what a config would say; None for any other file.

    The model stays as it is, layer by layer: folded or in another memory format it would round otherwise.
    """
    try:
        model = published_model(saved)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
    if model is None:
        return None
    unknown = {"dataset": None, "test_random_crop": False, "seed": 0}
    return model, {"flags": scoring_flags(model) | unknown, "precision": "fp32", "mos_range": None, "split": {}}, None


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


class ScoredImage(NamedTuple):
    """A score on the scale of the training labels, or the reason why there is none."""

    score: float | None = None
    attention: tuple[float, ...] | None = None  # weights of stages 1-4, where the model has attention
    error: str | None = None
    extra: Any = None
    patches: tuple[float, ...] | None = None  # the scores of its patches, in the order of the grid


class Scorer:
    """Scores images as the evaluation of a run does: each by the mean over a fixed grid of patches.

    Args:
        model: in the state of the chosen epoch, for evaluation.
        config: of the run, as in its config.json.
        epoch: that the weights are of; None for published weights.
        device, precision: where and in which arithmetic; neither is "auto".
        batch_size: patches at a time.
    """

    def __init__(self, model: nn.Module, config: dict, *, epoch: int | None, device, precision: str, batch_size: int):
        self.model, self.config, self.epoch = model.eval(), config, epoch
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.patch_size, self.patches = config["flags"]["patch_size"], config["flags"]["test_patch_num"]
        self.variant, self.resize = model.variant, config["flags"].get("resize", "keep")

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
                raise ValueError(f"image {i}: {scored.error}")
            scores.append(scored.score)
        return np.array(scores, np.float64)

    def stream(self, images: Iterable[AnyImage], extra: Callable[[Pixels], Any] | None = None) -> Iterator[ScoredImage]:
        """One result per image, in order; a few images are in memory at a time, however many there are.

        `extra` is computed from the resized pixels of an image and kept in its result.
        """

        def read(image):
            try:
                pixels = pixels_of(image, Resize(self.resize))
                return pixels, extra(pixels) if extra else None
            except Exception as error:  # damaged files make Pillow raise almost anything
                return reason(error), None

        decoded = map_ahead(read, images, threads=min(cpu_count(), DECODERS))
        while batch := list(itertools.islice(decoded, max(1, self.batch_size // self.patches))):
            scored = self.score_batch([pixels for pixels, _ in batch if isinstance(pixels, np.ndarray)])
            for pixels, kept in batch:
                is_read = isinstance(pixels, np.ndarray)
                yield next(scored)._replace(extra=kept) if is_read else ScoredImage(error=pixels)

    def score_batch(self, images: list[Pixels]) -> Iterator[ScoredImage]:
        if not images:
            return iter(())
        scores, attention, patches = self.mean_scores(images)
        if not np.isfinite(scores).all():
            raise ValueError("the checkpoint gives scores that are not finite; its run has diverged")
        weights = map(tuple, attention.tolist()) if attention is not None else itertools.repeat(None)
        return (
            ScoredImage(score, attention=weight, patches=tuple(of_patches))
            for score, weight, of_patches in zip(scores.tolist(), weights, patches.tolist(), strict=False)
        )

    def score_patches(self, inputs: Tensor) -> PatchScores:
        """[B, 3, P, P] normalised patches on the device -> scores [B], attention [B, 4] (None without attention)."""
        with autocast(self.device, self.precision):
            return self.model.describe(inputs)

    @torch.inference_mode()
    def mean_scores(self, images: list[Pixels]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Scores [N] and attention [N, 4], each the mean over the image's patches, and the patches' scores [N, patches]."""
        plan = EvaluationPlan(
            [image.shape[:2] for image in images],
            np.zeros(len(images)),
            [""] * len(images),
            patches=self.patches,
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            seed=0,
            random=False,
        )
        loader = PatchLoader(
            images, plan, patch_size=self.patch_size, color_jitter=False, device=self.device, num_workers=0
        )
        scores, attention, _ = zip(*(self.score_patches(inputs) for inputs, _ in loader), strict=True)
        scores, mean = torch.cat(scores), mean_per_image(torch.cat(scores), len(images))
        weights = mean_per_image(torch.cat(attention), len(images)) if self.variant.use_attention else None
        return mean, weights, scores.double().unflatten(0, (len(images), -1)).cpu().numpy()


# The command


def run(options, paths: list[str]) -> int:
    """Score, print and write; returns the exit status."""
    scorer = load_scorer(
        options.checkpoint, device=options.device, precision=options.precision, batch_size=options.batch_size
    )
    if options.attention and not scorer.variant.use_attention:
        raise ValueError(f"--attention: {options.checkpoint} is {scorer.variant.log_name}, which has no attention")
    about = describe(scorer, options.checkpoint)
    if scorer.config["flags"].get("test_random_crop"):
        say("Note: this run was evaluated on random crops; the scores below are of the fixed grid and differ a little")
    if scorer.resize == "squeeze":
        of = "published weights" if scorer.epoch is None else "a run with --resize squeeze"
        say(f"Note: {of}: every image is squeezed to 384x512 pixels (width x height), whatever its aspect")
    rows = print_table(score(paths, scorer, options), about, options.attention)
    if options.output:
        content = as_csv(rows, options.attention) if options.output.suffix.lower() == ".csv" else as_json(rows, about)
        write_atomically(options.output, content)
    if options.report:
        write_atomically(options.report, scores_page.page(rows, about, STAGES if options.attention else ()))
    unreadable = sum(row.error is not None for row in rows)
    written = "".join(f"; wrote {path}" for path in (options.output, options.report) if path)
    say(f"Scored {len(rows) - unreadable} of {len(rows)} images, {unreadable} unreadable{written}")
    return 1 if unreadable else 0


def score(paths: list[str], scorer, options) -> Iterator[Row]:
    """One row per path, in order, with a progress bar on a terminal."""

    def picture_of(pixels: Pixels) -> scores_page.Picture:
        places = corners(np.array([pixels.shape[:2]]), grid_positions(scorer.patches), scorer.patch_size)
        return scores_page.picture_of(pixels, np.stack(places, 1).tolist())

    with tqdm(total=len(paths), desc="Scoring", unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:
        for path, scored in zip(paths, scorer.stream(paths, picture_of if options.report else None), strict=True):
            attention = scored.attention if options.attention else None
            with bar.external_write_mode():  # the row takes the place of the bar
                yield Row(as_utf8(path), scored.score, attention, scored.error, scored.extra, scored.patches)
            bar.update()
