"""A run on a data set other than KonIQ-10k, and --evaluate: a checkpoint that scores any data set."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_program, train
from data_folders import make_csv, make_kadid, make_livec, names_of

import report_ablation
from iqa.data.datasets import load_dataset
from iqa.training.options import parse_options
from train_resnet_improved import evaluate_checkpoint

BEST = "checkpoints/resnet_improved_ms_att_best.pth"


def read_predictions(path: Path) -> dict[str, float]:
    with open(path, newline="") as file:
        return {row["image_name"]: float(row["score"]) for row in csv.DictReader(file)}


RUN_FLAGS = (
    "--dataset",
    "csv",
    "--data_path",
    "photos",
    "--mos_range",
    "0",
    "5",
    "--split_seed",
    "3",
    "--epochs",
    "1",
    "--use_multiscale",
    "--use_attention",
    "--save_model",
    "--precision",
    "fp32",
    "--output_dir",
    "run",
)


@pytest.fixture(scope="module")
def photos_run(small_cnn_here, tmp_path_factory) -> Path:
    """The working folder of a finished run on photos/, whose split was drawn with --split_seed 3."""
    cwd = tmp_path_factory.mktemp("photos_run")
    make_csv(cwd / "photos")
    process = train(*RUN_FLAGS, cwd=cwd)
    assert process.returncode == 0, process.stderr
    (cwd / "log.txt").write_text(process.stdout)
    return cwd


def test_a_run_on_a_csv_says_its_scale_and_leaves_its_split(photos_run):
    log = (photos_run / "log.txt").read_text()
    assert "MOS: 0 to 5, given by --mos_range" in log and "--split_seed 3" in log
    config = json.loads((photos_run / "run/config.json").read_text())
    assert config["mos_range"] == [0, 5] and config["dataset_note"] and config["groups"] is None
    kept = load_dataset("csv", photos_run / "photos", split_file=photos_run / "run/split.csv")
    assert kept.sha256 == config["split"]["sha256"]
    assert kept.sha256 == load_dataset("csv", photos_run / "photos", split_seed=3).sha256
    scores = read_predictions(photos_run / "run/predictions_test.csv")
    assert set(scores) == names_of(kept)["test"]


def evaluate(*flags) -> None:
    """--evaluate, but in the process of the tests."""
    evaluate_checkpoint(parse_options(["--device", "cpu", *map(str, flags)]))


def test_evaluate_alone_reproduces_the_test_scores_of_the_run(photos_run, monkeypatch):
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", BEST, "--output_dir", "again")
    process = run_program(*command, "--device", "cpu", "--precision", "fp32", cwd=photos_run)
    assert process.returncode == 0, process.stderr
    scores = read_predictions(photos_run / "again/predictions_csv_test.csv")
    assert scores == pytest.approx(read_predictions(photos_run / "run/predictions_test.csv"), abs=1e-4)
    result = json.loads((photos_run / "run/result.json").read_text())
    for name in ("SRCC", "PLCC"):
        assert f"\n{name}: {result[f'selected_test_{name.lower()}']:.4f}\n" in process.stdout
    monkeypatch.chdir(photos_run)
    with pytest.raises(FileExistsError, match="--overwrite"):
        evaluate("--evaluate", BEST, "--output_dir", "again")


def test_a_checkpoint_scores_every_image_of_another_data_set(photos_run, tmp_path):
    make_livec(tmp_path / "livec")
    command = (
        sys.executable,
        ROOT / "train_resnet_improved.py",
        "--evaluate",
        BEST,
        "--dataset",
        "livec",
        "--data_path",
    )
    process = run_program(*command, tmp_path / "livec", "--device", "cpu", "--output_dir", tmp_path, cwd=photos_run)
    assert process.returncode == 0, process.stderr
    summary = json.loads((tmp_path / "evaluation_livec_all.json").read_text())
    for line in (f"SRCC: {summary['srcc']:.4f}", f"PLCC: {summary['plcc']:.4f}", "every image of livec", "10 images"):
        assert line in process.stdout
    scores = read_predictions(tmp_path / "predictions_livec_all.csv")
    assert set(scores) == {f"{i}.bmp" for i in range(1, 11)} and summary["images"] == 10


def test_an_evaluation_beside_the_runs_is_in_their_report(photos_run, tmp_path):
    shutil.copytree(photos_run / "run", tmp_path / "logs/exp3_multiscale_attention")
    make_kadid(tmp_path / "kadid")
    evaluate(
        "--evaluate",
        photos_run / BEST,
        "--dataset",
        "kadid10k",
        "--data_path",
        tmp_path / "kadid",
        "--output_dir",
        tmp_path / "logs/evaluation_best",
    )
    assert report_ablation.main([str(tmp_path / "logs"), "--draws", "1000"]) == 0
    facts, numbers = (
        json.loads((tmp_path / "logs" / name).read_text())
        for name in ("evaluation_best/evaluation_kadid10k_all.json", "report.json")
    )
    (part,) = numbers["elsewhere"]["parts"]
    assert (part["name"], part["test_images"], part["seen"], part["crops"]) == ("kadid10k", 30, None, facts["crops"])
    found = part["variants"]["exp3_multiscale_attention"]
    assert [found[metric]["estimate"] for metric in ("srcc", "plcc")] == pytest.approx(
        [facts["srcc"], facts["plcc"]], abs=1e-5
    )


@pytest.mark.parametrize(("name", "count"), [("all", 30), ("test", 6), ("val", 3)])
def test_the_set_can_be_chosen(photos_run, tmp_path, name, count):
    make_kadid(tmp_path)
    evaluate(
        "--evaluate",
        photos_run / BEST,
        "--dataset",
        "kadid10k",
        "--data_path",
        tmp_path,
        "--evaluate_set",
        name,
        "--output_dir",
        tmp_path,
    )
    assert len(read_predictions(tmp_path / f"predictions_kadid10k_{name}.csv")) == count


def test_the_run_s_own_images_are_never_scored_as_if_they_were_new(photos_run, tmp_path, capsys):
    data = make_csv(tmp_path / "photos", mos="1.5")
    flags = ("--evaluate", photos_run / BEST, "--dataset", "csv", "--output_dir", tmp_path)
    evaluate(*flags, "--data_path", data)
    printed = capsys.readouterr().out
    assert "every image of csv" in printed and "Warning: the checkpoint was trained on csv with other labels" in printed
    evaluate(*flags, "--data_path", photos_run / "photos", "--evaluate_set", "all", "--overwrite")
    assert "Warning: images that the checkpoint was trained on are among these" in capsys.readouterr().out


def test_a_file_that_is_no_checkpoint_or_a_part_of_one_is_an_error_that_names_it(photos_run, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pth: no such checkpoint"):
        evaluate("--evaluate", tmp_path / "none.pth")
    (tmp_path / "part.pth").write_bytes((photos_run / BEST).read_bytes()[:100_000])
    with pytest.raises(ValueError, match="part.pth: damaged or not a checkpoint"):
        evaluate("--evaluate", tmp_path / "part.pth")
    saved = torch.load(photos_run / BEST, weights_only=True)
    for key, value, words in (
        ("dataset", "gone", "--dataset gone: not one of koniq-10k, csv"),
        ("seed", "1", "flags seed"),
    ):
        config = {**saved["config"], "flags": {**saved["config"]["flags"], key: value}}
        torch.save({**saved, "config": config}, tmp_path / "changed.pth")
        with pytest.raises(ValueError, match=words):
            evaluate("--evaluate", tmp_path / "changed.pth")
    torch.save({"model": {}}, tmp_path / "other.pth")
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", "other.pth")
    assert_one_line_error(run_program(*command, cwd=tmp_path), "other.pth", "config")


def test_a_resumed_run_keeps_the_split_it_began_with(photos_run, tmp_path):
    for folder in ("run", "photos"):
        shutil.copytree(photos_run / folder, tmp_path / folder)
    (tmp_path / "run/result.json").unlink()  # as if it had been killed before it was finished
    with open(tmp_path / "photos/labels.csv", "a") as file:
        file.writelines(f"{i}.jpg,3.3\n" for i in range(100, 120))
    process = train(*RUN_FLAGS, "--resume", "--checkpoint_dir", photos_run / "checkpoints", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "20 of 40 images are in no set and not used" in process.stdout
    assert (tmp_path / "run/result.json").exists()
