"""Numbers -> report.md, and the short table for the terminal."""

from iqa.metrics import LEVEL, POWER
from iqa.report import grid_words as grid_words
from iqa.report import health_sections, part_sections, words
from iqa.report import outcome_words as outcome_words
from iqa.report.numbers import COMPARISONS, views
from iqa.report.outcomes import OUTCOMES
from iqa.report.outcomes import SHOWN as OUTCOME_SHOWN
from iqa.report.rows import BASELINE
from iqa.report.runs import STAGES
from iqa.report.tables import MISSING, NONE, table

COMPLEXITY = ["Parameters", "GFLOPs per patch", "Patches/s in training"]


def page(numbers: dict) -> str:
    """The whole of report.md: the health of the runs before the verdict, the figures behind it after the results."""
    sections = (
        health_sections.signs,
        verdict,
        results,
        contributions,
        part_sections.sections,
        outcomes,
        resolution,
        seeds,
        health_sections.figures,
        disagreements,
        attention,
        complexity,
        figures,
        set_up,
        method,
    )
    banner = [f"> **{words.not_koniq(numbers)}**"] if numbers["dataset_note"] else []
    return (
        "\n\n".join(
            [
                f"# {numbers['family']['title']} ablation: multi-scale fusion and channel attention",
                *banner,
                *filter(None, (section(numbers) for section in sections)),
            ]
        )
        + "\n"
    )


# ---- the table for the terminal ------------------------------------------------------------------------------


def short_table(numbers: dict) -> str:
    """SRCC, PLCC, difference to the baseline and time, between the published rows."""
    measured = [
        [numbers["rows"][variant]["title"], *short_cells(found, _delta(numbers, variant))]
        for variant, found in numbers["variants"].items()
    ]
    return table(["Configuration", "SRCC", "PLCC", "Δ SRCC", "Time"], _between_published(measured, 5))


def short_cells(found: dict | None, delta: dict | None) -> list[str]:
    if not found:
        return [MISSING] * 4
    change = words.signed(delta["srcc"]["estimate"]) if delta else NONE
    return [
        f"{found['srcc']['estimate']:.4f}",
        f"{found['plcc']['estimate']:.4f}",
        change,
        words.duration(found["seconds"]),
    ]


def _delta(numbers: dict, variant: str) -> dict | None:
    """The comparison of a variant with the baseline; None for the baseline itself and where one is missing."""
    log_names = numbers["family"]["rows"]
    names = [n for n, (first, second, _) in COMPARISONS.items() if first == BASELINE and log_names[second] == variant]
    return numbers["comparisons"][names[0]] if names else None


def _between_published(measured: list[list[str]], columns: int) -> list[list[str]]:
    first, last = ([row["label"], f"{row['srcc']:.4f}", f"{row['plcc']:.4f}"] for row in words.PUBLISHED.values())
    delta_column = 3 if columns == 5 else 5
    for row, published in zip((first, last), words.PUBLISHED.values(), strict=True):
        row += [NONE] * (columns - 3)
        row[delta_column] = words.signed(published["delta"]) if published["delta"] else NONE
    return [first, *measured, last]


# ---- the sections of report.md -------------------------------------------------------------------------------


def verdict(numbers: dict) -> str:
    """The verdict, and after it what limits it."""
    notes = words.warnings(numbers)[1 if numbers["dataset_note"] else 0 :]
    limits = ["\n>\n".join(f"> {sentence}" for sentence in notes)] if notes else []
    return "\n\n".join(["## Verdict", f"**{' '.join(numbers['verdict'])}**", *limits])


def results(numbers: dict) -> str:
    """The main table, the mapped figures and where the published rows come from."""
    chosen = "validation" if numbers["selected_on"] == ["val"] else " and ".join(numbers["selected_on"])
    header = [
        "Configuration",
        "SRCC [95%]",
        "PLCC [95%]",
        "KRCC",
        "RMSE",
        "Δ SRCC [95%]",
        "Parameters",
        "Time",
        "Peak SRCC on test (optimistic)",
        "Peak PLCC on test (optimistic)",
    ]
    measured = [
        [numbers["rows"][variant]["title"], *result_cells(found, _delta(numbers, variant))]
        for variant, found in numbers["variants"].items()
    ]
    low, high = numbers["mos_range"]
    return "\n\n".join(
        [
            "## Results",
            f"{numbers['test_images']:,} test images; the epoch was chosen on {chosen}. RMSE in points of MOS "
            f"({low:g}–{high:g}); time per run; Δ is against the {numbers['family']['title']} baseline, paired by image. The peak is the best epoch on the test "
            "images themselves, as published tables often quote it.",
            table(header, _between_published(measured, len(header))),
            "\n".join(f"* {row['label']}: {row['protocol']}." for row in words.PUBLISHED.values()),
            "After the four-parameter logistic mapping, fitted on the test images:",
            table(
                ["Configuration", "PLCC (mapped)", "RMSE (mapped)"],
                [
                    [numbers["rows"][variant]["title"], *mapped_cells(found)]
                    for variant, found in numbers["variants"].items()
                ],
            ),
        ]
    )


