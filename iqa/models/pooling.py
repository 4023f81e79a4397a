"""Feature maps of any size -> a grid of 7x7."""

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 7  # every feature map is brought to GRID x GRID


def pool_to_grid(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 7, 7]: adaptive average pooling, the identity where the map is 7x7.

    Where 7 divides a square map, plain pooling gives the same averages. Adaptive pooling has no deterministic gradient
    on CUDA; matrix products have one.
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
    """[7, size]: row i averages the cells from floor(i size / 7) to ceil((i + 1) size / 7), adaptive pooling's window."""
    i, cells = torch.arange(GRID, device=device)[:, None], torch.arange(size, device=device)
    inside = ((cells >= i * size // GRID) & (cells < -(-(i + 1) * size // GRID))).float()
    return inside / inside.sum(1, keepdim=True)
