"""A run with --compile, which takes more than a minute of one core."""

import shutil

import pytest
from conftest import read_epochs, read_scores, train
from faults import SMALL_CNN, inject


def test_a_compiled_run_trains_and_scores_as_an_eager_one(request, tiny_data, tmp_path):
    """Without dropout, which draws other random numbers when compiled."""
    if not request.config.getoption("--compile"):
        pytest.skip("takes more than a minute of one core: bash run_tests.sh --compile -k compiled")
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("needs a C++ compiler")
    flags = ("--data_path", tiny_data, *"--backbone small --dropout_rate 0 --epochs 1 --precision fp32".split())
    compiled = {"real": True, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}
    for name, more, how in (("eager", (), {}), ("compiled", ("--compile",), compiled)):
        process = train(
            *flags, *more, "--output_dir", name, "--checkpoint_dir", name, cwd=tmp_path, **inject(SMALL_CNN), **how
        )
        assert process.returncode == 0, process.stderr
    assert list((tmp_path / "kernels").rglob("*.cpp"))
    losses = [[epoch["train_loss"] for epoch in read_epochs(tmp_path / name)] for name in ("eager", "compiled")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    scores = [read_scores(tmp_path / name / "predictions_test.csv") for name in ("eager", "compiled")]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)
