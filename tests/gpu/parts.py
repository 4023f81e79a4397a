"""The parts of on_gpu.sh, in the order of what is missed most where the time is short."""

import json
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from processes import Failed, OutOfTime, end, json_of, last_line, run, start, wait_until

BATCHES = (32, 96)  # patches, of the benchmark
EPOCHS = 3  # of the runs that are compared


class Settings(NamedTuple):
    """How large the parts are."""

    images: int
    patch_size: int  # pixels
    patches: int  # of each image in an epoch of the runs that are compared
    batch_size: int  # of the runs that are compared, of the steps and of the profile
    steps: int  # of the profile
    seconds: float  # of each trial of the benchmark
    trials: int


SETTINGS = {
    "cuda": Settings(images=240, patch_size=224, patches=8, batch_size=32, steps=20, seconds=2, trials=2),
    "cpu": Settings(images=24, patch_size=64, patches=4, batch_size=8, steps=2, seconds=0.5, trials=1),
}


class Context(NamedTuple):
    """What every part is given."""

    root: Path  # of the program
    data: Path  # KonIQ-shaped, a few images
    scratch: Path
    device: str
    settings: Settings

    def script(self, name: str, *arguments) -> list:
        return [sys.executable, self.root / name, *arguments]

    def sizes(self) -> tuple[int, int]:
        return self.settings.patch_size, self.settings.batch_size


class Part(NamedTuple):
    """`work` takes the context and the moment (time.monotonic) at which it must end; returns facts, "lines" for people."""

    name: str
    what: str
    needs_cuda: bool
    seconds: float  # at most
    work: Callable[[Context, float], dict]


def left(end_time: float) -> float:
    return end_time - time.monotonic()


def steps(context: Context, end_time: float) -> dict:
    command = context.script("tests/gpu/steps_without_waiting.py", context.data, context.device, *context.sizes())
    return json_of(run(command, left(end_time), context.scratch))


def profiled(context: Context, end_time: float) -> dict:
    command = context.script(
        "tests/gpu/profile_steps.py", context.data, context.device, *context.sizes(), context.settings.steps
    )
    return json_of(run(command, left(end_time), context.scratch))


def training(context: Context, *more: str) -> list:
    """The command of the deterministic run that is repeated and resumed."""
    settings = context.settings
    return context.script(
        "train_resnet_improved.py",
        "--data_path",
        context.data,
        "--device",
        context.device,
        "--deterministic",
        "--weights",
        "none",
        "--use_multiscale",
        "--use_attention",
        "--save_model",
        "--output_dir",
        "run",
        "--epochs",
        EPOCHS,
        "--patch_size",
        settings.patch_size,
        "--batch_size",
        settings.batch_size,
        "--train_patch_num",
        settings.patches,
        "--test_patch_num",
        2,
        *more,
    )


def folder(context: Context, name: str) -> Path:
    path = context.scratch / name
    path.mkdir(exist_ok=True)
    return path


def deterministic(context: Context, end_time: float) -> dict:
    one, other = (folder(context, name) for name in ("one", "other"))
    for cwd in (one, other):
        run(training(context), left(end_time), cwd)
    compare(context, one, other, end_time)
    return {"lines": [f"two runs of {EPOCHS} epochs are equal: weights, optimizer, predictions, metrics"]}


def resumed(context: Context, end_time: float) -> dict:
    """Stop a run after an epoch, by the signal of a cluster's scheduler, resume it, and compare it with a whole one."""
    one, cwd = folder(context, "one"), folder(context, "stopped")
    if not (one / "run/result.json").exists():
        raise OutOfTime("there is no finished deterministic run to compare with")
    process = start(training(context), cwd)
    try:
        wait_until((cwd / "run/metrics.jsonl").exists, process, end_time)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=max(0.1, left(end_time)))
    finally:
        end(process)
    if process.returncode != 128 + signal.SIGTERM:
        raise Failed(f"SIGTERM ended the run with status {process.returncode}: {last_line(errors)}")
    epochs = len((cwd / "run/metrics.jsonl").read_text().splitlines())
    run(training(context, "--resume"), left(end_time), cwd)
    compare(context, one, cwd, end_time)
    return {
        "epochs_before": epochs,
        "lines": [f"stopped after epoch {epochs} of {EPOCHS} and resumed, equal to the whole run"],
    }


