"""The TensorBoard curves of a run, also of a resumed one."""

import sys
from pathlib import Path

import pytest
from conftest import assert_one_line_error, read_epochs, refuse, train

from iqa.training.live_view import live_view


def test_without_the_package_tensorboard_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    process = refuse("--tensorboard", cwd=tmp_path)
    assert process.returncode == 2
    assert_one_line_error(process, "--tensorboard", "pip install tensorboard")


def points_of(folder: Path) -> dict[str, dict[int, float]]:
    """tag -> step -> value, as TensorBoard reads them; every step occurs once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    points = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert all(len(dict(values)) == len(values) for values in points.values())
    return {tag: dict(values) for tag, values in points.items()}


@pytest.mark.parametrize("stopped_after", [0, 1, 2, 3])
def test_the_live_view_has_each_epoch_once_wherever_a_run_was_resumed(tmp_path, stopped_after):
    """Two of three epochs were saved; the live view has none to three."""
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    rows = [
        {"epoch": epoch, "train_loss": 10.0 / epoch, "learning_rate": 1e-5 * epoch, "val_srcc": None}
        for epoch in (1, 2, 3)
    ]
    if stopped_after:
        with live_view(tmp_path / "view", []) as show:
            for row in rows[:stopped_after]:
                show({**row, "train_loss": row["train_loss"] + (row["epoch"] == 3)})
    with live_view(tmp_path / "view", rows[:2]) as show:
        show(rows[2])
    points = points_of(tmp_path / "view")
    assert points["loss/train"] == pytest.approx({1: 10, 2: 5, 3: 10 / 3})
    assert points["learning_rate"] == pytest.approx({1: 1e-5, 2: 2e-5, 3: 3e-5})
    with live_view(tmp_path / "view", []) as show:  # --overwrite
        show(rows[0])
    assert points_of(tmp_path / "view") == {"loss/train": {1: 10}, "learning_rate": {1: pytest.approx(1e-5)}}


def test_a_run_with_the_live_view(tmp_path, tiny_data):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    flags = "--epochs 1 --output_dir run --tensorboard --warmup_steps 4".split()
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    (row,) = read_epochs(tmp_path / "run")
    points = points_of(tmp_path / "run/tensorboard")
    assert points["loss/train"] == {1: pytest.approx(row["train_loss"])}
    assert points["plcc/test"] == {1: pytest.approx(row["test_plcc"])}
    assert points["learning_rate"] == {1: pytest.approx(0.25e-4)}  # the first step of 4
