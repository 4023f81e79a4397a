"""The three HyperIQA variants: patches in, quality scores out.

    python3 models_resnet_improved.py          # parameter counts of all models, and shapes of the three variants

A patch's own features decide the weights of the small network that scores it (hyper network, Su et al., "Blindly Assess
Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020):

    features = the backbone's last map, or with --use_multiscale its four maps, with --use_attention weighted
    score    = training mean + training deviation * target_net(mean of projection(features); hyper_net(features))

Axes: B patches, C channels, H rows, W columns. Other backbones than ResNet50 are in iqa/models/backbones.py, the
published models in iqa/models/published.py.
"""

import argparse
import copy
import sys

from iqa.cli import OneLineParser

if __name__ == "__main__":  # before torch, which takes seconds to load
    OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()

import torch
from torch import Tensor, nn

from iqa.models.backbones import BACKBONES
from iqa.models.patch_scores import PatchScores
from iqa.models.pooling import GRID, pool_to_grid
from iqa.models.published import PUBLISHED, build_published
from iqa.models.variants import VARIANTS, Variant, find_variant, variants_of
from iqa.models.weights import build_backbone

HYPER_CHANNELS = 512
TARGET_WIDTHS = (112, 224, 112, 56, 28, 1)  # the target network's input and its five layers
ATTENTION_DROPOUT = 0.5
# Adam moves every weight by the learning rate, whatever its gradient, so a generated weight moves by that times the sum
# of 512 hidden values. Unscaled, they saturate the target network's sigmoids within a few dozen steps. At 1 / sqrt(512)
# they do not, and at a third of that fewer units come near 0 or 1 (measured: docs/experiments/head_start.md).
HYPER_GAIN = 1 / (3 * HYPER_CHANNELS**0.5)
FIRST_DEVIATION = 0.1  # of the first scores, in deviations of the training MOS


class ImageQualityResNet(nn.Module):
    """Backbone, optional fusion of its four maps, hyper network and target network.

    Args:
        backbone: a row of iqa/models/backbones.py, or "timm:NAME".
        use_multiscale: fuse the maps of stages 1-4 instead of using that of stage 4 alone.
        use_attention: weight the four maps for each patch; needs ``use_multiscale``.
        dropout_rate: dropout in the hyper network, 0 <= rate < 1.
        weights: of the backbone: "imagenet" (torchvision's IMAGENET1K_V1), "none" or the path of a state dict.
        patch_size: side of the patches; only some backbones of timm are built for one size.
        drop_path_rate: of the backbone's stochastic depth; None: the backbone's default.
        mos_mean, mos_deviation: of the training MOS. The network's output is in units of the deviation, so that
            all MOS scales train the same: Adam's steps do not depend on the size of the loss.

    Before a new model is trained, `start` has to be called with a batch.
    """

    def __init__(
        self,
        *,
        backbone="resnet50",
        use_multiscale=False,
        use_attention=False,
        dropout_rate=0.3,
        weights="imagenet",
        patch_size=224,
        drop_path_rate=None,
        mos_mean=0.0,
        mos_deviation=1.0,
    ):
        super().__init__()
        self.variant = find_variant(backbone=backbone, use_multiscale=use_multiscale, use_attention=use_attention)
        # torchvision's ResNet50 without its classifier: [B, 3, H, W] -> the maps of stages 1-4 with 256, 512, 1024 and
        # 2048 channels, at strides 4, 8, 16 and 32, each averaged to a 7x7 grid by `pool_to_grid`
        self.backbone = build_backbone(backbone, weights=weights, patch_size=patch_size, drop_path_rate=drop_path_rate)
        if use_multiscale:
            self.fusion = MultiScaleFusion(self.backbone.channels, use_attention=use_attention)
            channels = sum(self.backbone.channels)  # ResNet50: 3840
        else:
            self.fusion = SingleScale(self.backbone.channels)
            channels = self.backbone.channels[-1]  # ResNet50: 2048
        self.hyper_net = HyperNet(channels, dropout_rate=dropout_rate)
        self.projection = nn.Conv2d(channels, TARGET_WIDTHS[0], 1)
        self.register_buffer("mos_mean", torch.tensor(float(mos_mean)))
        self.register_buffer("mos_deviation", torch.tensor(float(mos_deviation)))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] normalised patches -> [B] scores on the MOS scale, fp32."""
        return self.describe(images).scores

    def describe(self, images: Tensor) -> PatchScores:
        """[B, 3, H, W] -> scores [B], attention [B, 4] or None, hidden units [B, 224], [B, 112], [B, 56], [B, 28]."""
        features, attention = self.fusion(self.backbone(images, pool_to_grid))  # [B, C, 7, 7], [B, 4] or None
        assert features.shape[2:] == (7, 7)  # GRID
        layers = self.hyper_net(features)
        with torch.autocast(images.device.type, enabled=False):  # a bf16 score near 100 has steps of 0.5
            # The average over the grid and a 1x1 convolution commute, and this order is 49 times cheaper.
            inputs = self.projection(features.float().mean((2, 3), keepdim=True)).flatten(1)  # [B, 112]
            output, hidden = target_net(inputs, layers)
            scores = self.mos_mean + self.mos_deviation * output
        assert scores.shape == images.shape[:1]
        return PatchScores(scores, attention, hidden)

    @property
    def slow_part(self) -> nn.Module:
        """The part whose learning rate is --lr where --head_lr_ratio is not 1."""
        return self.backbone

    def rescaled(self, slope: float, intercept: float) -> dict[str, Tensor]:
        """Entries of the state dict with which the scores become intercept + slope * scores."""
        return {"mos_mean": intercept + slope * self.mos_mean, "mos_deviation": slope * self.mos_deviation}

    @torch.no_grad()
    def start(self, images: Tensor) -> None:
        """Set buffers and last layer from one batch [B, 3, H, W], so that all variants and backbones start alike.

        Features are standardised by constants, which training does not change. The first scores of these patches get
        the training mean and a tenth of the training deviation. Dropout is off, and batch norms use the statistics of
        the batch; they keep those of ImageNet where they have some, and get those of the batch elsewhere.
        """
        copied = copy.deepcopy(self).eval()
        for module in copied.modules():
            if isinstance(module, Standardise):
                module.register_forward_pre_hook(lambda module, inputs: module.measure(inputs[0]))
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
                module.momentum = 0.0 if module.running_mean.any() else 1.0
        scores = copied(images)
        self.load_state_dict(copied.state_dict())
        self.hyper_net.set_first_scores((scores - self.mos_mean) / self.mos_deviation)


class Standardise(nn.Module):
    """Subtract the channels' means from a map [B, C, H, W] and divide it by one deviation for all channels.

    Unlike batch norm, it is the same function in training and evaluation, the patches of a batch do not depend on each
    other, and an image with weaker features keeps weaker features. With one deviation per channel, a channel that is
    almost constant in the first batch would be amplified. Before `measure` it is the identity.

    Args:
        variance: mean variance of the channels of the result.
    """

    def __init__(self, channels: int, *, variance: float = 1.0):
        super().__init__()
        self.variance = variance
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.float() - self.mean[:, None, None]) * self.factor).to(x.dtype)

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Set the constants from [B, C, H, W]; a constant map does not change them."""
        x = x.double()
        variance = x.var((0, 2, 3), correction=0).mean()
        if variance > 0:
            self.mean.copy_(x.mean((0, 2, 3)))
            self.factor.copy_((self.variance / variance).sqrt())


