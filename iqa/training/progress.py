"""What is seen of an epoch while it lasts: a bar or a line now and then, and the first step that was not finite."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from iqa.cli import say
from iqa.data.image_cache import LOG_EVERY
from iqa.processes import is_first

BACKWARD = 3  # forward passes that a training step is worth: the backward pass costs about two


class LossMeter:
    """The epoch's mean loss, and its first step that was not finite, on the device until they are read.

    Args:
        loader: of the epoch's batches.
        names: of the images that its plan counts.
        title: of the epoch, for messages.
    """

    def __init__(self, loader, names: tuple[str, ...], title: str, forecast: "Forecast | None" = None):
        self.loader, self.names, self.title, self.forecast = loader, names, title, forecast
        self.steps = 0
        self.total = torch.zeros((), device=loader.device)
        self.bad = torch.zeros(2, dtype=torch.int64, device=loader.device)  # first bad step of loss and gradients

    def batches(self) -> Iterator:
        """The loader's batches, with a view of the mean loss so far."""
        return watch(self.loader, self.title, lambda: f"loss {self.mean():.4f}", self.forecast, backward=True)

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Take note of a step's loss and norm of its gradients; on a CPU, where nothing is waited for, also check them.

        Raises:
            ValueError: a loss or gradients that are not finite; names the step and its images.
        """
        self.steps += 1
        broken = ~torch.stack([loss, norm]).isfinite() & (self.bad == 0)
        self.bad = torch.where(broken, self.steps, self.bad)
        self.total += loss
        if self.loader.device.type == "cpu":
            self.check()

    def check(self) -> None:
        for what, step in zip(("loss", "gradients"), self.bad.tolist(), strict=True):
            if step:
                batch = next(itertools.islice(self.loader.plan, step - 1, None))
                images = ", ".join(dict.fromkeys(self.names[i] for i in batch.image))
                raise ValueError(
                    f"{self.title}, step {step}: non-finite {what}; lower --lr, or see its images: {images}"
                )

    def mean(self) -> float:
        self.check()
        return self.total.item() / self.steps


class Forecast:
    """How long all of it still takes: this run and those that the runner says come after it, as long as this one.

    Args:
        epochs: of this run that are left.
        training, evaluation: the loaders of an epoch.
    """

    def __init__(self, epochs: int, training, evaluation: list):
        self.start, self.done = time.monotonic(), 0
        epoch = BACKWARD * work(training) + sum(map(work, evaluation))
        self.run, self.after = epochs * epoch, runs_to_come() * epochs * epoch

    def add(self, loader, *, backward: bool) -> None:
        """A batch was done."""
        self.done += loader.part.batch_size * (BACKWARD if backward else 1)

    def __str__(self) -> str:
        seconds = (time.monotonic() - self.start) / self.done * (self.run + self.after - self.done)
        minutes = -(-seconds // 60)
        return f"about {minutes:.0f} min in all" if minutes > 1 else "about a minute in all"


def runs_to_come() -> int:
    """Runs that the runner starts after this one: ABLATION_RUN is 2/9 in the second of nine."""
    number, _, runs = os.environ.get("ABLATION_RUN", "1/1").partition("/")
    return int(runs) - int(number)


def work(loader) -> int:
    """Forward passes of patches."""
    return len(loader) * loader.part.batch_size


def watch(
    loader, title: str, note: Callable[[], str] | None = None, forecast: Forecast | None = None, backward: bool = False
) -> Iterator:
    """Iterate with a progress bar on a terminal, or with a plain line now and then in a log."""
    start = shown = time.monotonic()
    with tqdm(loader, desc=title, unit="batch", leave=False, disable=not (is_first() and sys.stderr.isatty())) as bar:
        for step, item in enumerate(bar, 1):
            yield item
            now = time.monotonic()
            if forecast:
                forecast.add(loader, backward=backward)
            if now - shown > (LOG_EVERY if bar.disable else LOG_EVERY / 10):
                shown, texts = now, ([str(forecast)] if forecast else []) + ([note()] if note else [])
                bar.set_postfix_str(", ".join(texts))
                if bar.disable:
                    left = f"{(now - start) / step * (len(loader) - step):.0f} s left"
                    say(f"  {title}: {step}/{len(loader)} batches, {', '.join([left, *texts])}")
