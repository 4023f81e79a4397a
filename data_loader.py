#!/usr/bin/env python3
"""A data folder -> labelled images -> batches of patches.

    python3 data_loader.py ./koniq-10k                               # check a folder and print its split
    python3 data_loader.py ./ChallengeDB_release --dataset livec     # the same for another data set

iqa/data/datasets.py reads the labels, iqa/data/images.py decodes the images. This file resizes the images (`Resize`),
chooses the patches (`TrainingPlan`, `EvaluationPlan`) and turns them into batches for the network (`PatchLoader`,
`PatchTransform`). Every draw is a function of (seed, epoch, sample) for training and of (seed, image name) for
evaluation: the number of workers, the cache, the device and a resume change nothing.

Axes: B patches, H rows, W columns, P patch size in pixels.
"""

if __name__ == "__main__":  # checks a folder without torch, which takes seconds to load
    import sys

    from iqa.data.check import main

    sys.exit(main())

import copy
import itertools
import math
import signal
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iqa.data.cutting import AHEAD, DeviceImages, PatchCutter, choose_workers, made_ahead
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages, StoredImages
from iqa.data.labels import QualityData
from iqa.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from iqa.processes import leave_signals_to_parent

# Half widths: brightness, contrast and saturation as factors, hue as a fraction of the colour circle.
JITTER = np.float32([0.1, 0.1, 0.1, 0.05])
NO_JITTER = np.float32([1, 1, 1, 0])


# Pixels


@dataclass(frozen=True)
class Resize:
    """--resize: "keep" the aspect, or "squeeze" every image to 384 wide and 512 high, as published models expect."""

    name: str = "keep"
    short_side: int = 384  # pixels, after the resize

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after the resize: 1024x768 becomes 512x384."""
        if self.name == "squeeze":
            return 384, 512
        scale = self.short_side / min(width, height)
        return round(width * scale), round(height * scale)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image -> uint8 [H, W, 3], by Pillow's antialiased bilinear filter."""
        return np.asarray(image.resize(self.size(*image.size), Image.Resampling.BILINEAR))


def open_images(data: QualityData, *, cache_dir: Path | None, resize: str) -> dict[str, StoredImages | DecodedImages]:
    """The resized images of every set that has some: images[i] is uint8 [H, W, 3].

    Args:
        cache_dir: of the resized images, which are decoded once; None decodes a file for each of its patches.
        resize: name of the `Resize`.
    """
    if cache_dir is None:
        images = DecodedImages(data.paths(), Resize(resize))
    else:
        images = ImageCache(data.root, cache_dir, Resize(resize)).open(data.paths())
    numbers = np.split(np.arange(len(images)), np.cumsum(list(data.sizes().values()))[:-1])
    return {name: images.chosen(part) for name, part in zip(data.sets, numbers, strict=True) if len(part)}


# Patches


