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


@contextlib.contextmanager
def live_view(folder: Path | None, history: list[dict]) -> Iterator[Callable]:
    """Yield show(row), which writes a line of metrics.jsonl into `folder`; None writes nothing.

    `history` holds the lines of a resumed run. They are written again, so that every epoch has one point, wherever the
    run was stopped, and also if it began without the flag.
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"--tensorboard: the package does not load ({error}); {INSTALL}") from error
    for file in folder.glob("events.out.tfevents.*"):  # of an earlier run, or of this one until it was stopped
        file.unlink()
    with SummaryWriter(folder) as writer:

        def show(row: dict) -> None:
            for key, value in row.items():
                if key in CURVES and value is not None:
                    writer.add_scalar(CURVES[key], value, row["epoch"])
            writer.flush()

        for row in history:
            show(row)
        yield show
