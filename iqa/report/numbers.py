"""Checked runs -> every number of the report, as one dictionary that report.json holds and the pages are made from.

The numbers of one backbone ("family", "comparisons", "attention_by_mos") stand at the top where it is alone, and under
"backbones" in a grid; `views` gives each backbone's as though it were alone.
"""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from iqa import metrics
from iqa.health import findings, is_sick, run_health
from iqa.report.decomposition import contrast_numbers, decompose
from iqa.report.outcomes import attention_numbers, outcome_numbers
from iqa.report.rows import BASELINE, FULL, MULTISCALE, RUN_HERE, SMART_IQA, Family, Grid, described_rows
from iqa.report.runs import STAGES, Run, notes

SMALL_DIFFERENCE = 0.003  # the difference for which the report says how many images or seeds would show it
DISAGREEMENTS = 10  # images to name per comparison
DECILES = 10
KONIQ = "koniq-10k"  # what --dataset calls the data of the published figures

# name -> (from, to, name in tables); the variants by the endings of their log names
COMPARISONS = {
    "multiscale": (BASELINE, MULTISCALE, "Multi-scale alone"),
    "attention": (MULTISCALE, FULL, "Attention on top"),
    "both": (BASELINE, FULL, "Both"),
}


class Bootstrap:
    """SRCC and PLCC of every run in the same draws of the test images: one bootstrap serves all intervals."""

    def __init__(self, runs: list[Run], draws: int, seed: int) -> None:
        ranked, raw = metrics.bootstrap_correlations([run.scores for run in runs], runs[0].mos, draws, seed)
        self.draws = {"srcc": ranked, "plcc": raw}
        self.rows = {run.folder: row for row, run in enumerate(runs)}

    def of(self, metric: str, runs: list[Run]) -> np.ndarray:
        """The draws (seeds, B) of some runs."""
        return self.draws[metric][[self.rows[run.folder] for run in runs]]


def analyse(runs: list[Run], grid: Grid, unfinished: list[str], mismatches: list[str], draws: int, seed: int) -> dict:
    """Every number of the report. The runs are of these rows and share their test images."""
    bootstrap = Bootstrap(runs, draws, seed)
    by_variant = {variant: [run for run in runs if run.variant == variant] for variant in grid.variants}
    health = [health_of(run) for run in runs]
    sick = {run["folder"] for run in health if is_sick(run["findings"])}
    backbones = {family.backbone: backbone_numbers(family, by_variant, bootstrap, sick) for family in grid.families}
    apart = {
        "decomposition": decompose(grid.families, by_variant, bootstrap, sick),
        "published_models": compare_published(grid, by_variant, bootstrap, sick),
        "published_attention": attention_of(by_variant.get(SMART_IQA, [])),
    }
    correct(comparisons_of(backbones.values(), apart))
    return {
        "dataset_note": dataset_note(runs),
        "rows": described_rows(grid),
        "mos_range": runs[0].config.get("mos_range", [0, 100]),
        "test_images": len(runs[0].names),
        "seeds": sorted({run.seed for run in runs}),
        "selected_on": sorted({str(run.result.get("select_on")) for run in runs}),
        "unfinished": unfinished,
        "missing": [variant for variant, found in by_variant.items() if not found],
        "mismatches": mismatches,
        "notes": notes(runs),
        "health": health,
        "bootstrap": {"draws": draws, "seed": seed, "level": metrics.LEVEL},
        "variants": {
            variant: variant_numbers(found, bootstrap) if found else None for variant, found in by_variant.items()
        },
        **(backbones[grid.families[0].backbone] if grid.is_one_family else {"backbones": backbones, **apart}),
        "setup": [setup(run) for run in runs],
    }


def backbone_numbers(family: Family, by_variant: dict[str, list[Run]], bootstrap: Bootstrap, sick: set[str]) -> dict:
    """What one backbone's variants give alone."""
    runs = [run for variant in family.rows.values() for run in by_variant[variant]]
    return {
        "family": family.described(),
        "comparisons": compare(family, by_variant, bootstrap, sick),
        **attention_of(runs),
        "outcome": outcome(paired(*(by_variant[family.rows[ending]] for ending in (BASELINE, FULL))), bootstrap),
    }


