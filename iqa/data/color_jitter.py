"""torchvision's ColorJitter for a whole batch on the device, each patch by its own amounts.

Axes: B patches, P patch size in pixels.
"""

import torch
from torch import Tensor


def jitter_colors(images: Tensor, jitter: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order.

    images [B, 3, P, P] in 0-1, jitter [B, 4] -> [B, 3, P, P] in 0-1.
    """
    brightness, contrast, saturation, hue = jitter[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1] each
    images = (images * brightness).clamp(0, 1)
    mean = grey(images).mean((2, 3), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    level = grey(images)
    images = (level + saturation * (images - level)).clamp(0, 1)
    return shift_hue(images, hue)


def grey(images: Tensor) -> Tensor:
    """ITU-R BT.601 luma, [B, 3, P, P] -> [B, 1, P, P]."""
    red, green, blue = images.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of HSV, value and chroma kept: images [B, 3, P, P] in 0-1, turns [B, 1, 1, 1]."""
    red, green, blue = images.split(1, 1)
    value, chroma = images.amax(1, keepdim=True), images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
    safe = chroma.clamp_min(1e-8)
    sixths = (
        torch.where(
            value == red,
            (green - blue) / safe,
            torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
        )
        + 6 * turns
    )
    phase = torch.cat([(n + sixths) % 6 for n in (5, 3, 1)], 1)  # [B, 3, P, P]
    return value - chroma * torch.minimum(phase, 4 - phase).clamp(0, 1)
