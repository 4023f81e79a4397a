"""SMART-IQA as it was published, with each of its three fusions.

Modules have the names of github.com/cny123222/Perceptual-IQA-CS3324, so that its weights are this module's state dict.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from iqa.models.hyperiqa import DistortionModules, HyperNetwork
from iqa.models.patch_scores import PatchScores
from iqa.models.pooling import pool_to_grid
from iqa.models.swin import SwinB

ATTENTION_DROPOUT = 0.5
BACKBONE = "swin.backbone."  # prefix of the backbone's entries


class SmartIQA(HyperNetwork):
    """Swin-B with local distortion aware modules, fusion, hyper network and target network.

    89,111,941 parameters with attention, 88,848,513 without, 88,389,761 on stage 4 alone.

    Args:
        backbone: has the initial weights; it becomes part of this module.
        use_multiscale: stages 1-4 pooled to 7x7 and concatenated, without adapters, instead of stage 4 alone.
        use_attention: weigh the four scales per image; needs ``use_multiscale``.
    """

    dropout_rate = 0.4
    slow_part = property(lambda self: self.swin)

    def __init__(self, backbone: SwinB, *, use_multiscale: bool = True, use_attention: bool = True):
        assert use_multiscale or not use_attention
        channels = backbone.channels
        super().__init__((sum(channels) if use_multiscale else channels[-1], 512, 256))
        self.swin = SwinWithDistortions(backbone)
        self.use_multiscale = use_multiscale
        self.multiscale_attention = MultiScaleAttention(channels) if use_attention else None

    @staticmethod
    def own_names(keys: Collection[str]) -> dict[str, str]:
        """Names of entries in a weights file -> this module's, without the buffers that older versions of timm save."""
        outside = {key: key for key in keys if not key.startswith(BACKBONE)}
        inside = SwinB.own_names(key.removeprefix(BACKBONE) for key in keys if key.startswith(BACKBONE))
        return outside | {BACKBONE + key: BACKBONE + name for key, name in inside.items()}

    def describe(self, images: Tensor) -> PatchScores:
        """[B, 3, P, P] -> scores, attention over stages 1-4 [B, 4], hidden units as HyperIQA's."""
        maps = self.swin(images)
        pooled = [pool_to_grid(x) for x in (maps if self.use_multiscale else maps[-1:])]
        attention = None
        if self.multiscale_attention is not None:
            attention = self.multiscale_attention(maps[-1])
            pooled = [x * w[:, None, None, None].to(x.dtype) for x, w in zip(pooled, attention.unbind(1), strict=True)]
        scores, hidden = self.score_features(torch.cat(pooled, 1), self.swin.distortions(maps))
        return PatchScores(scores, attention, hidden)


class SwinWithDistortions(DistortionModules):
    """[B, 3, P, P] -> maps of stages 1-4 [B, C, P / stride, P / stride]."""

    def __init__(self, backbone: SwinB):
        super().__init__(backbone.channels)
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.backbone(images, nn.Identity())


class MultiScaleAttention(nn.Module):
    """Stage 4 [B, 1024, H, W] -> weights of stages 1-4 [B, 4] that sum to 1, fp32."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.attention_net = nn.Sequential(
            nn.Linear(channels[-1], 256), nn.ReLU(), nn.Dropout(ATTENTION_DROPOUT), nn.Linear(256, len(channels))
        )
        for layer in (self.attention_net[0], self.attention_net[-1]):  # small weights: it starts near uniform
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, stage4: Tensor) -> Tensor:
        return self.attention_net(stage4.mean((2, 3))).float().softmax(1)
