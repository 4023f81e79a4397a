"""Runs of other models than the ResNet50 variants: a published model by its recipe, and a small CNN as backbone."""

import json
import shutil
import sys

import pytest
import torch
from conftest import RESNET50, ROOT, assert_one_line_error, read_scores, run_program, train
from faults import SMALL_CNN, SNAPSHOTS, assert_same_run, inject

from train_resnet_improved import parse_options

HYPERIQA = (
    "--model hyperiqa --recipe published --epochs 2 --batch_size 8 --train_patch_num 2 "
    "--test_patch_num 2 --precision fp32 --save_model --output_dir run"
).split()
# HyperIQA's backbone, and so its checkpoints, are smaller.
SMALLER = {**RESNET50, **inject("import smaller; smaller.resnet50()" + SNAPSHOTS)}


@pytest.fixture(scope="module")
def hyperiqa_run(tiny_data, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("hyperiqa")
    process = train("--data_path", tiny_data, *HYPERIQA, cwd=cwd, **SMALLER)
    assert process.returncode == 0, process.stderr
    return cwd


def test_a_published_model_is_trained_by_its_recipe(hyperiqa_run):
    config = json.loads((hyperiqa_run / "run/config.json").read_text())
    assert (config["variant"], config["tag"]) == ("published_hyperiqa", "hyperiqa")
    assert config["gflop_per_patch"] > 0.1 and config["flags"]["lr"] == 2e-5 and config["flags"]["weight_decay"] == 5e-4
    saved = torch.load(hyperiqa_run / "after_2/resnet_improved_hyperiqa_last.pth", weights_only=True)
    assert [group["lr"] for group in saved["optimizer"]["param_groups"]] == [2e-5, 2e-4]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = {key: x for key, x in saved["model"].items() if not key.endswith(statistics)}
    assert len(saved["optimizer"]["state"]) == len(parameters)
    assert config["parameters"] == sum(x.numel() for x in parameters.values())
    result = json.loads((hyperiqa_run / "run/result.json").read_text())
    assert result["variant"] == "published_hyperiqa"
    seconds = sum(row["training_seconds"] for row in saved["history"])
    assert result["patches_per_second"] == pytest.approx(2 * 16 / seconds, rel=1e-3)
    assert all(0 < row["training_seconds"] <= row["seconds"] for row in saved["history"])


def test_its_resumed_run_equals_the_uninterrupted_one_to_the_bit(hyperiqa_run, tiny_data, tmp_path):
    shutil.copytree(hyperiqa_run / "after_1", tmp_path / "run")
    process = train("--data_path", tiny_data, *HYPERIQA, "--resume", cwd=tmp_path, **SMALLER)
    assert process.returncode == 0 and "Resuming after epoch 1" in process.stdout, process.stderr
    assert_same_run(hyperiqa_run, tmp_path, "resnet_improved_hyperiqa")


def test_its_checkpoint_scores_as_its_run_and_no_other_model_goes_on_with_it(hyperiqa_run, tiny_data):
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--device", "cpu")
    best = hyperiqa_run / "checkpoints/resnet_improved_hyperiqa_best.pth"
    process = run_program(*command, "--evaluate", best, "--output_dir", "again", cwd=hyperiqa_run, **SMALLER)
    assert process.returncode == 0, process.stderr
    scores = [
        list(read_scores(hyperiqa_run / path).values())
        for path in ("run/predictions_test.csv", "again/predictions_koniq-10k_test.csv")
    ]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
    (hyperiqa_run / "run/result.json").rename(hyperiqa_run / "result.json")
    own = train("--data_path", tiny_data, "--resume", "--output_dir", "run", cwd=hyperiqa_run, **SMALLER)
    (hyperiqa_run / "result.json").rename(hyperiqa_run / "run/result.json")
    assert_one_line_error(own, "--resume", "model hyperiqa, now ablation")


def test_a_flag_that_is_given_counts_over_the_published_recipe():
    options = parse_options(["--model", "smart_iqa", "--recipe", "published", "--lr", "1e-3", "--epochs", "4"])
    assert (options.backbone, options.use_multiscale, options.use_attention) == ("swin_b", True, True)
    assert (options.lr, options.epochs, options.train_patch_num, options.max_grad_norm) == (1e-3, 4, 20, 1.0)
    same = parse_options(["--model", "smart_iqa"])
    assert (same.lr, same.epochs, same.batch_size, same.recipe) == (1e-4, 10, 32, "ablation")


def test_a_small_cnn_is_one_row_and_trains_by_the_command_line(tiny_data, tmp_path):
    flags = "--backbone small --use_multiscale --use_attention --epochs 1 --resize squeeze --save_model".split()
    process = train("--data_path", tiny_data, *flags, cwd=tmp_path, **inject(SMALL_CNN))
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "logs/small3_multiscale_attention/config.json").read_text())
    assert config["tag"] == "small_ms_att" and config["flags"]["resize"] == "squeeze"
    assert (tmp_path / "logs/small3_multiscale_attention/result.json").exists()
    best = tmp_path / "checkpoints/resnet_improved_small_ms_att_best.pth"
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--device", "cpu", "--evaluate", best)
    process = run_program(*command, "--output_dir", "again", cwd=tmp_path, **inject(SMALL_CNN))
    assert process.returncode == 0 and "images squeezed to 384x512" in process.stdout, process.stderr
    scores = [
        list(read_scores(tmp_path / path).values())
        for path in ("logs/small3_multiscale_attention/predictions_test.csv", "again/predictions_koniq-10k_test.csv")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=0.5)  # bf16, where it is native
    assert_one_line_error(run_program(*command, cwd=tmp_path), "of a run with --backbone small", "resnet50")
