"""Three steps of a small network in float64 by each loss, in one process or under torchrun; writes the weights.

    torchrun --nproc_per_node=2 tests/train_together.py weights.pth

In float64, rounding cannot hide a wrong gradient. Every process has other patches.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from iqa.cli import Command  # noqa: E402
from iqa.processes import is_first, process_count, process_number  # noqa: E402
from iqa.training.distributed import distribute, joined, mean_over_processes  # noqa: E402
from iqa.training.losses import training_loss  # noqa: E402
from iqa.training.recipe import LOSSES  # noqa: E402


def train(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 1),
    )
    images, mos = torch.randn(3, 8, 3, 8, 8), torch.rand(3, 8)  # three steps of eight patches
    mine = slice(process_number(), None, process_count())
    trained = distribute(network, torch.device("cpu"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    loss_of, losses, norms = (F.l1_loss if name == "l1" else training_loss(name, 0.3)), [], []
    for step in range(3):
        loss = loss_of(trained(images[step, mine]).squeeze(1), mos[step, mine])
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.get_total_norm([parameter.grad for parameter in network.parameters()]))  # AdamW hides it
        optimizer.step()
        losses.append(mean_over_processes(loss.detach()))
    reached = {**network.state_dict(), "losses": torch.stack(losses), "norms": torch.stack(norms)}
    return {f"{name} {key}": x for key, x in reached.items()}


torch.set_default_dtype(torch.float64)
with Command([]), joined(torch.device("cpu")):
    reached = {key: x for name in LOSSES for key, x in train(name).items()}
    if is_first():
        torch.save(reached, sys.argv[1])
