"""Runs that are not compared, and errors of one line."""

import json
import shutil

import pytest
from made_up_runs import DEMO, VARIANTS, level_of, make_scores, refusal, report, write_ablation, write_run
from scipy import stats


def test_places_and_speed_are_no_mismatch(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    config = json.loads((folder / "exp2_multiscale/config.json").read_text())
    config["flags"] |= {"data_path": "/elsewhere", "num_workers": 7, "device": "cuda:1"}
    config["device"] = "NVIDIA H100"
    (folder / "exp2_multiscale/config.json").write_text(json.dumps(config))
    _, page, _ = report(folder)
    assert "differ in device: cpu in exp1_baseline, exp3_multiscale_attention; NVIDIA H100 in exp2_multiscale" in page


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"flags": {"epochs": 5}}, "--epochs: 3 in exp1_baseline, exp3_multiscale_attention; 5 in exp2_multiscale"),
        ({"flags": {"new_flag": True}}, "--new_flag: None in exp1_baseline"),
        ({"config": {"commit": "fedcba9"}}, "code (commit): 0123abc in exp1"),
        ({"config": {"precision": "bf16"}}, "precision: fp32 in exp1"),
        (
            {"config": {"split": {"training": 9, "validation": 1, "test": 300, "sha256": "cd" * 32}}},
            "split: 7058 / 1000",
        ),
        ({"config": {"dataset_note": DEMO}}, "data set: as given by --dataset in exp1"),
        ({"result": {"select_on": "test"}}, "epoch chosen on: val in exp1"),
        ({"result": {"selected_test_srcc": 0.5}}, "selected_test_srcc is 0.500000 in result.json"),
    ],
)
def test_runs_that_differ_are_not_compared_unless_it_is_allowed(tmp_path, capsys, change, named):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, mos, predicted, **(change if variant == "exp2_multiscale" else {}))
    error = refusal(tmp_path, capsys)
    assert named in error and "--allow_mismatch" in error
    assert not (tmp_path / "report.md").exists()
    if "config" in change and "split" in change["config"]:
        _, page, tex = report(tmp_path, "--allow_mismatch")
        assert f"in spite of a mismatch (--allow_mismatch): {named}" in page and "in spite of a mismatch" in tex


def test_allowed_runs_with_other_test_images_are_compared_on_the_common_ones(tmp_path, capsys):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        count = 250 if variant == "exp2_multiscale" else 300
        write_run(tmp_path, variant, mos[:count], predicted[:count])
    assert "test images: those of exp2_multiscale are not those of exp1_baseline" in refusal(tmp_path, capsys)
    numbers, _, _ = report(tmp_path, "--allow_mismatch")
    assert numbers["test_images"] == 250
    expected = stats.spearmanr(scores[0][:250], mos[:250]).statistic
    assert level_of(numbers, "exp1_baseline")["srcc"]["value"] == pytest.approx(expected, abs=1e-9)


# ---- errors --------------------------------------------------------------------------------------------------


def spoil(name, text):
    return lambda folder: (folder / "exp1_baseline" / name).write_text(text)


def change_result(**changes):
    def damage(folder):
        path = folder / "exp1_baseline" / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda folder: [shutil.rmtree(folder / variant) for variant in VARIANTS], "no finished run"),
        (spoil("result.json", '{"variant": "exp1_bas'), "exp1_baseline/result.json: not JSON"),
        (spoil("result.json", "[]"), "exp1_baseline/result.json: expected a JSON object"),
        (change_result(health=[]), "exp1_baseline/result.json: 'health' has an unknown format"),
        (
            change_result(health={"target_layers": ["dead"]}),
            "exp1_baseline/result.json: 'health' has an unknown format",
        ),
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
        (
            spoil("predictions_test.csv", "image_name,mos,score\na,1,x\nb,2,7\n"),
            "csv: could not convert string to float",
        ),
        (spoil("predictions_test.csv", "image_name,mos,score\na,nan,1\nb,2,7\n"), "csv: mos: 1 of 2 values are not"),
        (spoil("predictions_test.csv", "image_name,mos,score\na,1,3\na,2,7\n"), "csv: an image is named twice"),
        (lambda folder: (folder / "exp2_multiscale").rename(folder / "exp1_baseline_seed7"), "is 'exp2_multiscale'"),
        (lambda folder: shutil.copytree(folder / "exp1_baseline", folder / "exp1_baseline_seed42"), "with seed 42"),
    ],
)
def test_a_fault_of_the_files_is_one_line_that_names_the_file(tmp_path, capsys, damage, named):
    folder = write_ablation(tmp_path / "logs", images=30)
    damage(folder)
    error = refusal(folder, capsys)
    assert named in error and str(folder) in error


def test_labels_on_another_scale_are_never_paired(tmp_path, capsys):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, mos / 20 if variant == "exp2_multiscale" else mos, predicted)
    assert "the MOS of exp2_multiscale are not those of exp1_baseline" in refusal(tmp_path, capsys, "--allow_mismatch")
