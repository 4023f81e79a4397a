"""One run: a model, its epochs, their evaluation, and the files that record them.

The flags are described in train_resnet_improved.py, the files in README.md.
"""

import argparse
import csv
import io
import itertools
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import scipy
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from tqdm import tqdm

from iqa.atomic_files import write_atomically
from iqa.console import say
from iqa.data.datasets import split_csv
from iqa.data.image_cache import LOG_EVERY
from iqa.data.labels import LabelledImages, QualityData
from iqa.models.variants import Variant
from iqa.processes import is_first, process_count, process_number
from iqa.report.metrics import plcc, srcc
from iqa.training.checkpoints import save_checkpoint
from iqa.training.devices import EVALUATION_BATCH, autocast, choose_kernels, choose_precision, device_name, open_device
from iqa.training.distributed import by_first, distribute, joined, mean_over_processes, of_all, one_here_first
from iqa.training.live_view import live_view
from iqa.training.run_files import RunFiles, write_json, write_lines
from models_resnet_improved import ImageQualityResNet, fold_batch_norms
from data_loader import ImageSource, PatchLoader
from patches import EvaluationPlan, TrainingPlan

EVALUATED_PER_TRAINED = 8  # patches in a batch, at most: where training fits into the memory, evaluation does too


def run(
    options: argparse.Namespace, variant: Variant, files: RunFiles, data: QualityData, before: dict[str, Any] | None
) -> None:
    """Train the variant and leave a finished run in its output folder.

    Args:
        files: of the run, held by this process or by the first.
        data: read and checked.
        before: config.json of the run to resume, None for a new one.
    """
    device = open_device(options.device)
    choose_kernels(deterministic=options.deterministic)
    with joined(device):
        check_same_everywhere(data)
        train(options, variant, files, data, before, device)


def check_same_everywhere(data: QualityData) -> None:
    if len(set(of_all(data.sha256))) > 1:
        raise ValueError(f"--data_path {data.root}: not the same labels and split for every process; use one folder for all")


def train(options, variant: Variant, files: RunFiles, data: QualityData, before: dict | None, device: torch.device) -> None:
    precision = by_first(lambda: choose_precision(options.precision, device, before))
    config = describe(options, variant, data, device, precision)
    announce(config, data)
    select_on = choose_selection_set(options.select_on, data)
    saved = by_first(lambda: files.load_last(before, config, warn=say)) if before else None
    state = build_state(options, data, device, precision, saved)
    loaders = build_loaders(options, data, device)
    if not (before or options.overwrite) and is_first() and files.last.exists():
        say(f"Warning: {files.last} of an earlier run will be replaced; to keep it, stop and name another --checkpoint_dir")
    if before:
        say(f"Resuming after epoch {len(state.history)}{changed_processes(before)}")
        config = before
    if before and is_first():
        publish(state, files, options.save_model, select_on)
    elif is_first():  # only now: a fault before it leaves the run that --overwrite replaces
        files.start(config, split_csv(data) if data.drawn else None)
    board = files.output / "tensorboard" if options.tensorboard and is_first() else None
    with live_view(board, state.history, lambda epoch: state.learning_rate(epoch * len(loaders.training))) as show:
        for epoch in range(len(state.history) + 1, options.epochs + 1):
            train_and_evaluate(epoch, state, loaders, data, options, select_on)
            if is_first():
                save_last(state, files)
                publish(state, files, options.save_model, select_on)
            show(state.history[-1])
    result = summarise(state, files, config, select_on)
    if is_first():
        write_json(files.result, result)


def changed_processes(before: dict[str, Any]) -> str:
    """What to say where a run goes on with more or fewer processes than it began with."""
    began = before.get("processes", 1)
    if began == process_count():
        return ""
    return (f", with {process_count()} processes where it began with {began}: patches and batches stay the same, dropout "
            "draws other numbers, so the run is not the uninterrupted one to the bit")  # fmt: skip


# The set-up of a run


