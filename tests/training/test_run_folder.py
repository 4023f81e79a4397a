"""The files of a run on different file systems, and the weights of other runs."""

import errno
import json
import os
import shutil

import pytest
import torch
from conftest import assert_one_line_error, edit_json, read_epochs, refuse, train
from faults import FLAGS, NAME, assert_same_run, copy_run, files_below, inject, without_times

from iqa.atomic_files import hold_lock
from iqa.predictions import Predictions
from iqa.training.run_folder import load_last, save_checkpoint

SHORT = ("--epochs", "1", "--precision", "fp32", "--save_model")
BEST = "resnet_improved_ss_noatt_best.pth"
NO_LINKS = """
import errno, itertools, os
reasons = itertools.cycle((errno.EPERM, errno.ENOTSUP, errno.EMLINK))
def refuse(*paths, **more):
    raise OSError(next(reasons), "no hard links")
os.link = refuse
"""
NO_LOCKS_AND_NO_FSYNC = """
import errno, fcntl, os, stat
def no_lock(*_):
    raise OSError(errno.{lock}, os.strerror(errno.{lock}))
fcntl.lockf = no_lock
fsync = os.fsync
def no_fsync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.{fsync}, os.strerror(errno.{fsync}))
    fsync(descriptor)
os.fsync = no_fsync
"""


def test_a_run_ends_normally_where_hard_links_are_not_supported(tiny_data, tmp_path):
    flags = (*SHORT, "--epochs", "3", "--output_dir", "run")
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **inject(NO_LINKS))
    assert (process.returncode, process.stderr) == (0, "")
    assert len(read_epochs(tmp_path / "run")) == 3
    assert (tmp_path / "checkpoints" / BEST).read_bytes() == (tmp_path / "run" / BEST).read_bytes()