class SingleScale(nn.Module):
    """Four 7x7 maps -> the last one, standardised."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.standardise = Standardise(channels[-1])

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, None]:
        return self.standardise(stages[-1]), None


class MultiScaleFusion(nn.Module):
    """Four 7x7 maps -> their concatenation [B, C, 7, 7], optionally weighted for each patch, and the weights [B, 4].

    The maps of stages 1-3 go through an adapter. All four maps get the same total variance, whatever their channels.
    """

    def __init__(self, channels: tuple[int, ...], *, use_attention: bool):
        super().__init__()
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.ReLU()) for c in channels[:-1]
        )
        mean_channels = sum(channels) / len(channels)
        self.standardise = nn.ModuleList(Standardise(c, variance=mean_channels / c) for c in channels)
        self.attention = ScaleAttention(channels) if use_attention else None

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        maps = [adapt(stage) for adapt, stage in zip(self.adapters, stages[:-1], strict=True)] + [stages[-1]]
        maps = [standardise(x) for standardise, x in zip(self.standardise, maps, strict=True)]
        if self.attention is None:
            return torch.cat(maps, 1), None
        weights = self.attention(maps[-1])  # [B, 4]
        shares = len(maps) * weights  # 1 where all weights are equal: attention starts as multi-scale without it
        maps = [x * share[:, None, None, None].to(x.dtype) for x, share in zip(maps, shares.unbind(1), strict=True)]
        return torch.cat(maps, 1), weights


class ScaleAttention(nn.Module):
    """Standardised stage 4 [B, C, 7, 7] -> a weight for each scale [B, 4], sum 1. SMART-IQA's "channel attention"."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels[-1], 256), nn.ReLU(), nn.Dropout(ATTENTION_DROPOUT), nn.Linear(256, len(channels))
        )
        for layer in (self.layers[0], self.layers[-1]):  # small weights: the attention starts near uniform
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, stage4: Tensor) -> Tensor:
        pooled = stage4.mean((2, 3)) / stage4.shape[1] ** 0.5  # for the reason of HYPER_GAIN
        return self.layers(pooled).float().softmax(1)