def choose_selection_set(name: str, data: QualityData) -> str:
    if len(data.sets["validation"]):
        return "val" if name == "auto" else name
    if name == "val":
        raise ValueError(f"--select_on val: the split of {data.root} has no validation images; use --select_on test")
    say("Warning: the split has no validation images, so the epoch is chosen on test: Selected Test is the peak.")
    return "test"


def describe(options, variant: Variant, data: QualityData, device: torch.device, precision: str) -> dict[str, Any]:
    """config.json: what is needed to repeat the run."""
    return {
        "run_id": uuid.uuid4().hex,
        "variant": variant.log_name,
        "tag": variant.tag,
        "parameters": variant.parameters,
        "flags": vars(options),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": current_commit(),
        "versions": {
            "python": platform.python_version(),
            **{m.__name__: m.__version__ for m in (torch, torchvision, np, scipy)},
            "pillow": PIL.__version__,
        },
        "device": device_name(device),
        "processes": process_count(),
        "precision": precision,
        "split": {**data.sizes(), "sha256": data.sha256},
        "mos_range": list(data.mos_range),
        "dataset_note": data.note,
    }


def current_commit() -> str | None:
    """The commit of this program, "-dirty" where files differ from it, None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def announce(config: dict, data: QualityData) -> None:
    sizes = ", ".join(f"{count:,} {name}" for name, count in data.sizes().items())
    say(f"{config['variant']}: {config['parameters']:,} parameters, seed {config['flags']['seed']}")
    processes = f"{process_count()} processes, each " if process_count() > 1 else ""
    say(f"Device: {processes}{config['device']}, {config['precision']}, torch {config['versions']['torch']}")
    say(f"Data: {data.root}: {sizes} images, split SHA-256 {data.sha256[:12]}")
    for line in [*([data.note] if data.note else []), *data.facts, *(f"Warning: {text}" for text in data.warnings)]:
        say(line)


Scores = tuple[Tensor, Tensor | None]  # [B], and the attention [B, 4] where the model has it


class Loaders(NamedTuple):
    training: PatchLoader
    evaluation: dict[str, tuple[LabelledImages, PatchLoader]]  # "val" (where there is one) and "test"


def build_loaders(options: argparse.Namespace, data: QualityData, device: torch.device) -> Loaders:
    opened, shared = open_images(options, data, device)
    training = TrainingPlan(
        opened["training"].sizes(), data.sets["training"].mos, patches=options.train_patch_num,
        patch_size=options.patch_size, batch_size=options.batch_size, seed=options.seed,
    )  # fmt: skip
    if not len(training):
        count = len(data.sets["training"]) * options.train_patch_num
        raise ValueError(f"--batch_size {options.batch_size}: more than the {count} training patches of an epoch")
    if training.dropped:
        say(f"Batches: {len(training)} an epoch; {training.dropped} random patches of each epoch fill no batch")
    evaluation = {
        short: (data.sets[name], evaluation_loader(options, data.sets[name], opened[name], shared))
        for short, name in (("val", "validation"), ("test", "test"))
        if name in opened
    }
    jitter = not options.no_color_jitter
    return Loaders(PatchLoader(opened["training"], training, color_jitter=jitter, **shared), evaluation)


def open_images(options: argparse.Namespace, data: QualityData, device: torch.device) -> tuple[dict, dict]:
    """The images of every set that has some, and the arguments that their loaders share."""
    cache_dir = None if options.no_cache else Path(options.cache_dir or data.root / "cache")
    with one_here_first():
        opened = ImageSource(data, cache_dir, options.preload_images, say).open()
    return opened, {"patch_size": options.patch_size, "device": device, "num_workers": options.num_workers,
                    "share": (process_number(), process_count()),
                    "on_device": options.preload_images and fits_on_device(opened, device)}  # fmt: skip


def evaluation_loader(options: argparse.Namespace, images: LabelledImages, stored, shared: dict) -> PatchLoader:
    """The same patches of `images` each time; `stored` holds their pixels."""
    batch = min(EVALUATION_BATCH[shared["device"].type], EVALUATED_PER_TRAINED * options.batch_size)
    plan = EvaluationPlan(
        stored.sizes(), images.mos, images.names, patches=options.test_patch_num, patch_size=options.patch_size,
        batch_size=batch, seed=options.seed, random=options.test_random_crop,
    )  # fmt: skip
    return PatchLoader(stored, plan, color_jitter=False, **shared)


def fits_on_device(opened: dict, device: torch.device) -> bool:
    """Whether the pixels take at most half of the GPU's free memory; says where they are held."""
    needed = sum(images.pixels.nbytes for images in opened.values())
    fits = device.type == "cuda" and 2 * needed <= torch.cuda.mem_get_info(device)[0]
    say(f"Preloaded: {needed / 1e9:.2f} GB of pixels in {'GPU' if fits else 'host'} memory")
    return fits


