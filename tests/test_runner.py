"""The runner as a command. test_ablation.py tests which runs it trains with which flags."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from conftest import INSTEAD_OF_RESNET50, ROOT, TINY_FLAGS, run_program
from faults import assert_nobody_is_left, inject, without_times

RUNNER = ROOT / "run_resnet_ablation.sh"
VARIANTS = ("exp1_baseline", "exp2_multiscale", "exp3_multiscale_attention")


def run_ablation(*flags, cwd, **environment):
    return run_program("bash", RUNNER, *flags, cwd=cwd, **{"PYTHON": sys.executable, **environment})


def log_folder(cwd):
    (logs,) = (cwd / "logs").iterdir()
    return logs


def results(cwd) -> dict:
    paths = sorted(log_folder(cwd).glob("*/result.json"))
    return {path.parent.name: without_times(json.loads(path.read_text())) for path in paths}


def printed_command(errors: str, cwd) -> str:
    """The command with which the runner says to go on."""
    (line,) = (line for line in errors.splitlines() if line.startswith("To go on: "))
    command = line.removeprefix("To go on: ")
    assert command.endswith(f"--resume {log_folder(cwd).relative_to(cwd)}"), command
    return command


@pytest.fixture(scope="module")
def ablation(tiny_data, tmp_path_factory):
    """A finished ablation: its working folder and what the runner printed."""
    cwd = tmp_path_factory.mktemp("a folder with späces")
    process = run_ablation("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1", cwd=cwd, LC_ALL="C")
    assert process.returncode == 0, process.stdout + process.stderr
    return cwd, process.stdout


def test_every_variant_leaves_a_log_a_result_and_weights(ablation):
    cwd, _ = ablation
    logs = log_folder(cwd)
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
    rows = [line for line in output.splitlines() if line.startswith("|")]
    assert any("0.8998" in row and "0.9098" in row for row in rows)
    assert any("0.9378" in row and "0.9485" in row for row in rows)
    for result in results(cwd).values():
        numbers = (f"{result['selected_test_srcc']:.4f}", f"{result['selected_test_plcc']:.4f}")
        assert any(all(number in row for number in numbers) for row in rows), (result, rows)


def test_resume_skips_the_finished_and_trains_the_rest(ablation, forking_python):
    """The flags are those of a folder of the older layout. The reader of the output leaves, which changes nothing."""
    cwd, _ = ablation
    logs, before = log_folder(cwd), results(cwd)
    finished, without_checkpoint, missing = VARIANTS
    time_before = (logs / finished / "result.json").stat().st_mtime_ns
    (logs / without_checkpoint / "result.json").unlink()
    shutil.rmtree(logs / missing)
    (logs / "report.md").unlink()
    flags = (logs / "ablation_flags").read_text().splitlines()
    assert flags[:3] == ["", "", "BACKBONES=resnet50"] and flags[3] == "--data_path"
    (logs / "ablation_flags").write_text("\n".join([*flags[:2], *flags[3:]]) + "\n")  # from before BACKBONES
    process = run_ablation("--resume", f"{logs}/", cwd=cwd, PYTHON=forking_python)
    assert process.returncode == 1 and f"remove {logs / without_checkpoint}" in process.stderr, process.stderr
    shutil.rmtree(logs / without_checkpoint)  # as the error says
    command = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash", "bash", RUNNER, "--resume", f"{logs}/"]
    process = run_program(*command, cwd=cwd, PYTHON=forking_python)
    assert process.returncode == 0 and process.stdout == f"{finished} is finished\n", process.stdout + process.stderr
    assert (logs / finished / "result.json").stat().st_mtime_ns == time_before
    assert (logs / f"{missing}.log").read_text().count("Best Test SRCC") == 1
    assert results(cwd) == before and (logs / "report.md").exists()


def test_a_failure_stops_the_runner_and_its_printed_command_goes_on(tmp_path, tiny_data, ablation, forking_python):
    """A failure that is gone when the command is given again, with the variables of the first."""
    is_second = "{'--use_multiscale', '--output_dir'} <= {*sys.orig_argv}"
    full = inject(f"import sys\nif {is_second}: raise OSError('the disk is full')")
    flags = ("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1")
    variables = {"SEEDS": "42", "PYTHON": forking_python}
    process = run_ablation(*flags, cwd=tmp_path, **variables, **full)
    logs = log_folder(tmp_path)
    assert process.returncode == 1 and "error: exp2_multiscale ended with status 1\n" in process.stderr
    assert not list(logs.glob("report*")) and "|" not in process.stdout
    assert not (logs / VARIANTS[2]).exists()
    command = printed_command(process.stderr, tmp_path)
    assert command.startswith(f"SEEDS=42 PYTHON={shlex.quote(forking_python)} ")
    process = run_program("bash", "-c", command, cwd=tmp_path)
    assert process.returncode == 0 and "exp1_baseline is finished" in process.stdout, process.stderr
    assert results(tmp_path) == results(ablation[0])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_is_passed_on_and_nothing_more_is_started(tmp_path, tiny_data, forking_python, number, status):
    command = ["bash", RUNNER, "--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1000"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, **INSTEAD_OF_RESNET50, "PYTHON": forking_python}
    runner = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams)
    try:
        for line in runner.stdout:
            if "Summary" in line:
                break
        runner.send_signal(number)
        output, _ = runner.communicate(timeout=60)
    finally:
        runner.kill()
    assert runner.returncode == status and f"Stopped by {number.name}" in output
    printed_command(output, tmp_path)
    names = sorted(path.name for path in log_folder(tmp_path).iterdir())
    assert names == ["ablation_flags", "exp1_baseline", "exp1_baseline.log"]
    assert_nobody_is_left(runner.pid)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["./koniq-10k", "KonIQ-10k", "--demo"]),
        (["--data_path", "logs"], ["logs", "koniq10k"]),
        (["--resume"], ["--resume", "logs/resnet_ablation_1", "logs/resnet_ablation_2"]),
        (["--resume", "nowhere"], ["--resume nowhere", "logs/resnet_ablation_1", "logs/resnet_ablation_2"]),
        (["--resume=logs/resnet_ablation_1", "--epochs", "3"], ["--resume", "no others"]),
        (["--demo", "--epoch", "3"], ["did you mean --epochs?"]),
        (["--data_path", "a\nb"], ["line break", "--data_path"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(tmp_path, forking_python, flags, words):
    for name in ("resnet_ablation_1", "resnet_ablation_2"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "ablation_flags").write_text("yes\n\n")
    before = sorted(tmp_path.rglob("*"))
    process = run_ablation(*flags, cwd=tmp_path, PYTHON=forking_python)
    assert process.returncode == 2 and process.stdout == "" and sorted(tmp_path.rglob("*")) == before
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1, process.stderr
    assert [word for word in words if word not in process.stderr] == [], process.stderr


def test_a_resumed_demo_has_the_flags_of_the_demo(tmp_path, recorder):
    (tmp_path / "logs/x").mkdir(parents=True)
    (tmp_path / "logs/x/ablation_flags").write_text("yes\n42 43\nBACKBONES=resnet50\n--epochs\n1\n")
    variables = {"PYTHON": recorder / "python3", "SEEDS": "42 43 "}
    process = run_ablation("--resume", "logs/x", cwd=tmp_path, **variables)
    assert process.returncode == 0, process.stderr
    _, *runs, _ = (recorder / "commands").read_text().splitlines()
    assert len(runs) == 6
    for run in runs:
        assert run.count("--data_path demo-data --weights none") == 1 and run.index("--epochs 2") < run.index(
            "--epochs 1"
        )


def test_a_run_that_refuses_to_begin_leaves_no_folder_and_no_advice_to_resume(tmp_path, tiny_data, forking_python):
    """What only the training can see: the device, and checkpoints of another run."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/resnet_improved_ss_noatt_best.pth").write_text("of another run")
    before = sorted(tmp_path.rglob("*"))
    for flags in (("--device", "cuda:99"), ("--checkpoint_dir", "weights")):
        process = run_ablation("--data_path", tiny_data, *TINY_FLAGS, *flags, cwd=tmp_path, PYTHON=forking_python)
        assert process.returncode == 1 and process.stderr.startswith(f"error: {' '.join(flags)}"), process.stderr
        assert process.stderr.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


