"""A run that is ended by a signal, or loses the reader of its output."""

import signal

import pytest
from conftest import make_data, run_program
from faults import COMMAND, FLAGS, NAME, assert_nobody_is_left, at_call, copy_run, files_below, start


@pytest.mark.parametrize(
    ("number", "function", "call"),
    [
        pytest.param(signal.SIGTERM, "torch.nn.functional.l1_loss", 2, id="training"),
        pytest.param(signal.SIGINT, "data_loader.mean_per_image", 1, id="evaluation"),
        pytest.param(signal.SIGTERM, "torch.save", 1, id="saving"),
        pytest.param(signal.SIGINT, "iqa.data.image_cache.read_pixels", 4, id="caching"),
    ],
)
def test_the_first_signal_ends_the_run_in_order(finished_run, tiny_data, tmp_path, number, function, call):
    """The signal goes to every process of the run, as from a terminal, slurm or systemd."""
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    last = files_below(cwd / "run")[f"{NAME}_last.pth"]
    code = at_call(function, call, f"os.killpg(0, {int(number)})")
    flags = [*FLAGS, "--resume", "--cache_dir", "cache", "--num_workers", "2"]
    process = start("--data_path", tiny_data, *flags, cwd=cwd, **code)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output + errors
    assert errors.startswith(f"Stopped by {number.name}. To go on: ") and errors.count("\n") == 1, errors
    assert not list(cwd.rglob("*.tmp")) and not (cwd / "run/result.json").exists()
    assert files_below(cwd / "run")[f"{NAME}_last.pth"] == last
    assert_nobody_is_left(process.pid)


def test_a_run_that_was_not_replaced_yet_is_replaced_by_the_printed_command(finished_run, tiny_data, tmp_path):
    """--resume would continue the run that --overwrite was to replace."""
    cwd = copy_run(finished_run, tmp_path / "copy", epochs=1)
    code = at_call("iqa.data.image_cache.read_pixels", 4, "os.kill(os.getpid(), signal.SIGTERM)")
    process = start("--data_path", tiny_data, *FLAGS, "--overwrite", "--cache_dir", "cache", cwd=cwd, **code)
    _, errors = process.communicate(timeout=120)
    assert "--overwrite" in errors.partition("To go on: ")[2] and "--resume" not in errors, errors
    assert (cwd / f"run/{NAME}_last.pth").exists()


def test_the_second_ctrl_c_ends_at_once(tmp_path, tiny_data):
    """The cleanup after the first Ctrl-C is blocked for an hour."""
    blocked = (
        "try:",
        "    os.killpg(0, signal.SIGINT); time.sleep(9)",
        "finally:",
        "    os.killpg(0, signal.SIGINT); time.sleep(3600)",
    )
    code = at_call("torch.nn.functional.l1_loss", 1, "\n        ".join(blocked))
    process = start("--data_path", tiny_data, "--num_workers", "2", cwd=tmp_path, **code)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert_nobody_is_left(process.pid)


def test_a_closed_pipe_and_odd_places_change_nothing(tmp_path):
    """Spaces, non-ASCII letters under LC_ALL=C, a csv with a byte-order mark and CRLF, a reader that goes away."""
    cwd = tmp_path / "a földer ☃"
    data = make_data(cwd / "köniq")
    table = data / "koniq10k_distributions_sets.csv"
    for old, new in (("00000.jpg", "ünïcode image.jpg"), ("00012.jpg", "測試.jpg")):
        (data / "1024x768" / old).rename(data / "1024x768" / new)
        table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    pipe = 'set -o pipefail; "$@" | head -n 1'
    flags = "--data_path köniq --output_dir rün --epochs 1 --num_workers 2".split()
    process = run_program("bash", "-c", pipe, "bash", *COMMAND, *flags, cwd=cwd, LC_ALL="C")
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    assert len(process.stdout.splitlines()) == 1
    assert (cwd / "rün/result.json").exists()
    assert "測試.jpg" in (cwd / "rün/predictions_test.csv").read_text(encoding="utf-8")
