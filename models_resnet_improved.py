"""The three ResNet50 HyperIQA variants: tensors in, quality scores out.

    python3 models_resnet_improved.py          # parameter counts and shapes of the three variants, no network

The image's own features decide the weights of the small network that scores it (hyper network, Su et al., "Blindly
Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020):

    score = target_net(projection(features); hyper_net(features))

Axes: B patches, C channels, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa.models.backbones import BACKBONES
from iqa.models.pooling import GRID
from iqa.models.variants import VARIANTS, find_variant
from iqa.training.backbone_weights import load_backbone_weights

HYPER_CHANNELS = 512
TARGET_WIDTHS = (112, 224, 112, 56, 28, 1)  # the target network's input and its five layers
ATTENTION_DROPOUT = 0.5


class ImageQualityResNet(nn.Module):
    """ResNet50 backbone, optional fusion of its four scales, hyper network and target network.

    Args:
        use_multiscale: fuse stages 1-4 instead of using stage 4 alone.
        use_attention: weigh the four scales per image; needs ``use_multiscale``.
        dropout_rate: dropout in the hyper network, 0 <= rate < 1.
        backbone: a row of iqa/models/backbones.py; "resnet50" is torchvision's, its stages 1-4.
        weights: of the backbone: "imagenet", "none" or the path of a state dict.
        initial_score: where the scores start, on the MOS scale: the mean MOS of the training set saves the first
            thousand steps, which would be spent on climbing there.

    Raises:
        ValueError: attention without multi-scale, or weights of another shape.
        FileNotFoundError: weights that cannot be had.
    """

    def __init__(
        self, *, backbone="resnet50", use_multiscale=False, use_attention=False, dropout_rate=0.3, weights="imagenet",
        initial_score=0.0,
    ):  # fmt: skip
        super().__init__()
        self.variant = find_variant(backbone=backbone, use_multiscale=use_multiscale, use_attention=use_attention)
        row = BACKBONES[backbone]
        channels = sum(row.channels) if use_multiscale else row.channels[-1]
        self.backbone = row.build()  # [B, 3, H, W] -> four maps, at strides 4, 8, 16, 32, each pooled to 7x7
        load_backbone_weights(self.backbone, row, weights)
        self.fusion = MultiScaleFusion(row.channels, use_attention=use_attention) if use_multiscale else None
        feature_scale = 1 / len(row.channels) if use_attention else 1.0  # the attention starts near uniform
        self.hyper_net = HyperNet(
            channels, dropout_rate=dropout_rate, feature_scale=feature_scale, initial_score=initial_score
        )
        self.projection = nn.Conv2d(channels, TARGET_WIDTHS[0], 1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] normalised patches -> [B] scores on the MOS scale, fp32."""
        scores, _ = self.score_with_attention(images)
        return scores

    def score_with_attention(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """[B, 3, H, W] -> scores [B], attention over stages 1-4 [B, 4] (None without attention)."""
        stages = self.backbone(images)
        features, attention = self.fusion(stages) if self.fusion else (stages[-1], None)
        layers = self.hyper_net(features)
        with torch.autocast(images.device.type, enabled=False):  # a bf16 score near 100 has steps of 0.5
            # The average over the grid and a 1x1 convolution commute, and this order is 49 times cheaper.
            inputs = self.projection(features.float().mean((2, 3), keepdim=True)).flatten(1)
            scores = target_net(inputs, layers)
        assert scores.shape == images.shape[:1]
        return scores, attention


class MultiScaleFusion(nn.Module):
    """Four 7x7 maps -> their concatenation [B, 3840, 7, 7], optionally weighted per image."""

    def __init__(self, channels: tuple[int, ...], *, use_attention: bool):
        super().__init__()
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.ReLU()) for c in channels[:-1]
        )
        self.attention = ScaleAttention(channels) if use_attention else None

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        maps = [adapt(stage) for adapt, stage in zip(self.adapters, stages[:-1], strict=True)] + [stages[-1]]
        if self.attention is None:
            return torch.cat(maps, 1), None
        weights = self.attention(stages[-1])
        maps = [x * weight[:, None, None, None].to(x.dtype) for x, weight in zip(maps, weights.unbind(1), strict=True)]
        return torch.cat(maps, 1), weights