def result_cells(found: dict | None, delta: dict | None) -> list[str]:
    if not found:
        return [MISSING] * 9
    return [
        words.level(found["srcc"]),
        words.level(found["plcc"]),
        f"{found['krcc']:.4f}",
        f"{found['rmse']:.3f}",
        words.with_interval(delta["srcc"]) if delta else NONE,
        f"{found['parameters']:,}",
        words.duration(found["seconds"]),
        _number(found["best_test_srcc"]),
        _number(found["best_test_plcc"]),
    ]


def mapped_cells(found: dict | None) -> list[str]:
    if not found:
        return [MISSING] * 2
    if found["plcc_mapped"] is None:
        return [f"no number: {next(run['mapping_error'] for run in found['runs'] if run['mapping_error'])}"] * 2
    return [f"{found['plcc_mapped']:.4f}", f"{found['rmse_mapped']:.3f}"]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def contributions(numbers: dict) -> str:
    """What each idea adds, and how far the whole stays from the published Swin-Base figure."""
    return "\n\n".join(["## Contributions", contribution_table(numbers), *_published_sentences(numbers)])


def contribution_table(numbers: dict) -> str:
    header = ["Contribution", "Δ SRCC [95%]", "p (Holm)", "Δ PLCC [95%]", "p (Holm)", "Steiger's Z (PLCC)", "Reading"]
    return table(header, [_contribution_row(*row) for row in grid_words.labelled(numbers)])


def _contribution_row(label: str, found: dict | None) -> list[str]:
    if not found:
        return [label, *[MISSING] * 6]
    steiger = words.listed(
        f"{seed['steiger_z']:+.3f} (p {words.p_words(seed['steiger_p'], '= ')})" for seed in found["per_seed"]
    )
    return [
        label,
        words.with_interval(found["srcc"]),
        words.p_words(found["srcc"]["p_holm"]),
        words.with_interval(found["plcc"]),
        words.p_words(found["plcc"]["p_holm"]),
        steiger,
        words.reading(found),
    ]


def _published_sentences(numbers: dict) -> list[str]:
    if numbers["dataset_note"]:
        return ["Not compared with published figures: these are not KonIQ-10k's photographs."]
    return ["\n".join(f"* {sentence}" for sentence in published_sentences(numbers))]


def published_sentences(numbers: dict) -> list[str]:
    """How far the whole stays from the published Swin-Base figure, and how its gain stands to published ones."""
    distance = numbers["published"]["distance_to_swin_base"]
    remains = (
        []
        if distance is None
        else [
            f"Distance that remains to the published Swin-Base figure ({words.PUBLISHED['smart_iqa']['srcc']:.4f}): "
            f"{words.signed(distance)} SRCC. This compares across protocols: other split, crops and choice of epoch."
        ]
    )
    return remains + numbers["published"]["sentences"]


def outcomes(numbers: dict) -> str:
    """The relative gain of both ideas as one of three outcomes."""
    rows = []
    for view in views(numbers):
        found, both = view["outcome"], view["comparisons"]["both"]
        shares = [f"{found['shares'][name]:.1%}" for name in OUTCOMES] if found else [MISSING if not both else NONE] * 3
        rows.append(
            [
                view["family"]["title"],
                f"{found['relative_gain']:+.2%}" if found else MISSING if not both else NONE,
                found["outcome"] if found else NONE,
                *shares,
                outcome_words.outcome_reading(found, both),
            ]
        )
    header = [
        "Backbone",
        "Gain of both ideas over the baseline",
        "Outcome of the estimate",
        *(f"Share of the bootstrap in {name} ({limits})" for name, (_, limits) in OUTCOMES.items()),
        "Reading",
    ]
    return "\n\n".join(
        [
            "## Outcome",
            f"The gain in SRCC relative to the baseline's; an outcome is shown where {OUTCOME_SHOWN:.0%} of the bootstrap share it and the "
            "comparison agrees: a gain that is shown for A and B, for C an interval wholly below 0.3%.",
            table(header, rows),
            "\n".join(f"* {view['outcome_sentence']}" for view in views(numbers)),
        ]
    )


