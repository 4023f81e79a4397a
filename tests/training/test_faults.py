"""What a night on a shared machine does to a run, through the real command line; README.md beside this lists it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import (
    ROOT,
    TINY_FLAGS,
    assert_one_line_error,
    make_data,
    make_rows,
    run_program,
    train,
    write_official_csv,
)
from faults import FLAGS, NAME, at_call, copy_run, files_below, inject, is_running, mounted
from PIL import Image

from data_loader import choose_workers

COMMAND = (sys.executable, ROOT / "train_resnet_improved.py", *TINY_FLAGS, "--precision", "fp32", "--output_dir", "run")
CUDA = torch.cuda.is_available()


def start(*flags, cwd: Path, **environment) -> subprocess.Popen:
    """The command in a session of its own, which holds every process that it starts."""
    cwd.mkdir(exist_ok=True)
    command = [*map(str, COMMAND), *map(str, flags)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, start_new_session=True, **streams)


@contextlib.contextmanager
def running(*flags, cwd: Path, until: str, **environment):
    """A run that has printed `until`, killed in the end."""
    process = start(*flags, cwd=cwd, **environment)
    try:
        assert any(until in line for line in process.stdout), process.stderr.read()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def assert_nobody_is_left(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 30
    while is_running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(process.pid)


# Faults that end the command before it trains


class Refusal(NamedTuple):
    words: tuple[str, ...]  # of the one line on standard error
    flags: tuple = ()
    prepare: Callable[[Path], None] = lambda cwd: None  # given the working folder, with data in koniq/
    resume: bool = False  # of a copied run


def spoil(content: bytes) -> Callable[[Path], None]:
    return lambda cwd: (cwd / "koniq/1024x768/00003.jpg").write_bytes(content)


def bomb(cwd: Path) -> None:
    """100 million pixels in 12 kB; Pillow itself only warns of it, on standard error."""
    Image.new("1", (10_000, 10_000)).save(cwd / "koniq/1024x768/00003.jpg", "PNG")


def rename_in_csv(name: str) -> Callable[[Path], None]:
    def prepare(cwd):
        (cwd / "secret.jpg").write_bytes((cwd / "koniq/1024x768/00003.jpg").read_bytes())
        rows = make_rows()
        rows[3] = (name.format(cwd=cwd), *rows[3][1:])
        write_official_csv(cwd / "koniq", rows)

    return prepare


def link_out(cwd: Path) -> None:
    image = cwd / "koniq/1024x768/00003.jpg"
    image.rename(cwd / "secret.jpg")
    image.symlink_to(cwd / "secret.jpg")


class Malicious:
    def __reduce__(self):
        return open, ("executed", "w")


def malicious(path: str) -> Callable[[Path], None]:
    def prepare(cwd):
        (cwd / path).unlink(missing_ok=True)
        torch.save({"model": Malicious()}, cwd / path)

    return prepare


def other_shape(cwd: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, cwd / "weights.pth")


def fill_label(cwd: Path) -> None:
    rows = make_rows()
    rows[3] = (rows[3][0], "nan", rows[3][2])
    write_official_csv(cwd / "koniq", rows)


BAD_IMAGE = ("00003.jpg: unreadable image", "replace the file or remove its row")
REFUSALS = {
    "missing image": Refusal(("1 of 16", "00003.jpg"), prepare=lambda cwd: (cwd / "koniq/1024x768/00003.jpg").unlink()),
    "empty image": Refusal(BAD_IMAGE, prepare=spoil(b"")),
    "no image": Refusal(BAD_IMAGE, prepare=spoil(b"<html>404</html>")),
    "truncated image": Refusal(BAD_IMAGE, ("--no_cache", "--num_workers", "1"),
                               lambda cwd: os.truncate(cwd / "koniq/1024x768/00003.jpg", 700)),
    "decompression bomb": Refusal((*BAD_IMAGE, "10000x10000"), prepare=bomb),
    "a label that is no number": Refusal(("row 5", "'nan'", "0-100"), prepare=fill_label),
    "a name with ..": Refusal(("row 5", "../../secret.jpg"), prepare=rename_in_csv("../../secret.jpg")),
    "an absolute name": Refusal(("row 5", "/secret.jpg"), prepare=rename_in_csv("{cwd}/secret.jpg")),
    "a link out of the folder": Refusal(("row 5", "is a link out of the data folder"), prepare=link_out),
    "malicious weights": Refusal(("--weights evil.pth", "more than tensors"), ("--weights", "evil.pth"), malicious("evil.pth")),
    "malicious checkpoint": Refusal(("more than tensors", "not loaded"), prepare=malicious(f"checkpoints/{NAME}_last.pth"), resume=True),
    "weights of another shape": Refusal(("--weights weights.pth", "conv1.weight"), ("--weights", "weights.pth"), other_shape),
    "an output folder with a run": Refusal(("--output_dir run", "--resume", "--overwrite"),
                                           prepare=lambda cwd: ((cwd / "run").mkdir(), (cwd / "run/config.json").write_text("{}"))),
    "an output folder below a file": Refusal(("file/run", "cannot be written", "another folder"), ("--output_dir", "file/run"),
                                             lambda cwd: (cwd / "file").touch()),
    "a checkpoint folder below a file": Refusal(("file/weights", "cannot be written"), ("--checkpoint_dir", "file/weights"),
                                                lambda cwd: (cwd / "file").touch()),
    "a cache folder below a file": Refusal(("--cache_dir", "--no_cache"), ("--cache_dir", "file/cache"),
                                           lambda cwd: (cwd / "file").touch()),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(finished_run, tmp_path_factory):
    """Each refusal's folder before and after, and what the command said; two at a time, since each loads torch."""

    def provoke(name: str):
        cwd, fault = tmp_path_factory.mktemp("refusal"), REFUSALS[name]
        make_data(cwd / "koniq")
        if fault.resume:
            copy_run(finished_run, cwd)
        fault.prepare(cwd)
        before = files_below(cwd)
        flags = [*FLAGS, "--resume"] if fault.resume else ["--output_dir", "run"]
        return cwd, before, train("--data_path", "koniq", *flags, *fault.flags, cwd=cwd)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(REFUSALS, pool.map(provoke, REFUSALS), strict=True))


