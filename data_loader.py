#!/usr/bin/env python3
"""A data folder -> labelled images -> batches of patches: all that happens to an image before the network sees it.

    python3 data_loader.py ./koniq-10k                               # check a folder and print its split
    python3 data_loader.py ./ChallengeDB_release --dataset livec     # of another data set

The way of an image, and of this file from top to bottom:

    labels    names, MOS and sets, read and checked by iqa/data/datasets.py. A MOS keeps the scale of its file: 0 to 100 for
              KonIQ, whose official csv names the set of each image too (iqa/data/koniq.py)
    pixels    an image, turned by its EXIF rotation and made RGB, is resized by Pillow's antialiased bilinear filter so that
              its shorter side is 384 pixels, up or down, and its aspect is kept, the longer side rounded: 1024 wide and
              768 high becomes 512 wide and 384 high. With --resize squeeze every image becomes 384 wide and 512 high.
              It is done once, and the bytes are kept in a file (iqa/data/image_cache.py); with --no_cache it is done
              for each patch
    patches   squares of P x P pixels inside the image. To train, --train_patch_num of each image in each epoch, their row
              and column uniform over all that fit, drawn anew for each epoch, and the patches of all images shuffled.
              To evaluate, --test_patch_num of each image, the same ones every time: an even grid from edge to edge,
              floor(sqrt(n)) rows of it (25: 5 rows of 5; 1: the centre), or with --test_random_crop uniform places, by a
              generator of (seed, CRC-32 of the name). A place u in 0 to 1 is the pixel floor(u (H - P + 1)), at most H - P
    batches   patches cut from the pixels (iqa/data/cutting.py) and changed on the device. To train, mirrored left to right
              with probability 1/2, then, without --no_color_jitter, changed in brightness, contrast and saturation by
              factors uniform in 0.9 to 1.1 and in hue by up to 0.05 turns, in this order, each patch by amounts of its
              own. To train and to evaluate, normalised by the mean and deviation of ImageNet. What fills no whole
              batch is left out of a training epoch, and is a smaller last batch of an evaluation
    scores    of the patches come back in the same order; an image's is their mean, unweighted

Every draw is a function of (seed, epoch, sample) for training and of (seed, image name) for random test crops, never of
what was drawn before: the number of workers, the cache, the device and a resume change nothing.

Axes: B patches, H rows, W columns, P patch size in pixels, C = 3 channels.
"""

if __name__ == "__main__":  # the check of a folder is told at once: torch takes seconds to load
    import sys

    from iqa.data.check import main

    sys.exit(main())

import copy
import itertools
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iqa.data.color_jitter import jitter_colors
from iqa.data.cutting import AHEAD, DeviceImages, PatchCutter, as_tensors, choose_workers, leave_signals_to_parent
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages, StoredImages
from iqa.data.labels import QualityData
from iqa.data.places import corners, grid_positions, random_positions

JITTER = (0.1, 0.1, 0.1, 0.05)  # half widths: brightness, contrast and saturation as factors, hue in turns
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# Pixels


def open_images(
    data: QualityData,
    *,
    cache_dir: Path | None,
    preload: bool = False,
    resize: str = "keep",
    log: Callable[[str], None] = print,
) -> dict[str, StoredImages | DecodedImages]:
    """The resized images of every set that has some: images[i] is uint8 [H, W, 3].

    Args:
        cache_dir: of the resized images, which are decoded once; None decodes a file for each of its patches.
        preload: hold the resized pixels in host memory.
        resize: keep the aspect, or squeeze every image to 384 wide and 512 high.
    """
    paths = [path for images in data.sets.values() for path in images.paths]
    if cache_dir is None:
        images = DecodedImages(paths, resize)
    else:
        images = ImageCache(data.root, cache_dir, log, resize).open(paths)
    ends = np.cumsum([len(images) for images in data.sets.values()])
    parts = zip(data.sets, [0, *ends[:-1]], ends, strict=True)
    opened = {name: images.part(start, end) for name, start, end in parts if end > start}
    return {name: part.in_memory() for name, part in opened.items()} if preload else opened


# Patches


class PatchBatch(NamedTuple):
    """B patches: where they lie and how they are changed (numpy arrays in a plan, tensors once they are cut)."""

    image: Tensor  # [B] index of the image
    top: Tensor  # [B] row of the first pixel
    left: Tensor  # [B] column of the first pixel
    flip: Tensor  # [B] bool, mirrored left to right
    jitter: Tensor  # [B, 4] brightness, contrast and saturation factor, hue shift
    mos: Tensor  # [B] float32, of the image, on the scale of the labels
    pixels: Tensor | None = None  # [B, P, P, 3] uint8


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
    """Every n-th patch of each batch of a plan, for one of n processes; `batch_size` is the share's."""

    plan: TrainingPlan
    patches: slice
    batch_size: int

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[PatchBatch]:
        for batch in self.plan:
            yield PatchBatch(*(field if field is None else field[self.patches] for field in batch))


