"""The whole report on any one backbone, also one that only the runs know."""

import json
import shutil

import pytest
from made_up_runs import DEMO, FIGURES, SEEDS, refusal, report, rows_of, verdict_of, write_ablation

from iqa.report.rows import CNN, TRANSFORMER, find_families, kind_of

LITE = tuple(rows_of("lite", "efficientnet_lite0"))
SWIN = tuple(rows_of("swin", "swin_b"))
BIQ = {"dataset_note": "BIQ2021"}


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite") / "logs"
    write_ablation(folder, errors=(9.0, 8.0, 6.0), seeds=SEEDS, rows=LITE, flags={"dataset": "biq2021"}, config=BIQ)
    return folder, *report(folder, figures=True)


def test_an_added_backbone_gets_the_whole_report(lite):
    folder, numbers, page, tex = lite
    assert list(numbers["variants"]) == list(LITE) and not numbers["missing"]
    assert all(numbers["comparisons"].values()) and numbers["attention_by_mos"]
    assert "# efficientnet_lite0 ablation" in page and "| efficientnet_lite0 baseline |" in page
    assert "attention improves SRCC by" in verdict_of(page) and "the efficientnet_lite0 baseline" in verdict_of(page)
    assert r"on an efficientnet\_lite0 with" in tex and r"efficientnet\_lite0 baseline &" in tex
    assert "ResNet50 baseline" not in page + tex
    assert {path.stem for path in (folder / "figures").iterdir()} == set(FIGURES)


def test_another_data_set_is_never_compared_with_published_figures(lite):
    _, numbers, page, tex = lite
    assert numbers["dataset_note"] == "BIQ2021" and numbers["published"]["distance_to_swin_base"] is None
    for text in (page, tex):
        assert "Not results on KonIQ-10k: BIQ2021." in text and "he gain is" not in text and "any gain is" not in text


def test_the_flag_alone_tells_another_data_set(tmp_path):
    numbers, _, _ = report(write_ablation(tmp_path / "logs", flags={"dataset": "biq2021"}))
    assert numbers["dataset_note"] == "--dataset biq2021" and not numbers["published"]["sentences"]
    numbers, _, _ = report(write_ablation(tmp_path / "koniq", flags={"dataset": "koniq-10k"}))
    assert numbers["dataset_note"] is None and numbers["published"]["sentences"]


def test_the_title_is_the_tables_or_that_of_config_json(tmp_path):
    titled = write_ablation(tmp_path / "logs", rows=LITE, config={"backbone_title": "EfficientNet-lite0"})
    _, page, tex = report(titled)
    assert "| EfficientNet-lite0 baseline |" in page and "on an EfficientNet-lite0 with" in tex
    numbers, page, tex = report(write_ablation(tmp_path / "swin", rows=SWIN))
    assert "| Swin-B baseline |" in page and "on a Swin-B with" in tex
    assert len(numbers["published"]["sentences"]) == 1 and "total gain" not in tex  # which is the backbone's


def test_a_missing_variant_of_it_is_named(tmp_path):
    folder = write_ablation(tmp_path / "logs", rows=LITE, config={"dataset_note": DEMO})
    shutil.rmtree(folder / LITE[1])
    (folder / LITE[2] / "result.json").unlink()
    numbers, page, _ = report(folder)
    assert "lite2_multiscale is missing." in page and "lite3_multiscale_attention is unfinished" in page
    assert "| + Multi-scale | missing |" in page and numbers["missing"] == [LITE[1], LITE[2]]


def test_a_folder_that_only_looks_like_a_run_is_no_backbone(tmp_path, capsys):
    folder = write_ablation(tmp_path / "logs", images=60)
    shutil.copytree(folder / "exp1_baseline", folder / "old_exp1_baseline")
    (folder / "notes2_multiscale").mkdir()
    (folder / "lite1_baseline").mkdir()
    (folder / "lite1_baseline" / "config.json").write_text("{")
    assert [family.prefix for family in find_families(folder)] == ["exp"]
    for name in (*LITE, "exp1_baseline", "exp2_multiscale", "exp3_multiscale_attention"):
        shutil.rmtree(folder / name, ignore_errors=True)
    assert "no finished run (no exp1_baseline/result.json" in refusal(folder, capsys)


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        ("resnet50", CNN),
        ("swin_b", TRANSFORMER),
        ("efficientnet_lite0", CNN),
        ("vit_b_16", TRANSFORMER),
        ("segformer_b0", TRANSFORMER),
        ("convnext_tiny", CNN),
    ],
)
def test_the_kind_of_a_backbone_follows_from_its_name(backbone, kind):
    assert kind_of(backbone) == kind


def test_config_json_may_tell_the_kind(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60, rows=LITE)
    path = folder / LITE[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"backbone_kind": "transformer"}))
    assert find_families(folder)[0].kind == TRANSFORMER
