"""Shared set-up: a tiny KonIQ-shaped folder, and the real command line in a subprocess."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

# Tests that run side by side take one core each: more threads than cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
TINY_FLAGS = ("--weights", "none", "--patch_size", "32", "--train_patch_num", "2", "--test_patch_num", "2",
              "--batch_size", "8", "--device", "cpu")  # fmt: skip
# Where the tests run in the background Ctrl-C is ignored, and every program that they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
SIZES = {"training": 8, "validation": 4, "test": 4}


def write_image(path: Path, brightness: float, size=(64, 48)) -> None:
    """A JPEG of noise around a brightness in 0-100, a function of its name."""
    noise = np.random.default_rng(list(path.name.encode())).normal(2.5 * brightness, 30, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path, quality=95)


def write_official_csv(root: Path, rows: list[tuple[str, object, str]]) -> Path:
    """Rows of (image_name, MOS, set)."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "koniq10k_distributions_sets.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("image_name", "MOS", "set"), *rows])
    return path


def make_rows(sizes=SIZES) -> list[tuple[str, float, str]]:
    names = [name for name, count in sizes.items() for _ in range(count)]
    return [(f"{i:05d}.jpg", round(10 + 37 * i % 80 + i / 10, 3), name) for i, name in enumerate(names)]


def make_data(root: Path, folder: str = "1024x768", sizes=SIZES) -> Path:
    rows = make_rows(sizes)
    write_official_csv(root, rows)
    for name, mos, _ in rows:
        write_image(root / folder / name, mos)
    return root


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """8 training, 4 validation and 4 test images, brighter where the MOS is higher."""
    return make_data(tmp_path_factory.mktemp("data") / "koniq")


def run_program(*command, cwd: Path, **environment) -> subprocess.CompletedProcess:
    """A command of this program, by the interpreter that runs the tests; stdout and stderr as text."""
    environment = {**os.environ, **environment}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def train(*flags, cwd: Path, **environment) -> subprocess.CompletedProcess:
    """train_resnet_improved.py; a flag given here counts over the same one of TINY_FLAGS."""
    return run_program(sys.executable, ROOT / "train_resnet_improved.py", *TINY_FLAGS, *flags, cwd=cwd, **environment)


def assert_one_line_error(process: subprocess.CompletedProcess, *words: str) -> None:
    """Failed, with one line on standard error that holds the words."""
    lines = process.stderr.strip().splitlines()
    assert process.returncode != 0, process.stdout
    assert len(lines) == 1 and lines[0].startswith("error: "), process.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="session")
def finished_run(tiny_data, tmp_path_factory) -> Path:
    """The working folder of a finished run of the third variant: run/ and checkpoints/ lie in it, and log.txt."""
    cwd = tmp_path_factory.mktemp("finished")
    process = train("--data_path", tiny_data, "--use_multiscale", "--use_attention", "--save_model", "--epochs", "2",
                    "--lr", "1e-3", "--precision", "fp32", "--output_dir", "run", cwd=cwd)  # fmt: skip
    assert process.returncode == 0, process.stderr
    (cwd / "log.txt").write_text(process.stdout)
    return cwd
