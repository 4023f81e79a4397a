"""A checkpoint and images -> scores: the model, the resize and the grid of patches of the run's evaluation.

The flags are described in score_images.py. Axes: B patches, N images, H rows, W columns, C = 3 channels.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqa.data.image_cache import SHORT_SIDE, cpu_count, decode, map_ahead, resized_pixels
from iqa.training.checkpoints import load_checkpoint
from iqa.training.devices import EVALUATION_BATCH, autocast, choose_precision, open_device
from models_resnet_improved import ImageQualityResNet, fold_batch_norms
from data_loader import PatchLoader
from patches import EvaluationPlan
from training import mean_per_image

DECODERS = 8  # threads at most: an image of 89 million pixels takes half a gigabyte while it is decoded
FLAGS = {"use_multiscale": bool, "use_attention": bool, "patch_size": int, "test_patch_num": int}  # that a score needs

Pixels = np.ndarray  # [H, W, 3] uint8, resized
AnyImage = str | os.PathLike | Image.Image | Tensor


class ScoredImage(NamedTuple):
    """A score on the scale of the training labels, or the reason why there is none."""

    score: float | None = None
    attention: tuple[float, ...] | None = None  # weights of stages 1-4, where the model has attention
    error: str | None = None
    extra: Any = None


class Scorer:
    """Scores images as the evaluation of a run does: each by the mean over a fixed grid of patches.

    Args:
        model: in the state of the chosen epoch.
        config: of the run, as in its config.json.
        epoch: that the weights are of.
        device, precision: where and in which arithmetic; neither is "auto".
        batch_size: patches at a time.
    """

    def __init__(self, model: ImageQualityResNet, config: dict, *, epoch: int, device, precision: str, batch_size: int):
        self.folded, self.config, self.epoch = fold_batch_norms(model), config, epoch
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.patch_size, self.patches = config["flags"]["patch_size"], config["flags"]["test_patch_num"]
        self.variant = model.variant

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
                pixels = pixels_of(image)
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
        scores, attention = self.mean_scores(images)
        if not np.isfinite(scores).all():
            raise ValueError("the checkpoint gives scores that are not finite; its run has diverged")
        weights = map(tuple, attention.tolist()) if attention is not None else itertools.repeat(None)
        return map(ScoredImage, scores.tolist(), weights)

    def score_patches(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """[B, 3, P, P] normalised patches on the device -> scores [B], attention [B, 4] (None without attention)."""
        with autocast(self.device, self.precision):
            return self.folded.score_with_attention(inputs)

    @torch.inference_mode()
    def mean_scores(self, images: list[Pixels]) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores [N] and attention [N, 4], each the mean over the image's patches."""
        plan = EvaluationPlan(
            [image.shape[:2] for image in images], np.zeros(len(images)), [""] * len(images), patches=self.patches,
            patch_size=self.patch_size, batch_size=self.batch_size, seed=0, random=False,
        )  # fmt: skip
        loader = PatchLoader(
            images, plan, patch_size=self.patch_size, color_jitter=False, device=self.device, num_workers=0
        )
        scores, attention = zip(*(self.score_patches(inputs) for inputs, _ in loader), strict=True)
        mean = mean_per_image(torch.cat(scores), len(images))
        return mean, mean_per_image(torch.cat(attention), len(images)) if self.variant.use_attention else None


def load_scorer(
    checkpoint: str | os.PathLike, *, device: str = "auto", precision: str = "auto", batch_size: int | None = None
) -> Scorer:
    """The scorer of a `_best.pth` or `_last.pth`; the arguments are those of score_images.py.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: damaged, not of this program, or a device that is not there.
    """
    where = open_device(device)
    saved = load_checkpoint(Path(checkpoint))
    config = check_config(saved, checkpoint)
    flags = config["flags"]
    model = ImageQualityResNet(
        use_multiscale=flags["use_multiscale"], use_attention=flags["use_attention"], weights="none"
    )
    try:
        model.load_state_dict(saved["model"])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{checkpoint}: its weights are not those of {model.variant.log_name}") from error
    if precision == "auto" and config.get("precision") == "fp32":
        precision = "fp32"
    return Scorer(
        model.to(where, memory_format=torch.channels_last), config, device=where,
        precision=choose_precision(precision, where), batch_size=batch_size or EVALUATION_BATCH[where.type],
        epoch=saved.get("epoch") or len(saved.get("history", ())),
    )  # fmt: skip


def check_config(saved: dict, checkpoint: str | os.PathLike) -> dict:
    """The run's config; ValueError for a dictionary that train_resnet_improved.py did not save."""
    ways = "name a _best.pth or _last.pth that train_resnet_improved.py saved"
    missing = [key for key in ("model", "config") if not isinstance(saved.get(key), dict)]
    if missing:
        raise ValueError(f"{checkpoint}: holds no {' and no '.join(missing)}, so its settings are unknown; {ways}")
    flags = saved["config"].get("flags", {})
    wrong = [name for name, kind in FLAGS.items() if not isinstance(flags.get(name), kind)]
    if wrong or not (1 <= flags["patch_size"] <= SHORT_SIDE and flags["test_patch_num"] >= 1):
        raise ValueError(f"{checkpoint}: the flags of its run lack {', '.join(wrong) or 'a usable patch size'}; {ways}")
    return saved["config"]


def pixels_of(image: AnyImage) -> Pixels:
    """The resized pixels of a path, a PIL image or a tensor; ValueError says what is wrong with it."""
    if isinstance(image, (str, os.PathLike)):
        return decode(Path(image))
    if isinstance(image, Tensor):
        image = image_of_tensor(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"a {type(image).__name__} is no path, PIL image or tensor")
    return resized_pixels(image)


def image_of_tensor(tensor: Tensor) -> Image.Image:
    """[3, H, W], uint8 or floats in 0-1, on any device."""
    shape = f"a tensor {tensor.dtype} {list(tensor.shape)}"
    if tensor.ndim != 3 or len(tensor) != 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
        raise ValueError(f"{shape} is not [3, H, W] of uint8 or of floats in 0-1")
    if tensor.is_floating_point():
        if not ((tensor >= 0) & (tensor <= 1)).all():
            raise ValueError(f"{shape} has values outside 0-1")
        tensor = (tensor.float() * 255).round().byte()
    return Image.fromarray(tensor.permute(1, 2, 0).contiguous().cpu().numpy())


def reason(error: Exception) -> str:
    """What is wrong with an image, in one line: of `decode`, what Pillow said."""
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return " ".join(str(error).split()) or type(error).__name__
