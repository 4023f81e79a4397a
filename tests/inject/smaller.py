"""The backbones' own classes with fewer and narrower layers, and the published models on them: for what does not ask how many.

What calls one of these functions has the smaller network in its own process, from its next model on.
"""

from iqa.models.backbones import BACKBONES, SWIN_DROP_PATH

SWIN_CHANNELS = (16, 32, 64, 128)


def resnet50() -> None:
    """One narrow block in each stage; the maps keep their channels, which HyperIQA knows."""

    def build():
        from torchvision.models.resnet import Bottleneck, ResNet

        from iqa.models import resnet

        resnet.get_model = lambda name, weights: ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=4)
        return resnet.ResNet("resnet50")

    BACKBONES["resnet50"] = BACKBONES["resnet50"]._replace(build=build)


def swin_b() -> None:
    """One block in each stage, an eighth of the channels."""

    def build(*, drop_path_rate: float = SWIN_DROP_PATH):
        from torchvision.models.swin_transformer import SwinTransformer

        from iqa.models import swin

        swin.DEPTHS = (1, 1, 1, 1)
        swin.SwinTransformer = lambda **widths: SwinTransformer(**{**widths, "embed_dim": SWIN_CHANNELS[0]})
        return swin.SwinB(drop_path_rate=drop_path_rate)

    BACKBONES["swin_b"] = BACKBONES["swin_b"]._replace(build=build)
