"""The backbones' own classes with fewer and narrower layers, for tests that do not depend on the size.

After a call of one of these functions, the process builds the smaller network.
"""

from iqa.models.backbones import BACKBONES, SWIN_DROP_PATH

SWIN_CHANNELS = (16, 32, 64, 128)


def resnet50() -> None:
    """One narrow block in each stage; the maps keep the channels that HyperIQA expects."""

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