@pytest.mark.parametrize("name", REFUSALS)
def test_a_fault_before_training_is_one_line_and_harms_no_file(outcomes, name):
    cwd, before, process = outcomes[name]
    assert_one_line_error(process, *REFUSALS[name].words)
    after = files_below(cwd)
    assert {path: after.get(path) for path in before if not path.endswith(".lock")} == {
        path: state for path, state in before.items() if not path.endswith(".lock")
    }
    assert not (cwd / "executed").exists()


def test_traceback_shows_the_trace(tmp_path, tiny_data):
    process = train("--data_path", tiny_data, "--weights", "none.pth", "--traceback", "--output_dir", "run", cwd=tmp_path)
    assert process.returncode == 1 and "Traceback" in process.stderr and "none.pth" in process.stderr


@pytest.mark.skipif(CUDA, reason="needs a machine without CUDA")
def test_no_cuda_is_said_where_the_flag_asks_for_it(tmp_path, tiny_data):
    process = train("--data_path", tiny_data, "--device", "cuda", "--output_dir", "run", cwd=tmp_path)
    assert_one_line_error(process, "--device cuda", "0 CUDA devices", "cpu")


def test_a_read_only_folder_is_found_before_the_first_epoch(tmp_path, tiny_data):
    (tmp_path / "run").mkdir()
    command = mounted("mount --bind -o ro run run", [*COMMAND, "--data_path", tiny_data])
    process = run_program(*command, cwd=tmp_path)
    assert_one_line_error(process, "run: cannot be written", "another folder")
    assert "Epoch" not in process.stdout


# Faults in training


def train_copy(finished_run, tiny_data, cwd: Path, *flags, **environment):
    """Resume a copy of the run after its first epoch; the process, and whether its checkpoints are as they were."""
    copy_run(finished_run, cwd, epochs=1)
    before = files_below(cwd / "checkpoints")
    process = train("--data_path", tiny_data, *FLAGS, "--resume", *flags, cwd=cwd, **environment)
    after = files_below(cwd / "checkpoints")
    last = f"{NAME}_last.pth"
    assert after[last] == before[last] and not list(cwd.rglob("*.tmp")) and not (cwd / "run/result.json").exists()
    return process


