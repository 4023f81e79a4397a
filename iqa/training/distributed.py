"""Training and evaluation of one model by several processes, each with its part of the patches.

With one process, every function returns its argument, and torch.distributed is not used.
"""

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from iqa.data.labels import QualityData
from iqa.processes import end_with_parent, is_first, process_count, process_number, processes_here

T = TypeVar("T")


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started into one group: gloo between CPUs, NCCL between GPUs.

    A process that fails does not notify the others; torchrun ends them.
    """
    if process_count() == 1:
        yield
        return
    end_with_parent()
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python's handler cannot run while C++ waits
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    signal.signal(signal.SIGTERM, handler)
    if len(set(of_all(device.type))) > 1:
        raise ValueError("torchrun: some processes have a GPU and others do not; add --device cpu or use GPUs only")
    yield
    of_all(None)  # wait until all processes have finished
    dist.destroy_process_group()


def by_first(work: Callable[[], T]) -> T:
    """Do `work` in the first process and return its result in all of them."""
    if process_count() == 1:
        return work()
    result = [work() if is_first() else None]
    dist.broadcast_object_list(result)
    return result[0]


@contextlib.contextmanager
def one_here_first() -> Iterator[None]:
    """The first process of each machine runs the body before the others do."""
    if process_count() == 1:
        yield
        return
    waiting = dist.new_group(backend="gloo", timeout=timedelta(days=1))  # the first may have a large cache to fill
    number, _ = processes_here()
    if number > 0:
        dist.barrier(waiting)
    yield
    if number == 0:
        dist.barrier(waiting)


def of_all(value: T) -> list[T]:
    """The value of every process, in their order."""
    if process_count() == 1:
        return [value]
    values: list[Any] = [None] * process_count()
    dist.all_gather_object(values, value)
    return values


def gather_batches(outputs: list[tuple[Tensor | None, ...]]) -> list[Tensor | None]:
    """The outputs of all processes for an evaluation plan, as one tensor each, in the order of the plan."""
    parts = of_all([[x if x is None else x.cpu() for x in output] for output in outputs])
    in_turn = [output for group in itertools.zip_longest(*parts) for output in group if output]
    return [None if values[0] is None else torch.cat(values) for values in zip(*in_turn, strict=True)]


def check_same_everywhere(data: QualityData) -> None:
    if len(set(of_all(data.sha256))) > 1:
        raise ValueError(
            f"--data_path {data.root}: the processes read different labels or splits; use one folder for all"
        )


class SumOverProcesses(torch.autograd.Function):
    """The elementwise sum of one tensor of each process, in every process."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverProcesses.forward(ctx, gradient)


def mean_over_processes(x: Tensor) -> Tensor:
    return SumOverProcesses.apply(x) / process_count() if process_count() > 1 else x


def of_whole_batch(x: Tensor) -> Tensor:
    """The parts [B / n] of a batch in n processes -> the whole batch [B] in each, for a loss of the whole batch.

    The gradient of a part is n times that of the loss: DistributedDataParallel takes the mean over the processes of the
    gradients of the parameters, which is then the gradient of the loss.
    """
    if process_count() == 1:
        return x
    before, after = process_number(), process_count() - process_number() - 1
    return SumOverProcesses.apply(F.pad(x, (len(x) * before, len(x) * after)))


def distribute(model: nn.Module, device: torch.device) -> nn.Module:
    """The model for training by all processes: gradients are averaged, batch norm uses the patches of all.

    The layers of the model are changed in place; parameters, buffers and their names are kept.
    """
    if process_count() == 1:
        return model
    if device.type == "cuda":
        if "timm" in sys.modules:  # whose batch norms may hold an activation
            from timm.layers import convert_sync_batchnorm as convert
        else:
            convert = nn.SyncBatchNorm.convert_sync_batchnorm
        convert(model)
    else:
        synchronise_batch_norms(model)
    on = {"device_ids": [device.index]} if device.type == "cuda" else {}
    return DistributedDataParallel(model, **on)


def synchronise_batch_norms(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = SynchronisedBatchNorm2d


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over equal numbers of patches of all processes, on CPUs; torch's own needs GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalised(x) if self.training else super().forward(x)
        return self.act(self.drop(x)) if hasattr(self, "act") else x  # timm's BatchNormAct2d has both

    def normalised(self, x: Tensor) -> Tensor:
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = mean_over_processes(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = mean_over_processes(centred.square().mean((0, 2, 3)))
        count = x.numel() // x.shape[1] * process_count()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