def attention_of(runs: list[Run]) -> dict:
    """How those of the runs that weigh the scales do it; None for each number where there is none."""
    weighed = [run for run in runs if run.attention is not None]
    return {
        "attention_by_mos": attention_by_decile(weighed),
        "attention_reading": attention_numbers([attention_by_decile([run]) for run in weighed]),
    }


def outcome(pairs: list[tuple[Run, Run]], bootstrap: Bootstrap) -> dict | None:
    """The relative gain of both ideas and its outcome; None where a variant is missing."""
    if not pairs:
        return None
    sides = [list(runs) for runs in zip(*pairs, strict=True)]
    levels = [np.array([metrics.srcc(run.scores, run.mos) for run in runs]) for runs in sides]
    return outcome_numbers(*levels, tuple(bootstrap.of("srcc", runs) for runs in sides))


def compare_published(
    grid: Grid, by_variant: dict[str, list[Run]], bootstrap: Bootstrap, sick: set[str]
) -> dict | None:
    """SMART-IQA less HyperIQA, both trained here: the published total gain under one protocol."""
    rows = {name: by_variant[log_name] for log_name, name in grid.published.items()}
    if not rows:
        return None
    return contrast_numbers([(1, rows["smart_iqa"]), (-1, rows["hyperiqa"])], bootstrap, sick)


def comparisons_of(backbones: Iterable[dict], apart: dict) -> list[dict]:
    """Every comparison that could be made."""
    found = [comparison for backbone in backbones for comparison in backbone["comparisons"].values()]
    found += [contrast for pair in apart["decomposition"] for contrast in pair["contrasts"].values()]
    return [comparison for comparison in [*found, apart["published_models"]] if comparison]


def all_comparisons(numbers: dict) -> list[dict]:
    """Every comparison that could be made, of the report or of one of its `views`."""
    if "comparisons" in numbers:
        return [comparison for comparison in numbers["comparisons"].values() if comparison]
    return comparisons_of(numbers["backbones"].values(), numbers)


def views(numbers: dict) -> list[dict]:
    """The numbers of each backbone as those of a report on it alone, but for what is corrected over the whole grid."""
    if "comparisons" in numbers:
        return [numbers]
    return [
        {
            **numbers,
            **backbone,
            **{
                "variants": {row: numbers["variants"][row] for row in backbone["family"]["rows"].values()},
                "missing": [row for row in backbone["family"]["rows"].values() if row in numbers["missing"]],
                "health": [run for run in numbers["health"] if run["variant"] in backbone["family"]["rows"].values()],
            },
        }
        for backbone in numbers["backbones"].values()
    ]


def attention_views(numbers: dict) -> list[dict]:
    """The views that have attention, and behind them one of SMART-IQA as it was published, where it was run."""
    return [view for view in [*views(numbers), smart_iqa_view(numbers)] if view["attention_by_mos"]]


def smart_iqa_view(numbers: dict) -> dict:
    """The published model as though it were the one variant of a backbone, for its attention alone."""
    title = f"SMART-IQA ({RUN_HERE})"
    health = [run for run in numbers["health"] if run["variant"] == SMART_IQA]
    return {
        **numbers,
        **numbers["published_attention"],
        "family": {"title": title, "rows": {FULL: SMART_IQA}},
        "health": health,
    }


def correct(comparisons: list[dict]) -> None:
    """Put Holm's corrected p-values, over all of these, beside each one's own."""
    for metric in ("srcc", "plcc"):
        corrected = metrics.holm([numbers[metric]["p_value"] for numbers in comparisons])
        for numbers, p_value in zip(comparisons, corrected, strict=True):
            numbers[metric]["p_holm"] = p_value


def dataset_note(runs: list[Run]) -> str | None:
    """What the images are where they are not KonIQ-10k's: such numbers are never compared with published ones."""
    noted = next((note.rstrip(".") for run in runs if (note := run.config.get("dataset_note"))), None)
    others = [flag for run in runs if (flag := run.config["flags"].get("dataset")) not in (None, KONIQ)]
    return noted or (f"--dataset {others[0]}" if others else None)


# ---- health --------------------------------------------------------------------------------------------------


