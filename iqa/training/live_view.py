"""--tensorboard: the lines of metrics.jsonl as curves, one point per epoch."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

INSTALL = "python3 -m pip install tensorboard"
CURVES = {
    "train_loss": "loss/train",
    "val_srcc": "srcc/val",
    "val_plcc": "plcc/val",
    "test_srcc": "srcc/test",
    "test_plcc": "plcc/test",
    "learning_rate": "learning_rate",
    "seconds": "seconds_per_epoch",
}


def is_installed() -> bool:
    """Whether the package tensorboard can be imported; torch is not loaded for it."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def live_view(folder: Path | None, history: list[dict]) -> Iterator[Callable]:
    """Yield show(row), which writes a line of metrics.jsonl into `folder`; None writes nothing.

    `history` holds the lines of a resumed run. Epochs that are trained again replace their former points, and those
    that were never written (the run was killed at that moment, or began without the flag) are written now.
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"--tensorboard: the package does not load ({error}); {INSTALL}") from error
    earlier = list(folder.glob("events.out.tfevents.*"))
    if not history:
        for file in earlier:
            file.unlink()
    with SummaryWriter(folder, purge_step=len(history) or None) as writer:  # drops older points from this epoch on

        def show(row: dict) -> None:
            for key, value in row.items():
                if key in CURVES and value is not None:
                    writer.add_scalar(CURVES[key], value, row["epoch"])
            writer.flush()

        for row in history[-1:] if earlier else history:
            show(row)
        yield show
