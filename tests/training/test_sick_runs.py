"""Trainings that are spoiled on purpose, and one that is not: what they and the report of them say, by the real command lines."""

import json
import re
import sys

import pytest
from conftest import ROOT, make_data, run_program, train
from faults import SMALL_CNN, inject

TRAININGS = "a comparison with it is one of trainings, not of ideas."
SOUND, ONE_STEP, HUGE_RATE = ROWS = ("small1_baseline", "small2_multiscale", "small3_multiscale_attention")
FLAGS = {
    SOUND: ("--lr", "3e-4", "--epochs", "6", "--train_patch_num", "8"),
    ONE_STEP: ("--use_multiscale", "--epochs", "1", "--train_patch_num", "1"),  # a patch of each of 16 images, one batch
    HUGE_RATE: ("--use_multiscale", "--use_attention", "--lr", "10", "--epochs", "2", "--train_patch_num", "8"),
}
SIGNS = {
    ONE_STEP: (r"the training loss ended at .* of that of one score for all images .*: it has learned next to nothing",
               "one epoch was trained: nothing shows that training had come to its end"),
    HUGE_RATE: ("the scores are not on the scale of the MOS", r"in layer 2 \d+% of the units are dead and \d+% saturated",
                "it has learned next to nothing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """report.md, report.json, what the report printed, and the log of each run."""
    cwd = tmp_path_factory.mktemp("sick")
    data = make_data(cwd / "koniq", sizes={"training": 16, "validation": 12, "test": 24})
    logs = {}
    for row, flags in FLAGS.items():
        process = train("--data_path", data, "--backbone", "small", *flags, "--batch_size", "16", "--precision", "fp32",
                        "--no_color_jitter", "--output_dir", f"logs/{row}", cwd=cwd, **inject(SMALL_CNN))  # fmt: skip
        assert process.returncode == 0, process.stderr
        logs[row] = process.stdout
    process = run_program(sys.executable, ROOT / "report_ablation.py", "logs", "--allow_mismatch", "--draws", "1000", cwd=cwd)
    assert process.returncode == 0, process.stderr
    return (cwd / "logs/report.md").read_text(), json.loads((cwd / "logs/report.json").read_text()), process.stdout, logs


@pytest.mark.parametrize("row", SIGNS)
def test_each_sign_of_a_spoiled_training_is_one_sentence_before_the_verdict(reported, row):
    page, _, output, logs = reported
    said = re.findall(rf"^\* \*\*{row}\*\*: (.*)$", page, re.M)
    assert said and all(sentence.endswith(TRAININGS) for sentence in said)
    assert said == re.findall("^Sick: (.*)$", logs[row], re.M) == re.findall(f"^Not sound: {row}: (.*)$", output, re.M)
    assert [sign for sign in SIGNS[row] if not re.search(sign, "\n".join(said))] == []
    assert page.index(said[-1]) < page.index("## Verdict")


def test_a_sound_training_is_not_called_so(reported):
    page, _, output, logs = reported
    assert "\nSick: " not in logs[SOUND] and f"**{SOUND}**" not in page and f"Not sound: {SOUND}" not in output
    assert "2 runs of 3 not sound" in page


def test_no_verdict_says_that_a_spoiled_training_improves_or_lowers_anything(reported):
    page, numbers, output, _ = reported
    assert not re.search("improves|lowers", page + output)
    assert set(numbers["verdict_is_about"].values()) == {"sick"}
    assert {name: found["sick"] for name, found in numbers["comparisons"].items()} == {
        "multiscale": [ONE_STEP], "attention": [ONE_STEP, HUGE_RATE], "both": [HUGE_RATE]
    }
    assert "what rests on them is a comparison of trainings, not of ideas" in " ".join(numbers["verdict"])