def test_two_ablations_side_by_side_lose_nothing(tmp_path, tiny_data, ablation, forking_python):
    """Beside a single run of the first variant, which keeps its folder."""
    single = tmp_path / "logs/exp1_baseline/config.json"
    single.parent.mkdir(parents=True)
    single.write_text("{}")
    command = ["bash", str(RUNNER), "--data_path", str(tiny_data), *TINY_FLAGS, "--epochs", "1"]
    both = f"{shlex.join(command)} & first=$!; {shlex.join(command)} & second=$!; wait $first && wait $second"
    process = run_program("bash", "-c", both, cwd=tmp_path, PYTHON=forking_python)
    assert process.returncode == 0, process.stdout + process.stderr
    folders = list((tmp_path / "logs").glob("resnet_ablation_*"))
    assert len(folders) == 2 and single.read_text() == "{}"
    for variant, result in results(ablation[0]).items():
        for folder in folders:
            assert without_times(json.loads((folder / variant / "result.json").read_text())) == result


def test_a_run_without_a_defined_score_does_not_stop_the_others(tmp_path, tiny_data, forking_python):
    """The scores of multi-scale fusion are all alike in every epoch."""
    alike = inject("""
import sys
if "--use_multiscale" in sys.orig_argv and "--use_attention" not in sys.orig_argv:
    import iqa.metrics
    def undefined(*_):
        raise ValueError("all scores are alike")
    iqa.metrics.srcc = undefined
""")
    flags = ("--data_path", tiny_data, *TINY_FLAGS, "--epochs", "1")
    process = run_ablation(*flags, cwd=tmp_path, PYTHON=forking_python, **alike)
    assert process.returncode == 0, process.stdout + process.stderr
    failures = {name: result["failure"] for name, result in results(tmp_path).items()}
    assert list(failures) == list(VARIANTS) and [bool(failure) for failure in failures.values()] == [False, True, False]
    assert (log_folder(tmp_path) / "report.md").exists() and "failed" in process.stdout


