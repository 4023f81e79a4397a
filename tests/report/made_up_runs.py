"""Made-up runs in folders as train_resnet_improved.py leaves them, and the report of them."""

import json
import math
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import report_ablation  # noqa: E402

VARIANTS = {
    "exp1_baseline": ("ss_noatt", 25_624_337, False, False),
    "exp2_multiscale": ("ms_noatt", 28_124_177, True, False),
    "exp3_multiscale_attention": ("ms_att", 28_649_749, True, True),
}
TAGS = {
    "1_baseline": ("ss_noatt", False, False),
    "2_multiscale": ("ms_noatt", True, False),
    "3_multiscale_attention": ("ms_att", True, True),
}


def rows_of(prefix, backbone, parameters=5_000_000):
    """What VARIANTS has, for a backbone that iqa/models/backbones.py may lack."""
    return {
        prefix + ending: (f"{backbone}_{tag}", parameters + 1000 * number, *flags)
        for number, (ending, (tag, *flags)) in enumerate(TAGS.items())
    }


PUBLISHED = {
    "published_hyperiqa": ("hyperiqa", 27_375_369, False, False),
    "published_smart_iqa": ("smart_iqa", 89_111_941, True, True),
}
ROWS = {**PUBLISHED, **VARIANTS, **rows_of("swin", "swin_b", 88_000_000), **rows_of("lite", "efficientnet_lite0")}
BACKBONE_OF = {
    "exp": "resnet50",
    "swin": "swin_b",
    "lite": "efficientnet_lite0",
    "published_hyperiqa": "resnet50",
    "published_smart_iqa": "swin_b",
}
DEMO = "demo images made by demo_dataset.py: not KonIQ-10k's photographs"
FIGURES = ["training_curves", "predicted_against_true", "delta_srcc", "attention_by_mos"]
SEEDS = (42, 43, 44)
SOUND_LAYERS = [{"dead": 0.0, "saturated": 0.01, "either": 0.01}] * 4


def make_scores(images, errors, seed=1, shared=0.7):
    """MOS, and for every standard deviation in `errors` a set of scores whose errors correlate at `shared`."""
    generator = np.random.default_rng(seed)
    mos = np.clip(generator.normal(58, 15, images), 2, 98).round(3)
    common = math.sqrt(shared) * generator.normal(size=images)
    own = math.sqrt(1 - shared) * generator.normal(size=(len(errors), images))
    return mos, [mos + error * (common + o) for error, o in zip(errors, own, strict=True)]


