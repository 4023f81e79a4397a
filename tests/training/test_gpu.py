"""Runs on a GPU; tools/on_gpu.sh runs these tests."""

import json

import pytest
from conftest import RESNET50, assert_one_line_error, read_epochs, train
from faults import FLAGS, KILLED_AFTER_LAST, assert_same_run, inject

pytestmark = pytest.mark.gpu

CUDA = ["--device", "cuda", "--output_dir", "run"]
# From the sixth to the tenth step, anything that waits for the GPU is an error: the step, its input, the loss meter.
NO_WAITING = """
import torch
from iqa.training import step
original, calls = step.{kind}.__call__, []
def without_waiting(*arguments):
    calls.append(1)
    torch.cuda.set_sync_debug_mode("error" if 6 <= len(calls) < 10 else "default")
    return original(*arguments)
step.{kind}.__call__ = without_waiting
"""


@pytest.mark.parametrize(("cuda_graph", "kind"), [("off", "EagerStep"), ("on", "CapturedStep")])
def test_a_step_never_waits_for_the_gpu(tiny_data, tmp_path, cuda_graph, kind):
    flags = [
        *CUDA,
        *f"--use_multiscale --use_attention --cuda_graph {cuda_graph} --epochs 1 --train_patch_num 12".split(),
    ]
    environment = {**RESNET50, **inject(NO_WAITING.format(kind=kind))}
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **environment)
    assert process.returncode == 0 and "Epoch 1/1 Summary" in process.stdout, process.stderr


RUN = [*FLAGS, *CUDA, "--deterministic", *"--train_patch_num 8 --patch_size 224".split()]


def run(data, cwd, *flags, killed: bool = False, **environment) -> str:
    """A deterministic run of two epochs of eight steps; returns its output.

    Args:
        killed: by SIGKILL when its first epoch has been saved.
    """
    cwd.mkdir(exist_ok=True)
    code = inject(KILLED_AFTER_LAST) if killed else {}
    process = train("--data_path", data, *RUN, *flags, cwd=cwd, **environment, **code)
    assert process.returncode == (-9 if killed else 0), process.stderr
    return process.stdout


def config(cwd) -> dict:
    return json.loads((cwd / "run/config.json").read_text())


@pytest.fixture(scope="module")
def captured_run(tiny_data, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("captured")
    output = run(tiny_data, cwd, "--cuda_graph", "on")
    assert config(cwd)["step"] == "cuda graph" and "GPU memory" in output
    return cwd


def test_a_captured_run_is_the_eager_one_to_the_bit(captured_run, tiny_data, tmp_path):
    run(tiny_data, tmp_path / "eager", "--cuda_graph", "off", "--preload_images", "no")
    assert config(tmp_path / "eager")["step"] == "eager"
    assert_same_run(captured_run, tmp_path / "eager")


def test_a_resumed_run_equals_the_uninterrupted_one(captured_run, tiny_data, tmp_path):
    cwd = tmp_path / "stopped"
    run(tiny_data, cwd, "--cuda_graph", "on", killed=True)
    assert "Resuming after epoch 1" in run(tiny_data, cwd, "--cuda_graph", "on", "--resume")
    assert_same_run(captured_run, cwd)


@pytest.mark.parametrize(("before", "after", "step"), [("cuda", "cpu", "eager"), ("cpu", "cuda", "cuda graph")])
def test_a_checkpoint_of_one_device_continues_on_the_other(tiny_data, tmp_path, before, after, step):
    run(tiny_data, tmp_path, "--device", before, killed=True)
    assert "Resuming after epoch 1" in run(tiny_data, tmp_path, "--resume", "--device", after)
    assert config(tmp_path)["step"] == step


def test_a_compiled_run_is_captured(captured_run, tiny_data, tmp_path):
    """Dropout draws other random numbers when compiled, so the loss is only near that of the other run."""
    run(tiny_data, tmp_path, "--cuda_graph", "on", "--compile", real=True)
    assert config(tmp_path)["step"] == "cuda graph"
    compiled, other = (read_epochs(cwd / "run")[0]["train_loss"] for cwd in (tmp_path, captured_run))
    assert compiled == pytest.approx(other, rel=0.1)


def test_out_of_memory_names_the_batch_size(tmp_path, tiny_data):
    limit = inject("import torch; torch.cuda.set_per_process_memory_fraction(0.02, 0)")
    flags = [*CUDA, *"--train_patch_num 64 --batch_size 512 --patch_size 384 --num_workers 0".split()]
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **RESNET50, **limit)
    assert_one_line_error(process, "--batch_size smaller than 512", "out of memory")