def test_a_non_finite_loss_names_epoch_step_and_images_and_spares_the_last_good_checkpoint(tmp_path, tiny_data):
    """A learning rate that breaks the weights in the one step of the first epoch."""
    process = train("--data_path", tiny_data, "--lr", "1e30", "--batch_size", "16", "--epochs", "3", "--output_dir", "run",
                    "--precision", "fp32", cwd=tmp_path)  # fmt: skip
    assert_one_line_error(process, "Epoch 2/3, step 1: non-finite loss", "--lr", "00000.jpg", "00007.jpg")
    saved = torch.load(tmp_path / "checkpoints/resnet_improved_ss_noatt_last.pth", weights_only=True)
    assert len(saved["history"]) == 1 and not (tmp_path / "run/result.json").exists()
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_non_finite_gradients_are_named_before_the_step(finished_run, tiny_data, tmp_path):
    code = inject("""
import torch.nn.functional as F
loss = F.l1_loss
F.l1_loss = lambda scores, mos: loss(scores, mos) + (scores * 0).sum().sqrt()
import torch.optim
def step(*_, **__):
    raise SystemExit("a step was taken")
torch.optim.AdamW.step = step
""")
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **code)
    assert_one_line_error(process, "Epoch 2/2, step 1: non-finite gradients", ".jpg")


def test_out_of_memory_names_the_batch_size(finished_run, tiny_data, tmp_path):
    error = "raise __import__('torch').OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\\nSee the docs')"
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **at_call("torch.nn.functional.l1_loss", 2, error))
    assert_one_line_error(process, "--batch_size smaller than 8", "CUDA out of memory")


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_out_of_gpu_memory_names_the_batch_size(tmp_path, tiny_data):
    limit = inject("import torch; torch.cuda.set_per_process_memory_fraction(0.02, 0)")
    process = train("--data_path", tiny_data, "--device", "cuda", "--train_patch_num", "64", "--batch_size", "512",
                    "--patch_size", "384", "--num_workers", "0", "--output_dir", "run", cwd=tmp_path, **limit)  # fmt: skip
    assert_one_line_error(process, "--batch_size smaller than 512", "out of memory")


def test_a_full_disk_while_saving_names_the_file_and_spares_the_last_checkpoint(finished_run, tiny_data, tmp_path):
    """No file may pass 150 MB: the checkpoint ends in EFBIG, on the path that ENOSPC takes."""
    limit = inject("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000_000, 150_000_000))")
    process = train_copy(finished_run, tiny_data, tmp_path / "copy", **limit)
    assert_one_line_error(process, f"checkpoints/{NAME}_last.pth: cannot be written (File too large)", "make room")


def test_a_full_disk_while_saving_the_first_time(tmp_path, tiny_data):
    """A real one, of 20 MB."""
    (tmp_path / "checkpoints").mkdir()
    command = mounted("mount -t tmpfs -o size=20m tmpfs checkpoints", [*COMMAND, "--data_path", tiny_data])
    process = run_program(*command, cwd=tmp_path)
    assert_one_line_error(process, "_last.pth: cannot be written (No space left on device)", "make room")
    assert not (tmp_path / "run/result.json").exists()


def test_a_full_disk_while_caching_names_both_ways_out(tmp_path, tiny_data):
    limit = inject("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))")
    process = train("--data_path", tiny_data, "--cache_dir", "cache", "--output_dir", "run", cwd=tmp_path, **limit)
    assert_one_line_error(process, "cannot keep the image cache (File too large)", "--cache_dir", "--no_cache")


@pytest.mark.parametrize("size", ["8k", "256k"])
def test_too_little_shared_memory_is_an_error_before_the_first_epoch(tmp_path, tiny_data, size):
    command = [*COMMAND, "--data_path", tiny_data, "--num_workers", "2", "--patch_size", "224"]
    process = run_program(*mounted(f"mount -t tmpfs -o size={size} tmpfs /dev/shm", command), cwd=tmp_path)
    assert_one_line_error(process, "--num_workers 2", "6.0 MB in /dev/shm", "use 0")
    assert "Epoch" not in process.stdout


@pytest.mark.parametrize("size", ["8k", "256k"])
def test_shared_memory_that_others_take_up_is_an_error_and_no_hang(tmp_path, tiny_data, size):
    """Free when the run looks, and gone: for 8 kB not even the workers' queues fit, for 256 kB not their first patches."""
    command = [*COMMAND, "--data_path", tiny_data, "--num_workers", "2", "--patch_size", "224"]
    looks_free = inject("import shutil; usage = shutil.disk_usage('/'); shutil.disk_usage = lambda path: usage")
    process = run_program(*mounted(f"mount -t tmpfs -o size={size} tmpfs /dev/shm", command), cwd=tmp_path, **looks_free)
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
    with running("--data_path", tiny_data, "--num_workers", "1", "--epochs", "1000", cwd=tmp_path, until="Summary") as process:
        for worker in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1, errors
        assert errors.startswith("error: --num_workers: a process that cuts patches died") and errors.count("\n") == 1, errors
        assert_nobody_is_left(process)


