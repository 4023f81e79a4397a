"""Which kernels a training step of the third variant runs, and how much of it the GPU waits for launches; prints JSON.

    python3 tests/gpu/profile_steps.py DATA DEVICE PATCH_SIZE BATCH_SIZE STEPS

The GPU's idle share of a step is 1 - (time in which any kernel runs, profiled) / (wall time, not profiled): the
profiler slows the launches down, not the kernels. On a CPU there are operators instead of kernels, and no idle share.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable

from real_steps import make_trainer
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from iqa.benchmark.arithmetic import wait_for
from iqa.models.variants import VARIANTS

KINDS = {"batch norm": "batch_norm", "convolution": "conv"}  # parts of the names of torch's operators
SHOWN = 8  # kernels of each kind, those that take longest


def main() -> None:
    data, device, patch_size, batch_size, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    trainer = make_trainer(VARIANTS[2], data, device, patch_size, batch_size)
    trainer.train(count)
    wait_for(trainer.loader.device)
    start = time.perf_counter()
    steps = trainer.train(count)
    wait_for(trainer.loader.device)
    wall = (time.perf_counter() - start) / steps
    on_gpu = trainer.loader.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as profiler:
        trainer.train(count)
        wait_for(trainer.loader.device)
    events = profiler.events()
    facts = {
        "steps": steps,
        "batch_size": batch_size,
        "patch_size": patch_size,
        "precision": trainer.precision,
        "step_ms": 1000 * wall,
        "patches_per_second": batch_size / wall,
        "kernels": kernels_by_kind(events, steps) if on_gpu else operators_by_kind(events, steps),
    }
    if on_gpu:
        intervals = [(event.time_range.start, event.time_range.end) for event in events if runs_on_gpu(event)]
        busy = covered(intervals) / steps / 1e6
        facts |= {"busy_ms": 1000 * busy, "launches": len(intervals) / steps, "idle_share": max(0.0, 1 - busy / wall)}
    print(json.dumps(facts | {"lines": lines_of(facts)}))


def runs_on_gpu(event) -> bool:
    """A kernel or copy, not the shadow of a label of the host."""
    return event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def kernels_by_kind(events, steps: int) -> dict[str, list[dict]]:
    """The kernels that torch's operators of each kind launched; a kernel's own name seldom says what it is for."""
    launched = [(event.name, kernel.name, kernel.duration) for event in events for kernel in event.kernels]
    return {
        kind: longest(((kernel, time) for operator, kernel, time in launched if part in operator), steps)
        for kind, part in KINDS.items()
    }


def operators_by_kind(events, steps: int) -> dict[str, list[dict]]:
    ran = [(event.name, event.self_cpu_time_total) for event in events]
    return {kind: longest(((name, time) for name, time in ran if part in name), steps) for kind, part in KINDS.items()}


def longest(times: Iterable[tuple[str, float]], steps: int) -> list[dict]:
    """Per name: ms and calls of a step, from (name, microseconds)."""
    totals, calls = defaultdict(float), defaultdict(int)
    for name, microseconds in times:
        totals[name] += microseconds
        calls[name] += 1
    order = sorted(totals, key=totals.get, reverse=True)[:SHOWN]
    return [{"name": name, "ms": totals[name] / steps / 1000, "calls": calls[name] / steps} for name in order]


def lines_of(facts: dict) -> list[str]:
    lines = [
        f"{facts['step_ms']:.2f} ms a step of {facts['batch_size']} patches of {facts['patch_size']}, {facts['precision']}: "
        f"{facts['patches_per_second']:,.0f} patches/s"
    ]
    if "idle_share" in facts:
        lines.append(
            f"the GPU is busy for {facts['busy_ms']:.2f} ms of a step in {facts['launches']:.0f} launches, and idle for "
            f"{facts['idle_share']:.1%}"
        )
    for kind, kernels in facts["kernels"].items():
        lines += [
            f"{kind}: {kernel['ms']:.2f} ms in {kernel['calls']:.0f} calls of {kernel['name'][:160]}"
            for kernel in kernels
        ]
    return lines


if __name__ == "__main__":
    main()
