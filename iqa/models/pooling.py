"""Pooling of feature maps to a grid of 7x7."""

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 7  # every feature map is brought to GRID x GRID


def pool_to_grid(x: Tensor) -> Tensor:
    """Adaptive average pooling: [B, C, H, W] -> [B, C, 7, 7].

    If 7 divides the sides of a square map, plain pooling gives the same averages. With deterministic algorithms,
    matrix products replace adaptive pooling, whose gradient on CUDA is not deterministic.
    """
    height, width = x.shape[2:]
    if height == width and height % GRID == 0:
        return F.avg_pool2d(x, height // GRID) if height > GRID else x
    if not torch.are_deterministic_algorithms_enabled():
        return F.adaptive_avg_pool2d(x, GRID)
    rows, columns = (averaging_windows(size, x.device) for size in (height, width))
    with torch.autocast(x.device.type, enabled=False):
        return (rows @ x.float() @ columns.T).to(x.dtype)


def averaging_windows(size: int, device: torch.device) -> Tensor:
    """Matrix [7, size] whose row i averages the cells from floor(i size / 7) to ceil((i + 1) size / 7)."""
    i, cells = torch.arange(GRID, device=device)[:, None], torch.arange(size, device=device)
    inside = ((cells >= i * size // GRID) & (cells < -(-(i + 1) * size // GRID))).float()
    return inside / inside.sum(1, keepdim=True)
