"""The two commands of the README, as a user types them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY_FLAGS, run_program
from faults import without_times

from iqa.training.options import parse_options
from iqa.training.recipe import BEST

RUNNER = ROOT / "run_resnet_ablation.sh"
VARIANTS = ("exp1_baseline", "exp2_multiscale", "exp3_multiscale_attention")


def run_ablation(*flags, cwd, **environment):
    return run_program("bash", RUNNER, *flags, cwd=cwd, PYTHON=sys.executable, **environment)


@pytest.fixture(scope="module")
def ablation(tiny_data, tmp_path_factory):
    """A finished ablation: its working folder and what the runner printed."""
    cwd = tmp_path_factory.mktemp("a folder with späces")
    process = run_ablation("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1", cwd=cwd, LC_ALL="C")
    assert process.returncode == 0, process.stdout + process.stderr
    return cwd, process.stdout


def test_every_variant_leaves_a_log_a_result_and_weights(ablation):
    cwd, _ = ablation
    (logs,) = (cwd / "logs").iterdir()
    assert re.fullmatch(r"resnet_ablation_\d{8}_\d{6}", logs.name)
    for variant, tag in zip(VARIANTS, ("ss_noatt", "ms_noatt", "ms_att"), strict=True):
        assert len(re.findall(r"Best Test SRCC: -?\d\.\d{4}$", (logs / f"{variant}.log").read_text(), re.M)) == 1
        config = json.loads((logs / variant / "config.json").read_text())
        flags = config["flags"]
        assert config["tag"] == tag and flags["use_multiscale"] == ("ms" in tag)
        assert (flags["no_color_jitter"], flags["test_random_crop"], flags["seed"]) == (True, True, 42)
        saved = torch.load(cwd / f"checkpoints/resnet_improved_{tag}_best.pth", weights_only=True)
        assert sum(value.numel() for value in saved["model"].values()) >= config["parameters"] > 500_000


def test_the_last_output_is_the_table_with_the_published_rows(ablation):
    cwd, output = ablation
    (logs,) = (cwd / "logs").iterdir()
    rows = [line for line in output.splitlines() if line.startswith("|")]
    assert any("0.8998" in row and "0.9098" in row for row in rows)
    assert any("0.9378" in row and "0.9485" in row for row in rows)
    for variant in VARIANTS:
        result = json.loads((logs / variant / "result.json").read_text())
        numbers = (f"{result['selected_test_srcc']:.4f}", f"{result['selected_test_plcc']:.4f}")
        assert any(all(number in row for number in numbers) for row in rows), (variant, rows)


def test_resume_skips_the_finished_resumes_the_interrupted_and_trains_the_rest(ablation, forking_python):
    """Into a pipe whose reader goes away after the first line, which changes nothing."""
    cwd, _ = ablation
    (logs,) = (cwd / "logs").iterdir()
    before = {variant: json.loads((logs / variant / "result.json").read_text()) for variant in VARIANTS}
    finished, interrupted, missing = VARIANTS
    time_before = (logs / finished / "result.json").stat().st_mtime_ns
    (logs / interrupted / "result.json").unlink()
    shutil.rmtree(logs / missing)
    (logs / "report.md").unlink()
    command = [
        "bash",
        "-c",
        'set -o pipefail; "$@" | head -n 1',
        "bash",
        "bash",
        RUNNER,
        "--resume",
        logs.relative_to(cwd),
    ]
    process = run_program(*command, cwd=cwd, PYTHON=forking_python)
    assert process.returncode == 0 and process.stdout == f"{finished} is finished\n", process.stdout + process.stderr
    assert (logs / finished / "result.json").stat().st_mtime_ns == time_before
    assert "Resuming after epoch 1" in (logs / f"{interrupted}.log").read_text()
    assert (logs / f"{missing}.log").read_text().count("Best Test SRCC") == 2
    for variant in VARIANTS:
        after = json.loads((logs / variant / "result.json").read_text())
        assert without_times(after) == without_times(before[variant])
    assert (logs / "report.md").exists()


def test_a_failing_variant_stops_the_runner_with_its_status_and_names_the_log(tmp_path, tiny_data, forking_python):
    flags = ("--data_path", tiny_data, *TINY_FLAGS, "--weights", "no_such.pth")
    process = run_program("bash", RUNNER, *flags, cwd=tmp_path, PYTHON=forking_python)
    (logs,) = (tmp_path / "logs").iterdir()
    assert process.returncode == 1
    assert f"{logs.relative_to(tmp_path)}/exp1_baseline.log" in process.stderr and "status 1" in process.stderr
    assert "no_such.pth" in (logs / "exp1_baseline.log").read_text()
    assert not (logs / "exp2_multiscale").exists() and not list(logs.glob("report*"))
    assert "|" not in process.stdout and "finished" not in process.stdout.lower()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_nothing_more_is_started(tmp_path, tiny_data, number, status):
    command = ["bash", RUNNER, "--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1000"]
    environment = {**os.environ, "PYTHON": sys.executable}
    runner = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        for line in runner.stdout:
            if "Summary" in line:
                break
        runner.send_signal(number)
        output, _ = runner.communicate(timeout=60)
    finally:
        runner.kill()
    assert runner.returncode == status
    (logs,) = (tmp_path / "logs").iterdir()
    assert f"Stopped by {number.name}" in output
    assert sorted(path.name for path in logs.iterdir()) == ["ablation_flags", "exp1_baseline", "exp1_baseline.log"]
    time.sleep(0.5)
    assert subprocess.run(["pgrep", "-s", str(runner.pid)], capture_output=True).stdout == b""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["./koniq-10k", "KonIQ-10k", "--demo"]),
        (["--data_path", "nowhere"], ["nowhere", "--demo"]),
        (["--resume"], ["--resume"]),
        (["--resume", "nowhere"], ["--resume nowhere"]),
        (["--resume=nowhere"], ["--resume nowhere"]),
        (["--resume=nowhere", "--epochs", "3"], ["--resume", "no others"]),
        (["--use_attention"], ["--use_attention", "train_resnet_improved.py"]),
        (["--output_dir", "x"], ["--output_dir"]),
        (["--model", "hyperiqa"], ["--model", "--with_published"]),
        (["--demo", "--recipe", "published"], ["--recipe=published", "--with_published"]),
        (["--demo", "--recipe", "beste"], ["--recipe=beste", "best", "published"]),
        (
            ["--demo", "--with_published", "--recipe", "published", "--lr_schedule", "constant"],
            ["published_hyperiqa: --lr_schedule constant", "schedule of its own"],
        ),
        (["--demo", "--with_published", "--dropout_rate", "0.1"], ["--dropout_rate", "--with_published"]),
    ],
)
def test_a_mistake_is_said_in_two_lines_at_most_before_anything_starts(tmp_path, flags, words):
    process = run_ablation(*flags, cwd=tmp_path)
    assert process.returncode != 0 and process.stdout == "" and list(tmp_path.iterdir()) == []
    assert len(process.stderr.strip().splitlines()) <= 2
    for word in words:
        assert word in process.stderr


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--patch_size", "48"], {"BACKBONES": "resnet50 swin_b"}, ["swin1_baseline: --patch_size 48", "choose 64"]),
        (["--patch_size", "48", "--with_published"], {}, ["published_hyperiqa: --patch_size 48", "choose 64"]),
        (
            ["--drop_path_rate", "0.2"],
            {"BACKBONES": "swin_b resnet50"},
            ["exp1_baseline: --drop_path_rate", "leave it out"],
        ),
        (
            ["--with_published", "--recipe", "published"],
            {"NPROC": "3"},
            ["exp1_baseline: --batch_size 32", "a multiple of 3"],
        ),
        (["--with_published", "--weights", "none", "--lr", "fast"], {}, ["exp1_baseline: argument --lr", "'fast'"]),
        ([], {"SEEDS": "42 x"}, ["exp1_baseline: argument --seed", "'x'"]),
    ],
)
def test_the_flags_of_every_row_are_checked_before_the_first_one_is_trained(
    tmp_path, recorder, flags, environment, words
):
    process = run_program("bash", RUNNER, "--data_path", "data", *flags, cwd=tmp_path, PYTHON=recorder, **environment)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    assert [word for word in words if word not in process.stderr] == [], process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "python3"]


def test_an_old_python_is_an_error(tmp_path):
    """A PATH that holds the shell's tools and one python3, which says that it is too old."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "date", "mkdir"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text("#!/bin/bash\nexit 1\n")
    (tools / "python3").chmod(0o755)
    process = run_program("bash", RUNNER, "--demo", cwd=tmp_path, PATH=str(tools), PYTHON="python3")
    assert process.returncode == 1 and list(tmp_path.iterdir()) == [tools]
    assert "error: no Python 3.10 or newer on the PATH" in process.stderr and "PYTHON=" in process.stderr


