"""The report on several backbones and the published models: the gain taken apart, and which rows there are."""

import shutil

import numpy as np
import pytest
from conftest import edit_json
from made_up_runs import FULL, GRID, GRID_ERRORS, PUBLISHED, SEEDS, rows_of, write_ablation, write_grid
from read_report import difference_of, level_of, refusal, report, section_of, srcc_of

from iqa.report.rows import CNN, TRANSFORMER, find_grid, kind_of

LITE = rows_of("lite")
KNOWN = {"seeds": SEEDS, "images": 800, "published": (9.5, 5.0), "errors": (9.0, 9.0, 8.9, 6.5, 6.0, 4.0)}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Every row with three seeds; the interaction is real."""
    folder = write_grid(tmp_path_factory.mktemp("grid") / "logs", **KNOWN)
    return folder, *report(folder)


# ---- numbers -------------------------------------------------------------------------------------------------


def test_the_gain_is_taken_apart(grid):
    folder, numbers, page, _ = grid
    b, f, b2, f2, hyperiqa, smart_iqa = (
        np.mean([srcc_of(folder / f"{row}_seed{seed}") for seed in SEEDS])
        for row in (GRID[0], GRID[2], GRID[3], GRID[5], *PUBLISHED)
    )
    for key, value in (
        ("both", f - b),
        ("swin_b.both", f2 - b2),
        ("swin_b.backbone", b2 - b),
        ("swin_b.backbone_full", f2 - f),
        ("swin_b.interaction", (f2 - b2) - (f - b)),
        ("swin_b.total", f2 - b),
        ("published", smart_iqa - hyperiqa),
    ):
        found = difference_of(numbers, key)
        assert found["srcc"]["value"] == pytest.approx(value, abs=1e-9)
        assert f"{found['srcc']['value']:+.4f} [" in section_of(page, "Contributions")


def test_the_second_family_has_a_correction_of_its_own(grid):
    _, numbers, page, _ = grid
    by_family = {
        role: [d for d in numbers["differences"] if d["comparison"]["family"] == role] for role in ("second", None)
    }
    assert len(by_family["second"]) == 5 and all(
        d["verdict"] is None and d["p_adjusted"] is None for d in by_family[None]
    )
    smallest = min(by_family["second"], key=lambda d: d["srcc"]["p_value"])
    assert smallest["p_adjusted"] == pytest.approx(min(1, 5 * smallest["srcc"]["p_value"]))
    assert "Second family, with its own Holm correction" in page and "exploratory" in page


def test_the_primary_comparison_is_that_of_a_report_on_its_backbone_alone(grid, tmp_path):
    folder, numbers, _, _ = grid
    for path in folder.glob("exp*"):
        shutil.copytree(path, tmp_path / path.name)
    alone, _, _ = report(tmp_path)
    for key in ("both", "multiscale", "attention"):
        one, other = (difference_of(found, key) for found in (alone, numbers))
        assert [one["srcc"][end] for end in ("value", "low", "high")] == pytest.approx(
            [other["srcc"][end] for end in ("value", "low", "high")]
        )
        assert one["p_adjusted"] == pytest.approx(other["p_adjusted"])


@pytest.mark.parametrize(
    ("errors", "conclusion"), [((9.0, 8.5, 7.0, 6.5, 6.0, 4.0), "both"), ((9.0, 8.5, 7.0, 9.0, 8.5, 7.0), "generality")]
)
def test_a_grid_of_known_effects_gets_its_conclusion(tmp_path, errors, conclusion):
    numbers, page, _ = report(write_grid(tmp_path / "logs", seeds=SEEDS, images=800, errors=errors))
    assert numbers["conclusion"]["conclusion"] == conclusion and "Conclusion: " in page


def test_a_gain_on_the_transformer_only_is_one_of_hierarchical_features(grid):
    assert grid[1]["conclusion"]["conclusion"] == "hierarchical"
    assert "Conclusion: hierarchical features are crucial" in grid[2]


def test_one_seed_gives_a_pattern_of_trained_models(tmp_path):
    _, page, _ = report(write_grid(tmp_path / "logs", images=800, errors=(9.0, 8.5, 7.0, 6.5, 6.0, 4.0)))
    assert "Pattern of the trained models: both contribute" in page and "improves" not in page


# ---- rows ----------------------------------------------------------------------------------------------------


def test_rows_are_in_blocks_by_kind_of_backbone(grid):
    _, _, page, tex = grid
    order = [
        "CNN-based",
        "HyperIQA (rerun",
        "ResNet50 baseline",
        "HyperIQA (trained here)",
        "Transformer-based",
        "SMART-IQA (Swin-Base",
        "Swin-B baseline",
        "SMART-IQA (trained here)",
    ]
    for text in (page[page.index("| Configuration") :], tex[tex.index("\\toprule") :]):
        assert [text.index(name) for name in order] == sorted(text.index(name) for name in order)


def test_an_added_backbone_gets_the_whole_report(tmp_path):
    folder = write_ablation(tmp_path / "logs", errors=(9, 8, 6), seeds=SEEDS, rows=LITE, config={"groups": r"^00(\d)"})
    numbers, page, tex = report(folder)
    assert [level["row"]["log_name"] for level in numbers["levels"]] == list(LITE) and not numbers["missing"]
    assert "attention improves SRCC on efficientnet_lite0" in page and numbers["attention"]
    assert r"efficientnet\_lite0 baseline &" in tex and "ResNet50 baseline" not in page + tex


def test_title_and_kind_are_those_of_the_table_or_of_config_json(tmp_path):
    config = {"backbone_title": "EfficientNet-lite0", "backbone_kind": "other"}
    folder = write_ablation(
        tmp_path / "logs", images=60, rows=(*GRID[:3], *LITE), errors=(9, 8, 7, 9, 8, 7), config=config
    )
    numbers, page, _ = report(folder)
    assert level_of(numbers, LITE[0])["row"]["title"] == "EfficientNet-lite0 baseline"
    assert level_of(numbers, LITE[0])["row"]["kind"] == "other" and "**Other backbones**" in page
    assert level_of(numbers, "exp1_baseline")["row"]["title"] == "ResNet50 baseline"


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [("resnet50", CNN), ("swin_b", TRANSFORMER), ("efficientnet_lite0", CNN), ("vit_b_16", TRANSFORMER)],
)
def test_the_kind_of_an_unknown_backbone_follows_from_its_name(backbone, kind):
    assert kind_of(backbone) == kind


def test_three_backbones_are_each_set_against_the_first(tmp_path):
    rows = (*GRID, *LITE)
    numbers, page, _ = report(write_grid(tmp_path / "logs", rows=rows, errors=(*GRID_ERRORS, 9, 8, 7)))
    for other in ("swin_b", "efficientnet_lite0"):
        assert difference_of(numbers, f"{other}.interaction") and difference_of(numbers, f"{other}.both")
    assert page.index("efficientnet_lite0 baseline |") < page.index("**Transformer-based**")


def test_one_backbone_with_the_published_models(tmp_path):
    numbers, page, tex = report(write_grid(tmp_path / "logs", rows=GRID[:3], errors=(9, 8, 7), published=(9.5, 5)))
    assert difference_of(numbers, "published") and not numbers["conclusion"] and "HyperIQA (trained here)" in tex
    assert "Interaction" not in page


def test_missing_rows_are_named_and_their_cells_say_so(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs", published=(9.5, 5.0))
    for row in ("swin3_multiscale_attention", "published_smart_iqa"):
        shutil.rmtree(folder / row)
    (folder / "swin2_multiscale" / "result.json").unlink()
    numbers, page, tex = report(folder)
    for text in (page, capsys.readouterr().out):
        assert "swin3_multiscale_attention and published_smart_iqa have no finished run" in text
        assert "Unfinished, without a result.json: swin2_multiscale." in text
    assert "| SMART-IQA (trained here) | missing | missing |" in page
    assert r"SMART-IQA (trained here) & missing & missing & missing" in tex
    assert difference_of(numbers, "swin_b.backbone") and not difference_of(numbers, "published")


def test_without_the_full_variant_there_is_no_answer(tmp_path):
    folder = write_grid(tmp_path / "logs", errors=(9, 8.9, 8, 6.5, 6.45, 6.4))
    shutil.rmtree(folder / FULL)
    numbers, page, _ = report(folder)
    assert "There is no answer yet" in page and difference_of(numbers, "multiscale")["verdict"] is None
    assert "| Swin-B | " in section_of(page, "Outcome") and len(numbers["outcomes"]) == 1  # of one seed, undecided


def test_what_the_runner_was_asked_for_is_missed_before_it_began(tmp_path):
    folder = write_ablation(tmp_path / "logs")
    (folder / "ablation_flags").write_text("\n\nBACKBONES=resnet50 swin_b\n--with_published\n--epochs\n3\n")
    numbers, page, _ = report(folder)
    assert numbers["missing"] == [*GRID[3:], *PUBLISHED] and "| Swin-B baseline | missing |" in page


def test_a_folder_that_only_looks_like_a_run_is_no_backbone(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60)
    shutil.copytree(folder / "exp1_baseline", folder / "old_exp1_baseline")
    (folder / "notes2_multiscale").mkdir()
    (folder / "lite1_baseline").mkdir()
    (folder / "lite1_baseline" / "config.json").write_text("{")
    assert [family.prefix for family in find_grid(folder).families] == ["exp"]
    for name in (*LITE, *GRID[:3]):
        shutil.rmtree(folder / name, ignore_errors=True)
    assert "no finished run (no exp1_baseline/result.json" in refusal(folder, capsys)


def test_two_names_for_one_backbone_are_refused(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60, rows=LITE)
    other = folder / "net1_baseline"
    shutil.copytree(folder / "lite1_baseline", other)
    for name in ("config.json", "result.json"):
        (other / name).write_text((other / name).read_text().replace("lite1_baseline", "net1_baseline"))
    assert "lite* and net* are both of efficientnet_lite0" in refusal(folder, capsys)


# ---- flags that may differ -----------------------------------------------------------------------------------


def test_a_published_models_own_recipe_is_no_mismatch_and_any_other_flag_is(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs", published=(9.5, 5.0))
    report(folder)
    edit_json(folder / "published_hyperiqa" / "config.json", flags={"patch_size": 96})
    assert "--patch_size: None in exp1_baseline" in refusal(folder, capsys)
    edit_json(folder / "published_hyperiqa" / "config.json", flags={"patch_size": None, "recipe": None})
    assert "--lr: 0.0001 in exp1" in refusal(folder, capsys)


def test_what_belongs_to_a_backbone_is_compared_within_it(tmp_path, capsys):
    folder = write_grid(tmp_path / "logs")
    for row in GRID[3:]:
        edit_json(folder / row / "config.json", flags={"drop_path_rate": 0.3, "weights": "swin.pth"})
    report(folder)
    edit_json(folder / GRID[4] / "config.json", flags={"drop_path_rate": 0.1})
    named = "--drop_path_rate: 0.3 in swin1_baseline, swin3_multiscale_attention; 0.1 in swin2"
    assert named in refusal(folder, capsys)
    for row in GRID[3:]:
        edit_json(folder / row / "config.json", flags={"drop_path_rate": 0.3, "weights": "none"})
    assert "initial weights: trained in exp1_baseline" in refusal(folder, capsys)
