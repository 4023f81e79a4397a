"""A planned batch of patches -> its pixels, cut by this process, by workers, or in the memory of a GPU.

Axes: B patches, H rows, W columns, P patch size in pixels. A batch is data_loader.PatchBatch.
"""

import functools
import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from iqa.cli import say
from iqa.data.images import StoredImages, map_ahead
from iqa.processes import processes_here

T = TypeVar("T")

WORKERS_FOR_GPU = 4
AHEAD = 2  # batches that each worker prepares in advance
COPIED_AT_ONCE = 256  # images, to a GPU; a copy of one image waits for every other process that uses the GPU
SHARED_MEMORY = Path("/dev/shm")  # where the workers store them on Linux


class PatchCutter(Dataset):
    """A planned batch -> the same batch with its pixels, cut on the host. It runs in the loader's workers."""

    def __init__(self, images: Sequence[np.ndarray], patch_size: int):
        self.images, self.patch_size = images, patch_size

    def __getitem__(self, batch: NamedTuple) -> NamedTuple:
        size = self.patch_size
        pixels = np.empty((len(batch.image), size, size, 3), np.uint8)
        places = zip(batch.image.tolist(), batch.top.tolist(), batch.left.tolist(), strict=True)
        for patch, (image, top, left) in zip(pixels, places, strict=True):
            patch[:] = self.images[image][top : top + size, left : left + size]
        cut = batch._replace(pixels=pixels).map(torch.from_numpy)
        # A worker's queue would move the batch to shared memory in a thread. With too little of it, the thread prints
        # an error, the batch is lost, and the loader waits for it forever.
        return cut.map(Tensor.share_memory_) if get_worker_info() else cut


class DeviceImages(StoredImages):
    """Resized images in the memory of the device, from which a batch of patches is cut by one gather."""

    def __init__(self, pixels: Tensor, offsets: np.ndarray, sizes: np.ndarray):
        super().__init__(pixels, offsets, sizes)
        self.device_offsets = torch.tensor(offsets, device=pixels.device)
        self.device_widths = torch.tensor(sizes[:, 1], device=pixels.device)

    @classmethod
    def of(cls, images: Sequence[np.ndarray], device: torch.device) -> "DeviceImages":
        """A copy of the images of `open_images`, one after the other."""
        sizes = images.sizes()
        ends = np.cumsum(3 * sizes.prod(1))
        pixels = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
        arriving, filled = map_ahead(images.__getitem__, range(len(images))), 0
        while block := [image.reshape(-1) for image in itertools.islice(arriving, COPIED_AT_ONCE)]:
            together = torch.from_numpy(np.concatenate(block))
            pixels[filled : filled + len(together)] = together
            filled += len(together)
        return cls(pixels, np.concatenate([[0], ends[:-1]]), sizes)

    def cut(self, batch: NamedTuple, patch_size: int) -> Tensor:
        """A batch on the device -> its pixels [B, P, P, 3] uint8."""
        rows = batch.top[:, None] + torch.arange(patch_size, device=self.pixels.device)  # [B, P]
        rows_before = rows * self.device_widths[batch.image, None]
        starts = self.device_offsets[batch.image, None] + 3 * (rows_before + batch.left[:, None])
        bytes_of_row = torch.arange(3 * patch_size, device=self.pixels.device)
        return self.pixels[starts[:, :, None] + bytes_of_row].unflatten(2, (-1, 3))


def made_ahead(items: Iterator[T], stream: torch.cuda.Stream | None) -> Iterator[T]:
    """Make each item on a GPU's `stream` while the work on the item before it runs on the current stream.

    Two events order the streams. The work on an item starts when it is `ready`. Item n+1 may reuse the memory of
    item n-1, so it waits until n-1 is `used`. An item is valid until the next one is requested.

    Args:
        stream: used for these items only; None on a CPU, where each item is made on request.
    """
    if stream is None:
        yield from items
        return
    consumer = torch.cuda.current_stream(stream.device)
    used = consumer.record_event()
    while True:
        with torch.cuda.stream(stream):
            stream.wait_event(used)
            try:
                item = next(items)
            except StopIteration:
                return
            ready = stream.record_event()
        consumer.wait_event(ready)
        used = consumer.record_event()
        yield item


@functools.cache  # warns once per process
def choose_workers(asked: int, device: str, batch_bytes: int) -> int:
    """Number of workers; -1: 0 on a CPU, up to 4 with a GPU."""
    wanted = asked if asked >= 0 else WORKERS_FOR_GPU if device == "cuda" else 0
    if not (wanted and SHARED_MEMORY.is_dir()):
        return wanted
    free = shutil.disk_usage(SHARED_MEMORY).free // processes_here()[1]
    room = next(n for n in range(wanted, -1, -1) if n == 0 or (AHEAD * n + 1) * batch_bytes <= free)
    if room < wanted:
        needed = (AHEAD * wanted + 1) * batch_bytes
        problem = (
            f"{wanted} workers need {needed / 1e6:,.1f} MB in {SHARED_MEMORY}, which has {free / 1e6:,.1f} MB free"
        )
        if asked >= 0:
            raise ValueError(f"--num_workers {asked}: {problem}; use {room}, or enlarge {SHARED_MEMORY}")
        say(f"Warning: {problem}; using {room} workers; enlarge {SHARED_MEMORY} for more speed")
    return room
