"""Checkpoints are written completely or not at all, and damage is detected."""

import random

import pytest
import torch
from faults import Malicious

from iqa.training.run_folder import load_checkpoint, load_last, previous_path, save_checkpoint


def state(value: float) -> dict:
    return {
        "model": {"weight": torch.full((1000,), value)},
        "epoch": int(value),
        "history": [{"srcc": 0.5, "note": None}],
    }


def damage(path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "missing"])
def test_damage_is_noticed_and_the_previous_checkpoint_used_with_a_warning_that_names_both(tmp_path, capsys, how):
    path = tmp_path / "last.pth"
    save_checkpoint(path, state(1), keep_previous=True)
    save_checkpoint(path, state(2), keep_previous=True)
    if how == "missing":
        path.unlink()
    else:
        damage(path, how)
        with pytest.raises(ValueError, match=r"last\.pth: damaged"):
            load_checkpoint(path)
    assert load_last(path)["epoch"] == 1
    warning = capsys.readouterr().out
    assert str(path) in warning and str(previous_path(path)) in warning


def test_without_a_previous_one_a_missing_file_stays_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_last(tmp_path / "last.pth")


def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_temporary_file(tmp_path):
    save_checkpoint(tmp_path / "a.pth", state(1))
    with pytest.raises(Exception):  # noqa: B017 - torch decides which: a generator cannot be pickled
        save_checkpoint(tmp_path / "a.pth", {"model": (i for i in range(3))})
    assert load_checkpoint(tmp_path / "a.pth")["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_no_flipped_bit_changes_what_is_loaded(tmp_path):
    """Every flipped bit is detected or is in padding and time stamps, which are not read."""
    path = tmp_path / "a.pth"
    save_checkpoint(path, state(1))
    whole = path.read_bytes()
    generator = random.Random(0)
    structure = [i for i in range(len(whole)) if whole[max(0, i - 60) : i + 60].count(b"PK")]
    noticed = 0
    for position in generator.sample(structure, 300) + generator.choices(range(len(whole)), k=100):
        content = bytearray(whole)
        content[position] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except ValueError:
            noticed += 1
        else:
            assert torch.equal(loaded.pop("model")["weight"], torch.full((1000,), 1.0)), position
            assert loaded == {"epoch": 1, "history": [{"srcc": 0.5, "note": None}]}, position
    assert noticed > 150


@pytest.mark.parametrize("of_today", [True, False])
def test_a_malicious_pickle_is_not_executed(tmp_path, of_today):
    """Also in the format of torch before 1.6."""
    state = {"model": Malicious(tmp_path / "executed")}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=of_today)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        load_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "executed").exists()
