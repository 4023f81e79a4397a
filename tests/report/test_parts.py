"""Groups of the test images, and the results without some of them."""

import re

import numpy as np
import pytest
from made_up_runs import FULL, SEEDS, VARIANTS, write_ablation, write_grid
from read_report import difference_of, interval, predictions, refusal, report, section_of, srcc_of
from scipy import stats

import report_ablation

GROUPS = r"^00(\d)"  # 00000_photo.jpg to 00299_photo.jpg: three groups of a hundred


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A finished ablation, whose report is by groups and without twenty images."""
    folder = write_ablation(tmp_path_factory.mktemp("grouped") / "logs", errors=(9.0, 8.9, 6.0))
    listed = folder.parent / "near.txt"
    names = "".join(f"{i:05d}_photo.jpg\tother.jpg\ttraining\t1\n" for i in range(0, 200, 10))
    listed.write_text(names + "\nelsewhere.jpg\n")
    return folder, *report(folder, "--groups", GROUPS, "--without", str(listed))


def test_groups_and_their_weighted_mean(grouped):
    folder, numbers, page, _ = grouped
    parts, within = numbers["groups"]["parts"], numbers["groups"]["within"]
    assert [(part["name"], part["images"]) for part in parts] == [("0", 100), ("1", 100), ("2", 100)]
    shown, levels = section_of(page, "Groups of test images"), {}
    for variant in VARIANTS:
        mos, scores = predictions(folder / variant)
        for number, part in enumerate(parts):
            places = slice(100 * number, 100 * (number + 1))
            for metric, function in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
                found = part["levels"][variant][metric]
                assert found["value"] == pytest.approx(function(scores[places], mos[places]).statistic, abs=1e-9)
                assert f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]" in shown
            levels.setdefault(variant, []).append(part["levels"][variant]["srcc"]["value"])
        assert within["levels"][variant]["srcc"]["value"] == pytest.approx(np.mean(levels[variant]))
    both = difference_of(within, "both")
    assert both["srcc"]["value"] == pytest.approx(np.mean(levels[FULL]) - np.mean(levels["exp1_baseline"]))
    assert both["verdict"] is both["p_adjusted"] is None and interval(both["srcc"]) in shown
    means = np.repeat(mos.reshape(3, 100).mean(axis=1), 100)
    assert numbers["groups"]["between_srcc"] == pytest.approx(stats.spearmanr(means, mos).statistic)
    assert "does not differ significantly between the groups" in shown


@pytest.mark.parametrize("seeds", [(42,), SEEDS])
def test_an_effect_in_one_group_only_is_not_generalised(tmp_path, seeds):
    def better_on_a_third(run, mos, scores):
        exact = mos + 0.3 * (scores - mos) if run.startswith(FULL) else scores
        return mos, np.where(np.arange(900) < 300, exact, scores)

    equal = {"images": 900, "errors": (9.0, 9.0, 9.0), "seeds": seeds}
    folder = write_ablation(tmp_path / "logs", **equal, change=better_on_a_third)
    numbers, page, _ = report(folder, "--groups", r"^00([0-2]|[3-5]|[6-8])")
    assert len(numbers["groups"]["parts"]) == 9
    (test,) = numbers["groups"]["heterogeneity"]
    assert test["p_value"] < 0.05
    assert "differs significantly between the groups" in section_of(page, "Groups of test images")


def test_no_interval_exceeds_the_possible_values(tmp_path):
    """The second seed of each variant is nearly random: uncut, the difference's interval is wider than [-2, 2]."""

    def second_is_random(run, mos, scores):
        return mos, np.random.default_rng(0).permutation(scores) if run.endswith("_seed43") else scores

    folder = write_ablation(tmp_path / "logs", seeds=(42, 43), change=second_is_random)
    numbers, _, _ = report(folder, "--groups", GROUPS)
    for part in (numbers, *numbers["groups"]["parts"], numbers["groups"]["within"]):
        both = difference_of(part, "both")["srcc"]
        assert (both["low"], both["high"]) == (-2, 2)
    assert all(-1 <= level["srcc"]["low"] and level["srcc"]["high"] <= 1 for level in numbers["levels"])


def test_without_some_images(grouped):
    folder, numbers, page, _ = grouped
    found, shown = numbers["without"], section_of(page, "Without 20 of the test images")
    keep = [i for i in range(300) if i >= 200 or i % 10]
    assert (found["left_out"], found["of"], found["unknown"], found["part"]["images"]) == (20, 300, 1, 280)
    levels = {}
    for variant in VARIANTS:
        mos, scores = predictions(folder / variant)
        levels[variant] = stats.spearmanr(scores[keep], mos[keep]).statistic
        assert found["part"]["levels"][variant]["srcc"]["value"] == pytest.approx(levels[variant], abs=1e-9)
    both = difference_of(found["part"], "both")["srcc"]
    assert both["value"] == pytest.approx(levels[FULL] - levels["exp1_baseline"]) and interval(both) in shown


def test_the_data_set_declares_its_groups_and_the_flag_overrides_it(tmp_path):
    folder = write_ablation(tmp_path / "logs", config={"groups": GROUPS})
    assert len(report(folder)[0]["groups"]["parts"]) == 3
    parts = report(folder, "--groups", "^00[01]")[0]["groups"]["parts"]
    assert [(part["name"], part["images"]) for part in parts] == [("000", 100), ("001", 100), ("no match", 100)]


def test_nothing_is_added_unasked(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs"))
    assert numbers["groups"] is numbers["without"] is None and "Groups of" not in page and "Without" not in page


def test_a_group_that_is_too_small_is_named_and_has_no_numbers(tmp_path):
    numbers, page, _ = report(write_ablation(tmp_path / "logs"), "--groups", r"^000(0)?")
    assert [part["error"] for part in numbers["groups"]["parts"]] == ["fewer than 20 images", None]
    assert "0 (10 images) has no numbers: fewer than 20 images." in page
    assert numbers["groups"]["within"]["images"] == 290


def test_a_grid_has_groups_of_all_its_rows(tmp_path):
    (tmp_path / "names.txt").write_text("00001_photo.jpg\n")
    folder = write_grid(tmp_path / "logs", seeds=SEEDS)
    numbers, page, _ = report(folder, "--groups", GROUPS, "--without", str(tmp_path / "names.txt"))
    for title in ("Groups of test images", "Without 1 of the test images"):
        assert "| Both ideas (Swin-B) |" in section_of(page, title)
    assert "Interaction" in section_of(page, "Without 1") and len(numbers["groups"]["heterogeneity"]) == 2
    levels = [srcc_of(folder / f"exp1_baseline_seed{seed}") for seed in SEEDS]
    assert len(levels) == numbers["groups"]["within"]["levels"]["exp1_baseline"]["srcc"]["seeds"][0]


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


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--groups", "("], "--groups: '\\(' is not a regular expression"),
        (["--draws", "5"], "--draws: '5' is not an integer, 1000 to 1000000"),
    ],
)
def test_invalid_flags_are_refused_in_one_line(tmp_path, capsys, flags, named):
    assert report_ablation.main([str(tmp_path), *flags]) == 2
    assert re.fullmatch(rf"error: [^\n]*{named}[^\n]*\n", capsys.readouterr().err)
