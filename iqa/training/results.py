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
        predictions: predictions of the selected epoch.
        patches_per_epoch: number of training patches.
    """
    health, failure = None, None
    if chosen is None or chosen["test_srcc"] is None:
        failure = f"No epoch has a defined {'test' if chosen else select_on} SRCC; see the warnings in the log."
        chosen = None
    best = {f"best_{name}": peak(history, name) if chosen else None for name in ("test_srcc", "test_plcc")}
    say()
    if failure:
        say(f"Failed: {failure}")
    else:
        say(f"Best Test SRCC: {best['best_test_srcc']:.4f}")
        say(f"Best Test PLCC: {best['best_test_plcc']:.4f}")
        say(f"Selected epoch: {chosen['epoch']} (best {select_on.title()} SRCC {chosen[f'{select_on}_srcc']:.4f})")
        say(f"Selected Test SRCC: {chosen['test_srcc']:.4f}")
        say(f"Selected Test PLCC: {chosen['test_plcc']:.4f}")
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
        for line in health_lines(health):
            say(line)
    return {
        **{key: config[key] for key in ("variant", "tag", "parameters")},
        "seed": config["flags"]["seed"],
        "epochs": len(history),
        "select_on": select_on,
        "selected_epoch": chosen and chosen["epoch"],
        **{f"selected_{name}": chosen and chosen.get(name) for name in METRICS},
        **best,
        "seconds": round(sum(row["seconds"] for row in history), 3),
        "patches_per_second": training_rate(history, patches_per_epoch),
        "health": health,
        "failure": failure,
    }


def peak(history: list[dict], name: str) -> float:
    return max(row[name] for row in history if row[name] is not None)


def training_rate(history: list[dict], patches_per_epoch: int) -> float | None:
    """Training patches per second, evaluation aside, over the epochs whose time is known."""
    seconds = [row["training_seconds"] for row in history if row.get("training_seconds")]
    return round(len(seconds) * patches_per_epoch / sum(seconds), 3) if seconds else None
