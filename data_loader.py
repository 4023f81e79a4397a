"""Labelled images -> batches of patches on the device, by way of the cache, of memory or of the files themselves."""

import functools
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from iqa.console import say
from iqa.data.image_cache import DecodedImages, ImageCache, StoredImages
from iqa.data.labels import QualityData
from iqa.processes import end_with_parent, processes_here
from patches import DeviceImages, PatchBatch, PatchCutter, PatchTransform, as_tensors

WORKERS_FOR_GPU = 4
AHEAD = 2  # batches of each worker that lie ready
SHARED_MEMORY = Path("/dev/shm")  # of Linux, where the workers put them


@dataclass(frozen=True)
class ImageSource:
    """How the images of every set are read: one of cache, memory or the files themselves.

    Args:
        cache_dir: of the decoded images; None decodes a file for each of its patches.
        preload: hold the decoded pixels in host memory.
    """

    data: QualityData
    cache_dir: Path | None
    preload: bool
    log: Callable[[str], None] = print

    def open(self) -> dict[str, StoredImages | DecodedImages]:
        """The images of every set that has some."""
        paths = [path for images in self.data.sets.values() for path in images.paths]
        images = DecodedImages(paths)
        if self.cache_dir is not None:
            images = ImageCache(self.data.root, self.cache_dir, self.log).open(paths)
        ends = np.cumsum([len(images) for images in self.data.sets.values()])
        parts = zip(self.data.sets, [0, *ends[:-1]], ends, strict=True)
        opened = {name: images.part(start, end) for name, start, end in parts if end > start}
        return {name: part.in_memory() for name, part in opened.items()} if self.preload else opened


class PatchLoader:
    """Iterates over a plan: (inputs [B, 3, P, P], planned batch), both on the device.

    Args:
        images: `StoredImages` or `DecodedImages` that the plan's image numbers count.
        plan: `TrainingPlan` or `EvaluationPlan`.
        color_jitter: change the colours by the plan's amounts.
        num_workers: processes that cut patches ahead; 0 cuts them in this one, -1 is for `choose_workers`.
        on_device: hold the images (which must be `StoredImages`) in the device's memory.
        share: (i, n) for part i of the n equal parts of the plan; (0, 1) for all of it.

    Raises:
        ValueError: the workers have too little shared memory.
    """

    def __init__(
        self, images, plan, *, patch_size: int, color_jitter: bool, device, num_workers: int, on_device=False, share=(0, 1)
    ):
        self.plan, self.device = plan, device
        self.part = plan if share == (0, 1) else plan.share(*share)
        self.transform = PatchTransform(color_jitter=color_jitter).to(device)
        self.device_images = DeviceImages(images, patch_size, device) if on_device else None
        workers = 0 if on_device else choose_workers(num_workers, device.type, self.part.batch_size * patch_size**2 * 3)
        self.cut = self.part if on_device else DataLoader(
            PatchCutter(images, patch_size),
            sampler=self.part,
            batch_size=None,  # the plan's items are whole batches
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the one that dropout uses
            worker_init_fn=leave_signals_to_parent,
            multiprocessing_context="fork" if workers else None,  # a fresh interpreter would copy the pixels
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[tuple[Tensor, PatchBatch]]:
        for batch in self.cut_batches():
            if self.device_images:
                batch = self.to_device(as_tensors(batch))
                batch = batch._replace(pixels=self.device_images.cut(batch))
            else:
                batch = self.to_device(batch)
            yield self.transform(batch), batch

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


@functools.cache  # said once
def choose_workers(asked: int, device: str, batch_bytes: int) -> int:
    """-1 stands for none on a CPU, and for four, or as many as the shared memory has room for, beside a GPU."""
    wanted = asked if asked >= 0 else WORKERS_FOR_GPU if device == "cuda" else 0
    if not (wanted and SHARED_MEMORY.is_dir()):
        return wanted
    free = shutil.disk_usage(SHARED_MEMORY).free // processes_here()[1]
    room = next(n for n in range(wanted, -1, -1) if n == 0 or (AHEAD * n + 1) * batch_bytes <= free)
    if room < wanted:
        needed = (AHEAD * wanted + 1) * batch_bytes
        problem = (f"{wanted} processes that cut patches need {needed / 1e6:,.1f} MB in {SHARED_MEMORY}, which has "
                   f"{free / 1e6:,.1f} MB free")  # fmt: skip
        if asked >= 0:
            raise ValueError(f"--num_workers {asked}: {problem}; use {room}, or enlarge it")
        say(f"Warning: {problem}; {room or 'none'} will do it. Enlarge it for more speed")
    return room


def leave_signals_to_parent(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: the parent ends its workers itself. Killed, it takes them along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()  # torch's own check may take 5 seconds