class HyperNet(nn.Module):
    """Features [B, C, 7, 7] -> the target network's five (weight [B, out, in], bias [B, out]) pairs, fp32."""

    def __init__(self, channels: int, *, dropout_rate: float):
        super().__init__()
        layers = list(zip(TARGET_WIDTHS[:-1], TARGET_WIDTHS[1:], strict=True))
        self.reduce = nn.Sequential(nn.Conv2d(channels, HYPER_CHANNELS, 1), nn.ReLU(), nn.Dropout(dropout_rate))
        self.weights = nn.ModuleList(nn.Conv2d(HYPER_CHANNELS, a * b // GRID**2, 1) for a, b in layers[:-1])
        self.last_weight = nn.Linear(HYPER_CHANNELS, layers[-1][0])
        self.biases = nn.ModuleList(nn.Linear(HYPER_CHANNELS, b) for _, b in layers)
        self.initialise()

    def initialise(self) -> None:
        """Initialise the *generated* layers: on standardised features weights of variance 2 / fan-in / 49, zero biases.

        Chang, Flokas and Lipson, "Principled Weight Initialization for Hypernetworks", ICLR 2020. The 49 weights that
        come from one map are correlated, and their inputs are sigmoids near 0.5, so they add up: divide by 49.
        With PyTorch's defaults the first scores reach the hundreds. `set_first_scores` then scales the last layer.
        """
        nn.init.kaiming_normal_(self.reduce[0].weight)
        for make, fan_in in zip([*self.weights, self.last_weight], TARGET_WIDTHS[:-1], strict=True):
            nn.init.normal_(make.weight, std=(2 / (fan_in * HYPER_CHANNELS)) ** 0.5 / GRID / HYPER_GAIN)
        for make in self.biases:
            nn.init.zeros_(make.weight)
        for layer in (self.reduce[0], *self.weights, self.last_weight, *self.biases):
            nn.init.zeros_(layer.bias)

    def set_first_scores(self, outputs: Tensor) -> None:
        """Change the last layer so that these outputs [B] become outputs of mean 0 and FIRST_DEVIATION."""
        deviation = outputs.std(correction=0)
        if deviation > 0:  # it is 0 if all images are the same
            self.last_weight.weight *= FIRST_DEVIATION / deviation
            self.biases[-1].bias -= FIRST_DEVIATION / deviation * outputs.mean()

    def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        h = HYPER_GAIN * self.reduce(features)  # [B, 512, 7, 7]
        weights = [make(h).flatten(1).float() for make in self.weights]  # [B, in*out], in channel, row, column order
        with torch.autocast(h.device.type, enabled=False):
            g = h.float().mean((2, 3))  # [B, 512]
            weights.append(self.last_weight(g))
            biases = [make(g) for make in self.biases]
        return [(w.unflatten(1, (b.shape[1], -1)), b) for w, b in zip(weights, biases, strict=True)]


def target_net(inputs: Tensor, layers: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Score each patch by its own network: inputs [B, 112], weights [B, out, in], biases [B, out] -> [B], hidden units.

    Sigmoid after all layers but the last, as in HyperIQA: with ReLU, a short run can miss one end of the scale.
    """
    x, hidden = inputs[:, :, None], []  # [B, in, 1]
    for weight, bias in layers[:-1]:
        x = torch.baddbmm(bias[:, :, None], weight, x).sigmoid()
        hidden.append(x.squeeze(2))
    weight, bias = layers[-1]
    return torch.baddbmm(bias[:, :, None], weight, x).flatten(), hidden


def build_variant(variant: Variant) -> ImageQualityResNet:
    return ImageQualityResNet(
        backbone=variant.backbone,
        use_multiscale=variant.use_multiscale,
        use_attention=variant.use_attention,
        weights="none",
    )


def print_count(name: str, model: nn.Module) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {count:,} parameters ({count / 1e6:.2f}M)")


def main() -> int:
    torch.manual_seed(0)
    for variant in VARIANTS:
        model = build_variant(variant)
        print_count(variant.log_name, model)
        model.start(torch.randn(4, 3, 224, 224))
        for batch in (2, 1):
            with torch.no_grad():
                scores, attention, _ = model.describe(torch.randn(batch, 3, 224, 224))
            print(f"  batch of {batch}: scores {list(scores.shape)}")
            for weights in attention if attention is not None else ():
                print(f"    attention {[round(w, 4) for w in weights.tolist()]}, sum {weights.sum():.4f}")
    with torch.device("meta"):  # shapes only
        for backbone in list(BACKBONES)[1:]:
            for variant in variants_of(backbone):
                print_count(variant.log_name, build_variant(variant))
        for name, row in PUBLISHED.items():
            network = build_backbone(row.variant.backbone, weights="none")
            print_count(row.variant.log_name, build_published(name, network))
    return 0


if __name__ == "__main__":
    sys.exit(main())