@dataclass
class TrainingState:
    """What an epoch changes."""

    model: ImageQualityResNet
    optimizer: torch.optim.Optimizer
    forward: Callable[[Tensor], Tensor]  # the model as it is trained: inputs [B, 3, P, P] -> scores [B]
    folded: ImageQualityResNet  # a copy for evaluation, without batch norms
    folded_forward: Callable[[Tensor], Scores]
    history: list[dict] = field(default_factory=list)  # the lines of metrics.jsonl
    predictions: dict[str, str] = field(default_factory=dict)  # of the best epoch: set -> text of its csv file
    lr: float = 0.0
    warmup_steps: int = 0
    max_grad_norm: float = 0.0

    def update(self, norm: Tensor, step: int) -> None:
        """Take the optimizer's step, number `step` of the run, for gradients of this norm; none where it is not finite.

        A fused optimizer looks at `found_inf` on the device, as it does for torch's GradScaler, and waits for nothing.
        """
        self.optimizer.found_inf = (~norm.isfinite()).float()
        if self.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.max_grad_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimizer.step()

    def learning_rate(self, step: int) -> float:
        return self.lr * min(1.0, step / max(1, self.warmup_steps))

    def score(self) -> Callable[[Tensor], Scores]:
        """Scores by the weights of this moment: inputs [B, 3, P, P] -> scores [B], attention [B, 4] or None."""
        self.folded.load_state_dict(fold_batch_norms(self.model).state_dict())
        return self.folded_forward


def build_state(
    options: argparse.Namespace, data: QualityData, device: torch.device, precision: str, saved: dict | None
) -> TrainingState:
    torch.manual_seed(mixed_seed(options.seed, 0))
    with one_here_first():  # which may download the weights
        model = ImageQualityResNet(
            use_multiscale=options.use_multiscale, use_attention=options.use_attention, dropout_rate=options.dropout_rate,
            weights="none" if saved else options.weights, initial_score=float(data.sets["training"].mos.mean()),
        )  # fmt: skip
    state = make_state(model, lr=options.lr, weight_decay=options.weight_decay, device=device, precision=precision,
                       compiled=options.compile)  # fmt: skip
    state.warmup_steps, state.max_grad_norm = options.warmup_steps, options.max_grad_norm
    if saved:
        model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.history, state.predictions = saved["history"], saved["predictions"]
    return state


def make_state(model: ImageQualityResNet, *, lr, weight_decay, device, precision: str, compiled: bool) -> TrainingState:
    """The model on its device in the layout that is fast there, with its optimizer."""
    model = model.to(device, memory_format=torch.channels_last)
    folded = fold_batch_norms(model)

    trained = distribute(model, device)

    def forward(inputs):
        with autocast(device, precision):
            return trained(inputs)

    def folded_forward(inputs):
        with autocast(device, precision):
            return folded.score_with_attention(inputs)

    if compiled:
        forward, folded_forward = torch.compile(forward), torch.compile(folded_forward)
    optimizer = build_optimizer(model, lr=lr, weight_decay=weight_decay)
    return TrainingState(model, optimizer, forward, folded, folded_forward, lr=lr)