def test_two_runs_in_one_folder_and_a_lock_whose_run_was_killed(tmp_path, tiny_data):
    """The second names the first's process, in the output folder and in that of the checkpoints."""
    flags = ["--data_path", tiny_data, "--num_workers", "2", "--epochs", "1000"]
    with running(*flags, cwd=tmp_path, until="Summary") as process:
        again = [
            train(*flags, "--output_dir", "run", *more, cwd=tmp_path)
            for more in (["--overwrite"], ["--output_dir", "other"])
        ]
        process.kill()
        process.wait()
        taken = train(*flags, "--output_dir", "run", "--resume", "--precision", "fp32", "--seed", "43", cwd=tmp_path)
    for refused, folder in zip(again, ("run", "checkpoints"), strict=True):
        assert_one_line_error(refused, f"{folder}: process {process.pid} ", "is running here", "wait")
    assert_one_line_error(taken, "seed 42, now 43")


# Signals


@pytest.mark.parametrize(
    ("number", "function", "call"),
    [
        pytest.param(signal.SIGTERM, "torch.nn.functional.l1_loss", 2, id="training"),
        pytest.param(signal.SIGINT, "training.mean_per_image", 1, id="evaluation"),
        pytest.param(signal.SIGTERM, "torch.save", 1, id="saving"),
        pytest.param(signal.SIGINT, "image_cache.resized", 4, id="caching"),
    ],
)
def test_the_first_signal_ends_the_run_in_order(finished_run, tiny_data, tmp_path, number, function, call):
    """Sent to every process of the run, as a terminal, slurm and systemd do."""
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    last = files_below(cwd / "checkpoints")[f"{NAME}_last.pth"]
    code = at_call(function, call, f"os.killpg(0, {int(number)})")
    flags = [*FLAGS, "--resume", "--cache_dir", "cache", "--num_workers", "2"]
    process = start("--data_path", tiny_data, *flags, cwd=cwd, **code)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output + errors
    assert errors.startswith(f"Stopped by {number.name}. The same command with --resume") and errors.count("\n") == 1, errors
    assert not list(cwd.rglob("*.tmp")) and not (cwd / "run/result.json").exists()
    assert files_below(cwd / "checkpoints")[f"{NAME}_last.pth"] == last
    assert_nobody_is_left(process)


def test_the_second_ctrl_c_ends_at_once(tmp_path, tiny_data):
    """The first one's way out is blocked for an hour."""
    blocked = ("try:", "    os.killpg(0, signal.SIGINT); time.sleep(9)",
               "finally:", "    os.killpg(0, signal.SIGINT); time.sleep(3600)")  # fmt: skip
    code = at_call("torch.nn.functional.l1_loss", 1, "\n        ".join(blocked))
    process = start("--data_path", tiny_data, "--num_workers", "2", cwd=tmp_path, **code)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert_nobody_is_left(process)


# Survived


def test_a_closed_pipe_and_odd_places_change_nothing(tmp_path):
    """Spaces and letters beyond ASCII under LC_ALL=C; a csv with a byte-order mark and CRLF; a reader that goes away."""
    cwd = tmp_path / "a földer ☃"
    data = make_data(cwd / "köniq")
    table = data / "koniq10k_distributions_sets.csv"
    for old, new in (("00000.jpg", "ünïcode image.jpg"), ("00012.jpg", "測試.jpg")):
        (data / "1024x768" / old).rename(data / "1024x768" / new)
        table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    pipe = 'set -o pipefail; "$@" | head -n 1'
    command = ["bash", "-c", pipe, "bash", *COMMAND, "--data_path", "köniq", "--output_dir", "rün", "--epochs", "1"]
    process = run_program(*command, cwd=cwd, LC_ALL="C")
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    assert len(process.stdout.splitlines()) == 1
    assert (cwd / "rün/result.json").exists()
    assert "測試.jpg" in (cwd / "rün/predictions_test.csv").read_text(encoding="utf-8")