def complexity(numbers: dict) -> str:
    """What each row costs."""
    rows = [
        [numbers["rows"][row]["title"], numbers["rows"][row]["backbone"], *complexity_cells(found)]
        for row, found in numbers["variants"].items()
    ]
    return "\n\n".join(["## Complexity", table(["Configuration", "Backbone", *COMPLEXITY], rows)])


def complexity_cells(found: dict | None) -> list[str]:
    if not found:
        return [MISSING] * len(COMPLEXITY)
    measured = ((found["gflop_per_patch"], ".2f"), (found["patches_per_second"], ",.1f"))
    return [
        f"{found['parameters']:,}",
        *("not measured" if value is None else format(value, form) for value, form in measured),
    ]


def resolution(numbers: dict) -> str:
    """What this test set can show at all."""
    header = [
        "Comparison",
        "Correlation of predictions (SRCC)",
        "Smallest Δ resolved, one run each",
        "Smallest Δ resolved, these runs",
        "Images for 0.003",
        "Seeds for 0.003",
    ]
    rows = [
        [label, *(_resolution_cells(found["power"]) if found else [MISSING] * 5)]
        for label, found in grid_words.labelled(numbers)
    ]
    return "\n\n".join(
        [
            "## What this test set can show",
            f"The smallest true Δ SRCC that one two-sided 5% test, without Holm's correction, shows with {POWER:.0%} power on "
            f"{numbers['test_images']:,} images. For one run of each variant it follows from the correlation of their "
            "predictions; for these runs, from the bootstrap. Images count for one run each, seeds for these images.",
            table(header, rows),
        ]
    )


def _resolution_cells(power: dict) -> list[str]:
    seeds = "unknown from one seed"
    if power["seeds_known"]:
        seeds = f"{power['seeds_needed']:,}" if power["seeds_needed"] else "no number would do on these images"
    return [
        f"{power['prediction_srcc']:.4f}",
        f"{power['resolvable']:.4f}",
        f"{power['resolvable_bootstrap']:.4f}",
        f"{power['images_needed']:,}",
        seeds,
    ]


def seeds(numbers: dict) -> str:
    """Every run, and the paired differences of every seed."""
    runs = [run for found in numbers["variants"].values() if found for run in found["runs"]]
    parts = [
        "## Seeds",
        f"{words.capitalised('one seed' if len(numbers['seeds']) == 1 else str(len(numbers['seeds'])) + ' seeds')}: "
        f"{words.listed(numbers['seeds'])}.",
        table(
            ["Run", "Seed", "SRCC", "PLCC", "Epoch chosen", "Peak SRCC on test (optimistic)", "Time"],
            [
                [
                    run["folder"],
                    str(run["seed"]),
                    f"{run['srcc']:.4f}",
                    f"{run['plcc']:.4f}",
                    str(run["selected_epoch"]),
                    _number(run["best_test_srcc"]),
                    words.duration(run["seconds"]),
                ]
                for run in runs
            ],
        ),
    ]
    if len(numbers["seeds"]) > 1:
        parts += [
            "Paired differences in SRCC per seed, and the plain percentiles of a crossed bootstrap beside the "
            "interval used here:",
            _seed_differences(numbers),
        ]
    return "\n\n".join(parts)


def _seed_differences(numbers: dict) -> str:
    rows = []
    apart = grid_words.contrasts(numbers) if "backbones" in numbers else []
    for label, found in grid_words.labelled(numbers) + apart:
        if found:
            each = words.listed(
                f"{words.signed(s['srcc'])} ({'/'.join(map(str, sorted(set(s['seeds']))))})" for s in found["per_seed"]
            )
            plain = found["srcc"].get("plain_crossed")
            spread = found["srcc"]["seed_deviation"]
            rows.append(
                [
                    label,
                    each,
                    f"{words.signed(found['srcc']['estimate'])} ± {spread:.4f} (n = {found['srcc']['seeds']})"
                    if spread is not None
                    else NONE,
                    words.with_interval(found["srcc"]),
                    f"[{plain['low']:+.4f}, {plain['high']:+.4f}]" if plain else NONE,
                ]
            )
    return table(["Comparison", "Per seed (seed)", "Mean ± deviation", "Interval", "Plain crossed percentiles"], rows)