def test_help_says_how_to_call_it_and_starts_nothing(tmp_path):
    (tmp_path / "koniq-10k").mkdir()
    process = run_ablation("--help", cwd=tmp_path)
    assert (
        process.returncode == 0 and process.stderr == "" and [path.name for path in tmp_path.iterdir()] == ["koniq-10k"]
    )
    assert "bash run_resnet_ablation.sh --demo" in process.stdout and "pipefail" not in process.stdout


def test_the_demo_gives_every_variant_flags_that_training_takes(tmp_path, recorder):
    process = run_program("bash", RUNNER, "--demo", cwd=tmp_path, PYTHON=recorder)
    assert process.returncode == 0, process.stderr
    commands = (tmp_path / "commands").read_text().replace("--checkpoint_suffix", "--checkpoint_suffix=").splitlines()
    runs = [parse_options(command.split()[1:]) for command in commands]
    assert [(run.use_multiscale, run.use_attention) for run in runs] == [(False, False), (True, False), (True, True)]
    assert all(run.data_path == "demo-data" and run.weights == "none" and run.save_model for run in runs)


def test_an_unknown_backbone_is_an_error_that_names_the_known_ones(tmp_path, tiny_data):
    process = run_program("bash", RUNNER, "--data_path", tiny_data, cwd=tmp_path, BACKBONES="resnet50 vgg")
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
    assert "error: BACKBONES names vgg" in process.stderr and "resnet50" in process.stderr