def compare(context: Context, one: Path, other: Path, end_time: float) -> None:
    run(context.script("tests/gpu/same_run.py", one, other), left(end_time), context.scratch)


def cuda_tests(context: Context, end_time: float) -> dict:
    """The tests that a machine without a GPU skips all have one of these words in their names."""
    results = context.scratch / "tests.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "gpu or cuda",
        "--ignore",
        "tests/test_on_gpu.py",
        "--junitxml",
        results,
        "tests",
    ]
    run(command, left(end_time), context.root, statuses=(0, 1))  # 1: a test failed
    return judge_tests(ElementTree.parse(results).getroot())


def judge_tests(root: ElementTree.Element) -> dict:
    """The names of pytest's junitxml, by what became of them."""
    outcomes = {"failed": [], "skipped": [], "passed": []}
    for case in root.iter("testcase"):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        outcomes[outcome].append(case.get("name"))
    if outcomes["failed"] or not outcomes["passed"]:
        raise Failed(f"tests failed: {', '.join(outcomes['failed']) or 'none ran'}")
    return outcomes | {"lines": [f"{outcome}: {', '.join(names)}" for outcome, names in outcomes.items() if names]}


def benchmark(context: Context, end_time: float, *, batch_size: int, flags: tuple[str, ...]) -> dict:
    settings, output = context.settings, context.scratch / "benchmark.json"
    output.unlink(missing_ok=True)
    command = context.script(
        "benchmark_training.py",
        "--data_path",
        context.data,
        "--device",
        context.device,
        "--batch_size",
        batch_size,
        "--patch_size",
        settings.patch_size,
        "--seconds",
        settings.seconds,
        "--trials",
        settings.trials,
        "--output",
        output,
        *flags,
    )
    run(command, left(end_time), context.scratch)
    numbers = json.loads(output.read_text())
    return numbers | {"lines": benchmark_lines(numbers)}


def benchmark_lines(numbers: dict) -> list[str]:
    """One for training and one for evaluation, and the ablation at these rates."""
    lines = []
    for kind in ("training", "evaluation"):
        mean = {name: rate["mean"] for name, rate in numbers[kind].items() if isinstance(rate, dict) and "mean" in rate}
        lines.append(
            f"{kind}: {mean['FULL']:,.0f} patches/s, {mean['FULL / LIMIT']:.1%} of the matrix product's "
            f"{numbers[kind]['achieved_tera_flop_per_second']['LIMIT']:.1f} TFLOP/s; FULL / COMPUTE "
            f"{mean['FULL / COMPUTE']:.3f}; warm-up {numbers[kind]['warm_up_seconds']:.0f} s"
        )
    return [*lines, f"the whole ablation, projected: {60 * numbers['ablation']['hours']:.0f} minutes"]


def benchmark_parts(*, compiled: bool) -> list[Part]:
    """On a CPU --compile and --preload_images show nothing of what they do on a GPU."""
    parts = []
    for batch_size in BATCHES:
        for preload in (False, True):
            flags = ("--compile",) * compiled + ("--preload_images",) * preload
            words = ["compiled" if compiled else "eager", f"{batch_size} patches", *["preloaded"] * preload]
            work = partial(benchmark, batch_size=batch_size, flags=flags)
            name = "-".join(["benchmark", words[0], str(batch_size), *words[2:]])
            parts.append(Part(name, "benchmark, " + ", ".join(words), bool(flags), 150 if compiled else 80, work))
    return parts


PARTS = [
    Part("steps", "3 training steps of every variant under set_sync_debug_mode('error')", True, 90, steps),
    Part("deterministic", "--deterministic twice, equal bits", False, 120, deterministic),
    Part("resume", "a run that is stopped and resumed, equal bits", False, 90, resumed),
    Part("profile", "kernels of batch norms and convolutions, idle share of a step", False, 60, profiled),
    *benchmark_parts(compiled=False),
    Part("tests", "the tests that need CUDA", True, 120, cuda_tests),
    *benchmark_parts(compiled=True),
]
