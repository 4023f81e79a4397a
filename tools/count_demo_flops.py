"""Arithmetic of `bash run_resnet_ablation.sh --demo`, in TFLOP (10^12 multiplications and additions).

    python3 tools/count_demo_flops.py

The models are counted forward and backward by torch.utils.flop_counter; the flags are read from the runner. A variant
costs epochs x (trained patches x FLOP of a trained patch + evaluated patches x FLOP of an evaluated patch), and the
patches from which the start of the model is found.
"""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from iqa.demo.folder import invent_rows  # noqa: E402
from iqa.models.flop import flop_per_patch  # noqa: E402
from iqa.models.variants import VARIANTS  # noqa: E402
from models_resnet_improved import ImageQualityResNet  # noqa: E402
from train_resnet_improved import START_PATCHES, parse_options  # noqa: E402

LIMIT = 40  # TFLOP: 2 ordinary cores (AVX2, fp32, 90 GFLOP/s) do this in the 10 minutes of the README


def count_patches() -> tuple[int, int, int]:
    """Trained and evaluated patches of one variant of the demo, and their size in pixels."""
    runner = (ROOT / "run_resnet_ablation.sh").read_text(encoding="utf-8")
    arrays = (re.search(rf"^{name}=\((.*?)\)", runner, re.MULTILINE | re.DOTALL)[1] for name in ("recipe", "demo"))
    options = parse_options([flag for array in arrays for flag in shlex.split(array, comments=True)])
    images = int(re.search(r"demo_dataset\.py.* --images (\d+)", runner)[1])
    sets = Counter(row["set"] for row in invent_rows(images, seed=42))
    steps = sets["training"] * options.train_patch_num // options.batch_size
    evaluated = (sets["validation"] + sets["test"]) * options.test_patch_num
    start = -(-START_PATCHES // options.batch_size) * options.batch_size
    return options.epochs * steps * options.batch_size, options.epochs * evaluated + start, options.patch_size


def count_tera_flop(trained: int, evaluated: int, size: int) -> dict[str, float]:
    """TFLOP of each variant, by its log name."""
    counts = {}
    for variant in VARIANTS:
        flags = {"use_multiscale": variant.use_multiscale, "use_attention": variant.use_attention}
        flop = flop_per_patch(ImageQualityResNet(weights="none", **flags), size)
        counts[variant.log_name] = (trained * flop.training + evaluated * flop.evaluation) / 1e12
    return counts


def main() -> None:
    trained, evaluated, size = count_patches()
    print(f"Patches of {size}x{size} pixels of each variant: {trained:,} trained, {evaluated:,} evaluated")
    counts = count_tera_flop(trained, evaluated, size)
    for name, count in counts.items():
        print(f"{name}: {count:.1f} TFLOP")
    print(f"All: {sum(counts.values()):.1f} TFLOP of at most {LIMIT}")


if __name__ == "__main__":
    main()
