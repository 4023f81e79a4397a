"""What the benchmark reports, not how fast anything is; and that its two precisions rank images alike."""

import json
import statistics
import sys

import pytest
from conftest import ROOT, assert_one_line_error, run_program

RATES = ("CUT", "INPUT", "COMPUTE", "FULL", "habit")


def benchmark(*flags, cwd):
    return run_program(sys.executable, ROOT / "benchmark_training.py", "--device", "cpu", *flags, cwd=cwd)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The JSON and the standard output of a benchmark too short to say anything about speed."""
    cwd = tmp_path_factory.mktemp("benchmark")
    process = benchmark("--images", "12", "--trials", "2", "--seconds", "0.1", "--patch_size", "64", "--batch_size", "4",
                        "--precision", "fp32", cwd=cwd)  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads((cwd / "benchmark.json").read_text()), process.stdout


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_every_rate_has_its_trials_and_every_ratio_is_of_rates_of_one_trial(report, kind):
    numbers = report[0][kind]
    for name in RATES:
        trials = numbers[name]["trials"]
        assert len(trials) == 2 and min(trials) > 0
        assert numbers[name]["mean"] == pytest.approx(statistics.mean(trials))
        assert numbers[name]["sd"] == pytest.approx(statistics.stdev(trials))
    for name, below in (("FULL / COMPUTE", "COMPUTE"), ("FULL / habit", "habit")):
        ratios = [full / other for full, other in zip(numbers["FULL"]["trials"], numbers[below]["trials"], strict=True)]
        assert numbers[name]["trials"] == pytest.approx(ratios)


def test_the_projection_is_the_ablations_patches_at_the_full_rates(report):
    numbers, _ = report
    training = 3 * 10 * 7058 * 25 / numbers["training"]["FULL"]["mean"]
    evaluation = 3 * 10 * (1000 + 2015) * 25 / numbers["evaluation"]["FULL"]["mean"]
    cache = 10073 / numbers["cache"]["images_per_second"]
    assert numbers["ablation"]["hours"] == pytest.approx((training + evaluation + cache) / 3600)


def test_the_table_and_the_machine_are_printed_as_they_are_in_the_json(report):
    numbers, output = report
    for name in RATES:
        cells = [f"{numbers[kind][name]['mean']:,.1f}" for kind in ("training", "evaluation")]
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
        sys.executable, ROOT / "train_resnet_improved.py", "--data_path", "demo", "--weights", "none", "--device", "cpu",
        "--use_multiscale", "--use_attention", "--epochs", "2", "--patch_size", "64", "--train_patch_num", "16",
        "--test_patch_num", "4", "--batch_size", "16", "--lr", "5e-4", "--warmup_steps", "10", "--max_grad_norm", "1",
        "--save_model", "--output_dir", "run", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    srcc = {}
    for precision in ("bf16", "fp32"):
        process = run_program(
            sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", "checkpoints/resnet_improved_ms_att_best.pth",
            "--evaluate_set", "all", "--precision", precision, "--device", "cpu", "--output_dir", precision, cwd=tmp_path,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert f", {precision}, torch" in process.stdout
        srcc[precision] = json.loads((tmp_path / precision / "evaluation_koniq-10k_all.json").read_text())["srcc"]
    scores = [(tmp_path / precision / "predictions_koniq-10k_all.csv").read_text() for precision in srcc]
    assert scores[0] != scores[1]
    assert srcc["bf16"] == pytest.approx(srcc["fp32"], abs=0.005)
