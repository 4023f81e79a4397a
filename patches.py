"""Which patches are cut from which image, and how they become the network's input.

Every draw is a function of (seed, epoch, sample) for training and of (seed, image) for test crops, made here on the
CPU for the whole epoch: the number of workers, the cache, the device and a resume change nothing.

Axes: B patches, H rows, W columns, P patch size in pixels, C = 3 channels.
"""

import copy
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, get_worker_info

JITTER = (0.1, 0.1, 0.1, 0.05)  # half widths: brightness, contrast and saturation as factors, hue in turns
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchBatch(NamedTuple):
    """B patches: where they lie and how they are changed (numpy arrays in a plan, tensors once they are cut)."""

    image: Tensor  # [B] index of the image
    top: Tensor  # [B] row of the first pixel
    left: Tensor  # [B] column of the first pixel
    flip: Tensor  # [B] bool, mirrored left to right
    jitter: Tensor  # [B, 4] brightness, contrast and saturation factor, hue shift
    mos: Tensor  # [B] float32, 0-100
    pixels: Tensor | None = None  # [B, P, P, 3] uint8


class TrainingPlan:
    """An epoch of random patches in random order, as batches of one shape.

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
        draws = random.random((samples, 7), np.float32)  # row = sample
        order = random.permutation(samples)
        for batch in order[: len(self) * self.batch_size].reshape(len(self), self.batch_size):
            yield self.place(batch // self.patches, draws[batch])

    def share(self, number: int, count: int) -> "TrainingShare":
        """Part `number` of `count` equal parts of every batch."""
        assert self.batch_size % count == 0
        return TrainingShare(self, slice(number, None, count), self.batch_size // count)

    def place(self, image: np.ndarray, draws: np.ndarray) -> PatchBatch:
        top, left = corners(self.sizes[image], draws[:, :2], self.patch_size)
        jitter = np.float32([1, 1, 1, 0]) + (2 * draws[:, 3:] - 1) * np.float32(JITTER)
        return PatchBatch(image, top, left, draws[:, 2] < 0.5, jitter, self.mos[image])


@dataclass(frozen=True)
class TrainingShare:
    """The same patches of every batch of a plan."""

    plan: TrainingPlan
    patches: slice
    batch_size: int

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[PatchBatch]:
        for batch in self.plan:
            yield PatchBatch(*(field if field is None else field[self.patches] for field in batch))


class EvaluationPlan:
    """The same patches of every image each time, image by image: a grid, or crops drawn from (seed, image name)."""

    def __init__(self, sizes, mos, names, *, patches: int, patch_size: int, batch_size: int, seed: int, random: bool):
        mos = np.asarray(mos, np.float32)
        where = [
            corners(size[None], random_positions(name, patches, seed) if random else grid_positions(patches), patch_size)
            for size, name in zip(np.asarray(sizes), names, strict=True)
        ]
        top, left = (np.concatenate(values) for values in zip(*where, strict=True))
        image = np.repeat(np.arange(len(mos)), patches)
        self.batch_size = min(batch_size, len(image))
        still = np.tile(np.float32([1, 1, 1, 0]), (len(image), 1))
        fields = (image, top, left, np.zeros(len(image), bool), still, mos[image])
        self.batches = [
            PatchBatch(*(field[start : start + batch_size] for field in fields))
            for start in range(0, len(image), batch_size)
        ]

    def share(self, number: int, count: int) -> "EvaluationPlan":
        """Every `count`-th batch, from `number` on: no patch is left out, and none is in two shares."""
        part = copy.copy(self)
        part.batches = self.batches[number::count]
        return part

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PatchBatch]:
        return iter(self.batches)


def corners(sizes: np.ndarray, positions: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, 1] down and across the room that a patch has -> its first row and column, int64."""
    room = sizes - patch_size
    assert (room >= 0).all()
    places = np.minimum((positions * (room + 1)).astype(np.int64), room)
    return places[:, 0], places[:, 1]


