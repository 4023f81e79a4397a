"""HyperIQA as it was published, and the head that SMART-IQA took over from it.

Su et al., "Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020. Modules have
the names of github.com/SSL92/hyperIQA, so that its weights are this module's state dict.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa.models.patch_scores import PatchScores
from iqa.models.pooling import GRID, pool_to_grid
from iqa.models.resnet import ResNet

TARGET_WIDTHS = (224, 112, 56, 28, 14, 1)  # the target network's input and its five layers
LAYERS = len(TARGET_WIDTHS) - 1
HYPER_CHANNELS = 112
DISTORTION_GRIDS = (8, 4, 2)  # cells of stages 1-3 across: 28 pixels of a patch of 224, then 56 and 112
DISTORTION_CHANNELS = (16, 32, 64)
DISTORTION_FEATURES = 16  # features of each of stages 1-3; stage 4 gives the rest of the target network's input


class DistortionModules(nn.Module):
    """Local distortion aware modules: the maps of stages 1-4 -> the target network's input [B, 224], fp32."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        grids = zip(channels[:-1], DISTORTION_CHANNELS, DISTORTION_GRIDS, strict=True)
        for number, (of_stage, of_module, grid) in enumerate(grids, 1):
            self.add_module(f"lda{number}_pool", nn.Sequential(nn.Conv2d(of_stage, of_module, 1, bias=False)))
            self.add_module(f"lda{number}_fc", nn.Linear(of_module * grid**2, DISTORTION_FEATURES))
        self.lda4_fc = nn.Linear(channels[-1], TARGET_WIDTHS[0] - 3 * DISTORTION_FEATURES)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def distortions(self, maps: list[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 of patches whose size is a multiple of 32 -> [B, 224]."""
        with torch.autocast(maps[0].device.type, enabled=False):
            parts = []
            for number, (x, grid) in enumerate(zip(maps, (*DISTORTION_GRIDS, 1), strict=True), 1):
                assert x.shape[2] == x.shape[3] and x.shape[2] % grid == 0, x.shape
                x = F.avg_pool2d(x.float(), x.shape[2] // grid)  # cheaper before the convolution, with equal result
                if number < len(maps):
                    x = self.get_submodule(f"lda{number}_pool")(x)
                parts.append(self.get_submodule(f"lda{number}_fc")(x.flatten(1)))
            return torch.cat(parts, 1)


class HyperNetwork(nn.Module):
    """Features [B, C, 7, 7] -> 112 channels -> the weights of the network that scores a patch.

    Args:
        reduction: channels of the features and of the 1x1 convolutions, except the last.
    """

    dropout_rate: float  # on the 112 channels and after the target network's first three layers
    slow_part: nn.Module  # modules that the published recipe trains at the backbone's rate

    def __init__(self, reduction: tuple[int, ...]):
        super().__init__()
        steps = itertools.pairwise((*reduction, HYPER_CHANNELS))
        self.conv1 = nn.Sequential(*(layer for a, b in steps for layer in (nn.Conv2d(a, b, 1), nn.ReLU())))
        for number, (a, b) in enumerate(itertools.pairwise(TARGET_WIDTHS), 1):
            if number < LAYERS:
                weight, name = nn.Conv2d(HYPER_CHANNELS, a * b // GRID**2, 3, padding=1), f"fc{number}w_conv"
            else:
                weight, name = nn.Linear(HYPER_CHANNELS, a), f"fc{number}w_fc"
            bias = nn.Linear(HYPER_CHANNELS, b)
            self.add_module(name, weight)
            self.add_module(f"fc{number}b_fc", bias)
            nn.init.kaiming_normal_(weight.weight)
            nn.init.kaiming_normal_(bias.weight)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, P, P] normalised patches -> [B] scores on the MOS scale, fp32."""
        return self.describe(images).scores

    def score_features(self, features: Tensor, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features [B, C, 7, 7] and the target network's input [B, 224] -> scores [B] and its hidden units, fp32.

        The target network has a sigmoid after layers 1-4 and dropout after 1-3.
        """
        h = F.dropout(self.conv1(features), self.dropout_rate, self.training)  # [B, 112, 7, 7]
        g = h.float().mean((2, 3))  # [B, 112]
        weights = [self.get_submodule(f"fc{number}w_conv")(h).float().flatten(1) for number in range(1, LAYERS)]
        x, hidden = inputs[:, :, None], []  # [B, in, 1]
        with torch.autocast(h.device.type, enabled=False):
            for number in range(1, LAYERS + 1):
                weight = weights[number - 1] if number < LAYERS else self.fc5w_fc(g)  # in channel, row, column order
                bias = self.get_submodule(f"fc{number}b_fc")(g)[:, :, None]  # [B, out, 1]
                x = torch.baddbmm(bias, weight.unflatten(1, (bias.shape[1], -1)), x)
                if number < LAYERS:
                    x = x.sigmoid()
                    hidden.append(x.flatten(1))
                if number < LAYERS - 1:
                    x = F.dropout(x, self.dropout_rate, self.training)
        assert x.shape == (len(features), 1, 1)
        return x.flatten(), hidden

    def rescaled(self, slope: float, intercept: float) -> dict[str, Tensor]:
        """The last layer's state dict entries that change the scores to intercept + slope * scores."""
        last = {key: slope * x for key, x in self.state_dict().items() if key.startswith(("fc5w_fc.", "fc5b_fc."))}
        last["fc5b_fc.bias"] += intercept
        return last


class HyperIQA(HyperNetwork):
    """ResNet50 with local distortion aware modules, hyper network and target network: 27,375,369 parameters.

    Args:
        backbone: has the initial weights; it becomes part of this module.
    """

    dropout_rate = 0.0
    slow_part = property(lambda self: self.res)

    def __init__(self, backbone: ResNet):
        super().__init__((2048, 1024, 512))
        self.res = ResNetWithDistortions(backbone)

    def describe(self, images: Tensor) -> PatchScores:
        """[B, 3, P, P] -> scores, no attention, hidden units [B, 112], [B, 56], [B, 28], [B, 14]."""
        maps = self.res(images)
        scores, hidden = self.score_features(pool_to_grid(maps[-1]), self.res.distortions(maps))
        return PatchScores(scores, None, hidden)


class ResNetWithDistortions(DistortionModules):
    """[B, 3, P, P] -> maps of stages 1-4 [B, C, P / stride, P / stride]; torchvision's names."""

    def __init__(self, backbone: ResNet):
        super().__init__(backbone.channels)
        self.conv1, self.bn1, self.relu, self.maxpool = backbone.stem
        self.layer1, self.layer2, self.layer3, self.layer4 = backbone.stages

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps
