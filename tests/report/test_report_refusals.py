"""What the report warns of, what it does not compare, and errors of one line."""

import json
import re
import shutil

import pytest
from made_up_runs import DEMO, VARIANTS, make_scores, refusal, report, verdict_of, write_ablation, write_run
from scipy import stats


def test_the_demo_is_never_taken_for_koniq(tmp_path, capsys):
    _, page, tex = report(write_ablation(tmp_path / "logs", config={"dataset_note": DEMO}))
    assert DEMO in page.split("\n\n")[1] and page.index(DEMO) < page.index("SRCC")
    assert "demo images" in re.search(r"\\caption\{(.*)\}", tex)[1] and "demo images" in capsys.readouterr().out
    assert "The gain is" not in page + tex and "any gain is" not in page + tex


def test_a_choice_on_the_test_set_is_called_optimistic(tmp_path):
    _, page, tex = report(write_ablation(tmp_path / "logs", result={"select_on": "test"}))
    assert "chosen on the test images themselves" in page and "the test images, which is optimistic" in tex


def test_a_missing_and_an_unfinished_variant_are_named(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs")
    shutil.rmtree(folder / "exp2_multiscale")
    (folder / "exp3_multiscale_attention" / "result.json").unlink()
    numbers, page, tex = report(folder)
    output = capsys.readouterr().out
    for text in (page, output):
        assert "exp2_multiscale is missing." in text
        assert "exp3_multiscale_attention is unfinished" in text
    assert "| + Multi-scale | missing | missing | missing | missing |" in output
    assert "+ Multi-scale & missing & missing" in tex and "is missing" in verdict_of(page)


def test_places_and_speed_are_no_mismatch(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    config = json.loads((folder / "exp2_multiscale/config.json").read_text())
    config["flags"] |= {"data_path": "/elsewhere", "num_workers": 7, "device": "cuda:1"}
    config["device"] = "NVIDIA H100"
    (folder / "exp2_multiscale/config.json").write_text(json.dumps(config))
    _, page, _ = report(folder)
    assert "should hardly matter: device: cpu in exp1_baseline, exp3_multiscale_attention; NVIDIA H100 in exp2" in page


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
        ({"seed": 43}, "seeds: 42 for exp1_baseline; 43 for exp2_multiscale"),
        ({"result": {"select_on": "test"}}, "epoch chosen on: val in exp1"),
        ({"result": {"selected_test_srcc": 0.5}}, "result.json says selected_test_srcc 0.500000"),
    ],
)
def test_runs_that_differ_are_not_compared_unless_it_is_allowed(tmp_path, capsys, change, named):
    mos, scores = make_scores(300, (8, 7, 6))
    for variant, predicted in zip(VARIANTS, scores, strict=True):
        write_run(tmp_path, variant, mos, predicted, **(change if variant == "exp2_multiscale" else {}))
    error = refusal(tmp_path, capsys)
    assert named in error and "--allow_mismatch" in error
    assert not (tmp_path / "report.md").exists()
    if "seed" in change or "config" in change and "split" in change["config"]:
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
    assert numbers["variants"]["exp1_baseline"]["srcc"]["estimate"] == pytest.approx(expected, abs=1e-9)


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
        (change_result(health=[]), "exp1_baseline/result.json: 'health' is not as"),
        (change_result(health={"target_layers": ["dead"]}), "exp1_baseline/result.json: 'health' is not as"),
        (change_result(health={"loss": {"training": "9"}}), "exp1_baseline/result.json: 'health' is not as"),
        (change_result(selected_epoch=None), "exp1_baseline/result.json: selected_epoch is None"),
        (spoil("metrics.jsonl", "[]\n"), "exp1_baseline/metrics.jsonl: line 1 is not that of an epoch"),
        (spoil("config.json", "{}"), "exp1_baseline/config.json: no key 'variant'"),
        (lambda folder: (folder / "exp1_baseline/config.json").unlink(), "exp1_baseline/config.json: missing"),
        (lambda folder: (folder / "exp1_baseline/predictions_test.csv").unlink(), "predictions_test.csv: missing"),
        (spoil("predictions_test.csv", "image_name,mos\na,1\nb,2\n"), "predictions_test.csv: no column 'score'"),
        (spoil("predictions_test.csv", "image_name,mos,score\na,1,7\nb,2,7\n"), "csv: scores: all 2 are 7"),
        (
            spoil("predictions_test.csv", "image_name,mos,score\na,1,x\nb,2,7\n"),
            "csv: could not convert string to float",
        ),
        (spoil("predictions_test.csv", "image_name,mos,score\na,1,nan\nb,2,7\n"), "csv: scores: 1 of 2 values are not"),
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
    assert "its MOS are not those of exp1_baseline" in refusal(tmp_path, capsys, "--allow_mismatch")
