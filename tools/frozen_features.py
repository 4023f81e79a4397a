"""Training of the head on frozen features of real photographs: three variants, several seeds, and ridge regression.

    python3 tools/frozen_features.py BIQ2021 --dataset biq2021 --train 1000 --test 400 --cache features.pt

The features come from a ResNet18 with ImageNet weights, one patch of 224 pixels per image. AdamW trains the head
with learning rate and weight decay 1e-4, batches of 32 and the L1 loss. Such a short training shows how variants start,
not how good they become.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from data_loader import EvaluationPlan, PatchLoader, Resize  # noqa: E402
from iqa.data.datasets import load_dataset  # noqa: E402
from iqa.data.images import DecodedImages  # noqa: E402
from iqa.health import layer_health  # noqa: E402
from iqa.metrics import plcc, srcc  # noqa: E402
from iqa.models.backbones import BACKBONES, Backbone  # noqa: E402
from iqa.models.variants import FUSIONS  # noqa: E402
from iqa.models.weights import build_backbone  # noqa: E402
from models_resnet_improved import ImageQualityResNet  # noqa: E402

CHANNELS = (64, 128, 256, 512)
BATCH, STEPS, LAST = 32, 300, 50  # the training loss is the mean of the last steps


class Frozen(nn.Module):
    """Stored features: [B, sum of C, 7, 7] -> four maps."""

    channels = CHANNELS

    def forward(self, features: Tensor) -> list[Tensor]:
        return list(features.split(CHANNELS, 1))


BACKBONES["frozen"] = Backbone("Frozen features", Frozen, "frozen")


class Features(NamedTuple):
    """Features and labels of one set."""

    maps: Tensor  # [N, sum of C, 7, 7]
    mos: Tensor  # [N] on a scale of 0-100


def extract(images, mos_range: tuple[float, float], count: int | None, weights: str) -> Features:
    """Features of one central patch of each of the first `count` images."""
    chosen = slice(None, count)
    decoded, names = DecodedImages(images.paths[chosen], Resize()), images.names[chosen]
    low, high = mos_range
    mos = 100 * (images.mos[chosen] - low) / (high - low)
    plan = EvaluationPlan(decoded.sizes(), mos, names, patches=1, patch_size=224, batch_size=16, seed=0, random=False)
    loader = PatchLoader(decoded, plan, patch_size=224, color_jitter=False, device=torch.device("cpu"), num_workers=0)
    network = build_backbone("resnet18", weights=weights).eval()
    with torch.inference_mode():
        maps = [torch.cat(network(inputs), 1) for inputs, _ in loader]
    return Features(torch.cat(maps), torch.from_numpy(np.float32(mos)))


def train_head(train: Features, test: Features, flags: dict, seed: int, steps: int = STEPS) -> dict:
    """Train the head; returns its figures on the test images, losses on a scale of 0-100."""
    torch.manual_seed(seed)
    model = ImageQualityResNet(
        backbone="frozen", weights="none", mos_mean=train.mos.mean(), mos_deviation=train.mos.std(), **flags
    )
    order = torch.cat([torch.randperm(len(train.mos)) for _ in range(-(-steps * BATCH // len(train.mos)))])
    model.start(train.maps[order[:BATCH]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    losses = []
    for step in range(steps):
        batch = order[step * BATCH : (step + 1) * BATCH]
        loss = F.l1_loss(model(train.maps[batch]), train.mos[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        found = [model.describe(maps) for maps in test.maps.split(100)]
    scores = torch.cat([part.scores for part in found]).numpy()
    layers = [layer_health(torch.cat(units).numpy()) for units in zip(*(part.hidden for part in found), strict=True)]
    return {
        "loss": float(np.mean(losses[-LAST:])),
        "srcc": srcc(scores, test.mos),
        "plcc": plcc(scores, test.mos),
        "worst_layer": max(x["either"] for x in layers),
        "p5": float(np.percentile(scores, 5) - np.percentile(test.mos, 5)),
    }


def ridge(train: Features, test: Features, use_multiscale: bool) -> float:
    """The best SRCC over the penalties of a ridge regression on the pooled, standardised features."""
    pooled = [x.maps.mean((2, 3)).double().numpy()[:, 0 if use_multiscale else -CHANNELS[-1] :] for x in (train, test)]
    mean, deviation = pooled[0].mean(0), pooled[0].std(0) + 1e-9
    known, asked = ((x - mean) / deviation for x in pooled)
    kernel, target = known @ known.T, train.mos.double().numpy()
    return max(
        srcc(
            asked @ known.T @ np.linalg.solve(kernel + penalty * np.eye(len(kernel)), target - target.mean()), test.mos
        )
        for penalty in 10.0 ** np.arange(0, 7, 0.5)
    )


def read_features(options: argparse.Namespace) -> tuple[Features, Features]:
    if options.cache and options.cache.exists():
        return tuple(Features(*pair) for pair in torch.load(options.cache, weights_only=True))
    data = load_dataset(options.dataset, options.data_path, mos_range=options.mos_range)
    parts = [
        extract(data.sets[name], data.mos_range, count, options.weights)
        for name, count in (("training", options.train), ("test", options.test))
    ]
    if options.cache:
        torch.save([tuple(part) for part in parts], options.cache)
    return tuple(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_path")
    parser.add_argument("--dataset", default="csv")
    parser.add_argument("--mos_range", nargs=2, type=float)
    parser.add_argument("--train", type=int, help="images; default: all")
    parser.add_argument("--test", type=int, help="images; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--weights", default="imagenet", help="weights of the ResNet18")
    parser.add_argument("--cache", type=Path, help="file that keeps the features")
    options = parser.parse_args()
    train, test = read_features(options)
    print(f"{len(train.mos)} images to train, {len(test.mos)} to test; {STEPS} steps; {len(options.seeds)} seeds\n")
    print("| head | training L1 | SRCC | PLCC | SRCC of ridge | worst layer lost | 5th percentile, score - MOS |")
    print("|---|---|---|---|---|---|---|")
    for name, _, use_multiscale, use_attention in FUSIONS:
        flags = {"use_multiscale": use_multiscale, "use_attention": use_attention}
        runs = [train_head(train, test, flags, seed) for seed in options.seeds]
        cells = {key: np.array([run[key] for run in runs]) for key in runs[0]}
        print(
            f"| {name[2:]} | {cells['loss'].mean():.2f} (at most {cells['loss'].max():.2f}) "
            f"| {cells['srcc'].mean():.3f} (at least {cells['srcc'].min():.3f}) | {cells['plcc'].mean():.3f} "
            f"| {ridge(train, test, use_multiscale):.3f} | {cells['worst_layer'].max():.0%} "
            f"| {cells['p5'].mean():+.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
