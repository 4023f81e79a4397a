"""Evaluations on other data sets in the report: which belong to it, and their numbers."""

import json
import re
import shutil

import pytest
from conftest import edit_json
from made_up_runs import FULL, SEEDS, VARIANTS, make_scores, write_ablation, write_grid, write_predictions
from read_report import difference_of, interval, refusal, report, section_of
from scipy import stats

CROPS = "25 grid crops of 224 pixels"
TITLE = "Other data sets"


def write_evaluation(run_folder, mos, scores, *, dataset="livec", chosen="all", where=None, sha256="cd" * 32, **facts):
    """What train_resnet_improved.py --evaluate leaves of a run; the scores need not be on the scale of the MOS."""
    config, result = (json.loads((run_folder / f"{name}.json").read_text()) for name in ("config", "result"))
    folder = where or run_folder.parent / f"evaluation_{run_folder.name}_best"
    folder.mkdir(exist_ok=True)
    write_predictions(folder / f"predictions_{dataset}_{chosen}.csv", mos, scores, attention=False)
    facts = {
        "checkpoint": f"checkpoints/{run_folder.name}_best.pth",
        "run_id": config["run_id"],
        "seed": result["seed"],
        "variant": config["variant"],
        "epoch": result["selected_epoch"],
        "trained_on": {"dataset": "koniq-10k", "split": config["split"]},
        "dataset": dataset,
        "split": {"test": 9, "sha256": sha256, "from": "drawn"},
        "set": chosen,
        "crops": CROPS,
        "precision": "fp32",
        **facts,
    }
    (folder / f"evaluation_{dataset}_{chosen}.json").write_text(json.dumps(facts))
    return folder


