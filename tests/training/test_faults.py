"""Faults of disks, memory, numbers and processes during a run; docs/faults.md lists them."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import assert_one_line_error, run_program, train
from faults import COMMAND, FLAGS, NAME, assert_nobody_is_left, at_call, copy_run, files_below, inject, mounted, start

from iqa.data.cutting import choose_workers


@contextlib.contextmanager
def running(*flags, cwd: Path, until: str, **environment):
    """A run that has printed `until`; it is killed at the end."""
    process = start(*flags, cwd=cwd, **environment)
    try:
        assert any(until in line for line in process.stdout), process.stderr.read()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def train_copy(finished_run, tiny_data, cwd: Path, *flags, **environment):
    """Resume a copy of the run after its first epoch; the process must leave the checkpoints unchanged."""
    copy_run(finished_run, cwd, epochs=1)
    before = files_below(cwd / "run")
    process = train("--data_path", tiny_data, *FLAGS, "--resume", *flags, cwd=cwd, **environment)
    after = files_below(cwd / "run")
    last = f"{NAME}_last.pth"
    assert after[last] == before[last] and not list(cwd.rglob("*.tmp")) and not (cwd / "run/result.json").exists()
    return process


def test_a_non_finite_loss_names_epoch_step_and_images_and_spares_the_last_good_checkpoint(tmp_path, tiny_data):
    """A learning rate that breaks the weights in the one step of the first epoch."""
    flags = "--lr 1e30 --batch_size 16 --epochs 3 --output_dir run --precision fp32".split()
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path)
    assert_one_line_error(process, "Epoch 2/3, step 1: non-finite loss", "--lr", "00000.jpg", "00007.jpg")
    saved = torch.load(tmp_path / "run/resnet_improved_ss_noatt_last.pth", weights_only=True)
    assert len(saved["history"]) == 1 and not (tmp_path / "run/result.json").exists()
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_non_finite_gradients_are_named(finished_run, tiny_data, tmp_path):
    code = inject("""
import torch.nn.functional as F
loss = F.l1_loss
F.l1_loss = lambda scores, mos: loss(scores, mos) + (scores * 0).sum().sqrt()
""")
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **code)
    assert_one_line_error(process, "Epoch 2/2, step 1: non-finite gradients", ".jpg")


def test_out_of_memory_names_the_batch_size(finished_run, tiny_data, tmp_path):
    error = "raise __import__('torch').OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\\nSee the docs')"
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **at_call("torch.nn.functional.l1_loss", 2, error))
    assert_one_line_error(process, "--batch_size smaller than 8", "CUDA out of memory")


def test_a_full_disk_while_saving_names_the_file_and_spares_the_last_checkpoint(finished_run, tiny_data, tmp_path):
    """A limit of 5 MB per file: EFBIG takes the same path as ENOSPC."""
    limit = inject("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))")
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **limit)
    assert_one_line_error(process, f"run/{NAME}_last.pth: cannot be written (File too large)", "make room")


@pytest.mark.parametrize(("folder", "flags"), [("run", ()), ("weights", ("--checkpoint_dir", "weights"))])
def test_a_disk_without_room_for_the_checkpoints_is_found_before_the_first_epoch(tmp_path, tiny_data, folder, flags):
    """33 MB, with a lock file of an earlier run: room for three checkpoints, but not for the weights of 3.5 MB, too."""
    (tmp_path / folder).mkdir()
    small = mounted(f"mount -t tmpfs -o size=33m tmpfs {folder}", f"open('{folder}/.run.lock', 'w').close()")
    process = run_program(*COMMAND, "--data_path", tiny_data, *flags, cwd=tmp_path, **small)
    assert_one_line_error(process, f"{folder}: the checkpoints of a run need 0.03 GB", "GB are free", "make room")
    assert "Epoch" not in process.stdout


def test_a_full_disk_while_caching_names_both_ways_out(tmp_path, tiny_data):
    limit = inject("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))")
    process = train("--data_path", tiny_data, "--cache_dir", "cache", "--output_dir", "run", cwd=tmp_path, **limit)
    assert_one_line_error(process, "cannot keep the image cache (File too large)", "--cache_dir", "--no_cache")


@pytest.mark.parametrize("size", ["8k", "256k"])
def test_too_little_shared_memory_is_an_error_before_the_first_epoch(tmp_path, tiny_data, size):
    command = [*COMMAND, "--data_path", tiny_data, "--num_workers", "2", "--patch_size", "224"]
    process = run_program(*command, cwd=tmp_path, **mounted(f"mount -t tmpfs -o size={size} tmpfs /dev/shm"))
    assert_one_line_error(process, "--num_workers 2", "6.0 MB in /dev/shm", "use 0")
    assert "Epoch" not in process.stdout


@pytest.mark.parametrize("size", ["8k", "256k"])
def test_shared_memory_that_others_take_up_is_an_error_and_no_hang(tmp_path, tiny_data, size):
    """Free at the check and occupied later: 8 kB are too little for the queues, 256 kB for the first patches."""
    command = [*COMMAND, "--data_path", tiny_data, "--num_workers", "2", "--patch_size", "224"]
    looks_free = "import shutil; usage = shutil.disk_usage('/'); shutil.disk_usage = lambda path: usage"
    small = mounted(f"mount -t tmpfs -o size={size} tmpfs /dev/shm", looks_free)
    process = run_program(*command, cwd=tmp_path, **small)
    assert_one_line_error(process, "--num_workers", "/dev/shm")


@pytest.mark.parametrize(("megabytes", "workers"), [(1000, 4), (64, 2), (20, 0)])
def test_a_gpu_gets_the_workers_that_the_shared_memory_has_room_for(monkeypatch, capsys, megabytes, workers):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=megabytes * 1_000_000))
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    choose_workers.cache_clear()
    assert choose_workers(-1, "cuda", 10_000_000) == workers
    assert ("/dev/shm" in capsys.readouterr().out) == (workers < 4)


def test_a_killed_worker_is_an_error_and_no_hang(tmp_path, tiny_data):
    flags = ("--data_path", tiny_data, "--num_workers", "1", "--epochs", "1000")
    with running(*flags, cwd=tmp_path, until="Summary") as process:
        for worker in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1 and errors.count("\n") == 1, errors
        assert errors.startswith("error: --num_workers: a process that cuts patches died"), errors
        assert_nobody_is_left(process.pid)


def test_two_runs_in_one_folder_and_a_lock_whose_run_was_killed(tmp_path, tiny_data):
    """The second run names the process of the first, for the output folder and the checkpoint folder."""
    flags = ["--data_path", tiny_data, "--num_workers", "2", "--epochs", "1000", "--checkpoint_dir", "weights"]
    with running(*flags, cwd=tmp_path, until="Summary") as process:
        again = [
            train(*flags, "--output_dir", "run", *more, cwd=tmp_path)
            for more in (["--overwrite"], ["--output_dir", "other", "--overwrite"])
        ]
        process.kill()
        process.wait()
        taken = train(*flags, "--output_dir", "run", "--resume", "--precision", "fp32", "--seed", "43", cwd=tmp_path)
    for refused, folder in zip(again, ("run", "weights"), strict=True):
        assert_one_line_error(refused, f"{folder}: process {process.pid} ", "holds this folder", "wait")
    assert_one_line_error(taken, "seed 42, now 43")
