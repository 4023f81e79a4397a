"""How much arithmetic `bash run_resnet_ablation.sh --demo` is, in TFLOP (10^12 multiplications and additions).

    python3 tests/count_demo_flops.py                   # of the demo, and a table of patch sizes to choose from
    python3 tests/count_demo_flops.py 64 96 128         # of these patch sizes

Counted by torch.utils.flop_counter on the models themselves, forward and backward; the flags are read from the runner.
What a variant costs is

    epochs x (trained patches of an epoch x FLOP of a trained patch + evaluated patches x FLOP of an evaluated patch)

where the trained patches are whole batches, and the evaluated ones are those of all validation and test images. To them
come, once, the patches of the first batch, from which the start of a model is found.
"""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from iqa.benchmark.arithmetic import Flop, flop_per_patch  # noqa: E402
from iqa.demo.rows import invent_rows  # noqa: E402
from iqa.models.variants import VARIANTS, Variant  # noqa: E402
from iqa.training.options import parse_options  # noqa: E402
from models_resnet_improved import ImageQualityResNet  # noqa: E402
from train_resnet_improved import START_PATCHES  # noqa: E402

LIMIT = 40  # TFLOP: what 2 ordinary cores (AVX2, fp32, 90 GFLOP/s) do in the 10 minutes that the README promises
PATCH_SIZES = (64, 80, 96, 112)
TERA = 1e12


class Patches(NamedTuple):
    """What one variant of the demo puts through its network."""

    trained: int
    evaluated: int  # with those that a model's start is found from
    size: int  # pixels


def demo_patches() -> Patches:
    """Of the runner's own flags."""
    runner = (ROOT / "run_resnet_ablation.sh").read_text(encoding="utf-8")
    flags = [flag for name in ("recipe", "demo") for flag in array(runner, name)]
    images = int(re.search(r"demo_dataset\.py.* --images (\d+)", runner)[1])
    options = parse_options(flags)
    sets = Counter(row["set"] for row in invent_rows(images, seed=42))
    steps = sets["training"] * options.train_patch_num // options.batch_size
    evaluated = (sets["validation"] + sets["test"]) * options.test_patch_num
    started = -(-START_PATCHES // options.batch_size) * options.batch_size
    return Patches(
        options.epochs * steps * options.batch_size, options.epochs * evaluated + started, options.patch_size
    )


def array(script: str, name: str) -> list[str]:
    """The words of a shell script's array."""
    return shlex.split(re.search(rf"^{name}=\((.*?)\)", script, re.MULTILINE | re.DOTALL)[1], comments=True)


def flop_of(variant: Variant, patch_size: int) -> Flop:
    """FLOP of one patch."""
    model = ImageQualityResNet(
        use_multiscale=variant.use_multiscale, use_attention=variant.use_attention, weights="none"
    )
    return flop_per_patch(model, patch_size)


def demo_tera_flop(patches: Patches) -> dict[str, float]:
    """Of each variant, by its name in the logs."""
    counted = {variant.log_name: flop_of(variant, patches.size) for variant in VARIANTS}
    return {
        name: (patches.trained * flop.training + patches.evaluated * flop.evaluation) / TERA
        for name, flop in counted.items()
    }


def main() -> None:
    patches = demo_patches()
    sizes = tuple(map(int, sys.argv[1:])) or PATCH_SIZES
    print("GFLOP of a patch\n\n| variant | patch | trained | evaluated |\n|---|---|---|---|")
    for variant in VARIANTS:
        for size in sizes:
            flop = flop_of(variant, size)
            print(f"| {variant.log_name} | {size} | {flop.training / 1e9:.3f} | {flop.evaluation / 1e9:.3f} |")
    print(
        f"\nThe demo: {patches.trained:,} patches trained and {patches.evaluated:,} evaluated by each variant, "
        f"of {patches.size}x{patches.size} pixels\n\n| variant | TFLOP |\n|---|---|"
    )
    shares = demo_tera_flop(patches)
    for name, share in shares.items():
        print(f"| {name} | {share:.1f} |")
    print(f"| all three | {sum(shares.values()):.1f} of at most {LIMIT} |")


if __name__ == "__main__":
    main()