def evaluate_all(folder, errors, *, images=250, seed=9, runs=None, **more):
    """An evaluation of every run of a log folder; as many errors as runs."""
    runs = runs or sorted(path.parent for path in folder.glob("*/result.json"))
    mos, scores = make_scores(images, errors, seed=seed)
    for run, predicted in zip(runs, scores, strict=True):
        write_evaluation(run, mos, predicted / 20, **more)
    return mos, dict(zip((run.name for run in runs), scores, strict=True))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Runs whose full variant is clearly better, there and on two other data sets, with their report."""
    folder = write_ablation(tmp_path_factory.mktemp("evaluated") / "logs", errors=(9.0, 8.9, 5.0))
    known = evaluate_all(folder, (12.0, 11.9, 5.0))
    evaluate_all(folder, (12.0, 11.9, 5.0), dataset="bid", seed=4)
    return folder, known, *report(folder)


def parts_of(numbers):
    return [found["part"] for found in numbers["cross_dataset"]["data_sets"]]


def test_the_correlations_on_every_data_set_are_those_of_its_predictions(evaluated):
    _, (mos, scores), numbers, page, tex = evaluated
    parts, shown = parts_of(numbers), section_of(page, TITLE)
    assert [(part["name"], part["images"]) for part in parts] == [("bid", 250), ("livec", 250)]
    levels = {}
    for variant in VARIANTS:
        for metric, function in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
            found = parts[1]["levels"][variant][metric]
            levels[metric, variant] = function(scores[variant], mos).statistic
            assert found["value"] == pytest.approx(levels[metric, variant], abs=1e-9)
            assert f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]" in shown
        assert f"{levels['srcc', variant]:.4f} [" in tex
    assert "bid (250) & livec (250)" in tex and CROPS in shown
    both = difference_of(parts[1], "both")
    assert both["srcc"]["value"] == pytest.approx(levels["srcc", FULL] - levels["srcc", "exp1_baseline"])
    assert both["verdict"] is both["p_adjusted"] is None and interval(both["srcc"]) in shown
    assert "Order by SRCC on livec: + Multi-scale + attention, then" in shown
    assert "exploratory" in shown


def test_several_seeds_and_missing_runs(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8, 5), seeds=SEEDS)
    mos, scores = evaluate_all(folder, [12] * 3 + [10] * 3 + [5] * 3)
    for run in ("exp2_multiscale_seed42", "exp2_multiscale_seed43", "exp2_multiscale_seed44", f"{FULL}_seed43"):
        shutil.rmtree(folder / f"evaluation_{run}_best")
    numbers, page, _ = report(folder)
    (part,) = parts_of(numbers)
    assert part["levels"]["exp2_multiscale"] is None and difference_of(part, "multiscale") is None
    mean = {
        variant: sum(stats.spearmanr(scores[f"{variant}_seed{seed}"], mos).statistic for seed in seeds) / len(seeds)
        for variant, seeds in (("exp1_baseline", SEEDS), (FULL, (42, 44)))
    }
    both = difference_of(part, "both")["srcc"]
    assert both["seeds"] == [2, 3] and both["value"] == pytest.approx(mean[FULL] - mean["exp1_baseline"])
    assert "Not evaluated on livec: exp2_multiscale_seed42" in page
    assert "| + Multi-scale | missing |" in section_of(page, TITLE)


@pytest.mark.parametrize(
    ("facts", "name", "said"),
    [
        ({"dataset": "koniq-10k", "sha256": "ab" * 32}, "koniq-10k", "trained on some of these images"),
        ({"dataset": "koniq-10k", "chosen": "test", "sha256": "ab" * 32}, "koniq-10k, test set", "the test images of"),
        ({"dataset": "koniq-10k", "chosen": "val", "sha256": "ab" * 32}, "koniq-10k, val set", "epochs were chosen on"),
        ({"dataset": "koniq-10k"}, "koniq-10k", "with other labels or another split"),
    ],
)
def test_images_that_the_models_may_have_seen_are_said_to_be_such(tmp_path, facts, name, said):
    folder = write_ablation(tmp_path / "logs", images=60, errors=(9, 8.9, 5))
    evaluate_all(folder, (12, 11.9, 5), images=60, **facts)
    _, page, _ = report(folder)
    assert re.search(f"{name} is not new to the models: .*{said}", section_of(page, TITLE))


def test_folders_can_be_named_and_those_of_other_runs_are_refused_there(tmp_path, capsys):
    folder, other = (write_ablation(tmp_path / name, images=60) for name in ("logs", "other"))
    mos, scores = make_scores(60, (9, 8, 7))
    places = [
        write_evaluation(folder / variant, mos, predicted, where=tmp_path / f"evaluation_{variant}")
        for variant, predicted in zip(VARIANTS, scores, strict=True)
    ]
    edit_json(other / "exp1_baseline/config.json", run_id="another")
    stray = write_evaluation(other / "exp1_baseline", mos, scores[0], where=folder / "evaluation_stray")
    numbers, page, _ = report(folder, *map(str, places))
    assert len(numbers["cross_dataset"]["data_sets"][0]["files"]) == 3
    line = "livec_all.json: its checkpoint checkpoints/exp1_baseline_best.pth belongs to no run in this report"
    assert f"{line}; left out." in section_of(page, TITLE)
    assert line in refusal(folder, capsys, str(stray))
    assert "nowhere: no evaluation_*.json" in refusal(folder, capsys, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epoch": 3}, "evaluates epoch 3 of exp1_baseline, not its chosen epoch 2; use its _best.pth"),
        ({"run_id": None}, "belongs to no run in this report"),
    ],
)
def test_other_weights_of_a_run_are_left_out_and_named(tmp_path, change, named):
    folder = write_ablation(tmp_path / "logs", images=60)
    evaluate_all(folder, (9, 8, 7), images=60)
    edit_json(folder / "evaluation_exp1_baseline_best/evaluation_livec_all.json", **change)
    _, page, _ = report(folder)
    assert named in section_of(page, TITLE) and "Not evaluated on livec: exp1_baseline." in page


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"crops": "9 grid crops"}, f"livec: crops: {CROPS} in exp1_baseline, exp2_multiscale; 9 grid crops"),
        ({"precision": "bf16"}, "livec: precision: fp32 in exp1_baseline, exp2_multiscale; bf16 in exp3"),
    ],
)
def test_evaluations_that_differ_are_compared_only_if_it_is_allowed(tmp_path, capsys, change, named):
    folder = write_ablation(tmp_path / "logs", images=60)
    evaluate_all(folder, (9, 8, 7), images=60)
    edit_json(folder / f"evaluation_{FULL}_best/evaluation_livec_all.json", **change)
    error = refusal(folder, capsys)
    assert named in error and "--allow_mismatch" in error
    assert f"(--allow_mismatch): {named}" in section_of(report(folder, "--allow_mismatch")[1], TITLE)


def test_random_crops_of_each_run_s_own_seed_are_alike(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60, seeds=SEEDS)
    mos, scores = make_scores(60, [9] * 9)
    for run, predicted in zip(sorted(path.parent for path in folder.glob("*/result.json")), scores, strict=True):
        write_evaluation(run, mos, predicted, crops=f"25 random crops of seed {run.name[-2:]} of 224 pixels")
    assert report(folder)[0]["cross_dataset"]["mismatches"] == []


def test_other_images_are_cut_to_the_common_ones_and_other_mos_refused(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60)
    mos, scores = evaluate_all(folder, (9, 8, 7), images=60)
    write_evaluation(folder / FULL, mos[:50], scores[FULL][:50])
    assert f"livec: the images of {FULL} are not those of exp1_baseline" in refusal(folder, capsys)
    (part,) = parts_of(report(folder, "--allow_mismatch")[0])
    expected = stats.spearmanr(scores["exp1_baseline"][:50], mos[:50]).statistic
    assert part["images"] == 50 and part["levels"]["exp1_baseline"]["srcc"]["value"] == pytest.approx(expected)
    write_evaluation(folder / FULL, mos + 1, scores[FULL])
    assert f"the MOS of {FULL} are not those of exp1_baseline" in refusal(folder, capsys)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "evaluation_livec_all.json").write_text("{"), "evaluation_livec_all.json: not JSON"),
        (lambda folder: (folder / "evaluation_livec_all.json").write_text("{}"), "no key 'run_id'; evaluate again"),
        (lambda folder: (folder / "predictions_livec_all.csv").unlink(), "predictions_livec_all.csv: missing"),
        (lambda folder: shutil.copytree(folder, folder.parent / "evaluation_twice"), "both are of exp1_baseline on"),
    ],
)
def test_a_fault_of_the_files_is_one_line_that_names_the_file(tmp_path, capsys, damage, named):
    folder = write_ablation(tmp_path / "logs", images=30)
    evaluate_all(folder, (9, 8, 7), images=30)
    damage(folder / "evaluation_exp1_baseline_best")
    assert named in refusal(folder, capsys) and not (folder / "report.md").exists()


def test_too_few_images_have_no_numbers(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8.9, 5))
    evaluate_all(folder, (12, 11, 5), images=10, dataset="bid")
    _, page, _ = report(folder)
    assert "bid (10 images) has no numbers: fewer than 20 images." in section_of(page, TITLE)


def test_a_grid_on_another_data_set(tmp_path):
    folder = write_grid(tmp_path / "logs")
    runs = sorted(path.parent for path in folder.glob("*/result.json"))
    evaluate_all(folder, (9, 8.9, 8, 6.5, 6, 3), runs=runs)
    numbers, page, tex = report(folder)
    assert difference_of(parts_of(numbers)[0], "swin_b.interaction") and "livec (250)" in tex
    assert "Interaction" in section_of(page, TITLE)