@pytest.mark.parametrize("reason", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_the_previous_checkpoint_is_kept_without_hard_links(tmp_path, monkeypatch, reason):
    def no_links(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "last.pth"
    for epoch in (1, 2, 3):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
    assert load_last(path)["epoch"] == 3
    path.unlink()
    assert load_last(path)["epoch"] == 2


@pytest.mark.parametrize(("lock", "fsync"), [("ENOLCK", "EINVAL"), ("ENOSYS", "ENOTSUP")])
def test_a_run_goes_on_without_locks_and_without_fsync_of_a_folder_and_says_so(tiny_data, tmp_path, lock, fsync):
    code = inject(NO_LOCKS_AND_NO_FSYNC.format(lock=lock, fsync=fsync))
    process = train("--data_path", tiny_data, *SHORT, "--output_dir", "run", cwd=tmp_path, **code)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Warning: run: locks are not supported here" in process.stdout and (tmp_path / "run/result.json").exists()


def test_each_run_keeps_its_weights_and_checkpoints_has_those_of_the_newest(tiny_data, tmp_path):
    """A file that is the only copy of an earlier run's weights is kept under another name."""
    (tmp_path / "checkpoints").mkdir()
    newest = tmp_path / "checkpoints" / BEST
    torch.save({"model": {}, "epoch": 1}, newest)
    only_copy = newest.read_bytes()
    first = train("--data_path", tiny_data, *SHORT, "--output_dir", "first", cwd=tmp_path)
    assert first.returncode == 0 and "only copy" in first.stdout, first.stderr
    (kept,) = [path for path in newest.parent.iterdir() if path != newest]
    assert kept.read_bytes() == only_copy and newest.samefile(tmp_path / "first" / BEST)
    before = files_below(tmp_path / "first")
    second = train("--data_path", tiny_data, *SHORT, "--seed", "43", "--output_dir", "second", cwd=tmp_path)
    assert second.returncode == 0 and "only copy" not in second.stdout, second.stderr
    assert files_below(tmp_path / "first") == before and newest.samefile(tmp_path / "second" / BEST)
    saved = torch.load(newest, weights_only=True)
    assert saved["results"] == json.loads((tmp_path / "second/result.json").read_text())
    assert saved["results"]["failure"] is None and saved["config"]["flags"]["seed"] == 43


def test_without_save_model_a_finished_run_keeps_the_weights_of_its_last_epoch(finished_run, tiny_data, tmp_path):
    copy_run(finished_run, tmp_path, epochs=1)
    edit_json(tmp_path / "run/config.json", flags={"save_model": False})
    flags = [flag for flag in FLAGS if flag != "--save_model"]
    process = train("--data_path", tiny_data, *flags, "--resume", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == [f"{NAME}_best.pth"]
    saved = torch.load(tmp_path / f"run/{NAME}_best.pth", weights_only=True)
    last = torch.load(finished_run / f"after_2/{NAME}_last.pth", weights_only=True)
    assert saved["epoch"] == 2 and all(torch.equal(x, last["model"][name]) for name, x in saved["model"].items())
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("kind", ["best", "last"])
def test_checkpoints_of_another_run_in_the_given_folder_are_refused(tiny_data, tmp_path, kind):
    (tmp_path / "weights").mkdir()
    (tmp_path / f"weights/resnet_improved_ss_noatt_{kind}.pth").write_text("of another run")
    before = files_below(tmp_path)
    flags = ("--data_path", tiny_data, *SHORT, "--output_dir", "run", "--checkpoint_dir", "weights")
    assert_one_line_error(refuse(*flags, cwd=tmp_path), f"{kind}.pth of another run", "--overwrite", "name another")
    assert files_below(tmp_path) == before


def test_a_run_is_not_resumed_into_a_folder_with_the_weights_of_another(finished_run, tiny_data, tmp_path):
    copy_run(finished_run, tmp_path, epochs=1)
    (tmp_path / "weights").mkdir()
    torch.save({"model": {}, "config": {"run_id": "another"}}, tmp_path / f"weights/{NAME}_best.pth")
    before = files_below(tmp_path / "weights")
    flags = ("--data_path", tiny_data, *FLAGS, "--resume", "--checkpoint_dir", "weights")
    edit_json(tmp_path / "run/config.json", flags={"checkpoint_dir": "run"})
    error = train(*flags, cwd=tmp_path)
    assert_one_line_error(error, "--checkpoint_dir weights", f"{NAME}_best.pth of another run", "name another")
    assert {name: files_below(tmp_path / "weights")[name] for name in before} == before
    (tmp_path / f"weights/{NAME}_best.pth").unlink()
    process = train(*flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert [path.name for path in tmp_path.rglob("*_last*.pth")] == []  # nor in the folder of before
    results = [json.loads((folder / "run/result.json").read_text()) for folder in (finished_run, tmp_path)]
    assert without_times(results[0]) == without_times(results[1])


def test_weights_are_not_published_over_those_of_a_run_that_is_trained(finished_run, tiny_data, tmp_path):
    """A run with --checkpoint_dir checkpoints holds the lock of its file."""
    copy_run(finished_run, tmp_path, epochs=1)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / f"checkpoints/{NAME}_best.pth").write_text("of the run that is trained")
    with hold_lock(tmp_path / f"checkpoints/.{NAME}_best.pth.lock"):
        process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=tmp_path)
    assert process.returncode == 0 and "_best.pth was not replaced (" in process.stdout, process.stderr
    assert (tmp_path / f"checkpoints/{NAME}_best.pth").read_text() == "of the run that is trained"
    assert (tmp_path / f"run/{NAME}_best.pth").exists()


def test_a_run_that_was_killed_after_its_result_leaves_nothing_for_a_resume(finished_run, tiny_data, tmp_path):
    copy_run(finished_run, tmp_path, epochs=2)
    shutil.copyfile(finished_run / "run/result.json", tmp_path / "run/result.json")
    process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=tmp_path)
    assert process.returncode == 0 and "this run is finished" in process.stdout
    assert list((tmp_path / "run").glob("*_last*.pth")) == []


def test_a_run_that_was_killed_in_its_first_epoch_is_begun_anew_by_resume(finished_run, tiny_data, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copyfile(finished_run / "run/config.json", tmp_path / "run/config.json")
    process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=tmp_path)
    assert process.returncode == 0 and "Resuming" not in process.stdout, process.stderr
    assert_same_run(finished_run, tmp_path)


@pytest.fixture
def older_run(finished_run, tmp_path):
    """A run after its first epoch by an earlier version: checkpoints in a common folder, predictions as text."""
    copy_run(finished_run, tmp_path, epochs=1)
    config = json.loads((tmp_path / "run/config.json").read_text())
    flags = {"checkpoint_dir": "checkpoints", "evaluate": None, "evaluate_set": "auto", "preload_images": False}
    config["flags"] |= flags
    del config["flags"]["cuda_graph"]
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").mkdir()
    for kind in ("best", "last"):
        shutil.copyfile(tmp_path / f"run/{NAME}_{kind}.pth", tmp_path / f"checkpoints/{NAME}_{kind}.pth")
    for path in (tmp_path / "run").glob("*.pth"):
        path.unlink()
    last = tmp_path / f"checkpoints/{NAME}_last.pth"
    saved = torch.load(last, weights_only=True)
    saved["predictions"] = {
        name: (tmp_path / f"run/predictions_{name}.csv").read_text() for name in saved["predictions"]
    }
    torch.save({**saved, "config": config}, last)
    return tmp_path


def test_a_run_of_an_earlier_version_is_resumed_with_equal_results(older_run, finished_run, tiny_data):
    assert Predictions.from_csv((older_run / "run/predictions_test.csv").read_text())
    process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=older_run)
    assert process.returncode == 0 and "Resuming after epoch 1" in process.stdout, process.stderr
    assert_same_run(finished_run, older_run)


def test_a_run_whose_checkpoint_another_one_replaced_names_a_way_out_that_works(older_run, tiny_data):
    edit_json(older_run / "run/config.json", run_id="interrupted earlier")
    error = refuse("--data_path", tiny_data, *FLAGS, "--resume", cwd=older_run)
    assert_one_line_error(error, "another run replaced it", "remove run and repeat the command")
    shutil.rmtree(older_run / "run")
    before = files_below(older_run / "checkpoints")
    process = train("--data_path", tiny_data, *FLAGS, cwd=older_run)
    assert process.returncode == 0 and (older_run / "run/result.json").exists(), process.stderr
    assert set(before.values()) <= set(files_below(older_run / "checkpoints").values())


def test_the_log_beside_the_folder_has_all_that_was_printed(finished_run, tiny_data, tmp_path):
    printed = (finished_run / "log.txt").read_text()
    assert (finished_run / "run.log").read_text() == printed and "Best Test SRCC: " in printed
    copy_run(finished_run, tmp_path)
    (tmp_path / "run.log").write_text("before\n")
    process = train("--data_path", tiny_data, *FLAGS, "--resume", cwd=tmp_path)
    assert (tmp_path / "run.log").read_text() == "before\n" + process.stdout
