"""Evaluations on other data sets in the report: which belong to it, their numbers, and what is said of the order."""

import json
import re
import shutil

import numpy as np
import pytest
from made_up_runs import SEEDS, VARIANTS, make_scores, refusal, report, write_ablation, write_grid, write_predictions
from scipy import stats

from iqa.report import words

FULL = "exp3_multiscale_attention"
CROPS = "25 grid crops of 224 pixels"


def write_evaluation(run_folder, mos, scores, *, dataset="livec", chosen="all", where=None, sha256="cd" * 32, **facts):
    """What train_resnet_improved.py --evaluate leaves of a run; the scores need not be on the scale of the MOS."""
    config, result = (json.loads((run_folder / f"{name}.json").read_text()) for name in ("config", "result"))
    folder = where or run_folder.parent / f"evaluation_{run_folder.name}_best"
    folder.mkdir(exist_ok=True)
    write_predictions(folder / f"predictions_{dataset}_{chosen}.csv", mos, scores, attention=False)
    (folder / f"evaluation_{dataset}_{chosen}.json").write_text(
        json.dumps(
            {
                "checkpoint": f"checkpoints/{run_folder.name}_best.pth",
                "run_id": config["run_id"],
                "seed": result["seed"],
                "variant": config["variant"],
                "epoch": result["selected_epoch"],
                "trained_on": {"dataset": "koniq-10k", "split": config["split"]},
                "dataset": dataset,
                "data_path": "elsewhere",
                "split": {"test": 9, "sha256": sha256, "from": "drawn"},
                "set": chosen,
                "images": len(mos),
                "crops": CROPS,
                "device": "cpu",
                "precision": "fp32",
                "srcc": 0.5,
                "plcc": 0.5,
                **facts,
            }
        )
    )
    return folder


def evaluate_all(folder, errors, *, images=250, seed=9, runs=None, **more):
    """An evaluation of every run of a log folder; as many errors as runs."""
    runs = runs or sorted(path.parent for path in folder.glob("*/result.json"))
    mos, scores = make_scores(images, errors, seed=seed)
    for run, predicted in zip(runs, scores, strict=True):
        write_evaluation(run, mos, predicted / 20, **more)
    return mos, dict(zip((run.name for run in runs), scores, strict=True))


