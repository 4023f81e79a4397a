"""Made-up runs in folders as train_resnet_improved.py leaves them."""

import json
import math

import numpy as np
from scipy import stats


def rows_of(prefix):
    """Log names of the variants on a backbone."""
    return tuple(prefix + ending for ending in ("1_baseline", "2_multiscale", "3_multiscale_attention"))


VARIANTS = BASELINE, MULTISCALE, FULL = rows_of("exp")
PUBLISHED = ("published_hyperiqa", "published_smart_iqa")
# Runs on ResNet50 have no such flag, like those of older versions.
BACKBONE_FLAGS = {
    "swin": {"backbone": "swin_b"},
    "lite": {"backbone": "efficientnet_lite0"},
    "published_hyperiqa": {"model": "hyperiqa", "recipe": "published", "lr": 2e-5},
    "published_smart_iqa": {"backbone": "swin_b", "model": "smart_iqa", "recipe": "published", "lr": 2e-5},
}
DEMO = "demo images made by demo_dataset.py: not KonIQ-10k's photographs"
SEEDS = (42, 43, 44)
RECORDED = {  # in config.json
    "commit": "0123abc",
    "versions": {"python": "3.11.7", "torch": "2.9.0"},
    "device": "cpu",
    "precision": "fp32",
}
SOUND_LAYERS = [{"dead": 0.0, "saturated": 0.01, "either": 0.01}] * 4


def make_scores(images, errors, seed=1, shared=0.7):
    """MOS, and for every standard deviation in `errors` a set of scores whose errors correlate at `shared`."""
    generator = np.random.default_rng(seed)
    mos = np.clip(generator.normal(58, 15, images), 2, 98).round(3)
    common = math.sqrt(shared) * generator.normal(size=images)
    own = math.sqrt(1 - shared) * generator.normal(size=(len(errors), images))
    return mos, [mos + error * (common + o) for error, o in zip(errors, own, strict=True)]


def flags_of(variant):
    attention = variant in PUBLISHED[1:] or "attention" in variant
    backbone = next((flags for prefix, flags in BACKBONE_FLAGS.items() if variant.startswith(prefix)), {})
    fusion = {"use_multiscale": attention or "multiscale" in variant, "use_attention": attention}
    return {"epochs": 3, "lr": 1e-4, **fusion, "data_path": "./koniq-10k", **backbone}


def write_run(log_folder, variant, mos, scores, *, seed=42, suffix="", val_srccs=(0.82, 0.86, 0.859), **more):
    """One sound run's folder as train_resnet_improved.py leaves it; the chosen epoch has the highest of `val_srccs`.

    `more` are changes of config, flags, result and health.
    """
    folder = log_folder / (variant + suffix)
    folder.mkdir(parents=True)
    flags = {**flags_of(variant), "seed": seed, "output_dir": str(folder), **more.get("flags", {})}
    facts = {"variant": variant, "parameters": 1_000_123 * len(variant)}
    split = {"training": 7058, "validation": 1000, "test": len(mos), "sha256": "ab" * 32}
    config = {**facts, "run_id": f"{variant}-{seed}", "flags": flags, **RECORDED, "split": split}
    (folder / "config.json").write_text(json.dumps(config | more.get("config", {})))
    write_epochs(folder / "metrics.jsonl", val_srccs)
    write_predictions(folder / "predictions_test.csv", mos, scores, flags["use_attention"])
    rho, r = stats.spearmanr(scores, mos).statistic, stats.pearsonr(scores, mos).statistic
    loss = {"training": 3.0, "constant": 12.0, "constant_from": "training MOS"}
    result = {
        **facts,
        "seed": seed,
        "epochs": len(val_srccs),
        "select_on": "val",
        "selected_epoch": 1 + int(np.argmax(val_srccs)),
        "selected_test_srcc": rho,
        "selected_test_plcc": r,
        "best_test_srcc": rho + 0.001,
        "best_test_plcc": r + 0.001,
        "seconds": 28.5,
        "health": {"target_layers": SOUND_LAYERS, "loss": loss, **more.get("health", {})},
        **more.get("result", {}),
    }
    (folder / "result.json").write_text(json.dumps(result))


def write_epochs(path, val_srccs):
    """The epochs of a run, and a half-written line."""
    lines = [
        {"epoch": epoch, "train_loss": 9.0 / epoch, "val_srcc": value, "val_plcc": 0.8, "test_srcc": 0.8}
        for epoch, value in enumerate(val_srccs, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 4, "tra')


def write_failed_run(log_folder, variant, images=300, *, seed=42, suffix=""):
    """A run without any defined score, as training leaves it: nulls, a failure and no predictions."""
    mos, (scores,) = make_scores(images, (8.0,))
    nulls = ("selected_epoch", "selected_test_srcc", "selected_test_plcc", "best_test_srcc", "best_test_plcc", "health")
    failure = "no epoch has a defined val SRCC: scores: 300 of 300 values are not finite"
    result = {**dict.fromkeys(nulls), "failure": failure}
    write_run(log_folder, variant, mos, scores, seed=seed, suffix=suffix, result=result)
    (log_folder / (variant + suffix) / "predictions_test.csv").unlink()


def write_predictions(path, mos, scores, attention):
    stages = [f"attention_stage{s}" for s in (1, 2, 3, 4)] if attention else []
    lines = [",".join(["image_name", "mos", "score", *stages])]
    for number, (m, s) in enumerate(zip(mos, scores, strict=True)):
        deep = 0.25 + 0.5 * m / 100
        weights = [(1 - deep) * share for share in (0.3, 0.3, 0.4)] + [deep] if attention else []
        lines.append(",".join([f"{number:05d}_photo.jpg", *(f"{float(v)!r}" for v in (m, s, *weights))]))
    path.write_text("\n".join(lines) + "\n")


def write_ablation(
    log_folder, images=300, errors=(8.0, 7.0, 6.9), seeds=(42,), rows=VARIANTS, change=lambda run, *pair: pair, **more
):
    """All variants with all seeds; `change` maps (folder name, MOS, scores) of a run to its MOS and scores."""
    mos, scores = make_scores(images, [error for error in errors for _ in seeds])
    suffixes = [f"_seed{seed}" if len(seeds) > 1 else "" for seed in seeds]
    runs = [(variant, seed, suffix) for variant in rows for seed, suffix in zip(seeds, suffixes, strict=True)]
    for (variant, seed, suffix), predicted in zip(runs, scores, strict=True):
        pair = change(variant + suffix, mos, predicted)
        write_run(log_folder, variant, *pair, seed=seed, suffix=suffix, **more)
    return log_folder


GRID = (*VARIANTS, *rows_of("swin"))
GRID_ERRORS = (9.0, 8.9, 8.0, 6.5, 6.0, 4.0)  # the backbone helps, the method helps, and more on Swin-B


def write_grid(log_folder, rows=GRID, errors=GRID_ERRORS, published=(), **more):
    """A grid of known effects; `published` are the errors of HyperIQA and SMART-IQA."""
    return write_ablation(log_folder, rows=(*rows, *PUBLISHED[: len(published)]), errors=(*errors, *published), **more)
