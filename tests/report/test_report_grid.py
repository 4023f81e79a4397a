"""The report on several backbones and the published models: what is measured, what is quoted, and the gain taken apart."""

import json
import re
import shutil

import pytest
from made_up_runs import (
    DEMO,
    FIGURES,
    GRID,
    GRID_ERRORS,
    PUBLISHED,
    SEEDS,
    VARIANTS,
    lose_a_layer,
    predictions,
    refusal,
    report,
    rows_of,
    verdict_of,
    write_ablation,
    write_grid,
)
from scipy import stats

from iqa.report import grid_words as grid_words
from iqa.report import words
from iqa.report.numbers import all_comparisons


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Every row with three seeds; the effects are those of GRID_ERRORS, of which the interaction is shown."""
    folder = write_grid(
        tmp_path_factory.mktemp("grid") / "logs",
        seeds=SEEDS,
        images=1500,
        published=(9.5, 5.0),
        errors=(9.0, 9.0, 8.9, 6.5, 6.0, 4.0),
    )
    return folder, *report(folder, figures=True)


def level(folder, row):
    return stats.spearmanr(*predictions(folder / row)).statistic


# ---- numbers -------------------------------------------------------------------------------------------------


def test_every_contrast_is_that_of_the_metrics_for_each_seed(grid):
    folder, numbers, _, _ = grid
    contrasts = numbers["decomposition"][0]["contrasts"]
    for place, seed in enumerate(SEEDS):
        exp1, exp3, swin1, swin3 = (
            level(folder, f"{row}_seed{seed}")
            for row in ("exp1_baseline", "exp3_multiscale_attention", "swin1_baseline", "swin3_multiscale_attention")
        )
        for name, value in (
            ("backbone_baseline", swin1 - exp1),
            ("backbone_full", swin3 - exp3),
            ("total", swin3 - exp1),
            ("interaction", (swin3 - swin1) - (exp3 - exp1)),
        ):
            assert contrasts[name]["per_seed"][place]["srcc"] == pytest.approx(value, abs=1e-9)
            assert set(contrasts[name]["per_seed"][place]["seeds"]) == {seed}


def test_the_parts_add_up_to_the_total(grid):
    _, numbers, _, _ = grid
    parts = {name: found["srcc"]["estimate"] for name, found in numbers["decomposition"][0]["contrasts"].items()}
    method = {name: found["comparisons"]["both"]["srcc"]["estimate"] for name, found in numbers["backbones"].items()}
    assert parts["total"] == pytest.approx(parts["backbone_baseline"] + method["resnet50"] + parts["interaction"])
    assert parts["interaction"] == pytest.approx(method["swin_b"] - method["resnet50"])


def test_holms_correction_is_over_all_that_is_claimed(grid):
    _, numbers, _, _ = grid
    found = all_comparisons(numbers)
    assert len(found) == 3 + 3 + 4 + 1
    largest = max(found, key=lambda comparison: comparison["srcc"]["p_value"])
    smallest = min(found, key=lambda comparison: comparison["srcc"]["p_value"])
    assert largest["srcc"]["p_holm"] >= largest["srcc"]["p_value"]
    assert smallest["srcc"]["p_holm"] == pytest.approx(min(1, 11 * smallest["srcc"]["p_value"]))


def test_the_interval_of_one_backbone_is_that_of_its_report_alone(grid, tmp_path):
    folder, numbers, _, _ = grid
    for path in folder.glob("exp*"):
        shutil.copytree(path, tmp_path / path.name)
    alone, _, _ = report(tmp_path)
    for name, found in alone["comparisons"].items():
        beside = numbers["backbones"]["resnet50"]["comparisons"][name]
        assert {**found["srcc"], "p_holm": 0} == {**beside["srcc"], "p_holm": 0}


# ---- words ---------------------------------------------------------------------------------------------------


def test_three_seeds_tell_backbone_method_and_interaction(grid):
    _, numbers, page, tex = grid
    pair = numbers["decomposition"][0]["contrasts"]
    interaction = words.unsigned_interval(pair["interaction"]["srcc"])
    for text in (verdict_of(page), tex):
        assert f"Both ideas together do more for Swin-B than for ResNet50, by {interaction} in SRCC" in text
        assert "The Swin-B baseline improves SRCC by" in text
        assert "Multi-scale fusion with attention on Swin-B improves SRCC by" in text
        assert (
            "no difference in SRCC can be shown between multi-scale fusion with attention on ResNet50"
            in text.replace("No", "no")
        )
    assert numbers["verdict_is_about"] == [dict.fromkeys(pair, "ideas")]
    assert "| Interaction: method × backbone | " in page and "| Total: both ideas and the backbone | " in page


def test_one_seed_is_about_trained_models_in_every_sentence(tmp_path):
    numbers, page, tex = report(write_grid(tmp_path / "logs", images=1500, errors=(9.0, 9.0, 8.9, 6.5, 6.0, 4.0)))
    assert numbers["verdict_is_about"] == [dict.fromkeys(numbers["verdict_is_about"][0], "models")]
    for text in (verdict_of(page), tex):
        assert "the gain of both ideas is larger on Swin-B than on ResNet50" in text.replace("Between", "between")
        assert (
            "etween the trained models, the gain" in text and "One seed cannot tell the idea from the training." in text
        )
        assert "improves" not in text and "lowers" not in text and "do more" not in text


def test_a_sick_run_spoils_what_rests_on_it_alone(tmp_path):
    folder = write_grid(tmp_path / "logs", images=1500, seeds=SEEDS)
    lose_a_layer(folder / "swin3_multiscale_attention_seed43")
    numbers, page, tex = report(folder)
    about = numbers["verdict_is_about"][0]
    assert about == {"backbone_baseline": "ideas", "backbone_full": "sick", "interaction": "sick", "total": "sick"}
    assert numbers["decomposition"][0]["contrasts"]["interaction"]["sick"] == ["swin3_multiscale_attention_seed43"]
    for text in (verdict_of(page), tex):
        assert "on Swin-B improves" not in text and "do more" not in text and "The Swin-B baseline improves" in text
        assert "The training of multi-scale fusion with attention on Swin-B (seed 43) is not sound" in text
    assert "The total gain: not compared with the published total gain" in page


INTERVAL = {"estimate": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.01, "seeds": 3}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "both ideas together do more for S than for R, by 0.0200 [0.0100, 0.0300] in SRCC (95% interval over images and "
            "seeds; p = 0.010 after Holm's correction)",
        ),
        (
            {"estimate": -0.02, "low": -0.03, "high": -0.01},
            "both ideas together do less for S than for R, by 0.0200 [0.0100, 0.0300]",
        ),
        ({"p_holm": 0.049}, "both ideas together do more for S"),
        (
            {"p_holm": 0.05},
            "it is undecided whether the gains of both ideas on S and on R differ: the difference of the two is "
            "+0.0200 [+0.0100, +0.0300], but p = 0.050 after Holm's correction; a difference larger than 0.0300 is",
        ),
        ({"seeds": 2}, "between the trained models, the gain of both ideas is larger on S than on R, by 0.0200"),
        ({"seeds": 1, "p_holm": 0.4}, "between the trained models, it is undecided whether"),
    ],
)
def test_the_words_for_the_interaction(changes, expected):
    contrast = {"srcc": INTERVAL | changes, "identical": False, "sick": []}
    assert grid_words.interaction_sentence(contrast, "R", "S").startswith(expected)
    contrast["sick"] = ["swin1_baseline"]
    assert "do more" not in grid_words.interaction_sentence(contrast, "R", "S")


# ---- published models and figures ----------------------------------------------------------------------------


def test_measured_rows_stand_beside_published_figures_and_are_told_apart(grid):
    folder, numbers, page, tex = grid
    measured = numbers["variants"]["published_hyperiqa"]["srcc"]["estimate"]
    assert (
        f"| HyperIQA (run here) | ResNet50 | {measured:.4f} ±" in page
        and f"HyperIQA (run here) & ResNet50 & {measured:.4f}" in tex
    )
    assert "| *ResNet50 (HyperIQA, published)* | ResNet50 | *0.8998* | *0.9098* |" in page
    assert (
        f"| ResNet50 (HyperIQA, published) | 0.8998 | 0.9098 | {measured:.4f}" in page
        and "its own, as published" in page
    )
    assert r"\textit{SMART-IQA (Swin-Base, published)} & Swin-B & \textit{0.9378} & $+0.0380$" in tex
    found = numbers["published_models"]["srcc"]["estimate"]
    assert found == pytest.approx(
        sum(
            level(folder, f"published_smart_iqa_seed{seed}") - level(folder, f"published_hyperiqa_seed{seed}")
            for seed in SEEDS
        )
        / 3
    )
    assert "SMART-IQA as it was published, trained here improves SRCC" in verdict_of(page)


def test_rows_are_in_blocks_by_kind_of_backbone(grid):
    _, _, page, tex = grid
    results = page[page.index("## Results") : page.index("After the four-parameter")]
    order = [
        "**CNN-based**",
        "ResNet50 baseline |",
        "HyperIQA (run here)",
        "**Transformer-based**",
        "Swin-B baseline |",
        "SMART-IQA (run here)",
    ]
    assert [results.index(name) for name in order] == sorted(results.index(name) for name in order)
    assert (
        tex.index("CNN-based}")
        < tex.index("ResNet50 baseline &")
        < tex.index("Transformer-based}")
        < tex.index("Swin-B baseline &")
    )


def test_a_published_models_own_recipe_is_no_mismatch_and_any_other_flag_is(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs", published=(9.5, 5.0))
    report(folder)
    capsys.readouterr()
    config = json.loads((folder / "published_hyperiqa/config.json").read_text())
    for change, named in (
        ({"patch_size": 96}, "--patch_size: None in exp1_baseline"),
        ({"recipe": None}, "--lr: 0.0001 in exp1"),
    ):
        changed = config | {"flags": config["flags"] | change}
        (folder / "published_hyperiqa/config.json").write_text(json.dumps(changed))
        assert named in refusal(folder, capsys)


def test_what_belongs_to_a_backbone_is_compared_within_it(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs")
    for row in GRID[3:]:
        set_flags(folder / row, drop_path_rate=0.3, weights="swin.pth")
    report(folder)
    capsys.readouterr()
    set_flags(folder / GRID[4], drop_path_rate=0.1)
    assert "--drop_path_rate: 0.3 in swin1_baseline, swin3_multiscale_attention; 0.1 in swin2" in refusal(
        folder, capsys
    )
    for row in GRID[3:]:
        set_flags(folder / row, drop_path_rate=0.3, weights="none")
    assert "weights to start from: trained in exp1_baseline" in refusal(folder, capsys)


def set_flags(folder, **flags):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"flags": config["flags"] | flags}))


# ---- what is missing -----------------------------------------------------------------------------------------


def test_missing_rows_are_named_and_their_cells_say_so(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs", published=(9.5, 5.0))
    for row in ("swin3_multiscale_attention", "published_smart_iqa"):
        shutil.rmtree(folder / row)
    numbers, page, tex = report(folder)
    output = capsys.readouterr().out
    for row in ("swin3_multiscale_attention", "published_smart_iqa"):
        assert f"{row} is missing." in page and f"{row} is missing." in output
    assert (
        "The interaction of method and backbone cannot be told, for want of swin3_multiscale_attention."
        in verdict_of(page)
    )
    assert (
        "| Interaction: method × backbone | missing |" in page and "| SMART-IQA (run here) | Swin-B | missing |" in page
    )
    assert "+ Multi-scale + attention & Swin-B & missing & missing" in tex
    assert numbers["decomposition"][0]["contrasts"]["backbone_baseline"] and not numbers["published_models"]


def test_what_the_runner_was_asked_for_is_missed_before_it_began(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    (folder / "ablation_flags").write_text("\n\nBACKBONES=resnet50 swin_b\n--with_published\n--epochs\n3\n")
    numbers, page, _ = report(folder)
    assert numbers["missing"] == [*GRID[3:], *PUBLISHED] and "| Swin-B baseline | Swin-B | missing |" in page


def test_one_backbone_with_the_published_models_is_a_grid_without_decomposition(tmp_path):
    rows = tuple(VARIANTS)
    numbers, page, tex = report(
        write_grid(tmp_path / "logs", rows=rows, errors=(9, 8, 7), published=(9.5, 5.0)), figures=True
    )
    assert (
        numbers["decomposition"] == [] and numbers["published_models"] and "# Backbones and method: ResNet50\n" in page
    )
    assert "Interaction: method" not in page and "HyperIQA (run here)" in tex


def test_three_backbones_are_each_set_against_the_first(tmp_path):
    rows = (*GRID, *rows_of("lite", "efficientnet_lite0"))
    numbers, page, _ = report(write_grid(tmp_path / "logs", rows=rows, errors=(*GRID_ERRORS, 9, 8, 7)), figures=True)
    assert [(pair["reference"], pair["other"]) for pair in numbers["decomposition"]] == [
        ("resnet50", "efficientnet_lite0"),
        ("resnet50", "swin_b"),
    ]
    assert (
        "| Interaction: method × backbone (efficientnet_lite0) |" in page
        and "ResNet50, efficientnet_lite0 and Swin-B" in page
    )
    assert page.index("efficientnet_lite0 baseline |") < page.index("**Transformer-based**")


def test_another_data_set_is_never_compared_with_published_figures(tmp_path):
    _, page, tex = report(write_grid(tmp_path / "logs", config={"dataset_note": DEMO}))
    for text in (page, tex):
        assert (
            "demo images" in text
            and "he gain is" not in text
            and "any gain is" not in text
            and "undecided: the interval" not in text
        )


# ---- files ---------------------------------------------------------------------------------------------------


def test_figures_are_those_of_all_backbones(grid):
    folder, _, page, _ = grid
    assert {path.stem for path in (folder / "figures").iterdir()} == set(FIGURES)
    assert len(re.findall(r"^!\[", page, re.M)) == len(FIGURES)


def test_two_names_for_one_backbone_are_refused(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60, rows=tuple(rows_of("lite", "efficientnet_lite0")))
    other = folder / "net1_baseline"
    shutil.copytree(folder / "lite1_baseline", other)
    for name in ("config.json", "result.json"):
        (other / name).write_text((other / name).read_text().replace("lite1_baseline", "net1_baseline"))
    assert "lite* and net* are both of efficientnet_lite0" in refusal(folder, capsys)
