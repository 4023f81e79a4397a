"""The output of the benchmark, not its speed; and the agreement of the two precisions."""

import dataclasses
import json
import sys

import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_main, run_program, train
from faults import NAME, inject
from torch import nn

from benchmark_training import Way, ablation_minutes, print_table
from iqa.models.flop import flop_per_patch


def cells(output: str) -> dict[str, list[str]]:
    """The rows of a table, by their first cells."""
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_the_table_has_the_rates_in_the_json(tmp_path):
    flags = "--images 12 --trials 2 --seconds 0.1 --patch_size 64 --batch_size 4 --precision auto".split()
    command = [sys.executable, ROOT / "benchmark_training.py", "--device", "cpu", *flags]
    bf16 = "from iqa.training import precision; precision.bf16_is_native = lambda device: True"  # auto then measures
    process = run_program(*command, cwd=tmp_path, **inject(bf16))
    assert process.returncode == 0, process.stderr
    numbers, rows = json.loads((tmp_path / "benchmark.json").read_text()), cells(process.stdout)
    assert rows["patches/s"] == ["training, eager", "evaluation, eager"]
    for column, way in enumerate(numbers["ways"]):
        for name in ("full", "compute", "input"):
            trials = way[name]
            assert len(trials) == 2 and min(trials) > 0
            assert rows[name.upper()][column].startswith(f"{sum(trials) / 2:,.1f} ")
        ratios = [full / compute for full, compute in zip(way["full"], way["compute"], strict=True)]
        assert rows["FULL / COMPUTE"][column].startswith(f"{sum(ratios) / 2:.3f} ")
    assert rows["ablation, projected"] == [f"{numbers['ablation_minutes']['eager']:.0f} min"]
    assert numbers["peak_memory_gb"]["host"] > 0 and numbers["cache_images_per_second"] > 0
    assert numbers["device"] in process.stdout and f"Precision: {numbers['precision']}; a training" in process.stdout
    training, evaluation = numbers["flop_per_patch"]["training"], numbers["flop_per_patch"]["evaluation"]
    assert 2.5 * evaluation < training < 3 * evaluation


def test_counting_leaves_a_model_as_it_is():
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(1), nn.Flatten(0))
    model = nn.Sequential(*layers)
    model(torch.randn(2, 3, 8, 8))
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    assert flop_per_patch(model, 8) == (2 * (2 * 4 * 36 * 27) + 3 * (2 * 144), 2 * 4 * 36 * 27 + 2 * 144)
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_all_ways_stand_side_by_side_with_the_compilation_of_every_run(capsys):
    """Round numbers: 10 trained patches a second by one way, 100 and 1,000 by the next."""
    names = ("eager", "graph", "compiled", "compiled graph")
    training = [
        Way("training", name, 32, float(i), 2e5, [1.0], full=[10.0 ** (i + 1)], compute=[10.0 ** (i + 1)])
        for i, name in enumerate(names)
    ]
    evaluation = [dataclasses.replace(training[i], kind="evaluation", batch_size=256) for i in (0, 2)]
    ways = training + evaluation
    minutes = ablation_minutes(ways, 100.0)
    for i, (name, evaluated, compiling) in enumerate(zip(names, (10, 10, 1000, 1000), (0, 0, 2, 2 + 2), strict=True)):
        patches = 3 * 10 * 7058 * 25 / 10 ** (i + 1) + 3 * 10 * (1000 + 2015) * 25 / evaluated
        assert 60 * minutes[name] == pytest.approx(patches + 3 * (i + compiling) + 10073 / 100)
    print_table(ways, minutes)
    rows = cells(capsys.readouterr().out)
    assert rows["patches/s"][:4] == [f"training, {name}" for name in names]
    assert rows["COMPUTE / eager"] == ["1.00", "10.00", "100.00", "1000.00", "1.00", "100.00"]
    assert rows["warm-up"] == ["0.0 s", "1.0 s", "2.0 s", "3.0 s", "0.0 s", "2.0 s"]
    assert rows["ablation, projected"] == [f"{minutes[name]:.0f} min" for name in names]


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
        command = (sys.executable, ROOT / "train_resnet_improved.py", *flags, "--precision", precision)
        process = run_program(*command, cwd=tmp_path)
        assert process.returncode == 0 and f", {precision}, torch" in process.stdout, process.stderr
        srcc[precision] = json.loads((tmp_path / precision / "evaluation_koniq-10k_all.json").read_text())["srcc"]
        scores.append((tmp_path / precision / "predictions_koniq-10k_all.csv").read_text())
    assert scores[0] != scores[1]
    assert srcc["bf16"] == pytest.approx(srcc["fp32"], abs=0.005)
