"""A run with --compile, which takes more than a minute of one core."""

import json
import shutil

import pytest
from conftest import train
from faults import SMALL_CNN, inject


def read_run(folder):
    losses = [json.loads(line)["train_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return losses, [
        float(line.split(",")[2]) for line in (folder / "predictions_test.csv").read_text().splitlines()[1:]
    ]


def test_a_compiled_run_trains_and_scores_as_an_eager_one(request, tiny_data, tmp_path):
    """Without dropout, which draws other random numbers when compiled."""
    if not request.config.getoption("--compile"):
        pytest.skip("takes more than a minute of one core: bash run_tests.sh --compile -k compiled")
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("needs a C++ compiler")
    flags = (
        "--data_path",
        tiny_data,
        *"--backbone small --dropout_rate 0 --epochs 1 --precision fp32".split(),
    )
    compiled = {"real": True, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}
    for name, more, how in (("eager", (), {}), ("compiled", ("--compile",), compiled)):
        process = train(
            *flags, *more, "--output_dir", name, "--checkpoint_dir", name, cwd=tmp_path, **inject(SMALL_CNN), **how
        )
        assert process.returncode == 0, process.stderr
    assert list((tmp_path / "kernels").rglob("*.cpp"))
    (losses, scores), (compiled_losses, compiled_scores) = (read_run(tmp_path / name) for name in ("eager", "compiled"))
    assert compiled_losses == pytest.approx(losses, rel=1e-3)
    assert compiled_scores == pytest.approx(scores, rel=1e-3)
