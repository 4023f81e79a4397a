"""torchvision's ResNets without their classifier."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torchvision.models import get_model

OWN_NAMES = {"conv1": "stem.0", "bn1": "stem.1", **{f"layer{i + 1}": f"stages.{i}" for i in range(4)}}


class ResNet(nn.Module):
    """[B, 3, H, W] -> the pooled maps of stages 1-4; a ResNet50's have 256, 512, 1024 and 2048 channels.

    Args:
        name: torchvision's, such as "resnet50".
    """

    def __init__(self, name: str):
        super().__init__()
        network = get_model(name, weights=None)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.channels = tuple(network.fc.in_features // divisor for divisor in (8, 4, 2, 1))

    def forward(self, images: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(pool(x))
        return maps

    @staticmethod
    def own_names(keys: Iterable[str]) -> dict[str, str]:
        """torchvision's names of entries -> this module's, without those of the classifier."""
        parts = {key: str(key).partition(".") for key in keys}
        return {key: f"{OWN_NAMES.get(part, part)}.{rest}" for key, (part, _, rest) in parts.items() if part != "fc"}