def health_of(run: Run) -> dict:
    """A run's health and what is wrong: the scores from its predictions, the epochs from its metrics.jsonl, and from
    its result.json what only training can know; that is unknown for a run without it.
    """
    stored = run.result.get("health", {})
    loss = stored.get("loss") or {}
    health = run_health(
        scores=run.scores,
        mos=run.mos,
        mos_range=run.config.get("mos_range", [0, 100]),
        target_layers=stored.get("target_layers"),
        selected_epoch=run.result["selected_epoch"],
        history=run.epochs,
        select_on=run.result.get("select_on") or "val",
        train_loss=loss.get("training"),
        epochs=run.result.get("epochs"),
        constant_loss=loss.get("constant") if loss.get("constant_from") == "training MOS" else None,
    )
    return {
        "folder": run.name,
        "variant": run.variant,
        "seed": run.seed,
        "health": health,
        "findings": findings(health),
    }


# ---- one variant ---------------------------------------------------------------------------------------------


def variant_numbers(runs: list[Run], bootstrap: Bootstrap) -> dict:
    """One variant over its seeds: means, and intervals for the two correlations."""
    per_run = [run_numbers(run) for run in runs]
    averaged = ("krcc", "rmse", "plcc_mapped", "rmse_mapped", "best_test_srcc", "best_test_plcc", "seconds")
    return {
        "parameters": runs[0].config["parameters"],
        "gflop_per_patch": _measured(runs[0].config.get("gflop_per_patch")),
        "patches_per_second": _mean([_measured(run.result.get("patches_per_second")) for run in runs]),
        **{
            metric: asdict(metrics.level_interval([r[metric] for r in per_run], bootstrap.of(metric, runs)))
            for metric in ("srcc", "plcc")
        },
        **{name: _mean([r[name] for r in per_run]) for name in averaged},
        "runs": per_run,
    }


def run_numbers(run: Run) -> dict:
    """One run's figures, computed from its predictions; the peak and the time are its result.json's."""
    raw = {name: getattr(metrics, name)(run.scores, run.mos) for name in ("srcc", "plcc", "krcc", "rmse")}
    kept = ("selected_epoch", "select_on", "selected_val_srcc", "best_test_srcc", "best_test_plcc", "seconds")
    return {"folder": run.name, "seed": run.seed, **raw, **mapped_numbers(run), **{k: run.result.get(k) for k in kept}}


def mapped_numbers(run: Run) -> dict:
    """PLCC and RMSE after the logistic mapping, or the reason why there are none."""
    try:
        mapped = metrics.logistic_map(run.scores, run.mos)
        return {
            "plcc_mapped": metrics.plcc(mapped, run.mos),
            "rmse_mapped": metrics.rmse(mapped, run.mos),
            "mapping_error": None,
        }
    except ValueError as error:
        return {"plcc_mapped": None, "rmse_mapped": None, "mapping_error": str(error)}


def _measured(value: object) -> float | None:
    """A number that a run may have measured; None where it did not."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


# ---- two variants --------------------------------------------------------------------------------------------


def compare(
    family: Family, by_variant: dict[str, list[Run]], bootstrap: Bootstrap, sick: set[str]
) -> dict[str, dict | None]:
    """Every comparison of one backbone's variants; None where a variant is missing.

    `sick` are the folders of the runs that are not sound.
    """
    runs = {ending: by_variant[variant] for ending, variant in family.rows.items()}
    found = {
        name: comparison_numbers(paired(runs[first], runs[second]), bootstrap, sick)
        for name, (first, second, _) in COMPARISONS.items()
        if runs[first] and runs[second]
    }
    return {name: found.get(name) for name in COMPARISONS}


def paired(first: list[Run], second: list[Run]) -> list[tuple[Run, Run]]:
    """The runs that share a seed; where none do, in the order of their seeds."""
    seconds = {run.seed: run for run in second}
    return [(run, seconds[run.seed]) for run in first if run.seed in seconds] or list(zip(first, second, strict=False))


def comparison_numbers(pairs: list[tuple[Run, Run]], bootstrap: Bootstrap, sick: set[str]) -> dict:
    """Second less first of every pair: intervals, the check by Steiger's test, and what could be resolved."""
    per_seed = [pair_numbers(*pair) for pair in pairs]
    firsts, seconds = (list(runs) for runs in zip(*pairs, strict=True))
    differences = {metric: bootstrap.of(metric, seconds) - bootstrap.of(metric, firsts) for metric in ("srcc", "plcc")}
    intervals = {
        metric: asdict(metrics.crossed_interval([numbers[metric] for numbers in per_seed], draws))
        for metric, draws in differences.items()
    }
    if len(pairs) > 1:
        plain = metrics.plain_crossed_percentiles(differences["srcc"])
        intervals["srcc"]["plain_crossed"] = dict(zip(("low", "high"), plain, strict=True))
    return {
        **intervals,
        "sick": [run.name for run in firsts + seconds if run.name in sick],
        "identical": all(np.array_equal(first.scores, second.scores) for first, second in pairs),
        "per_seed": per_seed,
        "power": power(pairs, [numbers["srcc"] for numbers in per_seed], differences["srcc"]),
        "disagreements": disagreements(pairs),
    }