def disagreements(numbers: dict) -> str:
    """The images whose error changed most between the baseline and the full variant."""
    found = numbers["comparisons"]["both"]
    heading = "## Where the two models disagree most"
    if not found:
        return f"{heading}\n\nMissing, with its variant."
    if not found["disagreements"]:
        return f"{heading}\n\nNowhere: the scores are the same."
    digits = words.mos_digits(numbers)
    return "\n\n".join(
        [
            heading,
            "Test images whose absolute error changed most from the baseline to multi-scale + attention (negative: the "
            "error fell), in points of MOS, scores averaged over seeds:",
            table(
                ["Image", "MOS", "Baseline", "Multi-scale + attention", "Change of error"],
                [
                    [
                        image["image_name"].replace("|", "\\|"),
                        *(f"{image[key]:.{digits}f}" for key in ("mos", "score_from", "score_to")),
                        f"{image['error_change']:+.{digits}f}",
                    ]
                    for image in found["disagreements"]
                ],
            ),
        ]
    )


def attention(numbers: dict) -> str:
    """Which scales the attention trusts for bad and for good images."""
    groups = numbers["attention_by_mos"]
    heading = "## Attention over the scales"
    if not groups:
        return f"{heading}\n\nMissing, with its variant."
    digits = words.mos_digits(numbers)
    rows = [
        [
            f"{name} tenth (mean MOS {groups['mos'][place]:.{digits}f})",
            *(f"{groups[stage][place]:.3f}" for stage in STAGES),
        ]
        for name, place in (("Worst", 0), ("Best", -1))
    ]
    return "\n\n".join(
        [
            heading,
            "Mean weights of the test images, lowest and highest by MOS; uniform would be 0.25 each.",
            table(["Test images", "Stage 1", "Stage 2", "Stage 3", "Stage 4"], rows),
            numbers["attention_sentence"],
        ]
    )


def figures(numbers: dict) -> str:
    pictures = [f"![{caption}](figures/{name}.png)" for name, caption in numbers["figures"].items()]
    return "\n\n".join(["## Figures", *pictures])


def set_up(numbers: dict) -> str:
    """What it takes to repeat the runs: said once where all agree, else per run."""
    runs = numbers["setup"]
    common = {
        "Commit": [run["commit"] for run in runs],
        "Versions": [_items(run["versions"]) for run in runs],
        "Device": [run["device"] for run in runs],
        "Precision": [run["precision"] for run in runs],
        "Split": [_items({k: v for k, v in run["split"].items() if k != "sha256"}) for run in runs],
        "Split SHA-256": [run["split"].get("sha256") for run in runs],
        "Flags": [_items(_shared_flags(run["flags"], "backbones" in numbers)) for run in runs],
    }
    rows = [
        [
            name,
            str(values[0])
            if len(set(map(str, values))) == 1
            else "<br>".join(f"{run['folder']}: {value}" for run, value in zip(runs, values, strict=True)),
        ]
        for name, values in common.items()
    ]
    rows.append(["Seeds", words.listed(numbers["seeds"])])
    return "## Set-up\n\n" + table(["", "Value"], rows).replace("---:", "---")


def _shared_flags(flags: dict, several: bool) -> dict:
    own = {"seed", "use_multiscale", "use_attention", "output_dir", "checkpoint_suffix"}
    own |= {"backbone", "model", "drop_path_rate"} if several else set()
    return {name: value for name, value in flags.items() if name not in own}


def _items(pairs: dict | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (pairs or {}).items())


def method(numbers: dict) -> str:
    boot = numbers["bootstrap"]
    return "\n\n".join(
        [
            "## How the numbers were made",
            "Every number but parameters, time and peak follows from the predictions_test.csv files, and all are in "
            f"report.json. Intervals are at {LEVEL:.0%}, from {boot['draws']:,} bootstrap draws of the test images (seed "
            f"{boot['seed']}), the same images for all runs: percentiles for one seed; for several, the variance from the "
            "images and what the seeds add to it, with Student's t for few seeds. p-values invert the intervals; Holm's "
            "correction is over the comparisons made, and a difference is shown where p < 0.05 after it. Steiger's Z "
            "(1980) tests the two PLCCs of each seed, as a check.",
            f"The verdict is about the ideas with {words.SEEDS_FOR_IDEAS} seeds or more whose runs are all sound; else about the "
            "trained models, in which an idea and the luck of its training are one.",
            "Words for the size of a gain against a published one, by the whole interval in multiples of it: much smaller "
            "(below 0.5), similar (within 0.8 to 1.25), comparable (within 0.5 to 2), smaller (below 1), larger (above 1), "
            "much larger (above 2); else not distinguishable.",
        ]
    )
