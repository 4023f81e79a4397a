"""One run by the command line: its results, output, files and errors."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
import torch
from conftest import (
    INSTEAD_OF_RESNET50,
    ROOT,
    SIZES,
    TINY_FLAGS,
    assert_one_line_error,
    make_data,
    make_rows,
    read_epochs,
    read_rows,
    refuse,
    train,
    write_official_csv,
)
from scipy.stats import pearsonr, spearmanr

import train_resnet_improved
from data_loader import EvaluationPlan, PatchLoader, Resize
from iqa.data.datasets import load_dataset
from iqa.data.images import DecodedImages
from iqa.metrics import srcc_and_plcc
from models_resnet_improved import ImageQualityResNet, PatchScores
from train_resnet_improved import best_epoch, evaluate


def column(rows, name) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def test_the_log_has_the_lines_that_people_grep(finished_run):
    log = (finished_run / "log.txt").read_text()
    result = json.loads((finished_run / "run/result.json").read_text())
    for text in ("Epoch 1/2 Summary:", "Epoch 2/2 Summary:", "  Train Loss: ", "  Time: ", "Device: cpu"):
        assert text in log
    assert log.count("  Val SRCC: ") == log.count("  Val PLCC: ") == 2
    assert log.count("  Test SRCC: ") == log.count("  Test PLCC: ") == 2
    for name in ("best", "selected"):
        assert f"{name.title()} Test SRCC: {result[f'{name}_test_srcc']:.4f}" in log
        assert f"{name.title()} Test PLCC: {result[f'{name}_test_plcc']:.4f}" in log
    assert log.count("Best Test SRCC:") == 1
    assert f"Selected epoch: {result['selected_epoch']} (best Val SRCC {result['selected_val_srcc']:.4f})" in log


def test_the_results_can_be_recomputed_from_the_predictions(finished_run):
    result = json.loads((finished_run / "run/result.json").read_text())
    for name, set_name in (("val", "validation"), ("test", "test")):
        rows = read_rows(finished_run / f"run/predictions_{name}.csv")
        assert [(row["image_name"], float(row["mos"])) for row in rows] == [
            r[:2] for r in make_rows() if r[2] == set_name
        ]
        scores, mos = column(rows, "score"), column(rows, "mos")
        assert result[f"selected_{name}_srcc"] == pytest.approx(spearmanr(scores, mos)[0], abs=1e-6)
        assert result[f"selected_{name}_plcc"] == pytest.approx(pearsonr(scores, mos)[0], abs=1e-6)


def test_the_chosen_epoch_is_the_best_on_validation_and_the_peak_is_the_best_on_test(finished_run):
    result = json.loads((finished_run / "run/result.json").read_text())
    epochs = read_epochs(finished_run / "run")
    assert [row["epoch"] for row in epochs] == [1, 2]
    chosen = max(epochs, key=lambda row: row["val_srcc"])
    assert (result["selected_epoch"], result["selected_test_srcc"]) == (chosen["epoch"], chosen["test_srcc"])
    assert result["best_test_srcc"] == max(row["test_srcc"] for row in epochs)


def test_the_run_carries_its_health(finished_run):
    result = json.loads((finished_run / "run/result.json").read_text())
    log = (finished_run / "log.txt").read_text()
    epochs = read_epochs(finished_run / "run")
    health = result["health"]
    scores = column(read_rows(finished_run / "run/predictions_test.csv"), "score")
    assert health["scores"]["scores"]["p50"] == pytest.approx(np.median(scores))
    assert all(len(row["target_layers"]) == 4 for row in epochs)
    assert health["target_layers"] == epochs[result["selected_epoch"] - 1]["target_layers"]
    mos = np.array([row[1] for row in make_rows() if row[2] == "training"])
    assert health["loss"]["constant"] == pytest.approx(np.abs(mos - np.median(mos)).mean())
    assert health["loss"]["training"] == epochs[-1]["train_loss"]
    assert health["epochs"]["chosen"] == result["selected_epoch"]
    assert log.count("\nHealth: ") >= 4


def test_a_training_whose_mos_are_all_alike_is_refused_before_it_begins(tmp_path):
    data = make_data(tmp_path / "koniq")
    rows = [(name, 50.0 if set_name == "training" else mos, set_name) for name, mos, set_name in make_rows()]
    write_official_csv(data, rows)
    assert_one_line_error(refuse("--data_path", data, "--epochs", "1", cwd=tmp_path), "every training MOS is 50")


def test_the_attention_of_each_image_sums_to_one(finished_run):
    rows = read_rows(finished_run / "run/predictions_test.csv")
    total = sum(column(rows, f"attention_stage{i}") for i in (1, 2, 3, 4))
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_the_config_has_what_a_repetition_needs(finished_run, tiny_data, small_cnn_here):
    config = json.loads((finished_run / "run/config.json").read_text())
    model = ImageQualityResNet(use_multiscale=True, use_attention=True, weights="none")
    assert config["variant"] == "exp3_multiscale_attention"
    assert config["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert config["flags"]["seed"] == 42 and config["flags"]["patch_size"] == 32
    assert config["split"] == {**SIZES, "sha256": load_dataset("koniq-10k", tiny_data).sha256}
    assert config["versions"]["torch"] == torch.__version__ and config["precision"] == "fp32"


def test_a_few_images_can_be_overfitted(tmp_path):
    """Trained and tested on the same six images: ranked, with half the error of the best constant score."""
    data = make_data(tmp_path / "koniq", sizes={"training": 6, "test": 6})
    rows = make_rows({"training": 6, "test": 6})
    for (source, _mos, _), (copy, _, _) in zip(rows[:6], rows[6:], strict=True):
        (data / "1024x768" / copy).write_bytes((data / "1024x768" / source).read_bytes())
    write_official_csv(data, [*rows[:6], *((copy, rows[i][1], "test") for i, (copy, _, _) in enumerate(rows[6:]))])
    mos = np.array([row[1] for row in rows[:6]])
    constant = np.abs(mos - np.median(mos)).mean()
    flags = "--use_multiscale --use_attention --epochs 2 --train_patch_num 80 --lr 1e-3 --no_color_jitter"
    process = train("--data_path", data, *flags.split(), "--output_dir", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    losses = [epoch["train_loss"] for epoch in read_epochs(tmp_path / "run")]
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["selected_test_srcc"] > 0.8 and min(losses) < constant / 2


def mean_input(patches: torch.Tensor) -> PatchScores:
    """Scores each patch by its mean input: an oracle whose score of an image can be computed by hand."""
    scores = patches.mean((1, 2, 3))
    return PatchScores(scores, None, [scores[:, None]])


def test_the_score_of_an_image_is_the_mean_over_its_patches(tiny_data):
    images = load_dataset("koniq-10k", tiny_data).sets["training"]
    decoded = DecodedImages(images.paths, Resize())
    settings = {"patches": 6, "patch_size": 64, "seed": 1, "random": True}
    loaders = [
        PatchLoader(
            decoded,
            EvaluationPlan(decoded.sizes(), images.mos, images.names, batch_size=batch, **settings),
            patch_size=64,
            color_jitter=False,
            device=torch.device("cpu"),
            num_workers=0,
        )
        for batch in (5, 48)
    ]
    expected = torch.cat([inputs for inputs, _ in loaders[1]]).mean((1, 2, 3)).reshape(8, 6).mean(1).numpy()
    for loader in loaders:
        scored = evaluate(mean_input, loader, len(images), precision="fp32", title="oracle", with_hidden=True)
        np.testing.assert_allclose(scored.scores, expected, rtol=1e-5)
        np.testing.assert_allclose(scored.hidden[0][:, 0], expected, rtol=1e-5)
    known_srcc, known_plcc, note = srcc_and_plcc(expected, images.mos)
    assert (known_srcc, note) == (pytest.approx(spearmanr(expected, images.mos)[0]), "")
    assert srcc_and_plcc(images.mos, images.mos)[:2] == (pytest.approx(1), pytest.approx(1))
    assert srcc_and_plcc(-images.mos, images.mos)[:2] == (pytest.approx(-1), pytest.approx(-1))


def test_an_epoch_without_a_correlation_is_never_chosen():
    history = [{"epoch": i, "val_srcc": value} for i, value in enumerate([None, -0.5, 0.2, 0.2, None])]
    assert best_epoch(history, "val")["epoch"] == 2
    assert best_epoch(history[:1], "val") is None


@pytest.mark.parametrize("loss", ["l1", "norm_in_norm", "rank"])
def test_a_run_without_a_defined_score_ends_with_a_result_that_says_so(tmp_path, loss):
    """A learning rate of 0 and identical test images."""
    data = make_data(tmp_path / "koniq")
    picture = next((data / "1024x768").iterdir()).read_bytes()
    for path in (data / "1024x768").iterdir():
        path.write_bytes(picture)
    flags = f"--loss {loss} --lr 0 --patch_size 384 --epochs 1 --output_dir run --save_model".split()
    process = train("--data_path", data, *flags, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Val SRCC: undefined" in process.stdout and "nan" not in process.stdout.lower()
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert "No epoch has a defined val SRCC" in result["failure"] and result["failure"] in process.stdout
    empty = {key for key, value in result.items() if value is None}
    selected = {f"selected_{name}_{metric}" for name in ("val", "test") for metric in ("srcc", "plcc")}
    assert empty == {"selected_epoch", *selected, "best_test_srcc", "best_test_plcc", "health"}
    assert not list((tmp_path / "run").glob("predictions*")) and not (tmp_path / "checkpoints").exists()
    saved = torch.load(tmp_path / "run/resnet_improved_ss_noatt_best.pth", weights_only=True)
    assert saved["results"] == result and saved["epoch"] == 1
    again = train("--data_path", data, *flags, "--resume", cwd=tmp_path)
    assert again.returncode == 0 and "this run is finished" in again.stdout


def test_without_validation_the_epoch_is_chosen_on_test_and_says_so(tmp_path):
    data = make_data(tmp_path / "koniq", sizes={"training": 8, "test": 4})
    process = train("--data_path", data, "--epochs", "1", "--output_dir", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "Warning: the split has no validation images" in process.stdout and "Val SRCC" not in process.stdout
    assert json.loads((tmp_path / "run/result.json").read_text())["select_on"] == "test"
    refused = refuse("--data_path", data, "--select_on", "val", "--output_dir", "val", cwd=tmp_path)
    assert_one_line_error(refused, "--select_on val")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--use_attention"], ["--use_attention", "--use_multiscale"]),
        (["--epochs", "-1"], ["--epochs", "'-1'"]),
        (["--epochs", "1.5"], ["--epochs", "'1.5'", "integer"]),
        (["--train_patch_num", "0"], ["--train_patch_num", "'0'"]),
        (["--lr", "nan"], ["--lr", "'nan'"]),
        (["--lr=-1e-4"], ["--lr", "'-1e-4'"]),
        (["--weight_decay", "inf"], ["--weight_decay", "'inf'"]),
        (["--dropout_rate", "1"], ["--dropout_rate", "'1'"]),
        (["--patch_size", "385"], ["--patch_size", "'385'", "384"]),
        (["--batch_size", "0"], ["--batch_size", "'0'"]),
        (["--batch_size", "1", "--patch_size", "32"], ["--batch_size 1", "--patch_size 32", "batch norm"]),
        (["--seed", "-3"], ["--seed", "'-3'"]),
        (["--dataset", "tid2013"], ["--dataset", "tid2013"]),
        (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
        (["--no_cache", "--cache_dir", "x"], ["--no_cache", "--cache_dir"]),
        (["--checkpoint_suffix", "a/b"], ["--checkpoint_suffix a/b", "--checkpoint_dir"]),
        (["--epoch", "3"], ["--epoch"]),
        (["--ema", "1"], ["--ema", "'1'"]),
        (["--head_lr_ratio=-1"], ["--head_lr_ratio", "'-1'"]),
        (["--loss", "mse"], ["--loss", "'mse'", "norm_in_norm"]),
        (
            ["--recipe", "best", "--loss", "norm_in_norm", "--batch_size", "1", "--patch_size", "64"],
            ["--loss norm_in_norm", "--batch_size", "which is 1"],
        ),
        (
            ["--recipe", "published", "--model", "hyperiqa", "--lr_schedule", "constant"],
            ["--lr_schedule constant", "its own schedule"],
        ),
        (["--recipe", "published"], ["--recipe published", "--model hyperiqa or smart_iqa"]),
        (
            ["--model", "hyperiqa", "--use_multiscale", "--backbone", "resnet50"],
            ["--model hyperiqa", "leave out --backbone, --use_multiscale"],
        ),
        (["--model", "smart_iqa", "--dropout_rate", "0.3"], ["--model smart_iqa", "leave out --dropout_rate"]),
        (["--model", "hyperiqa", "--patch_size", "100"], ["--patch_size 100", "HyperIQA", "multiples of 32", "96"]),
        (["--backbone", "swin_b", "--patch_size", "100"], ["--patch_size 100", "Swin-B", "multiples of 32", "96"]),
        (["--drop_path_rate", "0.1"], ["--drop_path_rate", "ResNet50 has no stochastic depth"]),
        (["--evaluate", "x.pth", "--resize", "squeeze"], ["--evaluate hands over to score_images.py", "--resize"]),
        (["--dataset", "csv"], ["--dataset csv", "--data_path"]),
        (["--split_seed", "1"], ["--split_seed", "--dataset"]),
        (["--evaluate_set", "all"], ["--evaluate_set"]),
    ],
)
def test_flags_out_of_range_or_that_do_not_fit_are_refused(tmp_path, flags, words):
    process = refuse(*flags, cwd=tmp_path)
    assert process.returncode == 2 and not list(tmp_path.iterdir())
    assert_one_line_error(process, *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_path", "no_such_folder"], ["--data_path no_such_folder", "docs/data.md"]),
        (["--dataset", "livec", "--data_path", "taken"], ["taken", "AllImages_release.mat"]),
        (["--output_dir", "taken"], ["--output_dir taken", "--resume", "--overwrite"]),
        (["--output_dir", "a_file"], ["a_file", "cannot be written"]),
        (["--checkpoint_dir", "a_file"], ["a_file", "cannot be written"]),
    ],
)
def test_a_mistake_in_a_folder_is_one_line_before_the_work(tmp_path, tiny_data, monkeypatch, flags, words):
    monkeypatch.setattr(train_resnet_improved, "train", None)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/config.json").write_text("{}")
    (tmp_path / "a_file").touch()
    assert_one_line_error(refuse("--data_path", tiny_data, *flags, cwd=tmp_path), *words)
    assert (tmp_path / "taken/config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "no_such.pth"], ["--weights no_such.pth", "imagenet", "none"]),
        (["--batch_size", "17"], ["--batch_size 17", "16 training patches"]),
        (["--device", "tpu9"], ["--device tpu9", "cpu"]),
        (["--device", "mps"], ["--device mps", "cpu"]),
    ],
)
def test_a_mistake_is_one_line_with_the_flag_and_the_way_out(tmp_path, tiny_data, small_cnn_here, flags, words):
    assert_one_line_error(refuse("--data_path", tiny_data, "--output_dir", "run", *flags, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())  # a refused command leaves no folder behind


def test_a_folder_that_cannot_be_written_is_found_before_torch_is_loaded(tmp_path, tiny_data):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')")
    (tmp_path / "a_file").touch()
    process = train("--data_path", tiny_data, "--output_dir", "a_file/run", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert_one_line_error(process, "a_file/run: cannot be written")


def test_help_names_every_flag_that_notes_and_commands_use(tmp_path):
    process = refuse("--help", cwd=tmp_path)
    flags = """
        --dataset --data_path --epochs --lr --batch_size --train_patch_num --test_patch_num --use_multiscale
        --use_attention --no_color_jitter --test_random_crop --preload_images --seed --save_model --weight_decay
        --dropout_rate --patch_size --weights --select_on --device --num_workers --output_dir --checkpoint_dir
    """.split()
    assert [flag for flag in flags if flag not in process.stdout] == []


def test_progress_states_what_is_left_of_the_epoch_and_of_all_runs(tiny_data, tmp_path):
    """In training and in evaluation; the run is the second of nine."""
    always = "import iqa.training.progress; iqa.training.progress.LOG_EVERY = -1"
    process = train("--data_path", tiny_data, "--epochs", 1, cwd=tmp_path, INJECT=always, ABLATION_RUN="2/9")
    lines = [line for line in process.stdout.splitlines() if "left; all runs: about" in line]
    assert {line.split(":")[0].strip() for line in lines} == {"Epoch 1/1", "Epoch 1/1 val", "Epoch 1/1 test"}
    assert "epoch: 0 s left; all runs: about " in lines[-1] and "min left" in lines[-1], lines


def test_the_log_of_a_run_in_a_terminal_has_its_progress_and_the_bar_says_what_is_left(tiny_data, tmp_path):
    """A terminal of 80 columns."""
    always = "import iqa.training.progress; iqa.training.progress.LOG_EVERY = -1"
    terminal, of_run = pty.openpty()
    fcntl.ioctl(of_run, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [
        sys.executable,
        ROOT / "train_resnet_improved.py",
        "--data_path",
        tiny_data,
        *TINY_FLAGS,
        "--epochs",
        "1",
    ]
    environment = {**os.environ, **INSTEAD_OF_RESNET50, "INJECT": always, "ABLATION_RUN": "2/9"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=of_run, stderr=of_run) as process:
        os.close(of_run)
        shown = b""
        with contextlib.suppress(OSError):  # at the end of the run
            while text := os.read(terminal, 10_000):
                shown += text
    assert process.returncode == 0 and re.search(rb"Epoch 1/1: \d/2, loss \d.*all runs: about \d+ min left", shown), (
        shown
    )
    assert "Epoch 1/1: 2/2 batches, loss" in (tmp_path / "logs/exp1_baseline.log").read_text()