def pair_numbers(first: Run, second: Run) -> dict:
    """One seed's differences, second less first, and Steiger's test of the two PLCCs."""
    agreement = metrics.plcc(first.scores, second.scores)
    plccs = [metrics.plcc(run.scores, run.mos) for run in (second, first)]
    srccs = [metrics.srcc(run.scores, run.mos) for run in (second, first)]
    z, p_value = metrics.steiger(*plccs, agreement, len(first.names))
    return {
        "seeds": [first.seed, second.seed],
        "srcc": srccs[0] - srccs[1],
        "plcc": plccs[0] - plccs[1],
        "steiger_z": z,
        "steiger_p": p_value,
        "prediction_plcc": agreement,
        "prediction_srcc": metrics.srcc(first.scores, second.scores),
    }


def power(pairs: list[tuple[Run, Run]], estimates: list[float], draws: np.ndarray) -> dict:
    """What one run of each variant resolves on this test set, by the correlation of the predictions."""
    images = len(pairs[0][0].names)
    correlations = np.mean(
        [
            [
                metrics.srcc(first.scores, first.mos),
                metrics.srcc(second.scores, second.mos),
                metrics.srcc(first.scores, second.scores),
            ]
            for first, second in pairs
        ],
        axis=0,
    ).tolist()
    error = metrics.difference_standard_error(*correlations, images)
    runs = metrics.crossed_interval(estimates, draws)
    return {
        "prediction_srcc": correlations[2],
        "standard_error": error,
        "resolvable": metrics.resolvable_difference(error),
        "resolvable_bootstrap": metrics.resolvable_difference(runs.standard_error, runs.critical),
        "small_difference": SMALL_DIFFERENCE,
        "images_needed": metrics.images_needed(SMALL_DIFFERENCE, error, images),
        "seeds_known": len(pairs) > 1,
        "seeds_needed": metrics.seeds_needed(SMALL_DIFFERENCE, estimates, draws) if len(pairs) > 1 else None,
    }


def disagreements(pairs: list[tuple[Run, Run]]) -> list[dict]:
    """The images whose absolute error changed most from first to second, scores averaged over the seeds."""
    first, second = (np.mean([run.scores for run in runs], axis=0) for runs in zip(*pairs, strict=True))
    names, mos = pairs[0][0].names, pairs[0][0].mos
    change = np.abs(second - mos) - np.abs(first - mos)
    worst = np.argsort(-np.abs(change), kind="stable")[:DISAGREEMENTS]
    return [
        {
            "image_name": names[i],
            "mos": float(mos[i]),
            "score_from": float(first[i]),
            "score_to": float(second[i]),
            "error_change": float(change[i]),
        }
        for i in worst
        if change[i] != 0
    ]


# ---- the rest ------------------------------------------------------------------------------------------------


def attention_by_decile(runs: list[Run]) -> dict | None:
    """Mean attention per stage in ten groups of images of rising MOS, over images and seeds."""
    if not runs:
        return None
    groups = np.array_split(np.argsort(runs[0].mos, kind="stable"), min(DECILES, len(runs[0].mos)))
    attention = np.mean([run.attention for run in runs], axis=0)
    return {
        "mos": [float(runs[0].mos[group].mean()) for group in groups],
        **{stage: [float(attention[group, column].mean()) for group in groups] for column, stage in enumerate(STAGES)},
    }


def setup(run: Run) -> dict:
    """What it takes to repeat a run."""
    kept = ("run_id", "commit", "versions", "device", "precision", "split", "flags", "dataset_note")
    return {"folder": run.name, "variant": run.variant, "seed": run.seed, **{k: run.config.get(k) for k in kept}}