def test_an_old_python_is_an_error(tmp_path):
    """A PATH that holds the shell's tools and one python3, which says that it is too old."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "date", "mkdir"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text("#!/bin/bash\nexit 1\n")
    (tools / "python3").chmod(0o755)
    for named in ("", "python3", "/no/such/python"):
        process = run_program("bash", RUNNER, "--demo", cwd=tmp_path, PATH=str(tools), PYTHON=named)
        assert process.returncode == 1 and list(tmp_path.iterdir()) == [tools]
        assert f"error: {named and f'PYTHON={named}: '}no Python 3.10 or newer; install" in process.stderr


def test_help_says_how_to_call_it_and_starts_nothing(tmp_path):
    process = run_ablation("--help", cwd=tmp_path)
    assert process.returncode == 0 and process.stderr == "" and list(tmp_path.iterdir()) == []
    assert "bash run_resnet_ablation.sh --demo" in process.stdout and "pipefail" not in process.stdout


@pytest.fixture
def recorder(tmp_path_factory):
    """An interpreter that lists the runs, and only records the commands that train or make images."""
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "python3").write_text(
        f'#!/bin/bash\n[[ $* != *iqa/ablation.py* ]] || exec {sys.executable} "$@"\n'
        f'[[ $* != *.py* ]] || echo "$* run $ABLATION_RUN" >>{folder}/commands\n'
    )
    (folder / "python3").chmod(0o755)
    return folder


def test_the_demo_makes_its_images_trains_every_variant_on_them_and_reports(tmp_path, recorder):
    process = run_ablation("--demo", "--epochs", "1", cwd=tmp_path, PYTHON=recorder / "python3", NPROC="2")
    assert process.returncode == 0, process.stderr
    images, *runs, report = (recorder / "commands").read_text().splitlines()
    assert "demo_dataset.py --output demo-data" in images and "report_ablation.py logs/resnet_ablation_" in report
    fusions = [("--use_multiscale" in run, "--use_attention" in run) for run in runs]
    assert fusions == [(False, False), (True, False), (True, True)]
    for number, run in enumerate(runs, 1):
        assert "torch.distributed.run --standalone --nproc_per_node=2" in run and "--save_model" in run
        assert "--data_path demo-data --weights none" in run and run.endswith(f" run {number}/3")
        assert run.index("--epochs 2") < run.index("--epochs 1")  # the user's flag counts
