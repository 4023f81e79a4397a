"""What a run leaves: the lines that people grep, its checkpoints, metrics, predictions and result."""

from typing import Any

import numpy as np
import torch

from iqa.atomic_files import write_atomically
from iqa.cli import say
from iqa.data.labels import LabelledImages
from iqa.health import health_lines, run_health
from iqa.predictions import Predictions
from iqa.training.checkpoints import save_checkpoint
from iqa.training.run_files import RunFiles, write_lines


def print_summary(title: str, row: dict, notes: dict[str, str]) -> None:
    """The lines that people grep; four decimals."""
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


def save_last(files: RunFiles, scored, rates, history: list[dict], predictions: dict) -> None:
    """All that a resume needs, before anything that tells of this epoch; `scored` is the ScoredModel, `rates` LearningRates."""
    config = files.read_config()
    save_checkpoint(
        files.last,
        {
            "model": scored.weights(),
            **scored.state(),
            **rates.state(),
            "history": history,
            "predictions": predictions,
            "run_id": config["run_id"],
            "config": config,
        },
        keep_previous=True,
    )


def begin_files(files: RunFiles, config: dict, split: str | None, *, overwrite: bool) -> None:
    """Begin a new run's files with config.json: only when all is ready, since a fault before leaves what was there."""
    if not overwrite and files.last.exists():
        say(
            f"Warning: {files.last} of an earlier run will be replaced; to keep it, stop and name another --checkpoint_dir"
        )
    files.start(config, split)


def record(
    files: RunFiles,
    history: list[dict],
    predictions: dict[str, str],
    best: dict | None,
    weights: dict[str, torch.Tensor] | None,
) -> None:
    """Metrics, the predictions of the best epoch, and the weights where the last epoch is the best one.

    Args:
        best: the line of the best epoch.
        weights: of the model that was scored after the last epoch; None keeps none.
    """
    write_lines(files.metrics, history)
    for name, text in predictions.items():
        write_atomically(files.predictions(name), text)
    if weights is not None and best is history[-1]:
        state = {name: tensor.cpu() for name, tensor in weights.items()}  # it may be read without a GPU
        save_checkpoint(files.best, {"model": state, "epoch": best["epoch"], "config": files.read_config()})


def predictions_csv(images: LabelledImages, scored) -> str:
    """Text of a file of predictions; `scored` has scores [N] and attention, [N, 4] or None."""
    return Predictions(images.names, images.mos, scored.scores, scored.attention).to_csv()


def summarise(
    files: RunFiles,
    config: dict,
    history: list[dict],
    predictions: dict[str, str],
    chosen: dict | None,
    select_on: str,
    *,
    training_mos: np.ndarray,
    patches_per_epoch: int,
) -> dict[str, Any]:
    """Print the run's numbers and its health; returns the content of result.json.

    Args:
        predictions: of the chosen epoch, as the text of their files.
        patches_per_epoch: that the model is trained on.

    Raises:
        ValueError: no epoch has a defined SRCC.
    """
    if chosen is None or chosen["test_srcc"] is None:
        name = "test" if chosen else select_on
        raise ValueError(f"{files.output}: no epoch has a defined {name} SRCC; no result. See the warnings above")
    best = {
        metric: max(row[metric] for row in history if row[metric] is not None) for metric in ("test_srcc", "test_plcc")
    }
    say()
    say(f"Best Test SRCC: {best['test_srcc']:.4f}")
    say(f"Best Test PLCC: {best['test_plcc']:.4f}")
    say(f"Selected epoch: {chosen['epoch']} (best {select_on.title()} SRCC {chosen[f'{select_on}_srcc']:.4f})")
    say(f"Selected Test SRCC: {chosen['test_srcc']:.4f}")
    say(f"Selected Test PLCC: {chosen['test_plcc']:.4f}")
    test = Predictions.from_csv(predictions["test"])
    health = run_health(
        scores=test.scores,
        mos=test.mos,
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
        "selected_epoch": chosen["epoch"],
        **{f"selected_{name}": chosen.get(name) for name in ("val_srcc", "val_plcc", "test_srcc", "test_plcc")},
        **{f"best_{name}": value for name, value in best.items()},
        "seconds": round(sum(row["seconds"] for row in history), 3),
        "patches_per_second": training_rate(history, patches_per_epoch),
        "health": health,
    }


def training_rate(history: list[dict], patches_per_epoch: int) -> float | None:
    """Training patches per second, evaluation aside, over the epochs whose time is known."""
    seconds = [row["training_seconds"] for row in history if row.get("training_seconds")]
    return round(len(seconds) * patches_per_epoch / sum(seconds), 3) if seconds else None
