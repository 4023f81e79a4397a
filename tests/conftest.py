"""What the tests share: tiny data, the commands of the program, and a finished run."""

import contextlib
import csv
import importlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # as for a user, output is buffered
    os.environ.pop(name, None)
# Tests that run side by side use one core each: threads that share a core are ten times slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import forkserver  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/inject"), str(ROOT / "tools")]
import small_cnn  # noqa: E402

TINY_FLAGS = (
    "--weights none --patch_size 32 --train_patch_num 2 --test_patch_num 2 --batch_size 8 --device cpu --precision fp32"
).split()
# Ctrl-C is ignored in programs that a shell starts in the background; the tests would pass that on to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would pass that on
# In commands resnet50 is the small CNN of tests/inject; **RESNET50 beside a command's flags gives it the real one.
INSTEAD_OF_RESNET50 = {"PYTHONPATH": forkserver.INJECTING, "SMALL_CNN": "yes"}
RESNET50 = {"SMALL_CNN": ""}
SIZES = {"training": 8, "validation": 4, "test": 4}

# The slowest files, which begin first: the last ones to end should be short.
LONG = (
    "test_distributed test_runner test_recipe test_resume test_faults test_training test_interruptions test_run_folder "
    "test_timm test_published test_runner_models test_benchmark test_signals test_score_images test_evaluate "
    "test_sick_runs test_other_models test_images test_image_cache"
).split()


def pytest_addoption(parser):
    parser.addoption("--compile", action="store_true", help="also train with --compile: more than a minute of one core")


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files that have most tests


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_unconfigure():
    for child in multiprocessing.active_children():  # left by a failed test; multiprocessing would wait for them
        child.kill()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def write_image(path: Path, brightness: float, size=(64, 48)) -> None:
    """A JPEG of noise, which is a function of its name, around a brightness in 0-100."""
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


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_scores(path: Path) -> dict[str, float]:
    """The scores of a file of predictions by image, in the order of the file."""
    return {row["image_name"]: float(row["score"]) for row in read_rows(path)}


def read_epochs(run: Path) -> list[dict]:
    """The lines of metrics.jsonl in the folder of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def edit_json(path: Path, **changes) -> None:
    """Change entries of a JSON file; a dictionary is merged into the one that is there."""
    contents = json.loads(path.read_text())
    for key, value in changes.items():
        contents[key] = contents[key] | value if isinstance(value, dict) and key in contents else value
    path.write_text(json.dumps(contents))


@pytest.fixture(scope="module")
def small_cnn_here():
    """The small CNN in the tests' own process, which can then load the checkpoints of the commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(small_cnn.BACKBONES, "resnet50", small_cnn.in_the_place_of_resnet50())
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """8 training, 4 validation and 4 test images, brighter where the MOS is higher."""
    return make_data(tmp_path_factory.mktemp("data") / "koniq")


def start_program(*command, cwd: Path, real: bool = False, session: bool = True, **environment):
    """A command of this program: a subprocess.Popen, or a forkserver.Script.

    Args:
        real: by an interpreter of its own, never by the fork server.
        session: in a session of its own, with every process that it starts.
    """
    command, environment = list(map(str, command)), {**os.environ, **INSTEAD_OF_RESNET50, **environment}
    if not real and forkserver.can_start(command, environment):
        return forkserver.Script(command, cwd=cwd, env=environment, start_new_session=session)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=session, **streams)


def run_program(*command, cwd: Path, real: bool = False, **environment) -> subprocess.CompletedProcess:
    """Run a command to its end; stdout and stderr as text."""
    process = start_program(*command, cwd=cwd, real=real, session=False, **environment)
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_main(module: str, *argv, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """`main(argv)` of a script in this process, for scoring and what ends before the work."""
    main, argv = importlib.import_module(module).main, list(map(str, argv))
    before, hook = os.getcwd(), sys.unraisablehook
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n", write_through=True) for _ in range(2))
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = main(argv)
    except SystemExit as end:  # of argparse
        status = end.code
    finally:
        os.chdir(before)
        sys.unraisablehook = hook
    texts = (stream.buffer.getvalue().decode() for stream in (output, errors))
    return subprocess.CompletedProcess([module, *argv], status, *texts)


def train(*flags, cwd: Path, real: bool = False, **environment) -> subprocess.CompletedProcess:
    """train_resnet_improved.py; a flag given here overrides that of TINY_FLAGS."""
    command = (sys.executable, ROOT / "train_resnet_improved.py", *TINY_FLAGS, *flags)
    return run_program(*command, cwd=cwd, real=real, **environment)


def refuse(*flags, cwd: Path) -> subprocess.CompletedProcess:
    """As `train`, in this process: for flags and files that are refused before the first epoch."""
    return run_main("train_resnet_improved", *TINY_FLAGS, *flags, cwd=cwd)


def assert_one_line_error(process: subprocess.CompletedProcess, *words: str) -> None:
    """The command failed with one line on standard error, which contains the words."""
    lines = process.stderr.strip().splitlines()
    assert process.returncode != 0, process.stdout
    assert len(lines) == 1 and lines[0].startswith("error: "), process.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="session")
def finished_run(tiny_data, tmp_path_factory) -> Path:
    """The working folder of a finished run of the third variant: run/, as it was after each epoch too, and log.txt.

    By an interpreter of its own: the resumed copies of it, by the fork server, are compared with it.
    """
    from faults import FLAGS, SNAPSHOTS, inject

    cwd = tmp_path_factory.mktemp("finished")
    process = train("--data_path", tiny_data, *FLAGS, cwd=cwd, real=True, **inject(SNAPSHOTS))
    assert process.returncode == 0, process.stderr
    (cwd / "log.txt").write_text(process.stdout)
    return cwd


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory) -> str:
    """An interpreter for shell scripts and torchrun that starts the scripts of this program by the fork server."""
    return forkserver.make_interpreter(tmp_path_factory.mktemp("python"))