def write_run(
    log_folder,
    variant,
    mos,
    scores,
    *,
    seed=42,
    suffix="",
    flags=None,
    config=None,
    result=None,
    val_srccs=(0.82, 0.86, 0.859),
    health=None,
):
    """One sound run's folder as train_resnet_improved.py leaves it; the chosen epoch has the highest of `val_srccs`."""
    tag, parameters, multiscale, attention = ROWS[variant]
    backbone = next((name for prefix, name in BACKBONE_OF.items() if variant.startswith(prefix)), None)
    backbone = {} if backbone == "resnet50" else {"backbone": backbone}  # runs of before have no such flag
    if variant in PUBLISHED:
        backbone |= {"model": tag, "recipe": "published", "lr": 2e-5}
    folder = log_folder / (variant + suffix)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "run_id": f"{variant}-{seed}",
                "variant": variant,
                "tag": tag,
                "parameters": parameters,
                "flags": {
                    "epochs": 3,
                    "lr": 1e-4,
                    "use_multiscale": multiscale,
                    "use_attention": attention,
                    "seed": seed,
                    "data_path": "./koniq-10k",
                    "output_dir": str(folder),
                    **backbone,
                    **(flags or {}),
                },
                "commit": "0123abc",
                "versions": {"python": "3.11.7", "torch": "2.9.0"},
                "device": "cpu",
                "precision": "fp32",
                "split": {"training": 7058, "validation": 1000, "test": len(mos), "sha256": "ab" * 32},
                **(config or {}),
            }
        )
    )
    lines = [
        {
            "epoch": e,
            "train_loss": 9.0 / e,
            "val_srcc": val_srcc,
            "val_plcc": 0.8,
            "test_srcc": 0.8,
            "test_plcc": None,
            "seconds": 9.5,
        }
        for e, val_srcc in enumerate(val_srccs, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 4, "tra')
    write_predictions(folder / "predictions_test.csv", mos, scores, attention)
    rho, r = stats.spearmanr(scores, mos).statistic, stats.pearsonr(scores, mos).statistic
    (folder / "result.json").write_text(
        json.dumps(
            {
                "variant": variant,
                "tag": tag,
                "seed": seed,
                "parameters": parameters,
                "epochs": len(lines),
                "select_on": "val",
                "selected_epoch": 1 + int(np.argmax(val_srccs)),
                "selected_val_srcc": max(val_srccs),
                "selected_val_plcc": 0.8,
                "selected_test_srcc": rho,
                "selected_test_plcc": r,
                "best_test_srcc": rho + 0.001,
                "best_test_plcc": r + 0.001,
                "seconds": 28.5,
                "health": {
                    "target_layers": SOUND_LAYERS,
                    "loss": {"training": 3.0, "constant": 12.0, "constant_from": "training MOS"},
                    **(health or {}),
                },
                **(result or {}),
            }
        )
    )


def write_failed_run(log_folder, variant, images=300, *, seed=42, suffix=""):
    """A run without any defined score, as training leaves it: nulls, a failure and no predictions."""
    mos, (scores,) = make_scores(images, (8.0,))
    nulls = ("selected_epoch", "selected_val_srcc", "selected_val_plcc", "selected_test_srcc", "selected_test_plcc")
    nothing = dict.fromkeys((*nulls, "best_test_srcc", "best_test_plcc", "health"))
    failure = "no epoch has a defined val SRCC: scores: 300 of 300 values are not finite"
    write_run(log_folder, variant, mos, scores, seed=seed, suffix=suffix, result={**nothing, "failure": failure})
    (log_folder / (variant + suffix) / "predictions_test.csv").unlink()


def write_predictions(path, mos, scores, attention):
    stages = [f"attention_stage{s}" for s in (1, 2, 3, 4)] if attention else []
    lines = [",".join(["image_name", "mos", "score", *stages])]
    for number, (m, s) in enumerate(zip(mos, scores, strict=True)):
        deep = 0.25 + 0.5 * m / 100
        weights = [(1 - deep) * share for share in (0.3, 0.3, 0.4)] + [deep] if attention else []
        lines.append(",".join([f"{number:05d}_photo.jpg", *(f"{float(v)!r}" for v in (m, s, *weights))]))
    path.write_text("\n".join(lines) + "\n")


def write_ablation(log_folder, images=300, errors=(8.0, 7.0, 6.9), seeds=(42,), rows=tuple(VARIANTS), **more):
    """All variants with all seeds."""
    mos, scores = make_scores(images, [e for e in errors for _ in seeds])
    for number, variant in enumerate(rows):
        for position, seed in enumerate(seeds):
            suffix = f"_seed{seed}" if len(seeds) > 1 else ""
            predicted = scores[number * len(seeds) + position]
            write_run(log_folder, variant, mos, predicted, seed=seed, suffix=suffix, **more)
    return log_folder


GRID = (*VARIANTS, *rows_of("swin", "swin_b"))
GRID_ERRORS = (9.0, 8.9, 8.0, 6.5, 6.0, 4.0)  # the backbone helps, the method helps, and more on Swin-B


def write_grid(log_folder, rows=GRID, errors=GRID_ERRORS, published=(), **more):
    """A grid of known effects; `published` are the errors of HyperIQA and SMART-IQA."""
    return write_ablation(
        log_folder, rows=(*rows, *list(PUBLISHED)[: len(published)]), errors=(*errors, *published), **more
    )


def report(log_folder, *arguments, figures=False):
    """Run the report in this process, its figures only where they matter; its numbers, report.md and report.tex."""
    nothing = mock.patch("iqa.report.figures.write_figures", return_value={})
    with nullcontext() if figures else nothing:
        assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 0
    return (
        json.loads((log_folder / "report.json").read_text()),
        (log_folder / "report.md").read_text(),
        (log_folder / "report.tex").read_text(),
    )


def refusal(log_folder, capsys, *arguments):
    """The one line that a report which cannot be made leaves on stderr."""
    capsys.readouterr()
    assert report_ablation.main([str(log_folder), "--draws", "1000", *arguments]) == 1
    output, error = capsys.readouterr()
    assert output == "" and re.fullmatch(r"error: [^\n]+\n", error)
    return error


def predictions(folder):
    table = np.genfromtxt(folder / "predictions_test.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    return table["mos"], table["score"]


def srcc_of(folder):
    return stats.spearmanr(*predictions(folder)).statistic


def level_of(numbers, log_name):
    """A row of report.json."""
    return next(level for level in numbers["levels"] if level["row"]["log_name"] == log_name)


def difference_of(numbers, key):
    """A difference of report.json or of one of its parts; None where it could not be made."""
    return next((d for d in numbers["differences"] if d["comparison"]["key"] == key), None)


def interval(estimate):
    return f"{estimate['value']:+.4f} [{estimate['low']:+.4f}, {estimate['high']:+.4f}]"


def section_of(page, title):
    return page[page.index(f"## {title}") :].split("\n## ")[0]
