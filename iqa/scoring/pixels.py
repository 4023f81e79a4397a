"""A path, a PIL image or a tensor -> resized pixels, uint8 [H, W, 3] -> a small picture."""

import base64
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqa.data.images import Resize, check_size, read_pixels, to_upright_rgb

Pixels = np.ndarray  # [H, W, 3] uint8, resized
AnyImage = str | os.PathLike | Image.Image | Tensor
PICTURE = (384, 288)  # width and height in pixels, at most: sharp in the table, enough under a heat map


def pixels_of(image: AnyImage, resize: Resize) -> Pixels:
    """The resized pixels of a path, a PIL image or a tensor; ValueError for an unusable one."""
    if isinstance(image, (str, os.PathLike)):
        return read_pixels(Path(image), resize)
    if isinstance(image, Tensor):
        image = image_of_tensor(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"a {type(image).__name__} is not a path, PIL image or tensor")
    check_size(*image.size)
    return resize(to_upright_rgb(image))


def image_of_tensor(tensor: Tensor) -> Image.Image:
    """[3, H, W], uint8 or floats in 0-1, on any device."""
    shape = f"a tensor {tensor.dtype} {list(tensor.shape)}"
    if tensor.ndim != 3 or len(tensor) != 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
        raise ValueError(f"{shape} is not [3, H, W] of uint8 or of floats in 0-1")
    if tensor.is_floating_point():
        if not ((tensor >= 0) & (tensor <= 1)).all():
            raise ValueError(f"{shape} has values outside 0-1")
        tensor = (tensor.float() * 255).round().byte()
    return Image.fromarray(tensor.permute(1, 2, 0).contiguous().cpu().numpy())


def reason(error: Exception) -> str:
    """The error of an image in one line; for a file, Pillow's message."""
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


class Picture(NamedTuple):
    """A small JPEG of an image."""

    uri: str  # the file itself
    width: int
    height: int


def picture_of(pixels: Pixels) -> Picture:
    """The picture that the page shows."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail(PICTURE, Image.Resampling.BILINEAR)
    image.save(file, "JPEG", quality=80)
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size)
