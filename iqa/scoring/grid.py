"""The patches of an image that are scored."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Grid:
    """The patches of an image of `size` (height, width), in pixels after the resize."""

    size: tuple[int, int]
    patch_size: int
    tops: np.ndarray  # [patches] first row of each
    lefts: np.ndarray  # [patches] first column of each
    replaced: float | None = None  # coverage of the evaluation's patches, if this grid was chosen instead of them

    def __len__(self) -> int:
        return len(self.tops)

    @cached_property
    def coverage(self) -> float:
        """Share of the image that is in at least one patch."""
        covered = np.zeros(self.size, bool)
        for top, left in zip(self.tops, self.lefts, strict=True):
            covered[top : top + self.patch_size, left : left + self.patch_size] = True
        return float(covered.mean())


def shapes_that_cover(share: float, size: tuple[int, int], patch_size: int) -> Iterator[tuple[int, int]]:
    """(rows, columns) of the grids whose patches can cover a share of an image, the smallest grid first."""
    height, width = size
    shapes = itertools.product(*(range(1, math.ceil(length / patch_size) + 1) for length in size))
    large_enough = [(m, n) for m, n in shapes if m * n * patch_size**2 >= share * height * width]
    yield from sorted(large_enough, key=lambda shape: (math.prod(shape), abs(shape[0] * width - shape[1] * height)))
