"""The runner with every row of the table: two backbones under three variants, and the two published models."""

import json
import sys

from conftest import RESNET50, ROOT, TINY_FLAGS, run_program
from faults import inject

# Swin with two blocks in its third stage instead of eighteen: 88 million parameters would take most of the time.
FEWER_BLOCKS = """
import sys
if any("train_resnet" in word for word in sys.orig_argv):
    import iqa.models.swin
    iqa.models.swin.DEPTHS = (2, 2, 2, 2)
"""
ROWS = ("exp1_baseline", "exp2_multiscale", "exp3_multiscale_attention", "swin1_baseline", "swin2_multiscale",
        "swin3_multiscale_attention", "published_hyperiqa", "published_smart_iqa")  # fmt: skip


def test_every_row_is_trained_by_one_command(tiny_data, tmp_path):
    flags = ("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1", "--with_published")
    command = ("bash", ROOT / "run_resnet_ablation.sh", *flags)
    environment = {"PYTHON": sys.executable, "BACKBONES": "resnet50 swin_b", **RESNET50, **inject(FEWER_BLOCKS)}
    process = run_program(*command, cwd=tmp_path, **environment)
    (logs,) = (tmp_path / "logs").iterdir()
    for row in ROWS:
        assert (logs / row / "result.json").exists(), process.stdout + process.stderr
        config, result = (json.loads((logs / row / f"{name}.json").read_text()) for name in ("config", "result"))
        assert result["variant"] == row and result["patches_per_second"] > 0 and config["gflop_per_patch"] > 0
    for path in (tmp_path / "checkpoints").iterdir():  # a gigabyte, which is not kept for the next tests' sake
        path.unlink()
