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
    nearest, by_chance = (nearest_of(hashes(x), theirs) for x in (own, own[:, :, ::-1]))
    copies = [(name, *others[i], bits) for name, (i, bits) in zip(test.names, nearest, strict=True) if bits <= distance]
    return copies, sum(bits <= distance for _, bits in by_chance)


def small_grey(path: Path) -> np.ndarray:
    """The image of a file in grey, upright: [8, 9] uint8."""
    with open_image(path) as image:
        image.draft("L", DRAFT)
        return np.asarray(to_upright_rgb(image).convert("L").resize((9, 8), Image.Resampling.BILINEAR))


def hashes(greys: np.ndarray) -> np.ndarray:
    """[N, 8, 9] greys -> [N, 64] bool."""
    return (greys[:, :, 1:] > greys[:, :, :-1]).reshape(-1, BITS)


def nearest_of(own: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int]]:
    """For each of `own` [N, 64], the index of the nearest of `theirs` [M, 64], and the number of bits that differ."""
    distances = (np.count_nonzero(theirs != bits, axis=1) for bits in own)
    return [(int(x.argmin()), int(x.min())) for x in distances]