class ScaleAttention(nn.Module):
    """Channel attention over the scales: stage 4 [B, 2048, 7, 7] -> weights [B, 4] that sum to 1."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels[-1], 256), nn.ReLU(), nn.Dropout(ATTENTION_DROPOUT), nn.Linear(256, len(channels))
        )
        for layer in (self.layers[0], self.layers[-1]):  # small weights: the attention starts near uniform
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, stage4: Tensor) -> Tensor:
        return self.layers(stage4.mean((2, 3))).float().softmax(1)


class HyperNet(nn.Module):
    """Features [B, C, 7, 7] -> the target network's five (weight [B, out, in], bias [B, out]) pairs, fp32."""

    def __init__(self, channels: int, *, dropout_rate: float, feature_scale: float, initial_score: float):
        super().__init__()
        layers = list(zip(TARGET_WIDTHS[:-1], TARGET_WIDTHS[1:], strict=True))
        self.reduce = nn.Sequential(nn.Conv2d(channels, HYPER_CHANNELS, 1), nn.ReLU(), nn.Dropout(dropout_rate))
        self.weights = nn.ModuleList(nn.Conv2d(HYPER_CHANNELS, a * b // GRID**2, 1) for a, b in layers[:-1])
        self.last_weight = nn.Linear(HYPER_CHANNELS, layers[-1][0])
        self.biases = nn.ModuleList(nn.Linear(HYPER_CHANNELS, b) for _, b in layers)
        self.initialise(feature_scale, initial_score)

    def initialise(self, feature_scale: float, initial_score: float) -> None:
        """Choose the start of the *generated* layers: weights of variance 2 / fan-in / 7, biases of zero.

        Chang, Flokas and Lipson, "Principled Weight Initialization for Hypernetworks", ICLR 2020. The 49 weights that
        come from one map are correlated and add up, hence the division by the grid's width. With PyTorch's defaults
        the first scores reach the hundreds.
        """
        nn.init.kaiming_normal_(self.reduce[0].weight)
        with torch.no_grad():
            self.reduce[0].weight /= feature_scale
        for make, fan_in in zip([*self.weights, self.last_weight], TARGET_WIDTHS[:-1], strict=True):
            nn.init.normal_(make.weight, std=(2 / (fan_in * HYPER_CHANNELS)) ** 0.5 / GRID**0.5)
        for make in self.biases:
            nn.init.zeros_(make.weight)
        for layer in (self.reduce[0], *self.weights, self.last_weight, *self.biases):
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.biases[-1].bias, initial_score)

    def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        h = self.reduce(features)  # [B, 512, 7, 7]
        weights = [make(h).flatten(1).float() for make in self.weights]  # [B, in*out], in channel, row, column order
        with torch.autocast(h.device.type, enabled=False):
            g = h.float().mean((2, 3))  # [B, 512]
            weights.append(self.last_weight(g))
            biases = [make(g) for make in self.biases]
        return [(w.unflatten(1, (b.shape[1], -1)), b) for w, b in zip(weights, biases, strict=True)]


def target_net(inputs: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Score each patch by its own network: inputs [B, 112], weights [B, out, in], biases [B, out] -> [B]."""
    x = inputs[:, :, None]  # [B, in, 1]
    for weight, bias in layers[:-1]:
        x = F.relu(torch.baddbmm(bias[:, :, None], weight, x))
    weight, bias = layers[-1]
    return torch.baddbmm(bias[:, :, None], weight, x).flatten()


def main() -> None:
    torch.manual_seed(0)
    for variant in VARIANTS:
        model = ImageQualityResNet(
            use_multiscale=variant.use_multiscale, use_attention=variant.use_attention, weights="none"
        )  # in training mode: the batch norms have seen no image whose statistics evaluation could use
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"{variant.log_name}: {count:,} parameters ({count / 1e6:.2f}M)")
        for batch in (2, 1):
            with torch.no_grad():
                scores, attention = model.score_with_attention(torch.randn(batch, 3, 224, 224))
            print(f"  batch of {batch}: scores {list(scores.shape)}")
            for weights in attention if attention is not None else ():
                print(f"    attention {[round(w, 4) for w in weights.tolist()]}, sum {weights.sum():.4f}")


if __name__ == "__main__":
    main()
