"""Progress of an epoch, and the time that is left."""

import os
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

from iqa.cli import say, write_log
from iqa.data.image_cache import LOG_EVERY
from iqa.processes import is_first

BACKWARD = 3  # a training step costs about three forward passes


class Forecast:
    """Time that is left in an epoch and in all runs: this one, and those that the runner starts after it.

    Args:
        finished: epochs of this run that an earlier call trained.
        epochs: epochs of a run.
        training, evaluation: the loaders of an epoch.
    """

    def __init__(self, finished: int, epochs: int, training, evaluation: list):
        self.start, self.done = time.monotonic(), 0
        self.epoch = BACKWARD * work(training) + sum(map(work, evaluation))
        number, _, runs = os.environ.get("ABLATION_RUN", "1/1").partition("/")  # 2/9 in the second of nine runs
        self.runs = "all runs" if int(runs) > 1 else "run"
        self.total = self.epoch * (epochs * (int(runs) - int(number) + 1) - finished)

    def add(self, loader, *, backward: bool) -> None:
        """Count a batch."""
        self.done += loader.part.batch_size * (BACKWARD if backward else 1)

    def __str__(self) -> str:
        pace = (time.monotonic() - self.start) / self.done
        in_epoch, in_all = -self.done % self.epoch, self.total - self.done
        return f"epoch: {pace * in_epoch:.0f} s left; {self.runs}: about {max(1, round(pace * in_all / 60))} min left"


def work(loader) -> int:
    """Number of patches in all batches of a loader."""
    return len(loader) * loader.part.batch_size


def watch(loader, title: str, forecast: Forecast | None = None, meter=None) -> Iterator:
    """Iterate with a progress bar on a terminal, or with regular lines in a log.

    Args:
        meter: the `LossMeter` of training steps, whose mean so far is shown.
    """
    shown = logged = time.monotonic()
    with tqdm(
        loader,
        desc=title,
        leave=False,
        bar_format="{desc}: {n_fmt}/{total_fmt}{postfix} {bar}",  # the bar shrinks first on a narrow terminal
        disable=not (is_first() and sys.stderr.isatty()),
    ) as bar:
        for step, item in enumerate(bar, 1):
            yield item
            if forecast:
                forecast.add(loader, backward=meter is not None)
            now = time.monotonic()
            if now - shown > (LOG_EVERY if bar.disable else LOG_EVERY / 10):
                shown = now
                texts = ([f"loss {meter.mean():.4f}"] if meter else []) + ([str(forecast)] if forecast else [])
                bar.set_postfix_str(", ".join(texts))
                if now - logged > LOG_EVERY:
                    logged = now
                    line = f"  {title}: {', '.join([f'{step}/{len(loader)} batches', *texts])}"
                    say(line) if bar.disable else write_log(f"{line}\n")
