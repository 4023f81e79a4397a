"""Where patches lie in an image: positions in [0, 1] down and across, and the pixels that they stand for."""

import math
import zlib

import numpy as np


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
