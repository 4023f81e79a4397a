"""Test images that have a near copy among the training and validation images, by a difference hash.

The hash of an image has 64 bits: the image is made grey and resized to 9x8 pixels, and each bit says whether a pixel
is brighter than its left neighbour (dHash: Neal Krawetz, "Kind of Like That", hackerfactor.com, 2013). Exposure,
colour, compression and size change few of the bits; a mirrored or much cropped copy is not found. Matches by chance
are estimated from the mirrored test images, which have no true copies.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from iqa.data.images import map_ahead, open_image, to_upright_rgb, with_progress
from iqa.data.labels import QualityData, require_sets

BITS = 64
DRAFT = (64, 64)  # least width and height to which libjpeg scales while it decodes
CHUNK = 256  # test images at a time: 256 x 10,000 distances in float32 are 10 MB

NearCopy = tuple[str, str, str, int]  # test image, nearest other image, its set, number of differing bits


def find_near_copies(data: QualityData, distance: int) -> tuple[list[NearCopy], int]:
    """The test images with a near copy within `distance` bits, and the number of mirrored test images that have one.

    Every image is decoded, JPEG at an eighth of its size: 12,000 of 512x512 pixels take 80 s on one core.

    Raises:
        ValueError: an image that cannot be read, named; or a split without training or test images.
    """
    require_sets(data)
    test, sets = data.sets["test"], ("training", "validation")
    others = [(name, set_name) for set_name in sets for name in data.sets[set_name].names]
    paths = [path for images in (test, *map(data.sets.get, sets)) for path in images.paths]
    greys = np.stack(list(with_progress(map_ahead(small_grey, paths), "Hashing", len(paths))))  # [N, 8, 9]
    own, theirs = greys[: len(test)], hashes(greys[len(test) :])
    nearest, distances = nearest_of(hashes(own), theirs)
    _, by_chance = nearest_of(hashes(own[:, :, ::-1]), theirs)
    found = [
        (name, *others[i], int(bits))
        for name, i, bits in zip(test.names, nearest, distances, strict=True)
        if bits <= distance
    ]
    return found, int(np.count_nonzero(by_chance <= distance))


def small_grey(path: Path) -> np.ndarray:
    """The image of a file in grey, upright: [8, 9] uint8."""
    with open_image(path) as image:
        image.draft("L", DRAFT)
        return np.asarray(to_upright_rgb(image).convert("L").resize((9, 8), Image.Resampling.BILINEAR))


def hashes(greys: np.ndarray) -> np.ndarray:
    """[N, 8, 9] greys -> [N, 64] bool."""
    return (greys[:, :, 1:] > greys[:, :, :-1]).reshape(-1, BITS)


def nearest_of(own: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `own` [N, 64], the index of the nearest of `theirs` [M, 64], the first of equals, and its distance.

    With bits as signs, the scalar product of two hashes is 64 less twice their distance.
    """
    signs = [np.where(bits, 1, -1).astype(np.float32) for bits in (own, theirs)]
    nearest, closest = [], []
    for start in range(0, len(own), CHUNK):
        products = signs[0][start : start + CHUNK] @ signs[1].T  # [256, M]
        nearest.append(products.argmax(axis=1))
        closest.append(products.max(axis=1))
    return np.concatenate(nearest), ((BITS - np.concatenate(closest)) / 2).astype(np.int64)