def corners(sizes: np.ndarray, positions: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row [N] and column [N] of the first pixel of each patch, so that it is inside its image.

    Args:
        sizes: [N, 2] height and width of the image of each patch, or [1, 2] of one image.
        positions: [N, 2] in 0-1, down and across.
    """
    room = sizes - patch_size
    assert (room >= 0).all()
    first = np.minimum((positions * (room + 1)).astype(np.int64), room)
    return first[:, 0], first[:, 1]


def random_positions(name: str, patches: int, seed: int) -> np.ndarray:
    """[patches, 2], a function of the seed and the image's name alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).random((patches, 2))


def evenly_spaced(n: int) -> np.ndarray:
    """n positions in 0-1, from edge to edge."""
    return np.linspace(0, 1, n) if n > 1 else np.array([0.5])


def grid_positions(patches: int) -> np.ndarray:
    """[patches, 2]: floor(sqrt(patches)) rows of evenly spaced patches (25: 5 rows of 5; 1: the centre)."""
    rows = math.isqrt(patches)
    columns = [patches // rows + (row < patches % rows) for row in range(rows)]
    return np.array([(y, x) for y, n in zip(evenly_spaced(rows), columns, strict=True) for x in evenly_spaced(n)])


class PatchBatch(NamedTuple):
    """B patches: positions and augmentations. The fields are numpy arrays in a plan, tensors after the cutting."""

    image: Tensor  # [B] index of the image
    top: Tensor  # [B] row of the first pixel
    left: Tensor  # [B] column of the first pixel
    flip: Tensor  # [B] bool, mirrored left to right
    jitter: Tensor  # [B, 4] brightness, contrast and saturation factor, hue shift
    mos: Tensor  # [B] float32, of the image, on the scale of the labels
    pixels: Tensor | None = None  # [B, P, P, 3] uint8

    def map(self, function: Callable) -> "PatchBatch":
        """The batch with `function` of each field that is not None."""
        return PatchBatch(*(field if field is None else function(field) for field in self))


class TrainingPlan:
    """An epoch of random patches in random order, each mirrored with probability 1/2, as batches of one size.

    Args:
        sizes: [N, 2] height and width of each image.
        mos: [N].
        patches: per image and epoch.

    The patches that do not fill the last batch are left out of that epoch; `dropped` counts them.
    """

    def __init__(self, sizes, mos, *, patches: int, patch_size: int, batch_size: int, seed: int):
        self.sizes, self.mos = np.asarray(sizes), np.asarray(mos, np.float32)
        self.patches, self.patch_size, self.batch_size, self.seed = patches, patch_size, batch_size, seed
        self.epoch = 1
        self.dropped = len(self.mos) * patches % batch_size

    def __len__(self) -> int:
        return len(self.mos) * self.patches // self.batch_size

    def __iter__(self) -> Iterator[PatchBatch]:
        samples = len(self.mos) * self.patches
        random = np.random.default_rng([self.seed, self.epoch])
        draws = random.random((samples, 7), np.float32)  # of a patch: two of its place, flip, four of its jitter
        order = random.permutation(samples)
        for batch in order[: len(self) * self.batch_size].reshape(len(self), self.batch_size):
            image, drawn = batch // self.patches, draws[batch]
            place, flip, jitter = drawn[:, :2], drawn[:, 2], drawn[:, 3:]
            top, left = corners(self.sizes[image], place, self.patch_size)
            yield PatchBatch(image, top, left, flip < 0.5, NO_JITTER + (2 * jitter - 1) * JITTER, self.mos[image])

    def share(self, number: int, count: int) -> "TrainingShare":
        """Part `number` of `count` equal parts of every batch."""
        assert self.batch_size % count == 0
        return TrainingShare(self, slice(number, None, count), self.batch_size // count)


@dataclass(frozen=True)
class TrainingShare:
    """Every n-th patch of each batch of a plan, for one of n processes; `batch_size` is the share's."""

    plan: TrainingPlan
    patches: slice
    batch_size: int

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[PatchBatch]:
        for batch in self.plan:
            yield batch.map(lambda field: field[self.patches])


class EvaluationPlan(list):
    """The same patches of every image each time, image by image: an even grid, or crops drawn from (seed, image name).

    A list of the batches. The last one may be smaller, so that no patch is left out; nothing is mirrored or jittered.
    """

    def __init__(self, sizes, mos, names, *, patches: int, patch_size: int, batch_size: int, seed: int, random: bool):
        mos = np.asarray(mos, np.float32)
        positions = [random_positions(name, patches, seed) if random else grid_positions(patches) for name in names]
        image = np.repeat(np.arange(len(mos)), patches)
        top, left = corners(np.asarray(sizes)[image], np.concatenate(positions), patch_size)
        jitter = np.tile(NO_JITTER, (len(image), 1))
        patches_of_all = PatchBatch(image, top, left, np.zeros(len(image), bool), jitter, mos[image])
        super().__init__(
            patches_of_all.map(lambda field, start=start: field[start : start + batch_size])
            for start in range(0, len(image), batch_size)
        )
        self.batch_size = min(batch_size, len(image))

    def share(self, number: int, count: int) -> "EvaluationPlan":
        """Every `count`-th batch, from `number` on: no patch is left out, and none is in two shares."""
        part = copy.copy(self)
        part[:] = self[number::count]
        return part


def mean_per_image(values: Tensor, images: int) -> np.ndarray:
    """Values of the patches of an `EvaluationPlan`, [N * patches, ...] -> the mean of each image, [N, ...]."""
    return values.double().unflatten(0, (images, -1)).mean(1).cpu().numpy()


# Batches


class PatchLoader:
    """Iterates over a plan: (inputs [B, 3, P, P], planned batch), both on the device.

    Args:
        images: of `open_images`, or copied to the device by `DeviceImages.of`; image numbers index this list.
        plan: `TrainingPlan` or `EvaluationPlan`.
        color_jitter: change the colours by the plan's amounts.
        num_workers: processes that cut patches ahead; 0 cuts them in this one, -1 is none on a CPU, 4 beside a GPU.
        share: (i, n) for part i of the n parts of the plan; (0, 1) for all of it.

    Raises:
        ValueError: the workers have too little shared memory.
    """

    def __init__(self, images, plan, *, patch_size: int, color_jitter: bool, device, num_workers: int, share=(0, 1)):
        self.images, self.plan, self.patch_size, self.device = images, plan, patch_size, device
        self.part = plan if share == (0, 1) else plan.share(*share)
        self.transform, self.color_jitter = PatchTransform().to(device), color_jitter
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.on_device = isinstance(images, DeviceImages)
        self.batches = self.part if self.on_device else self.cut_on_host(num_workers)

    def cut_on_host(self, num_workers: int) -> DataLoader:
        """The batches of the plan with their pixels, by workers or in this process."""
        workers = choose_workers(num_workers, self.device.type, 3 * self.part.batch_size * self.patch_size**2)
        return DataLoader(
            PatchCutter(self.images, self.patch_size),
            sampler=self.part,
            batch_size=None,  # the plan's items are whole batches
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the one that dropout uses
            worker_init_fn=leave_signals_to_parent,
            multiprocessing_context="fork" if workers else None,  # a fresh interpreter would copy the pixels
        )

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[tuple[Tensor, PatchBatch]]:
        return made_ahead(map(self.inputs, self.cut_batches()), self.stream)

    def first(self, patches: int) -> Tensor:
        """The inputs of the plan's first patches, so many or all there are, whatever this loader's share of them."""
        inputs = []
        for batch in itertools.islice(self.plan, -(-patches // self.plan.batch_size)):
            batch = batch.map(lambda field: field[:patches])
            if not self.on_device:
                batch = PatchCutter(self.images, self.patch_size)[batch]
            inputs.append(self.inputs(batch)[0])
        return torch.cat(inputs)[:patches]

    def inputs(self, batch: PatchBatch) -> tuple[Tensor, PatchBatch]:
        """A cut batch, or for `DeviceImages` a planned one -> inputs [B, 3, P, P], and the batch on the device."""
        batch = batch.map(lambda field: torch.as_tensor(field).to(self.device, non_blocking=True))
        if self.on_device:
            batch = batch._replace(pixels=self.images.cut(batch, self.patch_size))
        return self.transform(batch.pixels, batch.flip, batch.jitter if self.color_jitter else None), batch

    def cut_batches(self) -> Iterator[PatchBatch]:
        try:
            batches = iter(self.batches)
            if not self.on_device and self.batches.num_workers:
                # For a worker that dies torch would raise in the midst of anything, a half-written checkpoint included.
                # Without that the loader sees it when it waits for a batch, within 5 seconds.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except OSError as error:  # of the queues between the workers and this process, or of the start of one
            raise OSError(
                f"--num_workers: the processes that cut patches cannot be started ({error.strerror}); use fewer, or 0, "
                "or enlarge /dev/shm"
            ) from error


class PatchTransform(nn.Module):
    """Pixels [B, P, P, 3] on the device -> the network's input [B, 3, P, P], channels-last, fp32, normalised."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD))

    def forward(self, pixels: Tensor, flip: Tensor | None = None, jitter: Tensor | None = None) -> Tensor:
        """Mirror the patches of `flip` and change the colours by `jitter`, where these are given."""
        count, _, size, _ = pixels.shape
        if flip is not None:
            with_mirrored = torch.cat([pixels, pixels.flip(2)])  # choosing whole patches beats `where` by far
            pixels = with_mirrored.index_select(0, torch.arange(count, device=flip.device) + count * flip)
        rows = pixels.flatten(2).float()  # [B, P, 3P] in 0-255
        if jitter is not None:
            images = jitter_colors(rows.unflatten(2, (size, 3)).permute(0, 3, 1, 2) / 255, jitter)
            rows = 255 * images.permute(0, 2, 3, 1).flatten(2)
        # Whole rows, in place: rows of 3 values are slow on a CPU.
        rows.sub_(self.mean.repeat(size)).div_(self.std.repeat(size))
        return rows.unflatten(2, (size, 3)).permute(0, 3, 1, 2)


def jitter_colors(images: Tensor, jitter: Tensor) -> Tensor:
    """torchvision's ColorJitter, each patch by its own amounts: images [B, 3, P, P] in 0-1, jitter [B, 4]."""
    brightness, contrast, saturation, hue = jitter[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1] each
    images = (images * brightness).clamp(0, 1)
    mean = grey(images).mean((2, 3), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    level = grey(images)
    images = (level + saturation * (images - level)).clamp(0, 1)
    return shift_hue(images, hue)


def grey(images: Tensor) -> Tensor:
    """ITU-R BT.601 luma, [B, 3, P, P] -> [B, 1, P, P]."""
    red, green, blue = images.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of HSV, value and chroma kept: images [B, 3, P, P] in 0-1, turns [B, 1, 1, 1]."""
    red, green, blue = images.split(1, 1)
    value, chroma = images.amax(1, keepdim=True), images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
    safe = chroma.clamp_min(1e-8)
    sixths = (
        torch.where(
            value == red,
            (green - blue) / safe,
            torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
        )
        + 6 * turns
    )
    phase = torch.cat([(n + sixths) % 6 for n in (5, 3, 1)], 1)  # [B, 3, P, P]
    return value - chroma * torch.minimum(phase, 4 - phase).clamp(0, 1)