def test_the_published_models_come_after_the_variants_of_each_backbone_and_again_in_a_resume(tmp_path, recorder):
    environment = {"PYTHON": recorder, "BACKBONES": "resnet50 swin_b", "SEEDS": "1 2"}
    flags = ("--data_path", "data", "--with_published", "--recipe", "published", "--weights", "none")
    process = run_program("bash", RUNNER, *flags, cwd=tmp_path, **environment)
    assert process.returncode == 0, process.stderr
    first = (tmp_path / "commands").read_text()
    runs = [parse_options(line.split()[1:]) for line in first.splitlines()]
    models = 2 * [*["ablation"] * 6, "hyperiqa", "smart_iqa"]
    assert [(run.model, run.recipe) for run in runs] == [
        (model, "ablation" if model == "ablation" else "published") for model in models
    ]
    assert [run.backbone for run in runs] == 2 * [*["resnet50"] * 3, *["swin_b"] * 3, "resnet50", "swin_b"]
    assert runs[6].output_dir.endswith("/published_hyperiqa_seed1") and runs[6].lr == 2e-5 and runs[6].weights == "none"
    (tmp_path / "commands").unlink()
    (logs,) = (tmp_path / "logs").iterdir()
    process = run_program("bash", RUNNER, "--resume", logs.relative_to(tmp_path), cwd=tmp_path, PYTHON=recorder)
    assert process.returncode == 0 and (tmp_path / "commands").read_text() == first, process.stderr


def test_the_best_recipe_is_that_of_every_row_but_those_that_have_their_own(tmp_path, recorder):
    for flags, of_published in (((), "best"), (("--recipe", "published"), "published")):
        runner = (
            "bash",
            RUNNER,
            "--data_path",
            "data",
            "--recipe",
            "best",
            "--with_published",
            *flags,
            "--loss",
            "plcc",
        )
        process = run_program(*runner, cwd=tmp_path, PYTHON=recorder)
        assert process.returncode == 0, process.stderr
        first = (tmp_path / "commands").read_text()
        runs = [parse_options(line.replace("--checkpoint_suffix", "").split()[1:]) for line in first.splitlines()]
        assert [run.recipe for run in runs] == 3 * ["best"] + 2 * [of_published]
        assert all(run.loss == "plcc" for run in runs) and runs[0].head_lr_ratio == BEST["head_lr_ratio"]
        assert {run.patch_size for run in runs} == {BEST["patch_size"]}  # a report of other patches would be refused
        (logs,) = (tmp_path / "logs").iterdir()
        (tmp_path / "commands").unlink()
        process = run_program("bash", RUNNER, "--resume", logs.relative_to(tmp_path), cwd=tmp_path, PYTHON=recorder)
        assert process.returncode == 0 and (tmp_path / "commands").read_text() == first, process.stderr
        (tmp_path / "commands").unlink()
        shutil.rmtree(logs)


@pytest.mark.parametrize(("seeds", "suffixes"), [("42 43", ("_seed42", "_seed43")), ("7", ("",))])
def test_every_seed_trains_every_variant_under_its_own_name(tmp_path, recorder, seeds, suffixes):
    process = run_program("bash", RUNNER, "--data_path", "data", cwd=tmp_path, PYTHON=recorder, SEEDS=seeds)
    assert process.returncode == 0, process.stderr
    commands = [line.split() for line in (tmp_path / "commands").read_text().splitlines()]
    expected = [
        (seed, variant, suffix) for seed, suffix in zip(seeds.split(), suffixes, strict=True) for variant in VARIANTS
    ]
    assert len(commands) == len(expected)
    for command, (seed, variant, suffix) in zip(commands, expected, strict=True):
        last = {flag: value for flag, value in zip(command, command[1:] + [""], strict=True) if flag.startswith("--")}
        assert last["--seed"] == seed and last["--output_dir"].endswith(f"/{variant}{suffix}")
        assert f"--checkpoint_suffix {suffix}".strip() in " ".join(command)
        assert ("--use_attention" in command) == (variant == VARIANTS[2])
