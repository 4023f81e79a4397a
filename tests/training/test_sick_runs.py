"""Trainings that are spoiled on purpose, and one that is not: what they and the report of them say, by the real command lines."""

import json
import re
import shutil
import sys
from typing import NamedTuple

import pytest
from conftest import ROOT, make_data, run_program, train
from faults import SMALL_CNN, inject

TRAININGS = "a comparison with it is one of trainings, not of ideas."
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
    """How a training goes wrong, and what has to be said of it."""

    flags: tuple[str, ...]
    signs: tuple[str, ...]
    code: str = SMALL_CNN


PAIRS = {  # one for each of the other two variants
    "by its flags": {
        SECOND: Spoiled(
            ("--epochs", "1", "--train_patch_num", "1"),  # one step: a patch of each of 16 images
            (
                r"the training loss ended at .* of that of one score for all images .*: it has learned next to nothing",
                "one epoch was trained: nothing shows that training had come to its end",
            ),
        ),
        THIRD: Spoiled(
            ("--lr", "10", "--epochs", "2", "--train_patch_num", "8"),
            (
                "the scores are not on the scale of the MOS",
                r"in layer 2 \d+% of the units are dead and \d+% saturated",
                "it has learned next to nothing",
            ),
        ),
    },
    "by its start": {
        SECOND: Spoiled(
            LONG_ENOUGH,
            (r"scores are [\d.]+ too high on average, .* training did not come to its level",),
            SPOILED.format("self.mos_mean += 100"),
        ),
        THIRD: Spoiled(
            LONG_ENOUGH,
            (r"in layer 3 100% of the units are dead",),
            SPOILED.format("self.hyper_net.biases[2].bias.data.fill_(-50)"),
        ),
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("koniq"), sizes={"training": 16, "validation": 12, "test": 24})


def log_of(row, data, cwd, *flags, code=SMALL_CNN) -> str:
    """What a training in the working folder `cwd` prints."""
    process = train(
        "--data_path",
        data,
        "--backbone",
        "small",
        *VARIANTS[row],
        *flags,
        *"--batch_size 16 --precision fp32 --no_color_jitter --output_dir".split(),
        f"logs/{row}",
        cwd=cwd,
        **inject(code),
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def sound(data, tmp_path_factory):
    """The working folder of a sound run, and its log."""
    cwd = tmp_path_factory.mktemp("sound")
    return cwd, log_of(SOUND, data, cwd, *LONG_ENOUGH)


@pytest.fixture(scope="module", params=PAIRS)
def reported(request, data, sound, tmp_path_factory):
    """The spoiled runs, report.md, report.json, what the report printed, and the log of each run."""
    cwd, runs = tmp_path_factory.mktemp("sick"), PAIRS[request.param]
    shutil.copytree(sound[0] / "logs", cwd / "logs")
    logs = {SOUND: sound[1]} | {row: log_of(row, data, cwd, *run.flags, code=run.code) for row, run in runs.items()}
    process = run_program(
        sys.executable, ROOT / "report_ablation.py", "logs", "--allow_mismatch", "--draws", "1000", cwd=cwd
    )
    assert process.returncode == 0, process.stderr
    return (
        runs,
        (cwd / "logs/report.md").read_text(),
        json.loads((cwd / "logs/report.json").read_text()),
        process.stdout,
        logs,
    )


@pytest.mark.parametrize("row", [SECOND, THIRD])
def test_each_sign_of_a_spoiled_training_is_one_sentence_before_the_verdict(reported, row):
    runs, page, _, output, logs = reported
    said = re.findall(rf"^\* \*\*{row}\*\*: (.*)$", page, re.M)
    assert said and all(sentence.endswith(TRAININGS) for sentence in said)
    assert said == re.findall("^Sick: (.*)$", logs[row], re.M) == re.findall(f"^Not sound: {row}: (.*)$", output, re.M)
    assert [sign for sign in runs[row].signs if not re.search(sign, "\n".join(said))] == [], said
    assert page.index(said[-1]) < page.index("## Verdict")


def test_a_sound_training_is_not_called_so(reported):
    _, page, _, output, logs = reported
    assert "\nSick: " not in logs[SOUND] and f"**{SOUND}**" not in page and f"Not sound: {SOUND}" not in output
    assert "2 runs of 3 not sound" in page


def test_no_verdict_says_that_a_spoiled_training_improves_or_lowers_anything(reported):
    _, page, numbers, output, _ = reported
    assert not re.search("improves|lowers", page + output)
    assert set(numbers["verdict_is_about"].values()) == {"sick"}
    assert {name: found["sick"] for name, found in numbers["comparisons"].items()} == {
        "multiscale": [SECOND],
        "attention": [SECOND, THIRD],
        "both": [THIRD],
    }
    assert "what rests on them is a comparison of trainings, not of ideas" in " ".join(numbers["verdict"])
