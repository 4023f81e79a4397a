"""A backbone of four convolutions, as code that a test injects into a command (faults.inject): 32 channels at the end."""

SMALL_CNN = """
from iqa.models.backbones import BACKBONES, Backbone

def build():
    from torch import nn
    from iqa.models.pooling import pool_to_grid

    class SmallCNN(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = ((3, 8, 4), (8, 16, 2), (16, 24, 2), (24, 32, 2))  # channels before and after, stride
            self.stages = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, stride in sizes
            )

        def forward(self, x):
            maps = []
            for stage in self.stages:
                x = stage(x)
                maps.append(pool_to_grid(x))
            return maps

        @staticmethod
        def own_name(key):
            return key

    return SmallCNN()

BACKBONES["small"] = Backbone("Small CNN", build, (8, 16, 24, 32), None, "small", "small_")
"""
