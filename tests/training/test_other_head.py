"""A checkpoint of a version whose target network had ReLU is refused in one line, wherever it is offered."""

import sys

import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_program, train
from faults import FLAGS, NAME, copy_run

from iqa.training.run_folder import save_checkpoint


@pytest.fixture
def older(finished_run, tmp_path):
    """A copied run after its first epoch, with the entries that such a checkpoint has."""
    copy = copy_run(finished_run, tmp_path / "copy", epochs=1)
    path = copy / f"run/{NAME}_last.pth"
    saved = torch.load(path, weights_only=True)
    saved["model"] = {key: x for key, x in saved["model"].items() if "standardise" not in key and "mos_" not in key}
    path.unlink()
    save_checkpoint(path, saved)
    return copy


def test_it_is_not_resumed(older, tiny_data):
    process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=older)
    assert_one_line_error(process, f"{NAME}_last.pth", "ReLU", "remove run and repeat")


@pytest.mark.parametrize("command", ["score_images.py", "train_resnet_improved.py"])
def test_it_scores_no_image(older, tiny_data, command):
    checkpoint = f"run/{NAME}_last.pth"
    flags = ["--checkpoint", checkpoint, tiny_data] if command == "score_images.py" else ["--evaluate", checkpoint]
    process = run_program(sys.executable, ROOT / command, *flags, "--device", "cpu", cwd=older)
    assert_one_line_error(process, checkpoint, "ReLU", "train it again")