def random_positions(name: str, patches: int, seed: int) -> np.ndarray:
    """[patches, 2], a function of the seed and the image's name alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).random((patches, 2))


def grid_positions(patches: int) -> np.ndarray:
    """[patches, 2] in [0, 1]: floor(sqrt(patches)) rows of evenly spaced patches, from edge to edge."""
    rows = math.isqrt(patches)
    across = [patches // rows + (row < patches % rows) for row in range(rows)]
    return np.array([(y, x) for y, n in zip(spread(rows), across, strict=True) for x in spread(n)])


def spread(n: int) -> np.ndarray:
    return np.linspace(0, 1, n) if n > 1 else np.array([0.5])


def as_tensors(batch: PatchBatch) -> PatchBatch:
    return PatchBatch(*(field if field is None else torch.from_numpy(field) for field in batch))


class PatchCutter(Dataset):
    """A planned batch -> the same batch with its pixels, cut on the host; what the loader's workers run."""

    def __init__(self, images: Sequence[np.ndarray], patch_size: int):
        self.images, self.patch_size = images, patch_size

    def __getitem__(self, batch: PatchBatch) -> PatchBatch:
        size = self.patch_size
        pixels = np.empty((len(batch.image), size, size, 3), np.uint8)
        places = zip(batch.image.tolist(), batch.top.tolist(), batch.left.tolist(), strict=True)
        for patch, (image, top, left) in zip(pixels, places, strict=True):
            patch[:] = self.images[image][top : top + size, left : left + size]
        cut = as_tensors(batch._replace(pixels=pixels))
        return in_shared_memory(cut) if get_worker_info() else cut


def in_shared_memory(batch: PatchBatch) -> PatchBatch:
    """The batch as a worker hands it over.

    Left to the queue, this is done by a thread of the worker: where there is too little shared memory, its error is
    printed and the batch is lost, and the loader waits for it for ever.
    """
    return PatchBatch(*(field.share_memory_() for field in batch))


class DeviceImages:
    """All images in the memory of the device; patches are cut there by one gather."""

    def __init__(self, stored, patch_size: int, device: torch.device):
        self.pixels = torch.from_numpy(stored.pixels).to(device)
        self.offsets = torch.from_numpy(stored.offsets).to(device)
        self.widths = torch.from_numpy(np.ascontiguousarray(stored.sizes()[:, 1])).to(device)
        self.steps = torch.arange(patch_size, device=device)
        self.bytes = torch.arange(3 * patch_size, device=device)

    def cut(self, batch: PatchBatch) -> Tensor:
        """A batch on the device -> its pixels [B, P, P, 3] uint8."""
        rows = batch.top[:, None] + self.steps  # [B, P]
        starts = self.offsets[batch.image, None] + 3 * (rows * self.widths[batch.image, None] + batch.left[:, None])
        pixels = self.pixels[starts[:, :, None] + self.bytes]  # [B, P, 3P]
        return pixels.unflatten(2, (-1, 3))


class PatchTransform(nn.Module):
    """Pixels of a batch on the device -> the network's input [B, 3, P, P], channels-last, fp32, normalised."""

    def __init__(self, *, color_jitter: bool):
        super().__init__()
        self.color_jitter = color_jitter
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD))

    def forward(self, batch: PatchBatch) -> Tensor:
        count, _, size, _ = batch.pixels.shape
        with_mirrored = torch.cat([batch.pixels, batch.pixels.flip(2)])  # choosing whole patches beats `where` by far
        chosen = torch.arange(count, device=batch.flip.device) + count * batch.flip
        rows = with_mirrored.index_select(0, chosen).flatten(2).float()  # [B, P, 3P] in 0-255
        if self.color_jitter:
            images = jitter_colors(rows.unflatten(2, (size, 3)).permute(0, 3, 1, 2) / 255, batch.jitter)
            rows = 255 * images.permute(0, 2, 3, 1).flatten(2)
        rows.sub_(self.mean.repeat(size)).div_(self.std.repeat(size))  # whole rows, in place: a CPU is slow at threes
        return rows.unflatten(2, (size, 3)).permute(0, 3, 1, 2)


def jitter_colors(images: Tensor, jitter: Tensor) -> Tensor:
    """torchvision's ColorJitter in the order brightness, contrast, saturation, hue; each patch by its own amounts.

    images [B, 3, P, P] in 0-1, jitter [B, 4] -> [B, 3, P, P] in 0-1.
    """
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
    sixths = torch.where(
        value == red, (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    ) + 6 * turns  # fmt: skip
    phase = torch.cat([(n + sixths) % 6 for n in (5, 3, 1)], 1)  # [B, 3, P, P]
    return value - chroma * torch.minimum(phase, 4 - phase).clamp(0, 1)
