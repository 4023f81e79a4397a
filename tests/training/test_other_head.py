"""A checkpoint of a version with ReLU in the target network is refused in one line."""

import pytest
import torch
from conftest import assert_one_line_error, refuse, run_main
from faults import FLAGS, NAME, copy_run

from iqa.training.run_folder import save_checkpoint


@pytest.fixture
def older(finished_run, tmp_path):
    """A copy of the run after its first epoch, with the entries of such a checkpoint."""
    copy = copy_run(finished_run, tmp_path / "copy", epochs=1)
    path = copy / f"run/{NAME}_last.pth"
    saved = torch.load(path, weights_only=True)
    saved["model"] = {key: x for key, x in saved["model"].items() if "standardise" not in key and "mos_" not in key}
    path.unlink()
    save_checkpoint(path, saved)
    return copy


def test_it_is_not_resumed(older, tiny_data, small_cnn_here):
    process = refuse("--data_path", tiny_data, *FLAGS, "--resume", cwd=older)
    assert_one_line_error(process, f"{NAME}_last.pth", "ReLU", "remove run and repeat")


@pytest.mark.parametrize("script", ["score_images", "train_resnet_improved"])
def test_it_scores_no_image(older, tiny_data, small_cnn_here, script):
    checkpoint = f"run/{NAME}_last.pth"
    flags = ["--checkpoint", checkpoint, tiny_data] if script == "score_images" else ["--evaluate", checkpoint]
    process = run_main(script, *flags, "--device", "cpu", cwd=older)
    assert_one_line_error(process, checkpoint, "ReLU", "train it again")
