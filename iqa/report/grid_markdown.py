"""The numbers of a grid -> its report.md, and its short table for the terminal."""

from iqa.report import grid_words as grid_words
from iqa.report import health_sections, part_sections, words
from iqa.report import markdown as markdown
from iqa.report.numbers import attention_views, views
from iqa.report.runs import STAGES
from iqa.report.tables import MISSING, NONE, table


def page(numbers: dict) -> str:
    """The whole of report.md."""
    sections = (
        health_sections.signs,
        markdown.verdict,
        results,
        published,
        decomposition,
        contributions,
        part_sections.sections,
        markdown.outcomes,
        conclusion,
        markdown.resolution,
        markdown.seeds,
        health_sections.figures,
        disagreements,
        attention,
        markdown.complexity,
        markdown.figures,
        markdown.set_up,
        markdown.method,
        method,
    )
    banner = [f"> **{words.not_koniq(numbers)}**"] if numbers["dataset_note"] else []
    return (
        "\n\n".join(
            [
                f"# Backbones and method: {grid_words.heading(numbers)}",
                *banner,
                *filter(None, (section(numbers) for section in sections)),
            ]
        )
        + "\n"
    )


# ---- the tables of results -----------------------------------------------------------------------------------


def short_table(numbers: dict) -> str:
    header = ["Configuration", "Backbone", "SRCC", "PLCC", "Δ SRCC", "Time"]
    return _in_blocks(numbers, header, markdown.short_cells, [2, 3, 4])


