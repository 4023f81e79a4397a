"""The runner with every row of the table: two backbones under three variants, and the two published models."""

import json

from conftest import ROOT, TINY_FLAGS, run_program
from faults import inject

# resnet50 is the small CNN. HyperIQA needs a network of the class ResNet; Swin-B has its own class, too.
SMALLER = """
import sys, smaller
smaller.swin_b()
if "hyperiqa" in sys.orig_argv:
    smaller.resnet50()
"""
ROWS = (
    "exp1_baseline",
    "exp2_multiscale",
    "exp3_multiscale_attention",
    "swin1_baseline",
    "swin2_multiscale",
    "swin3_multiscale_attention",
    "published_hyperiqa",
    "published_smart_iqa",
)


def test_every_row_is_trained_by_one_command(tiny_data, tmp_path, forking_python):
    flags = ("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1", "--with_published")
    command = ("bash", ROOT / "run_resnet_ablation.sh", *flags)
    environment = {"PYTHON": forking_python, "BACKBONES": "resnet50 swin_b", **inject(SMALLER)}
    process = run_program(*command, cwd=tmp_path, **environment)
    assert process.returncode == 0, process.stdout + process.stderr
    (logs,) = (tmp_path / "logs").iterdir()
    assert json.loads((logs / "report.json").read_text())["missing"] == []
    for row in ROWS:
        assert (logs / row / "result.json").exists()
        config, result = (json.loads((logs / row / f"{name}.json").read_text()) for name in ("config", "result"))
        assert result["variant"] == row and result["patches_per_second"] > 0 and config["gflop_per_patch"] > 0
