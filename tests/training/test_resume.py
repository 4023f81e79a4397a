"""A resumed run equals the uninterrupted one, or is refused."""

import json

import pytest
import torch
from conftest import assert_one_line_error, edit_json, refuse, train
from faults import FLAGS, KILLED_AFTER_LAST, NAME, assert_same_run, copy_run, files_below, inject
from kill_at_random import survive

from iqa.training.run_folder import load_checkpoint, save_checkpoint


def resume(data, cwd, *flags, **environment):
    return train("--data_path", data, *FLAGS, "--resume", *flags, cwd=cwd, **environment)


def refuse_to_resume(data, cwd, *flags):
    return refuse("--data_path", data, *FLAGS, "--resume", *flags, cwd=cwd)


def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(finished_run, tiny_data, tmp_path):
    """With other workers, no cache, a damaged last checkpoint, an incomplete line and a temporary file."""
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=2)
    last, previous = (cwd / f"run/{NAME}_last{suffix}.pth" for suffix in ("", "_previous"))
    content = bytearray(last.read_bytes())
    content[len(content) // 3] ^= 16
    last.unlink()
    last.write_bytes(content)
    metrics = cwd / "run/metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-30])
    names = (".result.json", f".{NAME}_last.pth", f".{NAME}_last_previous.pth")
    leftovers = [cwd / f"run/{name}.1.tmp" for name in names]
    of_another_run = cwd / f"run/.{NAME}_seed43_last.pth.1.tmp"
    for path in (*leftovers, of_another_run):
        path.write_text("half")
    (cwd / "checkpoints").mkdir()
    leftovers.append(cwd / f"checkpoints/.{NAME}_best.pth.1.tmp")
    leftovers[-1].hardlink_to(cwd / f"run/{NAME}_best.pth")
    process = resume(tiny_data, cwd, "--num_workers", "2", "--no_cache")
    assert process.returncode == 0 and process.stderr == "", process.stderr
    assert f"{NAME}_last.pth: damaged" in process.stdout and f"{NAME}_last_previous.pth" in process.stdout
    assert "Resuming after epoch 1" in process.stdout and "Epoch 2/2 Summary" in process.stdout
    assert of_another_run.exists() and not any(path.exists() for path in leftovers)
    of_another_run.unlink()
    assert_same_run(finished_run, cwd)


def test_a_kill_between_the_last_checkpoint_and_what_tells_of_it_loses_nothing(finished_run, tiny_data, tmp_path):
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    for path in (cwd / "run").glob("[mp]*"):
        path.unlink()
    killed = resume(tiny_data, cwd, **inject(KILLED_AFTER_LAST))
    assert killed.returncode == -9
    process = resume(tiny_data, cwd)
    assert process.returncode == 0 and "Resuming after epoch 2" in process.stdout, process.stderr
    assert_same_run(finished_run, cwd)


def test_kills_at_random_moments_lose_nothing():
    """One of the kills comes while a checkpoint is written."""
    assert [line.rpartition("; ")[2] for line in survive(2)] == ["equal", "equal"]


def test_a_finished_run_says_so_and_nothing_is_touched(finished_run, tiny_data):
    before = files_below(finished_run)
    process = refuse_to_resume(tiny_data, finished_run)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "run: this run is finished; see run/result.json\n"
    assert files_below(finished_run) == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_is_refused_with_what_differs(finished_run, tiny_data, tmp_path, finished):
    cwd = finished_run if finished else copy_run(finished_run, tmp_path / "copy")
    before = files_below(cwd)
    process = refuse_to_resume(tiny_data, cwd, "--seed", "43", "--lr", "0.01", "--epochs", "9")
    assert_one_line_error(process, "seed 42, now 43", "lr 0.001, now 0.01", "epochs 2, now 9", "--output_dir")
    changed = {name for name, state in files_below(cwd).items() if before.get(name) != state}
    assert all(name.endswith(".lock") for name in changed)


def test_a_run_from_before_a_flag_existed_has_its_default(finished_run, tiny_data, tmp_path):
    cwd = copy_run(finished_run, tmp_path / "copy")
    config = json.loads((cwd / "run/config.json").read_text())
    del config["flags"]["max_grad_norm"], config["flags"]["num_workers"]
    (cwd / "run/config.json").write_text(json.dumps(config))
    process = refuse_to_resume(tiny_data, cwd, "--max_grad_norm", "1", "--num_workers", "1")
    assert_one_line_error(process, "other settings: max_grad_norm 0.0, now 1.0; repeat")


def test_a_checkpoint_that_is_not_of_this_run_is_refused(finished_run, tiny_data, tmp_path, small_cnn_here):
    cwd = copy_run(finished_run, tmp_path / "copy")
    edit_json(cwd / "run/config.json", run_id="another")
    process = refuse_to_resume(tiny_data, cwd)
    assert_one_line_error(process, f"{NAME}_last.pth is not of the run in run", "remove run and repeat")


def test_a_checkpoint_that_does_not_know_its_schedule_is_refused_where_there_is_one(
    finished_run, tiny_data, tmp_path, small_cnn_here
):
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    edit_json(cwd / "run/config.json", flags={"warmup_steps": 3})
    last = cwd / f"run/{NAME}_last.pth"
    saved = torch.load(last, weights_only=True)
    del saved["schedule"]
    last.unlink()  # a hard link
    torch.save(saved, last)
    process = refuse_to_resume(tiny_data, cwd, "--warmup_steps", "3")
    assert_one_line_error(process, "--resume", last.name, "has no position in the schedule", "remove run")


def test_no_checkpoint_is_an_error_and_never_a_fresh_start(finished_run, tiny_data, tmp_path, small_cnn_here):
    cwd = copy_run(finished_run, tmp_path / "copy")
    for path in (cwd / "run").glob("*_last*.pth"):
        path.unlink()
    assert_one_line_error(refuse_to_resume(tiny_data, cwd), f"no run/{NAME}_last.pth", "remove run and repeat")


def test_a_damaged_config_is_named(finished_run, tiny_data, tmp_path):
    cwd = copy_run(finished_run, tmp_path / "copy")
    (cwd / "run/config.json").write_text("{")
    assert_one_line_error(refuse_to_resume(tiny_data, cwd), "run/config.json: not JSON", "--overwrite")


def test_weights_of_another_epoch_than_the_selected_one_are_not_kept_as_its(finished_run, tiny_data, tmp_path):
    """As after a kill, if the repeated epoch has another result."""
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=2)
    last, best = (cwd / f"run/{NAME}_{name}.pth" for name in ("last", "best"))
    for path, change in (
        (last, lambda state: state["history"][0].update(val_srcc=1.0)),  # the first epoch is selected
        (best, lambda state: state.update(epoch=3)),
    ):
        state = load_checkpoint(path)
        change(state)
        path.unlink()
        save_checkpoint(path, state)
    process = resume(tiny_data, cwd)
    assert process.returncode == 0 and "the weights of the selected epoch are lost" in process.stdout, process.stderr
    assert json.loads((cwd / "run/result.json").read_text())["selected_epoch"] == 1