def results(numbers: dict) -> str:
    """Measured and published rows by kind of backbone, and the mapped figures."""
    chosen = "validation" if numbers["selected_on"] == ["val"] else " and ".join(numbers["selected_on"])
    header = [
        "Configuration",
        "Backbone",
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
    low, high = numbers["mos_range"]
    return "\n\n".join(
        [
            "## Results",
            f"{numbers['test_images']:,} test images; the epoch was chosen on {chosen}. RMSE in points of MOS "
            f"({low:g}–{high:g}); time per run; Δ is against the baseline on the same backbone, for SMART-IQA against HyperIQA, "
            "paired by image. The peak is the best epoch on the test images themselves, as published tables often quote it. Rows "
            "in italics are published figures of other protocols, all others were measured here.",
            _in_blocks(numbers, header, markdown.result_cells, [2, 3, 6]),
            "After the four-parameter logistic mapping, fitted on the test images:",
            table(
                ["Configuration", "Backbone", "PLCC (mapped)", "RMSE (mapped)"],
                [[*_names(numbers, row), *markdown.mapped_cells(found)] for row, found in numbers["variants"].items()],
            ),
        ]
    )


def _in_blocks(numbers: dict, header: list[str], cells, places: list[int]) -> str:
    """A table of the rows by kind of backbone; a published figure's SRCC, PLCC and Δ go to `places`."""
    lines = []
    for name, figure, rows in grid_words.blocks(numbers):
        lines.append([f"**{name}**", *[""] * (len(header) - 1)])
        lines.append([f"*{figure['label']}*", figure["backbone"], *[NONE] * (len(header) - 2)])
        for place, key in zip(places, ("srcc", "plcc", "delta"), strict=True):
            if figure[key] is not None:
                lines[-1][place] = f"*{words.signed(figure[key]) if key == 'delta' else format(figure[key], '.4f')}*"
        lines += [
            [*_names(numbers, row), *cells(numbers["variants"][row], grid_words.delta(numbers, row))] for row in rows
        ]
    return table(header, lines)


def _names(numbers: dict, row: str) -> list[str]:
    return [numbers["rows"][row]["title"], numbers["rows"][row]["backbone"]]


def published(numbers: dict) -> str:
    """The published figures, where they are from, and what the same models came to here."""
    rows = [
        [figure["label"], f"{figure['srcc']:.4f}", f"{figure['plcc']:.4f}", *_measured(numbers, f"published_{name}")]
        for name, figure in words.PUBLISHED.items()
    ]
    header = [
        "Model",
        "SRCC, published",
        "PLCC, published",
        "SRCC, measured here [95%]",
        "PLCC, measured here [95%]",
        "Recipe here",
    ]
    return "\n\n".join(
        [
            "## Published figures and measured ones",
            "A published figure is quoted and a measured one is from the runs in this folder; the two were made under different "
            "protocols, and neither stands in for the other.",
            table(header, rows),
            "\n".join(
                f"* {figure['label']}: {figure['protocol'].replace('not run here', 'quoted, not measured')}."
                for figure in words.PUBLISHED.values()
            ),
        ]
    )


def _measured(numbers: dict, row: str) -> list[str]:
    found = numbers["variants"].get(row)
    if row not in numbers["variants"]:
        return ["not run here"] * 3
    if not found:
        return [MISSING] * 3
    flags = next(run["flags"] for run in numbers["setup"] if run["variant"] == row)
    return [
        words.level(found["srcc"]),
        words.level(found["plcc"]),
        "its own, as published" if flags.get("recipe") == "published" else "that of the other rows",
    ]


# ---- the sections of the comparisons -------------------------------------------------------------------------


def decomposition(numbers: dict) -> str:
    """What the backbone adds, what the method adds on each, and their interaction."""
    header = ["Part", "Δ SRCC [95%]", "p (Holm)", "Δ PLCC [95%]", "p (Holm)", "Reading"]
    methods = [
        (f"Method on {view['family']['title']} (both ideas)", view["comparisons"]["both"]) for view in views(numbers)
    ]
    heading = "## Gain of the backbone, gain of the method"
    rows = [[label, *_contrast_cells(found)] for label, found in methods + grid_words.contrasts(numbers)]
    return "\n\n".join(
        [
            heading,
            "Total = backbone (between the baselines) + method on the first backbone + interaction. The interaction is the gain of "
            "the method on the other backbone less that on the first: above 0, the method does more for the other.",
            table(header, rows),
            *_listed(numbers["published"]["sentences"]),
        ]
    )


def _contrast_cells(found: dict | None) -> list[str]:
    if not found:
        return [MISSING] * 5
    return [
        words.with_interval(found["srcc"]),
        words.p_words(found["srcc"]["p_holm"]),
        words.with_interval(found["plcc"]),
        words.p_words(found["plcc"]["p_holm"]),
        words.reading(found),
    ]


def contributions(numbers: dict) -> str:
    """What each idea adds on each backbone, taken apart in words below the table."""
    parts = [markdown.contribution_table(numbers)]
    for view in views(numbers):
        apart = words.taken_apart(view)
        parts.append(f"**{view['family']['title']}.** {words.capitalised(apart)}.")
        parts += [] if numbers["dataset_note"] else _listed(markdown.published_sentences(view))
    if numbers["dataset_note"]:
        parts.append("Not compared with published figures: these are not KonIQ-10k's photographs.")
    return "\n\n".join(["## Contributions", *parts])


def _listed(sentences: list[str]) -> list[str]:
    return ["\n".join(f"* {sentence}" for sentence in sentences)] if sentences else []


def of_each(section, numbers: dict) -> str:
    """A section of the report on one backbone, for each; its heading says which."""
    return "\n\n".join(section(view).replace("\n\n", f", {view['family']['title']}\n\n", 1) for view in views(numbers))


def conclusion(numbers: dict) -> str:
    """Which of the older note's three conclusions the decomposition supports."""
    found = numbers["conclusion"]
    return "## Conclusion\n\n" + (
        found["sentence"] if found else "None is drawn: that takes a CNN and a Transformer set against each other."
    )


def disagreements(numbers: dict) -> str:
    return of_each(markdown.disagreements, numbers)


def attention(numbers: dict) -> str:
    """Mean weights by decile of MOS, the backbones and SMART-IQA side by side, and whether the published pattern is seen."""
    found = attention_views(numbers)
    if not found:
        return "## Attention over the scales\n\nMissing, with its variants."
    digits, mos = words.mos_digits(numbers), found[0]["attention_by_mos"]["mos"]
    header = [
        "Tenth by MOS (mean)",
        *(f"{view['family']['title']}, stage {stage}" for view in found for stage in (1, 2, 3, 4)),
    ]
    rows = [
        [
            f"{place + 1} ({value:.{digits}f})",
            *(f"{view['attention_by_mos'][stage][place]:.3f}" for view in found for stage in STAGES),
        ]
        for place, value in enumerate(mos)
    ]
    return "\n\n".join(
        [
            "## Attention over the scales",
            "Mean weights of the test images in tenths of rising MOS; uniform would be 0.25 each.",
            table(header, rows),
            "\n".join(f"* {view['attention_sentence']}" for view in found),
        ]
    )


def method(numbers: dict) -> str:
    return (
        "Holm's correction is over every comparison of the grid: those of each backbone, the contrasts between backbones, "
        "and that of the two published models where both were run. A contrast is computed for every seed and in every "
        "draw of the images, the same for all runs, and its interval is made as that of any difference."
    )