def section_of(page):
    return page[page.index("## Other data sets") :].split("\n## ")[0]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Runs whose full variant is clearly better, there and on two other data sets, with their report."""
    folder = write_ablation(tmp_path_factory.mktemp("evaluated") / "logs", errors=(9.0, 8.9, 5.0))
    known = evaluate_all(folder, (12.0, 11.9, 5.0))
    evaluate_all(folder, (12.0, 11.9, 5.0), dataset="bid", seed=4)
    return folder, known, *report(folder)


def test_the_correlations_on_every_data_set_are_those_of_its_predictions(evaluated):
    _, (mos, scores), numbers, page, tex = evaluated
    parts = numbers["elsewhere"]["parts"]
    assert [(part["name"], part["test_images"]) for part in parts] == [("bid", 250), ("livec", 250)]
    for variant in VARIANTS:
        for metric, function in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
            found = parts[1]["variants"][variant][metric]
            assert found["estimate"] == pytest.approx(function(scores[variant], mos).statistic, abs=1e-9)
            assert found["low"] < found["estimate"] < found["high"] and words.level(found) in section_of(page)
        assert words.level(parts[1]["variants"][variant]["srcc"]) in tex
    assert "bid (250) & livec (250)" in tex and CROPS in section_of(page)


def test_differences_are_paired_and_corrected_over_all_data_sets(evaluated):
    _, (mos, scores), numbers, page, _ = evaluated
    comparisons = [c for part in numbers["elsewhere"]["parts"] for c in part["comparisons"].values()]
    assert len(comparisons) == 6
    both = numbers["elsewhere"]["parts"][1]["comparisons"]["both"]["srcc"]
    levels = [stats.spearmanr(scores[variant], mos).statistic for variant in ("exp1_baseline", FULL)]
    assert both["estimate"] == pytest.approx(levels[1] - levels[0]) and words.with_interval(both) in section_of(page)
    p_values, corrected = ([c["srcc"][key] for c in comparisons] for key in ("p_value", "p_holm"))
    assert min(corrected) == pytest.approx(6 * min(p_values))


def test_an_order_that_holds_is_said_to_of_the_trained_models(evaluated, capsys):
    _, _, numbers, page, tex = evaluated
    (order,) = numbers["elsewhere"]["order"]
    assert order["reading"] == "holds" and order["fates"]["both"] == {"bid": "holds", "livec": "holds"}
    sentence = "The order of the variants holds outside the training data: of the differences shown on the test images"
    assert sentence in section_of(page) and sentence in tex
    assert "This is said of the trained models, not of the ideas." in order[
        "sentence"
    ] and "improves" not in section_of(page)
    assert "On livec: the two trained models differ: multi-scale fusion with attention" in section_of(page)


@pytest.mark.parametrize(
    ("errors", "elsewhere", "reading", "said"),
    [
        ((9, 8.9, 5), (5, 5.1, 12), "does not hold", "both is reversed on livec"),
        ((9, 8.9, 5), (8, 8.0, 8), "not shown", "both is not shown on livec"),
        ((7, 7, 7), (12, 8, 5), "nothing to hold", "so there is no order that could hold"),
        ((12, 7, 4), (12, 7, 7), "holds in part", "attention on top is not shown on livec"),
    ],
)
def test_an_order_that_does_not_hold_is_told_as_such(tmp_path, errors, elsewhere, reading, said):
    folder = write_ablation(tmp_path / "logs", errors=errors)
    evaluate_all(folder, elsewhere)
    numbers, page, _ = report(folder)
    (order,) = numbers["elsewhere"]["order"]
    assert order["reading"] == reading and said in order["sentence"] and order["sentence"] in section_of(page)
    assert "By the estimates of SRCC alone" in order["sentence"]


def test_several_seeds_are_paired_and_a_missing_run_is_named(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8, 5), seeds=SEEDS)
    mos, scores = evaluate_all(folder, [12] * 3 + [10] * 3 + [5] * 3)
    numbers, page, _ = report(folder)
    (part,) = numbers["elsewhere"]["parts"]
    for seed, found in zip(SEEDS, part["comparisons"]["both"]["per_seed"], strict=True):
        levels = [
            stats.spearmanr(scores[f"{variant}_seed{seed}"], mos).statistic for variant in ("exp1_baseline", FULL)
        ]
        assert found["srcc"] == pytest.approx(levels[1] - levels[0])
    assert "(n = 3)" in section_of(page) and "multi-scale fusion with attention improves SRCC by" in section_of(page)
    assert "said of the trained models" not in section_of(page)
    for run in ("exp2_multiscale_seed42", "exp2_multiscale_seed43", "exp2_multiscale_seed44", f"{FULL}_seed43"):
        shutil.rmtree(folder / f"evaluation_{run}_best")
    numbers, page, _ = report(folder)
    (part,) = numbers["elsewhere"]["parts"]
    assert part["missing"] == ["exp2_multiscale"] and part["comparisons"]["multiscale"] is None
    assert [found["seeds"] for found in part["comparisons"]["both"]["per_seed"]] == [[42, 42], [44, 44]]
    assert (
        f"Not evaluated on livec: exp2_multiscale_seed42, exp2_multiscale_seed43, exp2_multiscale_seed44, {FULL}_seed43."
        in page
    )
    assert "| + Multi-scale | missing |" in section_of(page) and "cannot be told on livec" in section_of(page)


@pytest.mark.parametrize(
    ("facts", "name", "said"),
    [
        ({"dataset": "koniq-10k", "sha256": "ab" * 32}, "koniq-10k", "the models were trained on some of these images"),
        (
            {"dataset": "koniq-10k", "chosen": "test", "sha256": "ab" * 32},
            "koniq-10k, test set",
            "the test images of this report itself",
        ),
        (
            {"dataset": "koniq-10k", "chosen": "val", "sha256": "ab" * 32},
            "koniq-10k, val set",
            "the epochs were chosen on",
        ),
        (
            {"dataset": "koniq-10k"},
            "koniq-10k",
            "with other labels or another split, and may have been trained on some",
        ),
    ],
)
def test_images_that_the_models_may_have_seen_are_no_evidence_elsewhere(tmp_path, facts, name, said):
    folder = write_ablation(tmp_path / "logs", images=60, errors=(9, 8.9, 5))
    evaluate_all(folder, (12, 11.9, 5), images=60, **facts)
    numbers, page, _ = report(folder)
    assert re.search(f"{name} does not lie outside the training data: .*{said}", section_of(page))
    assert numbers["elsewhere"]["order"][0]["reading"] == "not measured"


def test_folders_can_be_named_and_what_is_of_another_run_is_refused_there(tmp_path, capsys):
    folder, other = (write_ablation(tmp_path / name, images=60) for name in ("logs", "other"))
    mos, scores = make_scores(60, (9, 8, 7))
    places = [
        write_evaluation(folder / variant, mos, predicted, where=tmp_path / f"evaluation_{variant}")
        for variant, predicted in zip(VARIANTS, scores, strict=True)
    ]
    numbers, page, _ = report(folder, *map(str, places))
    assert len(numbers["elsewhere"]["parts"][0]["files"]) == 3 and "## Other data sets" in page
    config = json.loads((other / "exp1_baseline/config.json").read_text())
    (other / "exp1_baseline/config.json").write_text(json.dumps(config | {"run_id": "another"}))
    stray = write_evaluation(other / "exp1_baseline", mos, scores[0], where=folder / "evaluation_stray")
    numbers, page, _ = report(folder, *map(str, places))
    assert len(numbers["elsewhere"]["parts"][0]["files"]) == 3
    line = "evaluation_livec_all.json: of checkpoints/exp1_baseline_best.pth, a checkpoint of no run in this report"
    assert f"{line}; left out." in section_of(page)
    capsys.readouterr()
    assert line in refusal(folder, capsys, str(stray))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epoch": 3}, "of epoch 3 of exp1_baseline, whose chosen epoch is 2: evaluate its _best.pth"),
        ({"run_id": None}, "a checkpoint of no run in this report"),
    ],
)
def test_other_weights_of_a_run_are_left_out_and_named(tmp_path, change, named):
    folder = write_ablation(tmp_path / "logs", images=60)
    evaluate_all(folder, (9, 8, 7), images=60)
    path = folder / "evaluation_exp1_baseline_best/evaluation_livec_all.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    numbers, page, _ = report(folder)
    assert named in section_of(page) and "Not evaluated on livec: exp1_baseline." in page
    path.unlink()
    assert "evaluation_exp1_baseline_best: no evaluation_*.json" in section_of(report(folder)[1])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"crops": "9 grid crops of 224 pixels"},
            f"livec: crops: {CROPS} in exp1_baseline, exp2_multiscale; 9 grid crops of 224",
        ),
        ({"precision": "bf16"}, "livec: precision: fp32 in exp1_baseline, exp2_multiscale; bf16 in exp3"),
    ],
)
def test_evaluations_that_differ_are_compared_only_where_it_is_allowed(tmp_path, capsys, change, named):
    folder = write_ablation(tmp_path / "logs", images=60)
    evaluate_all(folder, (9, 8, 7), images=60)
    path = folder / f"evaluation_{FULL}_best/evaluation_livec_all.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    error = refusal(folder, capsys)
    assert named in error and "--allow_mismatch" in error
    assert f"in spite of a mismatch (--allow_mismatch): {named}" in section_of(report(folder, "--allow_mismatch")[1])


def test_random_crops_of_each_run_s_own_seed_are_alike(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60, seeds=SEEDS)
    mos, scores = make_scores(60, [9] * 9)
    for run, predicted in zip(sorted(path.parent for path in folder.glob("*/result.json")), scores, strict=True):
        write_evaluation(run, mos, predicted, crops=f"25 random crops of seed {run.name[-2:]} of 224 pixels")
    assert report(folder)[0]["elsewhere"]["mismatches"] == []


def test_other_images_are_cut_to_the_common_ones_and_other_mos_refused(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60)
    mos, scores = evaluate_all(folder, (9, 8, 7), images=60)
    write_evaluation(folder / FULL, mos[:50], scores[FULL][:50])
    assert "livec: the images of exp3_multiscale_attention are not those of exp1_baseline" in refusal(folder, capsys)
    (part,) = report(folder, "--allow_mismatch")[0]["elsewhere"]["parts"]
    assert part["test_images"] == 50
    assert part["variants"]["exp1_baseline"]["srcc"]["estimate"] == pytest.approx(
        stats.spearmanr(scores["exp1_baseline"][:50], mos[:50]).statistic
    )
    write_evaluation(folder / FULL, mos + 1, scores[FULL])
    capsys.readouterr()
    assert "predictions_livec_all.csv: its MOS are not those of" in refusal(folder, capsys)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "evaluation_livec_all.json").write_text("{"), "evaluation_livec_all.json: not JSON"),
        (
            lambda folder: (folder / "evaluation_livec_all.json").write_text("{}"),
            "no key 'run_id'; evaluate again with --overwrite",
        ),
        (lambda folder: (folder / "predictions_livec_all.csv").unlink(), "predictions_livec_all.csv: missing"),
        (
            lambda folder: (folder / "predictions_livec_all.csv").write_text("image_name,mos\na,1\n"),
            "no column 'score'",
        ),
        (
            lambda folder: shutil.copytree(folder, folder.parent / "evaluation_twice"),
            "both are of exp1_baseline on livec all",
        ),
    ],
)
def test_a_fault_of_the_files_is_one_line_that_names_the_file(tmp_path, capsys, damage, named):
    folder = write_ablation(tmp_path / "logs", images=30)
    evaluate_all(folder, (9, 8, 7), images=30)
    damage(folder / "evaluation_exp1_baseline_best")
    assert named in refusal(folder, capsys) and not (folder / "report.md").exists()


def test_a_folder_that_is_none_of_an_evaluation_is_refused(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=30)
    assert "nowhere: no evaluation_*.json" in refusal(folder, capsys, str(tmp_path / "nowhere"))


def test_too_few_images_have_no_numbers_and_a_sick_run_makes_it_a_comparison_of_trainings(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8.9, 5))
    evaluate_all(folder, (12, 11, 5), images=10, dataset="bid")
    evaluate_all(folder, (12, 11.9, 5))
    path = folder / FULL / "predictions_test.csv"
    rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    write_predictions(path, rows["mos"], np.maximum(rows["score"], 55), attention=True)
    _, page, _ = report(folder, "--allow_mismatch")
    assert "bid (10 images) has no numbers: fewer than 20 images." in section_of(page)
    assert "(a run is not sound)" in section_of(page)


def test_a_grid_has_an_order_of_each_backbone(tmp_path):
    folder = write_grid(tmp_path / "logs")
    runs = sorted(path.parent for path in folder.glob("*/result.json"))
    evaluate_all(folder, (9, 8.9, 8, 6.5, 6, 3), runs=runs)
    numbers, page, tex = report(folder)
    assert [order["elsewhere"]["livec"][0] for order in numbers["elsewhere"]["order"]] == [
        FULL,
        "swin3_multiscale_attention",
    ]
    assert "The order of the variants on Swin-B holds outside the training data" in section_of(page)
    assert "Interaction: method × backbone" in section_of(page) and "livec (250)" in tex