def build_optimizer(model: torch.nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """One learning rate and decay for every parameter."""
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def mixed_seed(seed: int, epoch: int, process: int = 0) -> int:
    """A seed for initialisation and dropout, the same wherever a run was resumed; each process drops its own."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1, np.uint64)[0])


# The epochs


def train_and_evaluate(epoch, state, loaders, data, options, select_on) -> None:
    """One epoch; its numbers go to standard output and into the state."""
    start = time.monotonic()
    torch.manual_seed(mixed_seed(options.seed, epoch, process_number()))
    loaders.training.plan.epoch = epoch
    title = f"Epoch {epoch}/{options.epochs}"
    row = {"epoch": epoch, "train_loss": train_epoch(state, loaders.training, data.sets["training"].names, title)}
    scored, notes, score = {}, {}, state.score()
    for name, (images, loader) in loaders.evaluation.items():
        scored[name] = evaluate(score, loader, len(images), f"{title} {name}")
        row[f"{name}_srcc"], row[f"{name}_plcc"], notes[name] = correlate(scored[name].scores, images.mos)
    row["seconds"] = round(time.monotonic() - start, 3)
    print_summary(title, row, notes)
    state.history.append(row)
    if selected(state.history, select_on) is row:
        state.predictions = {
            name: predictions_csv(images, scored[name]) for name, (images, _) in loaders.evaluation.items()
        }


def train_epoch(state: TrainingState, loader: PatchLoader, names: tuple[str, ...], title: str) -> float:
    """One pass over the plan; returns the mean L1 loss. On one GPU only the reports wait for the device."""
    state.model.train()
    meter = LossMeter(loader, names, title)
    for inputs, batch in watch(loader, title, note=lambda: f"loss {meter.mean():.4f}"):
        scores = state.forward(inputs)
        assert scores.shape == batch.mos.shape  # an L1 loss would broadcast silently
        loss = F.l1_loss(scores, batch.mos)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = meter.add(mean_over_processes(loss.detach()), state.model.parameters())
        if loader.device.type == "cpu":
            meter.check()
        state.update(norm, step=len(state.history) * len(loader) + meter.steps)
    return meter.mean()


class LossMeter:
    """The epoch's mean loss, and its first step that was not finite, on the device until they are read."""

    def __init__(self, loader: PatchLoader, names: tuple[str, ...], title: str):
        self.plan, self.names, self.title = loader.plan, names, title
        self.steps = 0
        self.total = torch.zeros((), device=loader.device)
        self.bad = torch.zeros(2, dtype=torch.int64, device=loader.device)  # first bad step of loss and gradients

    def add(self, loss: Tensor, parameters) -> Tensor:
        """Take note of a step; returns the norm of its gradients."""
        self.steps += 1
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        broken = ~torch.stack([loss, norm]).isfinite() & (self.bad == 0)
        self.bad = torch.where(broken, self.steps, self.bad)
        self.total += loss
        return norm

    def check(self) -> None:
        for what, step in zip(("loss", "gradients"), self.bad.tolist(), strict=True):
            if step:
                batch = next(itertools.islice(self.plan, step - 1, None))
                images = ", ".join(dict.fromkeys(self.names[i] for i in batch.image))
                raise ValueError(f"{self.title}, step {step}: non-finite {what}; lower --lr, or see its images: {images}")

    def mean(self) -> float:
        self.check()
        return self.total.item() / self.steps


class Scored(NamedTuple):
    """Per image: the mean of its patches' scores [N], and of their attention [N, 4] where there is any."""

    scores: np.ndarray
    attention: np.ndarray | None


@torch.inference_mode()
def evaluate(score: Callable[[Tensor], Scores], loader: PatchLoader, images: int, title: str) -> Scored:
    """Score every image by the mean over its patches."""
    outputs = [score(inputs) for inputs, _ in watch(loader, title)]
    parts = of_all([[x if x is None else x.cpu() for x in output] for output in outputs])  # waits for the device
    in_turn = [output for group in itertools.zip_longest(*parts) for output in group if output]
    scores, attention = zip(*in_turn, strict=True)
    weights = mean_per_image(torch.cat(attention), images) if attention[0] is not None else None
    return Scored(mean_per_image(torch.cat(scores), images), weights)


def mean_per_image(values: Tensor, images: int) -> np.ndarray:
    """[N * patches, ...] in the order of the images -> [N, ...]."""
    return values.double().unflatten(0, (images, -1)).mean(1).cpu().numpy()


def correlate(scores: np.ndarray, mos: np.ndarray) -> tuple[float | None, float | None, str]:
    """SRCC and PLCC, or None twice and the reason."""
    try:
        return srcc(scores, mos), plcc(scores, mos), ""
    except ValueError as error:
        return None, None, str(error)


def selected(history: list[dict], select_on: str) -> dict | None:
    """The first epoch with the highest SRCC on the selection set, None where no epoch has one."""
    rows = [row for row in history if row[f"{select_on}_srcc"] is not None]
    return max(rows, key=lambda row: row[f"{select_on}_srcc"], default=None)


def watch(loader: PatchLoader, title: str, note: Callable[[], str] | None = None) -> Iterator:
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


# What a run leaves


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


def save_last(state: TrainingState, files: RunFiles) -> None:
    """All that a resume needs, before anything that tells of this epoch."""
    config = files.read_config()
    save_checkpoint(files.last, {
        "model": state.model.state_dict(), "optimizer": state.optimizer.state_dict(), "history": state.history,
        "predictions": state.predictions, "run_id": config["run_id"], "config": config,
    }, keep_previous=True)  # fmt: skip


def publish(state: TrainingState, files: RunFiles, save_model: bool, select_on: str) -> None:
    """Metrics, and predictions and weights of the best epoch, as the last checkpoint has them.

    After a resume too: the run may have been killed between the checkpoint and these.
    """
    write_lines(files.metrics, state.history)
    for name, text in state.predictions.items():
        write_atomically(files.predictions(name), text)
    best = selected(state.history, select_on)
    if save_model and best is state.history[-1]:
        model = {name: tensor.cpu() for name, tensor in state.model.state_dict().items()}  # it may be read without a GPU
        weights = {"model": model, "epoch": best["epoch"], "config": files.read_config()}
        save_checkpoint(files.best, weights)


def predictions_csv(images: LabelledImages, scored: Scored) -> str:
    """image_name, mos, score and the four attention weights where there are any; numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    stages = [] if scored.attention is None else [f"attention_stage{i + 1}" for i in range(scored.attention.shape[1])]
    attention = itertools.repeat(()) if scored.attention is None else scored.attention.tolist()
    writer.writerow(["image_name", "mos", "score", *stages])
    rows = zip(images.names, images.mos.tolist(), scored.scores.tolist(), attention, strict=False)
    writer.writerows([name, mos, score, *weights] for name, mos, score, weights in rows)
    return text.getvalue()


def summarise(state: TrainingState, files: RunFiles, config: dict, select_on: str) -> dict[str, Any]:
    """Print the run's numbers; returns the content of result.json."""
    chosen = selected(state.history, select_on)
    if chosen is None or chosen["test_srcc"] is None:
        name = "test" if chosen else select_on
        raise ValueError(f"{files.output}: no epoch has a defined {name} SRCC; no result. See the warnings above")
    best = {metric: max(row[metric] for row in state.history if row[metric] is not None)
            for metric in ("test_srcc", "test_plcc")}  # fmt: skip
    say()
    say(f"Best Test SRCC: {best['test_srcc']:.4f}")
    say(f"Best Test PLCC: {best['test_plcc']:.4f}")
    say(f"Selected epoch: {chosen['epoch']} (best {select_on.title()} SRCC {chosen[f'{select_on}_srcc']:.4f})")
    say(f"Selected Test SRCC: {chosen['test_srcc']:.4f}")
    say(f"Selected Test PLCC: {chosen['test_plcc']:.4f}")
    return {
        **{key: config[key] for key in ("variant", "tag", "parameters")},
        "seed": config["flags"]["seed"],
        "epochs": len(state.history),
        "select_on": select_on,
        "selected_epoch": chosen["epoch"],
        **{f"selected_{name}": chosen.get(name) for name in ("val_srcc", "val_plcc", "test_srcc", "test_plcc")},
        **{f"best_{name}": value for name, value in best.items()},
        "seconds": round(sum(row["seconds"] for row in state.history), 3),
    }
