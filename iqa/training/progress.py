"""What is seen of an epoch while it lasts: a bar or a line now and then, and the first step that was not finite."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from iqa.console import say
from iqa.data.image_cache import LOG_EVERY
from iqa.processes import is_first


class LossMeter:
    """The epoch's mean loss, and its first step that was not finite, on the device until they are read.

    Args:
        loader: of the epoch's batches.
        names: of the images that its plan counts.
        title: of the epoch, for messages.
    """

    def __init__(self, loader, names: tuple[str, ...], title: str):
        self.loader, self.names, self.title = loader, names, title
        self.steps = 0
        self.total = torch.zeros((), device=loader.device)
        self.bad = torch.zeros(2, dtype=torch.int64, device=loader.device)  # first bad step of loss and gradients

    def batches(self) -> Iterator:
        """The loader's batches, with a view of the mean loss so far."""
        return watch(self.loader, self.title, note=lambda: f"loss {self.mean():.4f}")

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
                raise ValueError(f"{self.title}, step {step}: non-finite {what}; lower --lr, or see its images: {images}")

    def mean(self) -> float:
        self.check()
        return self.total.item() / self.steps


def watch(loader, title: str, note: Callable[[], str] | None = None) -> Iterator:
    """Iterate with a progress bar on a terminal, or with a plain line now and then in a log."""
    start = shown = time.monotonic()
    with tqdm(loader, desc=title, unit="batch", leave=False, disable=not (is_first() and sys.stderr.isatty())) as bar:
        for step, item in enumerate(bar, 1):
            yield item
            now = time.monotonic()
            if now - shown > (LOG_EVERY if bar.disable else LOG_EVERY / 10):
                shown, text = now, note() if note else ""
                bar.set_postfix_str(text)
                if bar.disable:
                    left = (now - start) / step * (len(loader) - step)
                    say(f"  {title}: {step}/{len(loader)} batches, {left:.0f} s left {text}".rstrip())
