"""Which test images have a near copy among the images that a run trains or selects on: by a difference hash.

The hash of an image is 64 bits: it is made grey, resized to 9x8 pixels, and each bit says whether a pixel is brighter than
its left neighbour (dHash: Neal Krawetz, "Kind of Like That", hackerfactor.com, 2013). Exposure, colour, compression and size
change few of the bits; a mirrored or much cropped copy is not found.

Among millions of pairs some are alike by chance. How many is seen in the test images mirrored, left to right: they are as
varied, and copies of nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from iqa.data.images import map_ahead, open_image, to_upright_rgb, with_progress
from iqa.data.labels import QualityData, require_sets

ROWS, COLUMNS = 8, 8  # bits of a hash
BITS = ROWS * COLUMNS
DRAFT = (
    8 * COLUMNS,
    8 * ROWS,
)  # width and height in pixels at least, to which libjpeg scales by 2, 4 or 8 as it decodes
_CHUNK = 256  # test images at a time: 256 x 10,000 distances in float32 are 10 MB


class NearCopy(NamedTuple):
    """A test image and the nearest of the others."""

    name: str
    other: str
    set: str  # of the other: training or validation
    distance: int  # bits in which their hashes differ


class NearCopies(NamedTuple):
    """What was found."""

    found: list[NearCopy]  # in the order of the test images
    by_chance: int  # test images that have a match when they are mirrored
    test_images: int


def find_near_copies(data: QualityData, distance: int) -> NearCopies:
    """The test images whose hash differs from that of a training or validation image in at most `distance` bits.

    It decodes every image of the data set, JPEG at an eighth of its size: 12,000 of 512x512 pixels in 80 s on one core.

    Raises:
        ValueError: an image that cannot be read, named; or a split without training or test images.
    """
    require_sets(data)
    test = data.sets["test"]
    others = [
        (name, path, set_name)
        for set_name in ("training", "validation")
        for name, path in zip(data.sets[set_name].names, data.sets[set_name].paths, strict=True)
    ]
    small = small_greys([*test.paths, *(path for _, path, _ in others)])
    own, theirs = small[: len(test)], hashes(small[len(test) :])
    nearest, distances = nearest_of(hashes(own), theirs)
    _, mirrored = nearest_of(hashes(own[:, :, ::-1]), theirs)
    found = [
        NearCopy(name, others[place][0], others[place][2], int(bits))
        for name, place, bits in zip(test.names, nearest, distances, strict=True)
        if bits <= distance
    ]
    return NearCopies(found, int(np.count_nonzero(mirrored <= distance)), len(test))


def small_greys(paths: Sequence[Path]) -> np.ndarray:
    """[N, 8, 9] uint8: each image in grey, upright, 9x8 pixels; a progress bar on a terminal."""
    greys = np.empty((len(paths), ROWS, COLUMNS + 1), np.uint8)
    for place, grey in enumerate(with_progress(map_ahead(small_grey, paths), "Hashing", len(paths))):
        greys[place] = grey
    return greys


def small_grey(path: Path) -> np.ndarray:
    """[8, 9] uint8; ValueError names a file that is no image."""
    with open_image(path) as image:
        image.draft("L", DRAFT)
        grey = to_upright_rgb(image).convert("L")
        return np.asarray(grey.resize((COLUMNS + 1, ROWS), Image.Resampling.BILINEAR))


def hashes(greys: np.ndarray) -> np.ndarray:
    """[N, 8, 9] greys -> [N, 64] bool."""
    return (greys[:, :, 1:] > greys[:, :, :-1]).reshape(-1, BITS)


def nearest_of(own: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, 64] and [M, 64] bool -> for each of the N the place of the nearest of the M, the first of equal ones, and its distance.

    With bits as signs, the scalar product of two hashes is 64 less twice their distance.
    """
    signs = [np.where(bits, 1, -1).astype(np.float32) for bits in (own, theirs)]
    nearest, closest = [], []
    for start in range(0, len(own), _CHUNK):
        products = signs[0][start : start + _CHUNK] @ signs[1].T  # [256, M]
        nearest.append(products.argmax(axis=1))
        closest.append(products.max(axis=1))
    return np.concatenate(nearest), ((BITS - np.concatenate(closest)) / 2).astype(np.int64)


def as_lines(found: list[NearCopy]) -> str:
    """A line for each: the test image, its near copy, the set of that and the distance, with tabs between them."""
    return "".join("\t".join(map(str, copy)) + "\n" for copy in found)


def describe_near_copies(copies: NearCopies, distance: int, path: Path) -> str:
    """What the command says of them."""
    mirrored = f"{copies.by_chance:,} {'is' if copies.by_chance == 1 else 'are'} when mirrored"
    return (
        f"Near copies: {len(copies.found):,} of {copies.test_images:,} test images are within {distance} of {BITS} bits of a "
        f"training or validation image ({mirrored}, so about as many may be alike by chance); wrote {path}"
    )