class EvaluationPlan:
    """The same patches of every image each time, image by image: an even grid, or crops drawn from (seed, image name).

    The last batch may be smaller, so that none is left out; nothing is mirrored or jittered.
    """

    def __init__(self, sizes, mos, names, *, patches: int, patch_size: int, batch_size: int, seed: int, random: bool):
        mos = np.asarray(mos, np.float32)
        where = [
            corners(
                size[None], random_positions(name, patches, seed) if random else grid_positions(patches), patch_size
            )
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


def mean_per_image(values: Tensor, images: int) -> np.ndarray:
    """What an `EvaluationPlan` gave for its patches, [N * patches, ...] -> the mean of each image, [N, ...]."""
    return values.double().unflatten(0, (images, -1)).mean(1).cpu().numpy()


# Batches


class PatchLoader:
    """Iterates over a plan: (inputs [B, 3, P, P], planned batch), both on the device.

    Args:
        images: of `open_images`, which the plan's image numbers count.
        plan: `TrainingPlan` or `EvaluationPlan`.
        color_jitter: change the colours by the plan's amounts.
        num_workers: processes that cut patches ahead; 0 cuts them in this one, -1 is none on a CPU, 4 beside a GPU.
        on_device: hold the images (which must be `StoredImages`) in the device's memory.
        share: (i, n) for part i of the n parts of the plan; (0, 1) for all of it.

    Raises:
        ValueError: the workers have too little shared memory.
    """

    def __init__(
        self,
        images,
        plan,
        *,
        patch_size: int,
        color_jitter: bool,
        device,
        num_workers: int,
        on_device=False,
        share=(0, 1),
    ):
        self.plan, self.device = plan, device
        self.part = plan if share == (0, 1) else plan.share(*share)
        self.transform = PatchTransform(color_jitter=color_jitter).to(device)
        self.cutter = PatchCutter(images, patch_size)
        self.device_images = DeviceImages(images, patch_size, device) if on_device else None
        workers = 0 if on_device else choose_workers(num_workers, device.type, self.part.batch_size * patch_size**2 * 3)
        self.cut = (
            self.part
            if on_device
            else DataLoader(
                self.cutter,
                sampler=self.part,
                batch_size=None,  # the plan's items are whole batches
                num_workers=workers,
                prefetch_factor=AHEAD if workers else None,
                persistent_workers=workers > 0,
                pin_memory=device.type == "cuda",
                generator=torch.Generator(),  # else the loader draws from the one that dropout uses
                worker_init_fn=leave_signals_to_parent,
                multiprocessing_context="fork" if workers else None,  # a fresh interpreter would copy the pixels
            )
        )

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[tuple[Tensor, PatchBatch]]:
        for batch in self.cut_batches():
            batch = self.cut_on_device(batch) if self.device_images else self.to_device(batch)
            yield self.transform(batch), batch

    def first(self, patches: int) -> Tensor:
        """The inputs of the plan's first patches, so many or all there are, whatever this loader's share of them."""
        inputs = []
        for batch in itertools.islice(self.plan, -(-patches // self.plan.batch_size)):
            batch = PatchBatch(*(field if field is None else field[:patches] for field in batch))
            batch = self.cut_on_device(batch) if self.device_images else self.to_device(self.cutter[batch])
            inputs.append(self.transform(batch))
        return torch.cat(inputs)[:patches]

    def cut_on_device(self, batch: PatchBatch) -> PatchBatch:
        batch = self.to_device(as_tensors(batch))
        return batch._replace(pixels=self.device_images.cut(batch))

    def cut_batches(self) -> Iterator[PatchBatch]:
        try:
            batches = iter(self.cut)
            if getattr(self.cut, "num_workers", 0):
                # For a worker that dies torch would raise in the midst of anything, a half-written checkpoint included.
                # Without that the loader sees it when it waits for a batch, within 5 seconds.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except OSError as error:  # of the queues between the workers and this process, or of the start of one
            raise OSError(
                f"--num_workers: the processes that cut patches cannot be started ({error.strerror}); use fewer, or 0, "
                "or enlarge /dev/shm"
            ) from error

    def to_device(self, batch: PatchBatch) -> PatchBatch:
        return PatchBatch(*(x if x is None else x.to(self.device, non_blocking=True) for x in batch))


class PatchTransform(nn.Module):
    """Pixels of a batch on the device -> the network's input [B, 3, P, P], channels-last, fp32, normalised.

    Args:
        color_jitter: change brightness, contrast, saturation and hue as torchvision's ColorJitter does, but always in this
            order, by the plan's amounts (iqa/data/color_jitter.py).
    """

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
