"""The patches of an image that are scored."""

import math
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
    replaced: float | None = None  # coverage of the evaluation's patches, if this grid replaces them

    def __len__(self) -> int:
        return len(self.tops)

    def cut(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The patches of an array [H, W, ...], as views."""
        side = self.patch_size
        return [pixels[y : y + side, x : x + side] for y, x in zip(self.tops, self.lefts, strict=True)]

    @cached_property
    def coverage(self) -> float:
        """Share of the image that is in at least one patch."""
        covered = np.zeros(self.size, bool)
        for patch in self.cut(covered):
            patch[...] = True
        return float(covered.mean())


def smallest_shape(size: tuple[int, int], patch_size: int, share: float) -> tuple[int, int]:
    """Rows and columns of the smallest even grid that covers a share of an image."""
    height, width = size
    shapes = [
        (rows * columns, rows, columns)
        for rows in range(1, math.ceil(height / patch_size) + 1)
        for columns in range(1, math.ceil(width / patch_size) + 1)
        if min(rows * patch_size, height) * min(columns * patch_size, width) >= math.floor(share * height * width)
    ]
    return min(shapes)[1:]
