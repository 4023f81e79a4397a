"""The results of a run: lines of the log, the selected epoch and the content of result.json. No torch."""

from typing import Any

import numpy as np

from iqa.cli import say
from iqa.health import health_lines, run_health
from iqa.predictions import Predictions

METRICS = ("val_srcc", "val_plcc", "test_srcc", "test_plcc")


def print_summary(title: str, row: dict, notes: dict[str, str]) -> None:
    """The lines of an epoch.

    Args:
        notes: for each set that was scored, why it has no SRCC, or "".
    """
    say(f"{title} Summary:")
    say(f"  Train Loss: {row['train_loss']:.4f}")
    for name, note in notes.items():
        for metric in ("srcc", "plcc"):
            value = row[f"{name}_{metric}"]
            say(f"  {name.title()} {metric.upper()}: " + (f"undefined ({note})" if value is None else f"{value:.4f}"))
    say(f"  Time: {row['seconds']:.1f}s")
    for name, note in notes.items():
        if note:
            say(f"Warning: {title} has no {name} SRCC and cannot be chosen: {note}")


def summarise(
    config: dict[str, Any],
    history: list[dict],
    chosen: dict[str, Any] | None,
    predictions: dict[str, Predictions],
    select_on: str,
    *,
    training_mos: np.ndarray,
    patches_per_epoch: int,
) -> dict[str, Any]:
    """Print the results of a run and its health; returns the content of result.json.

    Args:
        chosen: the row of the selected epoch; None if no epoch has a defined SRCC.
        predictions: those of the selected epoch.
    """
    best, health, failure = dict.fromkeys(("best_test_srcc", "best_test_plcc")), None, None
    say()
    if chosen and chosen["test_srcc"] is not None:
        for name in ("test_srcc", "test_plcc"):
            best[f"best_{name}"] = max(row[name] for row in history if row[name] is not None)
        health = run_health(
            scores=predictions["test"].scores,
            mos=predictions["test"].mos,
            mos_range=config["mos_range"],
            target_layers=chosen.get("target_layers"),
            selected_epoch=chosen["epoch"],
            history=history,
            select_on=select_on,
            constant_loss=float(np.abs(training_mos - np.median(training_mos)).mean()),
        )
        print_results(chosen, best, select_on, health)
    else:
        failure = f"No epoch has a defined {'test' if chosen else select_on} SRCC; see the warnings in the log."
        say(f"Failed: {failure}")
        chosen = {}
    seconds = [row["training_seconds"] for row in history if row.get("training_seconds")]  # older runs lack them
    return {
        **{key: config[key] for key in ("variant", "tag", "parameters")},
        "seed": config["flags"]["seed"],
        "epochs": len(history),
        "select_on": select_on,
        "selected_epoch": chosen.get("epoch"),
        **{f"selected_{name}": chosen.get(name) for name in METRICS},
        **best,
        "seconds": round(sum(row["seconds"] for row in history), 3),
        "patches_per_second": round(len(seconds) * patches_per_epoch / sum(seconds), 3) if seconds else None,
        "health": health,
        "failure": failure,
    }


def print_results(chosen: dict[str, Any], best: dict[str, float], select_on: str, health: dict[str, Any]) -> None:
    say(f"Best Test SRCC: {best['best_test_srcc']:.4f}")
    say(f"Best Test PLCC: {best['best_test_plcc']:.4f}")
    say(f"Selected epoch: {chosen['epoch']} (best {select_on.title()} SRCC {chosen[f'{select_on}_srcc']:.4f})")
    say(f"Selected Test SRCC: {chosen['test_srcc']:.4f}")
    say(f"Selected Test PLCC: {chosen['test_plcc']:.4f}")
    for line in health_lines(health):
        say(line)
