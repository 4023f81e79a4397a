"""A run on a data set other than KonIQ-10k, and the evaluation of its checkpoint on any labelled data set."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, assert_one_line_error, read_scores, run_main, run_program, train
from data_folders import make_csv, make_kadid, make_livec, names_of
from faults import SNAPSHOTS, inject

import report_ablation
from iqa.data.datasets import load_dataset

BEST = "checkpoints/resnet_improved_ms_att_best.pth"
RUN_FLAGS = (
    "--dataset csv --data_path photos --mos_range 0 5 --split_seed 3 --epochs 1 --use_multiscale "
    "--use_attention --save_model --precision fp32 --output_dir run"
).split()


@pytest.fixture(scope="module")
def photos_run(small_cnn_here, tmp_path_factory) -> Path:
    """The working folder of a finished run on photos/, whose split was drawn with --split_seed 3."""
    cwd = tmp_path_factory.mktemp("photos_run")
    make_csv(cwd / "photos")
    process = train(*RUN_FLAGS, cwd=cwd, **inject(SNAPSHOTS))
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
    scores = read_scores(photos_run / "run/predictions_test.csv")
    assert set(scores) == names_of(kept)["test"]


def evaluate(checkpoint, *flags) -> str:
    """Evaluate in this process; returns the output."""
    process = run_main("score_images", "--checkpoint", checkpoint, "--device", "cpu", *flags)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_an_evaluation_reproduces_the_test_scores_of_the_run(photos_run):
    command = (sys.executable, ROOT / "score_images.py", "--checkpoint", BEST, "--set", "auto", "--output_dir", "again")
    process = run_program(*command, "--device", "cpu", "--precision", "fp32", cwd=photos_run)
    assert process.returncode == 0, process.stderr
    scores = read_scores(photos_run / "again/predictions_csv_test.csv")
    assert scores == pytest.approx(read_scores(photos_run / "run/predictions_test.csv"), abs=1e-4)
    result = json.loads((photos_run / "run/result.json").read_text())
    for name in ("SRCC", "PLCC"):
        assert f"\n{name}: {result[f'selected_test_{name.lower()}']:.4f}\n" in process.stdout
    flags = "--set test --device cpu --output_dir again".split()
    assert_one_line_error(run_main("score_images", "--checkpoint", BEST, *flags, cwd=photos_run), "--overwrite")


def test_every_image_of_another_data_set_is_scored_also_by_the_flag_of_the_training_script(photos_run, tmp_path):
    """--evaluate prints the same lines and writes the same files."""
    make_livec(tmp_path / "livec")
    data = ["--dataset", "livec", "--data_path", tmp_path / "livec", "--device", "cpu", "--no_cache"]
    checkpoint, printed = photos_run / BEST, {}
    for name, command in (
        ("old", ["train_resnet_improved", "--evaluate", checkpoint, "--evaluate_set", "all"]),
        ("new", ["score_images", "--checkpoint", checkpoint, "--set", "all"]),
    ):
        (tmp_path / name).mkdir()
        process = run_main(*command, *data, cwd=tmp_path / name)
        assert process.returncode == 0, process.stderr
        printed[name] = process.stdout.splitlines()
    assert printed["old"] == printed["new"] and printed["old"][-3].startswith("SRCC: ")
    for file in ("predictions_livec_all.csv", "evaluation_livec_all.json"):
        old, new = (tmp_path / name / "logs/evaluation_resnet_improved_ms_att_best" / file for name in ("old", "new"))
        assert old.read_bytes() == new.read_bytes()
    summary = json.loads(new.read_text())
    for line in (f"SRCC: {summary['srcc']:.4f}", f"PLCC: {summary['plcc']:.4f}", "every image of livec", "10 images"):
        assert line in process.stdout
    scores = read_scores(new.with_name("predictions_livec_all.csv"))
    assert set(scores) == {f"{i}.bmp" for i in range(1, 11)} and summary["images"] == 10


def test_an_evaluation_beside_the_runs_is_in_their_report(photos_run, tmp_path):
    shutil.copytree(photos_run / "run", tmp_path / "logs/exp3_multiscale_attention")
    make_kadid(tmp_path / "kadid")
    flags = ("--dataset", "kadid10k", "--data_path", tmp_path / "kadid")
    evaluate(photos_run / BEST, *flags, "--output_dir", tmp_path / "logs/evaluation_best")
    assert report_ablation.main([str(tmp_path / "logs"), "--draws", "1000"]) == 0
    facts, numbers = (
        json.loads((tmp_path / "logs" / name).read_text())
        for name in ("evaluation_best/evaluation_kadid10k_all.json", "report.json")
    )
    (found,) = numbers["cross_dataset"]["data_sets"]
    part = found["part"]
    assert (part["name"], part["images"], found["seen"], found["crops"]) == ("kadid10k", 30, None, facts["crops"])
    level = part["levels"]["exp3_multiscale_attention"]
    assert [level[metric]["value"] for metric in ("srcc", "plcc")] == pytest.approx(
        [facts["srcc"], facts["plcc"]], abs=1e-5
    )


@pytest.mark.parametrize(("name", "count"), [("all", 30), ("test", 6), ("val", 3)])
def test_the_set_can_be_chosen(photos_run, tmp_path, name, count):
    make_kadid(tmp_path)
    flags = f"--dataset kadid10k --set {name} --data_path {tmp_path} --output_dir {tmp_path}".split()
    evaluate(photos_run / BEST, *flags)
    assert len(read_scores(tmp_path / f"predictions_kadid10k_{name}.csv")) == count


def test_the_run_s_own_images_are_never_scored_as_if_they_were_new(photos_run, tmp_path):
    data = make_csv(tmp_path / "photos", mos="1.5")
    flags = (photos_run / BEST, "--dataset", "csv", "--output_dir", tmp_path)
    printed = evaluate(*flags, "--data_path", data)
    assert "every image of csv" in printed and "Warning: the checkpoint was trained on csv with other labels" in printed
    printed = evaluate(*flags, "--data_path", photos_run / "photos", "--set", "all", "--overwrite")
    assert "Warning: images that the checkpoint was trained on are among these" in printed


def test_a_checkpoint_of_a_data_set_that_is_unknown_is_an_error_that_names_it(photos_run, tmp_path):
    saved = torch.load(photos_run / BEST, weights_only=True)
    saved["config"]["flags"]["dataset"] = "gone"
    torch.save(saved, tmp_path / "changed.pth")
    process = run_main("score_images", *"--checkpoint changed.pth --set auto --device cpu".split(), cwd=tmp_path)
    assert_one_line_error(process, "--dataset gone: not one of koniq-10k, csv")


def test_a_resumed_run_keeps_the_split_it_began_with(photos_run, tmp_path):
    shutil.copytree(photos_run / "photos", tmp_path / "photos")
    shutil.copytree(photos_run / "after_1", tmp_path / "run")
    with open(tmp_path / "photos/labels.csv", "a") as file:
        file.writelines(f"{i}.jpg,3.3\n" for i in range(100, 120))
    process = train(*RUN_FLAGS, "--resume", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "20 of 40 images are in no set and not used" in process.stdout
    assert (tmp_path / "run/result.json").exists()
