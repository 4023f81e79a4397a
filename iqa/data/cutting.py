"""A planned batch of patches -> its pixels, cut by this process, by workers, or in the memory of a GPU.

Axes: B patches, H rows, W columns, P patch size in pixels. A batch is data_loader.PatchBatch.
"""

import functools
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from iqa.cli import say
from iqa.processes import end_with_parent, processes_here

WORKERS_FOR_GPU = 4
AHEAD = 2  # batches of each worker that lie ready
SHARED_MEMORY = Path("/dev/shm")  # of Linux, where the workers put them


def as_tensors(batch: NamedTuple) -> NamedTuple:
    return batch._make(field if field is None else torch.from_numpy(field) for field in batch)


class PatchCutter(Dataset):
    """A planned batch -> the same batch with its pixels, cut on the host; what the loader's workers run."""

    def __init__(self, images: Sequence[np.ndarray], patch_size: int):
        self.images, self.patch_size = images, patch_size

    def __getitem__(self, batch: NamedTuple) -> NamedTuple:
        size = self.patch_size
        pixels = np.empty((len(batch.image), size, size, 3), np.uint8)
        places = zip(batch.image.tolist(), batch.top.tolist(), batch.left.tolist(), strict=True)
        for patch, (image, top, left) in zip(pixels, places, strict=True):
            patch[:] = self.images[image][top : top + size, left : left + size]
        cut = as_tensors(batch._replace(pixels=pixels))
        return in_shared_memory(cut) if get_worker_info() else cut


def in_shared_memory(batch: NamedTuple) -> NamedTuple:
    """The batch as a worker hands it over.

    Left to the queue, this is done by a thread of the worker: where there is too little shared memory, its error is
    printed and the batch is lost, and the loader waits for it for ever.
    """
    return batch._make(field.share_memory_() for field in batch)


class DeviceImages:
    """All images in the memory of the device; patches are cut there by one gather."""

    def __init__(self, stored, patch_size: int, device: torch.device):
        self.pixels = torch.from_numpy(stored.pixels).to(device)
        self.offsets = torch.from_numpy(stored.offsets).to(device)
        self.widths = torch.from_numpy(np.ascontiguousarray(stored.sizes()[:, 1])).to(device)
        self.steps = torch.arange(patch_size, device=device)
        self.bytes = torch.arange(3 * patch_size, device=device)

    def cut(self, batch: NamedTuple) -> Tensor:
        """A batch on the device -> its pixels [B, P, P, 3] uint8."""
        rows = batch.top[:, None] + self.steps  # [B, P]
        starts = self.offsets[batch.image, None] + 3 * (rows * self.widths[batch.image, None] + batch.left[:, None])
        pixels = self.pixels[starts[:, :, None] + self.bytes]  # [B, P, 3P]
        return pixels.unflatten(2, (-1, 3))


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
        problem = (
            f"{wanted} processes that cut patches need {needed / 1e6:,.1f} MB in {SHARED_MEMORY}, which has "
            f"{free / 1e6:,.1f} MB free"
        )
        if asked >= 0:
            raise ValueError(f"--num_workers {asked}: {problem}; use {room}, or enlarge it")
        say(f"Warning: {problem}; {room or 'none'} will do it. Enlarge it for more speed")
    return room


def leave_signals_to_parent(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: the parent ends its workers itself. Killed, it takes them along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()  # torch's own check may take 5 seconds
