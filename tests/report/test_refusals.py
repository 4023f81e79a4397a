"""Runs that are not compared, and errors of one line."""

import shutil

import pytest
from conftest import edit_json
from made_up_runs import BASELINE, DEMO, MULTISCALE, VARIANTS, write_ablation
from read_report import level_of, predictions, refusal, report
from scipy import stats


def test_places_and_speed_are_no_mismatch(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    flags = {"data_path": "/elsewhere", "num_workers": 7, "device": "cuda:1"}
    edit_json(folder / "exp2_multiscale/config.json", flags=flags, device="NVIDIA H100")
    _, page, _ = report(folder)
    assert "differ in device: cpu in exp1_baseline, exp3_multiscale_attention; NVIDIA H100 in exp2_multiscale" in page


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config", {"flags": {"epochs": 5}}, "--epochs: 3 in exp1_baseline, exp3_multiscale_attention; 5 in exp2"),
        ("config", {"flags": {"new_flag": True}}, "--new_flag: None in exp1_baseline"),
        ("config", {"commit": "fedcba9"}, "code (commit): 0123abc in exp1"),
        ("config", {"precision": "bf16"}, "precision: fp32 in exp1"),
        ("config", {"split": {"sha256": "cd" * 32}}, "split: 7058 / 1000 / 300 images with SHA-256 abab"),
        ("config", {"dataset_note": DEMO}, "data set: as given by --dataset in exp1"),
        ("result", {"select_on": "test"}, "epoch chosen on: val in exp1"),
        ("result", {"selected_test_srcc": 0.5}, "selected_test_srcc is 0.500000 in result.json"),
        ("result", {"selected_test_srcc": "x"}, "selected_test_srcc is 'x' in result.json"),
    ],
)
def test_runs_that_differ_are_not_compared_unless_it_is_allowed(tmp_path, capsys, file, change, named):
    folder = write_ablation(tmp_path / "logs")
    edit_json(folder / "exp2_multiscale" / f"{file}.json", **change)
    error = refusal(folder, capsys)
    assert named in error and "--allow_mismatch" in error
    assert not (folder / "report.md").exists()
    if "split" in change:
        _, page, tex = report(folder, "--allow_mismatch")
        assert f"in spite of a mismatch (--allow_mismatch): {named}" in page and "in spite of a mismatch" in tex


def test_allowed_runs_with_other_test_images_are_compared_on_the_common_ones(tmp_path, capsys):
    def first_images(run, *pair):
        return (values[: 250 if run == MULTISCALE else 300] for values in pair)

    folder = write_ablation(tmp_path / "logs", change=first_images)
    assert "test images: those of exp2_multiscale are not those of exp1_baseline" in refusal(folder, capsys)
    numbers, _, _ = report(folder, "--allow_mismatch")
    assert numbers["test_images"] == 250
    mos, scores = predictions(folder / BASELINE)
    expected = stats.spearmanr(scores[:250], mos[:250]).statistic
    assert level_of(numbers, "exp1_baseline")["srcc"]["value"] == pytest.approx(expected, abs=1e-9)


def test_labels_on_another_scale_are_never_paired(tmp_path, capsys):
    folder = write_ablation(
        tmp_path / "logs", change=lambda run, mos, scores: (mos / 20 if run == MULTISCALE else mos, scores)
    )
    assert "the MOS of exp2_multiscale are not those of exp1_baseline" in refusal(folder, capsys, "--allow_mismatch")


# ---- errors --------------------------------------------------------------------------------------------------


def spoil(name, text):
    return lambda folder: (folder / "exp1_baseline" / name).write_text(text)


def change_result(**changes):
    return lambda folder: edit_json(folder / "exp1_baseline/result.json", **changes)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda folder: [shutil.rmtree(folder / variant) for variant in VARIANTS], "no finished run"),
        (spoil("result.json", '{"variant": "exp1_bas'), "exp1_baseline/result.json: not JSON"),
        (spoil("result.json", "[]"), "exp1_baseline/result.json: expected a JSON object"),
        (change_result(health=[]), "exp1_baseline/result.json: 'health' has an unknown format"),
        (change_result(health={"target_layers": ["dead"]}), "exp1_baseline/result.json: 'health' has an unknown"),
        (change_result(selected_epoch=None), "exp1_baseline/result.json: selected_epoch is None"),
        (spoil("metrics.jsonl", "[]\n"), "exp1_baseline/metrics.jsonl: line 1 does not describe an epoch"),
        (
            lambda folder: (folder / "exp1_baseline/metrics.jsonl").write_bytes("größe\n{}\n".encode("latin-1")),
            "exp1_baseline/metrics.jsonl: line 1 is not JSON",
        ),
        (spoil("config.json", "{}"), "exp1_baseline/config.json: no key 'variant'"),
        (lambda folder: (folder / "exp1_baseline/config.json").unlink(), "exp1_baseline/config.json: missing"),
        (lambda folder: (folder / "exp1_baseline/predictions_test.csv").unlink(), "predictions_test.csv: missing"),
        (spoil("predictions_test.csv", "image_name,mos\na,1\nb,2\n"), "predictions_test.csv: no column 'score'"),
        (lambda folder: (folder / "exp2_multiscale").rename(folder / "exp1_baseline_seed7"), "is 'exp2_multiscale'"),
        (lambda folder: shutil.copytree(folder / "exp1_baseline", folder / "exp1_baseline_seed42"), "with seed 42"),
    ],
)
def test_a_fault_of_the_files_is_one_line_that_names_the_file(tmp_path, capsys, damage, named):
    folder = write_ablation(tmp_path / "logs", images=30)
    damage(folder)
    error = refusal(folder, capsys)
    assert named in error and str(folder) in error
