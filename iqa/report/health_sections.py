"""The health of the runs -> sections of report.md: the signs before the verdict, the figures behind them."""

from iqa.health import PERCENTILES, lost_units, mos_decimals, places
from iqa.report import words
from iqa.report.tables import NONE, table


def signs(numbers: dict) -> str:
    """What is wrong with which run, in the order of the runs; one sentence where nothing is."""
    sick, notes = words.sick_runs(numbers), words.health_notes(numbers)
    runs = len(numbers["health"])
    summary = (
        f"No sign of a sick run among {words.counted(runs, 'run')}."
        if not sick
        else (
            f"{words.capitalised(words.counted(len({run['folder'] for run, _ in sick}), 'run'))} of {runs} not sound:"
        )
    )
    parts = ["## Health of the runs", summary]
    if sick:
        parts.append("\n".join(f"* **{run['folder']}**: {sentence}" for run, sentence in sick))
    if notes:
        parts.append("\n".join(f"* Note: {note}" for note in notes))
    return "\n\n".join(parts)


def figures(numbers: dict) -> str:
    """Where the scores lie beside the MOS, the layers, the chosen epoch and the training loss of every run."""
    decimals = mos_decimals(numbers["mos_range"])
    percentiles = f"percentiles {', '.join(map(str, PERCENTILES))}"
    header = [
        "Run",
        f"Scores, {percentiles}",
        f"MOS, {percentiles}",
        "Near the lowest",
        "Near the highest",
        "Dead / saturated units by layer",
        "Epoch chosen",
        "Training loss",
        "Loss of one score for all",
    ]
    return "\n\n".join(
        [
            "## Health in figures",
            "On the test images, in points of MOS. Near the lowest and the highest: the share of scores within 1% of the scale. "
            "Layers of the target network, on the images that chose the epoch, each unit's mean over the patches of an image. A "
            "dead unit gives every image the same; a saturated one lies at an end of its sigmoid for all of them.",
            table(header, [_row(run, decimals) for run in numbers["health"]]),
        ]
    )


def _row(run: dict, decimals: int) -> list[str]:
    health = run["health"]
    scores, epochs, loss = health["scores"], health["epochs"], health["loss"]
    return [
        run["folder"],
        places(scores["scores"], decimals),
        places(scores["mos"], decimals),
        f"{scores['near_lowest']['scores']:.1%}",
        f"{scores['near_highest']['scores']:.1%}",
        words.listed(map(lost_units, health["target_layers"] or [])) or NONE,
        f"{epochs['chosen']} of {epochs['trained']}",
        NONE if loss["training"] is None else f"{loss['training']:.{decimals}f}",
        f"{loss['constant']:.{decimals}f}" + (" (test MOS)" if loss["constant_from"] == "test MOS" else ""),
    ]
