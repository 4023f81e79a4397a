"""A fault in the files of a user ends the command before it trains, with one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import assert_one_line_error, make_data, refuse, run_program
from faults import COMMAND, FLAGS, NAME, Malicious, copy_run, files_below, mounted


class Refusal(NamedTuple):
    words: tuple[str, ...]  # of the one line on standard error
    flags: tuple = ()
    prepare: Callable[[Path], None] = lambda cwd: None  # given the working folder, with data in koniq/
    resume: bool = False  # of a copied run


def malicious(*paths: str) -> Callable[[Path], None]:
    def prepare(cwd):
        for path in paths:
            (cwd / path).unlink(missing_ok=True)
            torch.save({"model": Malicious()}, cwd / path)

    return prepare


IMAGE = "koniq/1024x768/00003.jpg"
BAD_IMAGE = ("00003.jpg: unreadable image", "replace the file or remove its row")
REFUSALS = {
    "missing image": Refusal(("1 of 16", "00003.jpg"), prepare=lambda cwd: (cwd / IMAGE).unlink()),
    "no image": Refusal(BAD_IMAGE, prepare=lambda cwd: (cwd / IMAGE).write_bytes(b"<html>404</html>")),
    "truncated image": Refusal(
        BAD_IMAGE, ("--no_cache", "--num_workers", "1"), lambda cwd: os.truncate(cwd / IMAGE, 700)
    ),
    "malicious weights": Refusal(
        ("--weights evil.pth", "more than tensors"), ("--weights", "evil.pth"), malicious("evil.pth")
    ),
    "malicious checkpoint": Refusal(
        ("more than tensors", "not loaded"),
        prepare=malicious(f"run/{NAME}_last.pth", f"run/{NAME}_last_previous.pth"),
        resume=True,
    ),
    "weights of another backbone": Refusal(
        ("--weights weights.pth: not a ResNet50", "features.0.0.weight"),
        ("--weights", "weights.pth"),
        lambda cwd: torch.save({"features.0.0.weight": torch.zeros(128, 3, 4, 4)}, cwd / "weights.pth"),
    ),
    "a cache folder below a file": Refusal(
        ("--cache_dir", "--no_cache"), ("--cache_dir", "file/cache"), lambda cwd: (cwd / "file").touch()
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_fault_before_training_is_one_line_and_harms_no_file(finished_run, small_cnn_here, tmp_path, name):
    fault = REFUSALS[name]
    make_data(tmp_path / "koniq")
    if fault.resume:
        copy_run(finished_run, tmp_path, epochs=1)
    fault.prepare(tmp_path)
    before = files_below(tmp_path)
    flags = [*FLAGS, "--resume"] if fault.resume else ["--output_dir", "run"]
    process = refuse("--data_path", "koniq", *flags, *fault.flags, cwd=tmp_path)
    assert_one_line_error(process, *fault.words)
    after = files_below(tmp_path)
    assert [path for path in before if not path.endswith(".lock") and after.get(path) != before[path]] == []
    assert not (tmp_path / "executed").exists()


def test_traceback_shows_the_trace(tmp_path, tiny_data):
    process = refuse("--data_path", tiny_data, "--weights", "none.pth", "--traceback", cwd=tmp_path)
    assert process.returncode == 1 and "Traceback" in process.stderr and "none.pth" in process.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_no_cuda_is_said_where_the_flag_asks_for_it(tmp_path, tiny_data):
    process = refuse("--data_path", tiny_data, "--device", "cuda", cwd=tmp_path)
    assert_one_line_error(process, "--device cuda", "0 CUDA devices", "cpu")


def test_a_read_only_folder_is_found_before_the_first_epoch(tmp_path, tiny_data):
    (tmp_path / "run").mkdir()
    process = run_program(*COMMAND, "--data_path", tiny_data, cwd=tmp_path, **mounted("mount --bind -o ro run run"))
    assert_one_line_error(process, "run: cannot be written", "another folder")
    assert "Epoch" not in process.stdout
