"""A backbone of four convolutions, for tests of everything around the network: its training takes no time."""

from iqa.models.backbones import BACKBONES, Backbone

CHANNELS = (8, 16, 24, 32)


def build():
    from torch import nn

    class SmallCNN(nn.Module):
        """[B, 3, H, W] -> four pooled maps with 8, 16, 24 and 32 channels."""

        def __init__(self):
            super().__init__()
            self.channels = CHANNELS
            sizes = zip((3, *CHANNELS), CHANNELS, (4, 2, 2, 2), strict=False)  # channels before and after, stride
            self.stages = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, stride in sizes
            )

        def forward(self, x, pool):
            maps = []
            for stage in self.stages:
                x = stage(x)
                maps.append(pool(x))
            return maps

        @staticmethod
        def own_names(keys):
            return {key: key for key in keys}

    return SmallCNN()


ROW = Backbone("Small CNN", build, "small", "small_")


def in_the_place_of_resnet50() -> Backbone:
    """The small CNN under ResNet50's names."""
    return BACKBONES["resnet50"]._replace(build=build)
