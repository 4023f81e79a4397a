"""Groups of the test images, and the figures without some of them."""

import json

import numpy as np
import pytest
from made_up_runs import SEEDS, VARIANTS, predictions, refusal, report, verdict_of, write_ablation, write_grid
from scipy import stats

import report_ablation
from iqa.report import words

GROUPS = r"^00(\d)"  # 00000_photo.jpg to 00299_photo.jpg: three groups of a hundred
FULL = "exp3_multiscale_attention"


def section_of(page, title):
    return page[page.index(f"## {title}") :].split("\n## ")[0]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A finished ablation, whose report is by groups and without twenty images."""
    folder = write_ablation(tmp_path_factory.mktemp("grouped") / "logs", errors=(9.0, 8.9, 6.0))
    listed = folder.parent / "near.txt"
    listed.write_text(
        "".join(f"{i:05d}_photo.jpg\tother.jpg\ttraining\t1\n" for i in range(0, 200, 10)) + "\nelsewhere.jpg\n"
    )
    return folder, *report(folder, "--groups", GROUPS, "--without", str(listed))


def test_every_group_has_the_correlations_of_its_images(grouped):
    folder, numbers, page, _ = grouped
    parts = numbers["groups"]["parts"]
    assert [(part["name"], part["test_images"]) for part in parts] == [("0", 100), ("1", 100), ("2", 100)]
    shown, levels = section_of(page, "Groups of the test images"), {}
    for variant in VARIANTS:
        mos, scores = predictions(folder / variant)
        for number, part in enumerate(parts):
            places = slice(100 * number, 100 * (number + 1))
            for metric, function in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
                found = part["variants"][variant][metric]
                assert found["estimate"] == pytest.approx(function(scores[places], mos[places]).statistic, abs=1e-9)
                assert found["low"] < found["estimate"] < found["high"] and words.level(found) in shown
            levels.setdefault(variant, []).append(part["variants"][variant]["srcc"]["estimate"])
        within = numbers["groups"]["within"]["variants"][variant]["srcc"]
        assert within["estimate"] == pytest.approx(np.mean(levels[variant])) and words.level(within) in shown
    both = numbers["groups"]["within"]["comparisons"]["both"]["srcc"]
    assert both["estimate"] == pytest.approx(np.mean(levels[FULL]) - np.mean(levels["exp1_baseline"]))
    assert both["low"] < both["estimate"] < both["high"] and words.with_interval(both) in shown


def test_what_telling_the_groups_apart_is_worth_is_said(grouped, capsys):
    folder, numbers, page, _ = grouped
    mos, _ = predictions(folder / FULL)
    means = np.repeat(mos.reshape(3, 100).mean(axis=1), 100)
    found = numbers["groups"]["between"]
    assert found["srcc"] == pytest.approx(stats.spearmanr(means, mos).statistic)
    assert found["plcc"] == pytest.approx(stats.pearsonr(means, mos).statistic)
    sentence = f"and told nothing else apart, would have SRCC {found['srcc']:.4f} and PLCC {found['plcc']:.4f} on all 300 images"
    assert sentence in section_of(page, "Groups of the test images")


def test_the_correction_is_over_all_that_is_compared_there(grouped):
    _, numbers, _, _ = grouped
    found = numbers["groups"]
    comparisons = [c for part in (*found["parts"], found["within"]) for c in part["comparisons"].values()]
    assert len(comparisons) == 12
    p_values, corrected = ([c["srcc"][key] for c in comparisons] for key in ("p_value", "p_holm"))
    assert min(corrected) == pytest.approx(12 * min(p_values)) and all(
        p <= q for p, q in zip(p_values, corrected, strict=True)
    )


def test_the_figures_without_some_images_are_those_of_the_rest(grouped):
    folder, numbers, page, _ = grouped
    found, shown = numbers["without"], section_of(page, "Without 20 of the test images")
    keep = [i for i in range(300) if i >= 200 or i % 10]
    assert (found["left_out"], found["of"], found["unknown"], found["part"]["test_images"]) == (20, 300, 1, 280)
    assert "near.txt and left out here; 1 name of it is not among them" in shown
    levels = {}
    for variant in VARIANTS:
        mos, scores = predictions(folder / variant)
        level = found["part"]["variants"][variant]["srcc"]
        levels[variant] = stats.spearmanr(scores[keep], mos[keep]).statistic
        assert level["estimate"] == pytest.approx(levels[variant], abs=1e-9) and words.level(level) in shown
    both = found["part"]["comparisons"]["both"]["srcc"]
    assert (
        both["estimate"] == pytest.approx(levels[FULL] - levels["exp1_baseline"]) and words.with_interval(both) in shown
    )


def test_the_wording_there_follows_the_rule_for_seeds(grouped, tmp_path):
    page = grouped[2]
    assert "The two trained models differ: multi-scale fusion with attention" in section_of(page, "Without 20")
    assert "the two trained models" in section_of(page, "Groups") and "improves" not in page
    folder = write_ablation(tmp_path / "logs", errors=(9.0, 8.0, 5.0), seeds=SEEDS, config={"groups": GROUPS})
    (tmp_path / "names.txt").write_text("00001_photo.jpg\n")
    numbers, page, _ = report(folder, "--without", str(tmp_path / "names.txt"))
    assert "Multi-scale fusion with attention improves SRCC by" in section_of(page, "Without 1 of the test images")
    assert "Within the groups: multi-scale fusion with attention improves SRCC by" in section_of(page, "Groups")
    within = numbers["groups"]["within"]["variants"][FULL]["srcc"]
    assert within["seeds"] == 3 and words.level(within) in page


def test_the_data_set_declares_its_groups_and_the_flag_counts_over_them(tmp_path):
    folder = write_ablation(tmp_path / "logs", config={"groups": GROUPS})
    assert len(report(folder)[0]["groups"]["parts"]) == 3
    numbers = report(folder, "--groups", "^00[01]")[0]
    assert [part["name"] for part in numbers["groups"]["parts"]] == ["000", "001", "no match"]
    assert [part["test_images"] for part in numbers["groups"]["parts"]] == [100, 100, 100]


def test_nothing_is_added_unasked(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs"))
    assert numbers["groups"] is numbers["without"] is None and "Groups of" not in page and "Without" not in page


def test_a_group_that_is_too_small_is_named_and_has_no_numbers(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs"), "--groups", r"^000(0)?")
    assert [part["error"] for part in numbers["groups"]["parts"]] == ["fewer than 20 images", None]
    assert "0 (10 images) has no numbers: fewer than 20 images." in page
    assert numbers["groups"]["within"]["test_images"] == 290


def test_a_grid_has_groups_of_all_its_rows(tmp_path):
    (tmp_path / "names.txt").write_text("00001_photo.jpg\n")
    numbers, page, _ = report(
        write_grid(tmp_path / "logs"), "--groups", GROUPS, "--without", str(tmp_path / "names.txt")
    )
    for title in ("Groups of the test images", "Without 1 of the test images"):
        assert "Swin-B: both" in section_of(page, title) and "+ Multi-scale + attention | Swin-B |" in section_of(
            page, title
        )
    assert "Interaction: method × backbone" in section_of(page, "Without 1")
    assert verdict_of(page) and json.dumps(numbers["groups"], allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--groups", "^x"], "--groups '^x': matches no image name, such as '00000_photo.jpg'"),
        (["--groups", "photo"], "--groups 'photo': puts all images into one group, 'photo'"),
        (["--groups", r"^\d+"], "makes 60 groups, over 30"),
        (["--without", "none.txt"], "--without none.txt: no such file"),
        (["--without", "other.txt"], "other.txt: none of its 1 names, such as 'a.jpg' is one of the 60 test images"),
        (["--without", "empty.txt"], "empty.txt: none of its 0 names is one of the 60"),
        (["--without", "most.txt"], "most.txt: 10 of 60 test images remain; fewer than 20 images"),
        (["--without", "bytes.txt"], "bytes.txt: not a text file in UTF-8"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    folder = write_ablation(tmp_path / "logs", images=60)
    (tmp_path / "other.txt").write_text("a.jpg\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "most.txt").write_text("".join(f"{i:05d}_photo.jpg\n" for i in range(50)))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert named in refusal(folder, capsys, *arguments)
    assert not (folder / "report.md").exists()


def test_a_pattern_that_is_none_is_refused_with_the_flags(tmp_path, capsys):
    assert report_ablation.main([str(tmp_path), "--groups", "("]) == 2
    assert "--groups: '(' is not a regular expression" in capsys.readouterr().err
