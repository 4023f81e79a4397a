"""The output of the benchmark, not its speed; and the agreement of the two precisions."""

import json
import statistics
import sys

import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_main, run_program, train
from faults import NAME

from iqa.benchmark.arithmetic import flop_per_patch
from iqa.benchmark.report import ROWS, print_table, projection
from iqa.benchmark.trials import SHARED

KINDS = ("training", "evaluation")


def benchmark(*flags, cwd):
    return run_program(sys.executable, ROOT / "benchmark_training.py", "--device", "cpu", *flags, cwd=cwd)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """JSON and standard output of a short benchmark."""
    cwd = tmp_path_factory.mktemp("benchmark")
    process = benchmark(
        *"--images 12 --trials 2 --seconds 0.1 --patch_size 64 --batch_size 4 --precision fp32".split(),
        cwd=cwd,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((cwd / "benchmark.json").read_text()), process.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_rate_has_its_trials_and_every_ratio_is_of_rates_of_one_trial(report, kind):
    numbers = report[0][kind]
    way = numbers["ways"]["eager"]
    for rate in [numbers[name] for name in SHARED] + [way["FULL"], way["COMPUTE"]]:
        assert len(rate["trials"]) == 2 and min(rate["trials"]) > 0
        assert rate["mean"] == pytest.approx(statistics.mean(rate["trials"]))
        assert rate["sd"] == pytest.approx(statistics.stdev(rate["trials"]))
    for name, below in {"COMPUTE": way["COMPUTE"], "LIMIT": numbers["LIMIT"], "habit": numbers["habit"]}.items():
        ratios = [full / other for full, other in zip(way["FULL"]["trials"], below["trials"], strict=True)]
        assert way[f"FULL / {name}"]["trials"] == pytest.approx(ratios)


def test_a_patchs_arithmetic_is_about_three_times_as_much_backward(report):
    training, evaluation = (report[0][kind]["flop_per_patch"] for kind in KINDS)
    assert 2.5 * evaluation < training < 3 * evaluation


def test_counting_leaves_a_model_as_it_is():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(1),
        torch.nn.Flatten(0),
    )
    model(torch.randn(2, 3, 8, 8))
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    assert flop_per_patch(model, 8) == (2 * (2 * 4 * 36 * 27) + 3 * (2 * 144), 2 * 4 * 36 * 27 + 2 * 144)
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def made_up_report() -> dict:
    """Rates of a GPU, as round numbers: 10 trained patches a second by one way, 100 and 1,000 by the next."""
    names = ("eager", "graph", "compiled", "compiled graph")
    rates = {"sd": None, "trials": [1.0], "mean": 1.0}
    ways = {
        name: {row: rates | {"mean": float(10 ** (i + 1))} for row in ROWS} | {"warm_up_seconds": float(i)}
        for i, name in enumerate(names)
    }
    kind = {"batch_size": 32, "flop_per_patch": 1e9, "INPUT": rates, "LIMIT": rates, "habit": rates}
    evaluation = {name: ways[name] for name in ("eager", "compiled")}
    return {
        "training": kind | {"ways": ways},
        "evaluation": kind | {"ways": evaluation},
        "cache": {"images_per_second": 100.0},
    }


def test_the_projection_has_the_patches_of_the_ablation_the_cache_and_every_runs_compilation():
    minutes = projection(made_up_report())
    for i, (name, evaluated, compiling) in enumerate(
        [("eager", 10, 0), ("graph", 10, 0), ("compiled", 1000, 2), ("compiled graph", 1000, 2 + 2)]
    ):
        training, evaluation = 3 * 10 * 7058 * 25 / 10 ** (i + 1), 3 * 10 * (1000 + 2015) * 25 / evaluated
        assert 60 * minutes[name] == pytest.approx(training + evaluation + 3 * (i + compiling) + 10073 / 100)


def test_all_ways_stand_side_by_side(capsys):
    report = made_up_report()
    print_table("training", report["training"], projection(report))
    lines = capsys.readouterr().out.splitlines()
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[1:] for line in lines if "| " in line
    }
    assert rows["training, patches/s"] == ["eager", "graph", "compiled", "compiled graph"]
    assert rows["COMPUTE / eager"] == ["1.00", "10.00", "100.00", "1000.00"]
    assert rows["warm-up"] == ["0.0 s", "1.0 s", "2.0 s", "3.0 s"]
    assert list(rows)[1:] == [*ROWS, "COMPUTE / eager", "warm-up", "ablation, projected"]


def test_the_tables_and_the_machine_are_printed_as_they_are_in_the_json(report):
    numbers, output = report
    for kind in KINDS:
        for name in ("FULL", "COMPUTE"):
            assert f"| {name} | {numbers[kind]['ways']['eager'][name]['mean']:,.1f} " in output
    assert f"{numbers['ablation']['eager']:.0f} min" in output and numbers["memory"]["host_gb"] > 0
    assert numbers["machine"]["device"] in output and numbers["machine"]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_path", "nowhere"], ["--data_path nowhere", "no such folder"]),
        (["--trials", "0"], ["--trials", "'0'"]),
        (["--patch_size", "500"], ["--patch_size", "'500'", "384"]),
        (["--output", "."], ["--output .", "name a file"]),
        (["--device", "cuda:99"], ["--device cuda:99", "cpu"]),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(tmp_path, flags, words):
    process = run_main("benchmark_training", "--device", "cpu", *flags, cwd=tmp_path)
    assert_one_line_error(process, *words)
    assert process.stdout == "" and list(tmp_path.iterdir()) == []


def test_bf16_and_fp32_rank_the_demo_images_alike(tmp_path):
    """A checkpoint that can tell images apart scores all 60 demo images in both precisions."""
    assert run_main("demo_dataset", "--output", tmp_path / "demo", "--images", "60").returncode == 0
    flags = "--use_multiscale --use_attention --epochs 2 --patch_size 64 --train_patch_num 16 --test_patch_num 4"
    recipe = "--batch_size 16 --lr 5e-4 --warmup_steps 10 --max_grad_norm 1 --save_model --output_dir run"
    process = train("--data_path", "demo", *flags.split(), *recipe.split(), cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    srcc, scores = {}, []
    for precision in ("bf16", "fp32"):
        flags = f"--evaluate run/{NAME}_best.pth --evaluate_set all --device cpu --output_dir {precision}".split()
        process = run_program(
            sys.executable, ROOT / "train_resnet_improved.py", *flags, "--precision", precision, cwd=tmp_path
        )
        assert process.returncode == 0 and f", {precision}, torch" in process.stdout, process.stderr
        srcc[precision] = json.loads((tmp_path / precision / "evaluation_koniq-10k_all.json").read_text())["srcc"]
        scores.append((tmp_path / precision / "predictions_koniq-10k_all.csv").read_text())
    assert scores[0] != scores[1]
    assert srcc["bf16"] == pytest.approx(srcc["fp32"], abs=0.005)
