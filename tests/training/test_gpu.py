"""What only a GPU can show; tools/on_gpu.sh runs these tests."""

import pytest
from conftest import RESNET50, assert_one_line_error, train
from faults import FLAGS, assert_same_run, copy_run, inject

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
@pytest.mark.parametrize("variant", [[], ["--use_multiscale"], ["--use_multiscale", "--use_attention"]], ids=str)
def test_a_step_never_waits_for_the_gpu(tiny_data, tmp_path, variant, cuda_graph, kind):
    flags = [*CUDA, *variant, "--cuda_graph", cuda_graph, "--epochs", "1", "--train_patch_num", "12"]
    environment = {**RESNET50, **inject(NO_WAITING.format(kind=kind))}
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **environment)
    assert process.returncode == 0 and "Epoch 1/1 Summary" in process.stdout, process.stderr


def test_a_deterministic_run_resumes_to_the_bit(tiny_data, tmp_path):
    flags = ["--data_path", tiny_data, *FLAGS, *CUDA, "--deterministic", "--patch_size", "224"]
    whole, cwd = tmp_path / "whole", tmp_path / "copy"
    whole.mkdir()
    process = train(*flags, cwd=whole, **RESNET50)
    assert process.returncode == 0, process.stderr
    copy_run(whole, cwd, epochs=1)
    process = train(*flags, "--resume", cwd=cwd, **RESNET50)
    assert process.returncode == 0, process.stderr
    assert_same_run(whole, cwd)


def test_out_of_memory_names_the_batch_size(tmp_path, tiny_data):
    limit = inject("import torch; torch.cuda.set_per_process_memory_fraction(0.02, 0)")
    flags = [*CUDA, *"--train_patch_num 64 --batch_size 512 --patch_size 384 --num_workers 0".split()]
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **RESNET50, **limit)
    assert_one_line_error(process, "--batch_size smaller than 512", "out of memory")
