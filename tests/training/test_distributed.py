"""torchrun: two processes on CPUs give the results of one, and end together."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY_FLAGS, read_scores, run_program, start_program, train
from faults import FLAGS, NAME, assert_nobody_is_left, copy_run, inject

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
TRAIN = ROOT / "train_resnet_improved.py"


def together(*flags, cwd, **environment):
    return run_program(*TORCHRUN, TRAIN, *TINY_FLAGS, *flags, cwd=cwd, **{"OMP_NUM_THREADS": "1", **environment})


def assert_told_once(process, *words: str) -> None:
    """One error of the program, which contains the words; torchrun adds its own report of a failed process."""
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode != 0 and [word for word in words if word not in line] == [], line


def predictions(path) -> tuple[list[str], np.ndarray]:
    scores = read_scores(path)
    return list(scores), np.array(list(scores.values()))


def test_gradients_and_batch_norm_are_those_of_the_whole_batch(tmp_path, forking_python):
    """By each loss, since some compare patches of different processes."""
    script = ROOT / "tests/train_together.py"
    by_two = {"OMP_NUM_THREADS": "1", "PYTHON_EXEC": forking_python}
    for launch, name, environment in (((sys.executable,), "one.pth", {}), (TORCHRUN, "two.pth", by_two)):
        process = run_program(*launch, script, name, cwd=tmp_path, **environment)
        assert process.returncode == 0, process.stderr
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pth", "two.pth"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-9, rtol=1e-9, msg=key)


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory, forking_python):
    """The same three steps by one process and by two: the folder with one/ and two/, and the output of the two.

    At a learning rate that leaves rounding small: AdamW's first steps are the signs of the gradients. The 40 patches of
    each test image fill three batches, of which one process gets two.
    """
    cwd = tmp_path_factory.mktemp("together")
    flags = (
        "--use_multiscale --epochs 1 --patch_size 64 --train_patch_num 3 --test_patch_num 40 "
        "--dropout_rate 0 --lr 1e-7 --precision fp32 --save_model"
    ).split()
    one, two = (("--data_path", tiny_data, *flags, "--output_dir", x, "--checkpoint_dir", x) for x in ("one", "two"))
    alone = train(*one, cwd=cwd)
    assert alone.returncode == 0, alone.stderr
    process = together(*two, cwd=cwd, PYTHON_EXEC=forking_python)
    assert process.returncode == 0, process.stderr
    return cwd, process.stdout


def test_three_steps_by_two_processes_are_those_of_one(runs):
    cwd, _ = runs
    loss = [json.loads((cwd / name / "metrics.jsonl").read_text())["train_loss"] for name in ("one", "two")]
    assert loss[1] == pytest.approx(loss[0], rel=1e-4)
    for file in ("predictions_val.csv", "predictions_test.csv"):
        (names, scores), (other_names, other_scores) = (predictions(cwd / name / file) for name in ("one", "two"))
        assert names == other_names and len(scores) == 4
        np.testing.assert_allclose(other_scores, scores, rtol=0, atol=2e-3)  # rounding: the scores spread over points
    one, two = (
        torch.load(cwd / name / "resnet_improved_ms_noatt_best.pth", weights_only=True)["model"]
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    statistics = [torch.cat([model[key] for key in one if "running" in key]) for model in (one, two)]
    assert (statistics[1] - statistics[0]).norm() < 1e-3 * statistics[0].norm()


def test_one_process_prints_and_writes(runs):
    cwd, output = runs
    for line in ("Epoch 1/1 Summary:", "Best Test SRCC:", "Selected epoch:"):
        assert output.count(line) == 1
    assert "Device: 2 processes" in output
    assert json.loads((cwd / "two/config.json").read_text())["processes"] == 2
    assert {path.name for path in (cwd / "two").iterdir()} == {path.name for path in (cwd / "one").iterdir()}


def test_evaluation_by_two_processes_is_that_of_one(runs, forking_python):
    """Only one process has the last batch, 120 of the 640 patches."""
    cwd, _ = runs
    flags = ["--evaluate", "one/resnet_improved_ms_noatt_best.pth", "--evaluate_set", "all", "--device", "cpu"]
    alone = run_program(sys.executable, TRAIN, *flags, "--output_dir", "alone", cwd=cwd)
    assert alone.returncode == 0, alone.stderr
    environment = {"OMP_NUM_THREADS": "1", "PYTHON_EXEC": forking_python}
    process = run_program(*TORCHRUN, TRAIN, *flags, "--output_dir", "shared", cwd=cwd, **environment)
    assert process.returncode == 0 and process.stdout.count("SRCC: ") == 1, process.stderr
    file = "predictions_koniq-10k_all.csv"
    (names, scores), (other_names, other_scores) = (predictions(cwd / name / file) for name in ("alone", "shared"))
    assert names == other_names and len(set(names)) == 16
    np.testing.assert_allclose(other_scores, scores, atol=1e-5, rtol=0)


def test_a_run_goes_on_with_more_processes_and_says_what_that_changes(
    finished_run, tiny_data, tmp_path, forking_python
):
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    process = together("--data_path", tiny_data, *FLAGS, "--resume", cwd=cwd, PYTHON_EXEC=forking_python)
    assert process.returncode == 0, process.stderr
    assert "Resuming after epoch 1, with 2 processes instead of 1" in process.stdout
    assert json.loads((cwd / "run/result.json").read_text())["epochs"] == 2
    assert torch.load(cwd / f"run/{NAME}_best.pth", weights_only=True)["results"]["epochs"] == 2


@contextlib.contextmanager
def running_together(data, cwd):
    """torchrun with two processes in their second epoch, each in its own session; the process and their numbers."""
    command = (*TORCHRUN, TRAIN, *TINY_FLAGS, "--data_path", data, "--epochs", "1000", "--output_dir", "run")
    process = start_program(*command, cwd=cwd, OMP_NUM_THREADS="1")
    try:
        assert any("Summary" in line for line in process.stdout), process.stderr.read()
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert len(children) == 2
        yield process, list(map(int, children))
    finally:
        process.kill()  # what it started goes with it
        process.communicate()


def test_a_killed_process_ends_the_others_with_an_error(tiny_data, tmp_path):
    with running_together(tiny_data, tmp_path) as (process, children):
        os.kill(children[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0 and ("SIGKILL" in errors or "-9" in errors)
        assert_nobody_is_left(*children)
    assert not (tmp_path / "run/result.json").exists()


def test_sigterm_ends_every_process_and_says_once_how_to_resume(tiny_data, tmp_path):
    with running_together(tiny_data, tmp_path) as (process, children):
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0 and errors.count("Stopped by SIGTERM. The same command with --resume") == 1
        assert_nobody_is_left(*children)


GPUS = torch.cuda.device_count()
FEWER_THAN_TWO = pytest.mark.skipif(GPUS > 1, reason="needs a machine with fewer than two GPUs")
OF_GPUS = ["--nproc_per_node=2", f"torch sees {GPUS} CUDA devices", "--device cpu"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch_size", "9"], ["--batch_size 9", "2 processes"]),
        (["--data_path", "nowhere"], ["--data_path nowhere", "no such folder"]),
        pytest.param(["--device", "cuda"], OF_GPUS, marks=FEWER_THAN_TWO),
    ],
)
def test_a_mistake_is_told_once(tiny_data, tmp_path, forking_python, flags, words):
    process = together("--data_path", tiny_data, *flags, cwd=tmp_path, PYTHON_EXEC=forking_python)
    assert_told_once(process, *words)


def test_what_only_another_process_meets_is_told_too(tiny_data, tmp_path, forking_python):
    """The second process sees another data folder than the first."""
    move = "import os\nif os.environ['RANK'] == '1':\n    os.chdir('elsewhere')"
    pass_on = f"import os; os.environ['INJECT'] = {move!r}"  # from torchrun to what it starts
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "koniq").symlink_to(tiny_data)
    process = together("--data_path", "koniq", cwd=tmp_path, PYTHON_EXEC=forking_python, **inject(pass_on))
    assert_told_once(process, "process 1 of 0-1", "--data_path koniq")
