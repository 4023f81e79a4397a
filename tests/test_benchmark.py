"""What the benchmark reports, not how fast anything is; and that its two precisions rank images alike."""

import json
import statistics
import sys

import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_program

from iqa.benchmark.arithmetic import flop_per_patch

RATES = ("FULL", "COMPUTE", "INPUT", "CUT", "LIMIT", "habit")
RATIOS = ("FULL / LIMIT", "FULL / COMPUTE", "FULL / habit")
KINDS = ("training", "evaluation")


def benchmark(*flags, cwd):
    return run_program(sys.executable, ROOT / "benchmark_training.py", "--device", "cpu", *flags, cwd=cwd)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The JSON and the standard output of a benchmark too short to say anything about speed."""
    cwd = tmp_path_factory.mktemp("benchmark")
    process = benchmark(
        "--images",
        "12",
        "--trials",
        "2",
        "--seconds",
        "0.1",
        "--patch_size",
        "64",
        "--batch_size",
        "4",
        "--precision",
        "fp32",
        cwd=cwd,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((cwd / "benchmark.json").read_text()), process.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_rate_has_its_trials_and_every_ratio_is_of_rates_of_one_trial(report, kind):
    numbers = report[0][kind]
    for name in RATES:
        trials = numbers[name]["trials"]
        assert len(trials) == 2 and min(trials) > 0
        assert numbers[name]["mean"] == pytest.approx(statistics.mean(trials))
        assert numbers[name]["sd"] == pytest.approx(statistics.stdev(trials))
    for name in RATIOS:
        below = numbers[name.removeprefix("FULL / ")]["trials"]
        ratios = [full / other for full, other in zip(numbers["FULL"]["trials"], below, strict=True)]
        assert numbers[name]["trials"] == pytest.approx(ratios)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_the_matrix_product_at_the_arithmetic_of_a_patch(report, kind):
    numbers, output = report
    part, product = numbers[kind], numbers["machine"]["matrix_product"]
    achieved, share = part["achieved_tera_flop_per_second"], part["FULL / LIMIT"]["mean"]
    for name in ("FULL", "LIMIT"):
        assert achieved[name] == pytest.approx(part[name]["mean"] * part["flop_per_patch"] / 1e12)
    assert product["dtype"] == "float32"
    (line,) = [line for line in output.splitlines() if line.startswith("Of ") and f" {kind} does " in line]
    words = (
        f"{achieved['LIMIT']:.3f} TFLOP/s",
        f"{product['side']}x{product['side']}",
        f"{achieved['FULL']:.3f}: {share:.1%}",
    )
    assert all(word in line for word in words)


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


def test_the_projection_is_the_ablations_patches_at_the_full_rates(report):
    numbers, _ = report
    training = 3 * 10 * 7058 * 25 / numbers["training"]["FULL"]["mean"]
    evaluation = 3 * 10 * (1000 + 2015) * 25 / numbers["evaluation"]["FULL"]["mean"]
    cache = 10073 / numbers["cache"]["images_per_second"]
    assert numbers["ablation"]["hours"] == pytest.approx((training + evaluation + cache) / 3600)


def test_the_table_and_the_machine_are_printed_as_they_are_in_the_json(report):
    numbers, output = report
    rows = [line.split(" | ")[0].removeprefix("| ") for line in output.splitlines() if line.startswith("| ")][1:]
    assert rows == ["FULL / LIMIT", "FULL / COMPUTE", *RATES, "FULL / habit"]
    for name in RATES:
        cells = [f"{numbers[kind][name]['mean']:,.1f}" for kind in KINDS]
        (row,) = [line for line in output.splitlines() if line.startswith(f"| {name} |")]
        assert all(cell in row for cell in cells)
    assert numbers["machine"]["device"] in output and numbers["machine"]["precision"] == "fp32"
    assert numbers["memory"]["host_gb"] > 0 and "hours" in output


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
    process = benchmark(*flags, cwd=tmp_path)
    assert_one_line_error(process, *words)
    assert process.stdout == "" and list(tmp_path.iterdir()) == []


def test_bf16_and_fp32_rank_the_demo_images_alike(tmp_path):
    """One checkpoint, trained for long enough to tell images apart, scores all 60 demo images in both precisions."""
    made = run_program(sys.executable, ROOT / "demo_dataset.py", "--output", "demo", "--images", "60", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    trained = run_program(
        sys.executable,
        ROOT / "train_resnet_improved.py",
        "--data_path",
        "demo",
        "--weights",
        "none",
        "--device",
        "cpu",
        "--use_multiscale",
        "--use_attention",
        "--epochs",
        "2",
        "--patch_size",
        "64",
        "--train_patch_num",
        "16",
        "--test_patch_num",
        "4",
        "--batch_size",
        "16",
        "--lr",
        "5e-4",
        "--warmup_steps",
        "10",
        "--max_grad_norm",
        "1",
        "--save_model",
        "--output_dir",
        "run",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    srcc = {}
    for precision in ("bf16", "fp32"):
        process = run_program(
            sys.executable,
            ROOT / "train_resnet_improved.py",
            "--evaluate",
            "checkpoints/resnet_improved_ms_att_best.pth",
            "--evaluate_set",
            "all",
            "--precision",
            precision,
            "--device",
            "cpu",
            "--output_dir",
            precision,
            cwd=tmp_path,
        )
        assert process.returncode == 0, process.stderr
        assert f", {precision}, torch" in process.stdout
        srcc[precision] = json.loads((tmp_path / precision / "evaluation_koniq-10k_all.json").read_text())["srcc"]
    scores = [(tmp_path / precision / "predictions_koniq-10k_all.csv").read_text() for precision in srcc]
    assert scores[0] != scores[1]
    assert srcc["bf16"] == pytest.approx(srcc["fp32"], abs=0.005)
