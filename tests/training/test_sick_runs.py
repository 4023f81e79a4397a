"""Failed trainings and a healthy one: the messages of the run and of the report."""

import re
import shutil
import sys
from typing import NamedTuple

import pytest
from conftest import ROOT, make_data, run_program, train
from faults import SMALL_CNN, inject

SOUND, SECOND, THIRD = ROWS = ("small1_baseline", "small2_multiscale", "small3_multiscale_attention")
VARIANTS = {SOUND: (), SECOND: ("--use_multiscale",), THIRD: ("--use_multiscale", "--use_attention")}
LONG_ENOUGH = ("--lr", "3e-4", "--epochs", "6", "--train_patch_num", "8")
# Once the model has found its start.
SPOILED = (
    SMALL_CNN
    + """
import models_resnet_improved
started = models_resnet_improved.ImageQualityResNet.start
def start(self, images):
    started(self, images)
    {}
models_resnet_improved.ImageQualityResNet.start = start
"""
)


class Spoiled(NamedTuple):
    """How a training fails, and the sentences in its log and the report."""

    flags: tuple[str, ...]
    in_the_log: tuple[str, ...]
    in_the_report: tuple[str, ...]
    code: str = SMALL_CNN


PAIRS = {  # one for each of the other two variants
    "by its flags": {
        SECOND: Spoiled(
            ("--epochs", "1", "--train_patch_num", "1"),  # one step: a patch of each of 16 images
            (r"The training loss ended at .* of that of a constant score", "One epoch was trained"),
            ("a training loss above 90% of that of a constant score", "a single epoch of training"),
        ),
        THIRD: Spoiled(
            ("--lr", "10", "--epochs", "2", "--train_patch_num", "8"),
            (
                r"The mean error is .*, that of a constant score",
                r"in layer 2 \d+% of the units are dead and \d+% saturated",
            ),
            ("a mean error above that of a constant", "a layer of the target network with more than half"),
        ),
    },
    "by its start": {
        SECOND: Spoiled(
            LONG_ENOUGH,
            (r"The scores are [\d.]+ too high on average",),
            ("scores that are too high or too low on average",),
            SPOILED.format("self.mos_mean += 100"),
        ),
        THIRD: Spoiled(
            LONG_ENOUGH,
            (r"in layer 3 100% of the units are dead",),
            ("a layer of the target network with more than half",),
            SPOILED.format("self.hyper_net.biases[2].bias.data.fill_(-50)"),
        ),
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("koniq"), sizes={"training": 16, "validation": 12, "test": 24})


def log_of(row, data, cwd, *flags, code=SMALL_CNN) -> str:
    """The output of a training in the working folder `cwd`."""
    shared = f"--backbone small --batch_size 16 --precision fp32 --no_color_jitter --output_dir logs/{row}".split()
    process = train("--data_path", data, *shared, *VARIANTS[row], *flags, cwd=cwd, **inject(code))
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def sound(data, tmp_path_factory):
    """The working folder and the log of a healthy run."""
    cwd = tmp_path_factory.mktemp("sound")
    return cwd, log_of(SOUND, data, cwd, *LONG_ENOUGH)


@pytest.fixture(scope="module", params=PAIRS)
def reported(request, data, sound, tmp_path_factory):
    """The failed runs, report.md, the output of the report, and the log of each run."""
    cwd, runs = tmp_path_factory.mktemp("sick"), PAIRS[request.param]
    shutil.copytree(sound[0] / "logs", cwd / "logs")
    logs = {SOUND: sound[1]} | {row: log_of(row, data, cwd, *run.flags, code=run.code) for row, run in runs.items()}
    command = (sys.executable, ROOT / "report_ablation.py", "logs", "--allow_mismatch", "--draws", "1000")
    process = run_program(*command, cwd=cwd)
    assert process.returncode == 0, process.stderr
    return runs, (cwd / "logs/report.md").read_text(), process.stdout, logs


@pytest.mark.parametrize("row", [SECOND, THIRD])
def test_a_spoiled_training_is_named_in_its_log_and_in_the_report(reported, row):
    runs, page, output, logs = reported
    said = "\n".join(re.findall("^(?:Failed|Note): (.*)$", logs[row], re.M))
    assert [sign for sign in runs[row].in_the_log if not re.search(sign, said)] == [], said
    for text in (page[page.index("## Limits") : page.index("## Contributions")], output):
        for phrase in runs[row].in_the_report:
            assert [line for line in text.splitlines() if phrase in line and row in line], (phrase, text)


def test_a_healthy_training_is_not_named(reported):
    _, page, _, logs = reported
    limits = page[page.index("## Limits") : page.index("## Contributions")].splitlines()
    assert "\nFailed: " not in logs[SOUND]
    assert not [line for line in limits if SOUND in line and "mismatch" not in line]


def test_nothing_is_claimed_of_the_ideas(reported):
    _, page, output, _ = reported
    assert not re.search("improves|lowers", page + output)
