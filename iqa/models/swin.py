"""torchvision's Swin-B without its final norm and classifier."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

DEPTHS = (2, 2, 18, 2)  # blocks of stages 1-4
# Entries that are not needed: buffers that follow from sizes, the final norm and the classifier.
WITHOUT_WEIGHTS = re.compile(r"(.*\.)?(attn_mask|relative_position_index)|(norm|head)\..*")
# torchvision's parts of names -> this module's. Features 1, 3, 5 and 7 are the stages, 2, 4 and 6 the patch mergings.
TORCHVISION_NAMES = {
    **{"features.0.0.": "patch_embed.proj.", "features.0.2.": "patch_embed.norm."},
    **{f"features.{2 * i + 1}.": f"layers_{i}.blocks." for i in range(len(DEPTHS))},
    **{f"features.{2 * i}.": f"layers_{i}.downsample." for i in range(1, len(DEPTHS))},
    **{"mlp.0.": "mlp.fc1.", "mlp.3.": "mlp.fc2."},
}


class SwinB(nn.Module):
    """[B, 3, H, W] -> the pooled output of stages 1-4 before patch merging, with 128, 256, 512 and 1024 channels.

    Its modules have timm's names for `features_only`, those of SMART-IQA's published weights.

    Args:
        drop_path_rate: probability of dropping the last block in training; it rises linearly from 0 at the first block.
    """

    def __init__(self, *, drop_path_rate: float):
        super().__init__()
        network = SwinTransformer(
            patch_size=[4, 4],
            embed_dim=128,
            depths=list(DEPTHS),
            num_heads=[4, 8, 16, 32],
            window_size=[7, 7],
            stochastic_depth_prob=drop_path_rate,
        )
        (proj, to_last, norm), *stages = network.features
        self.patch_embed = nn.Sequential(OrderedDict(proj=proj, to_last=to_last, norm=norm))  # -> [B, H/4, W/4, 128]
        self.channels = tuple(proj.out_channels * 2**number for number in range(len(DEPTHS)))
        for number in range(len(DEPTHS)):
            blocks = named_as_timm(stages[2 * number])
            merging = OrderedDict(downsample=stages[2 * number - 1]) if number else OrderedDict()
            self.add_module(f"layers_{number}", nn.Sequential(merging | OrderedDict(blocks=blocks)))

    def forward(self, images: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        maps, x = [], self.patch_embed(images)
        for number in range(len(DEPTHS)):
            x = self.get_submodule(f"layers_{number}")(x)
            maps.append(x.permute(0, 3, 1, 2))
        return [pool(x) for x in maps]

    @staticmethod
    def own_names(keys: Iterable[str]) -> dict[str, str]:
        """torchvision's, Microsoft's or timm's names of entries -> this module's, without entries that are not needed.

        Both Microsoft's and timm's files have layers.1.downsample, the patch merging after stage 1 and before it. Only
        Microsoft's have layers.0.downsample.
        """
        keys = [str(key) for key in keys]
        merges_before = any(re.match(r"layers[._]0\.downsample\.", key) for key in keys)

        def own_name(name: str) -> str:
            for theirs, own in TORCHVISION_NAMES.items():
                name = name.replace(theirs, own)
            name = re.sub(r"^layers\.", "layers_", name)
            if merges_before:
                name = re.sub(r"^layers_(\d+)\.down", lambda match: f"layers_{int(match[1]) + 1}.down", name)
            return name

        return {key: own_name(key) for key in keys if not WITHOUT_WEIGHTS.fullmatch(key)}


def named_as_timm(blocks: nn.Sequential) -> nn.Sequential:
    for block in blocks:
        first, activation, _, second, _ = block.mlp  # the last is dropout with rate 0
        block.mlp = nn.Sequential(OrderedDict(fc1=first, act=activation, fc2=second))
        index = block.attn.relative_position_index
        block.attn.register_buffer("relative_position_index", index, persistent=False)
    return blocks
