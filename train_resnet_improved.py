#!/usr/bin/env python3
"""Train and evaluate one variant of the ablation, or a published model.

    python3 train_resnet_improved.py --use_multiscale --use_attention --no_color_jitter --test_random_crop --save_model
    python3 train_resnet_improved.py --dataset csv --data_path my-photos --save_model    # labels.csv: image,mos[,split]
    torchrun --nproc_per_node=4 train_resnet_improved.py --use_multiscale --use_attention    # 4 GPUs share each batch

From top to bottom: the flags with their defaults; `main` and `prepare`, which check them before torch is loaded;
`train`, the course of a run; `Training`, its epochs and its files; its optimizer, loss, model and data; `train_epoch`;
and `evaluate`, the scores of images. docs/training.md describes the files and the log of a run.
"""

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from iqa import cli
from iqa.atomic_files import write_atomically
from iqa.cli import flag, say
from iqa.data.datasets import load_dataset, split_csv
from iqa.data.flags import MOST_PATCHES, PatchFlags
from iqa.data.images import RESIZES, SHORT_SIDE
from iqa.data.labels import LabelledImages, QualityData, require_correlation, require_sets
from iqa.json_files import write_json
from iqa.models import published
from iqa.models.backbones import BACKBONES, STRIDE
from iqa.models.variants import Variant
from iqa.predictions import Predictions
from iqa.processes import is_first, process_count, process_number
from iqa.training.live_view import INSTALL
from iqa.training.options import apply_recipe, find_mistakes
from iqa.training.recipe import BEST, LOSSES, PUBLISHED_RECIPE, PUBLISHED_RECIPES, RECIPES, SCHEDULES
from iqa.training.run_folder import RunFolder, best_state, load_checkpoint, save_checkpoint

# The flags, their defaults and their help


@dataclass(frozen=True)
class ModelFlags:
    """model"""

    model: str = flag(published.OWN, "a variant of the ablation, or a published model", choices=published.MODELS)
    backbone: str = flag("resnet50", f"{', '.join(BACKBONES)}, or timm:NAME, a model of timm", metavar="NAME")
    use_multiscale: bool = flag(False, "fuse the features of stages 1-4 instead of using stage 4 alone")
    use_attention: bool = flag(False, "weight the four scales of each patch; needs --use_multiscale")
    dropout_rate: float = flag(0.3, "dropout rate of the hyper network", low=0, below=1)
    drop_path_rate: float | None = flag(
        None, "rate of stochastic depth; default: 0.3 for swin_b, timm's own for timm:NAME", low=0, below=1
    )
    weights: str = flag(
        "imagenet",
        "initial weights of the backbone: imagenet (torchvision's ImageNet-1k V1; for timm:NAME those of timm under "
        "that name), the path of a state dict (.pth, .safetensors), or none (random weights)",
        metavar="imagenet|PATH|none",
    )


@dataclass(frozen=True)
class DataFlags(PatchFlags):  # PatchFlags has the data set (koniq-10k), its split, cache and workers
    """data"""

    data_path: str | None = flag("./koniq-10k", "folder of labels and images", metavar="DIR", may_change=True)
    resize: str = flag(
        "keep",
        "keep: the shorter side becomes 384 pixels, the aspect is kept; squeeze: every image becomes 384x512 (width x "
        "height), as by Resize((512, 384)) in HyperIQA and SMART-IQA",
        choices=RESIZES,
    )
    patch_size: int = flag(
        224, f"side of a patch in pixels; {SHORT_SIDE} covers the shorter side", low=STRIDE, high=SHORT_SIDE
    )
    train_patch_num: int = flag(25, "random patches per image and epoch", low=1, high=MOST_PATCHES)
    test_patch_num: int = flag(25, "patches per image whose scores are averaged", low=1, high=MOST_PATCHES)
    test_random_crop: bool = flag(False, "evaluate on fixed random crops instead of a grid")
    no_color_jitter: bool = flag(False, "do not jitter the colours of training patches")


@dataclass(frozen=True)
class RecipeFlags:
    """recipe"""

    recipe: str = flag(
        published.OWN,
        f"{published.OWN}: the defaults below, which are under test; best: "
        f"{' '.join(f'--{name} {value}' for name, value in BEST.items())} (docs/recipe.md); published: the optimizer, "
        "learning rates and defaults of --model as published. Flags on the command line take precedence",
        choices=RECIPES,
    )
    loss: str = flag("l1", "l1 is in points of MOS; docs/recipe.md has the formulas", choices=LOSSES)
    epochs: int = flag(10, "passes over the training images", low=1)
    batch_size: int = flag(32, "patches per step, of all processes together", low=1)
    lr: float = flag(1e-4, "AdamW learning rate; only of the backbone if --head_lr_ratio is not 1", low=0)
    head_lr_ratio: float = flag(1.0, "learning rate of all but the backbone, divided by --lr", low=0)
    lr_schedule: str = flag(
        "constant", "cosine: half a period, to 0; step: a tenth after each third of the steps", choices=SCHEDULES
    )
    warmup_steps: int = flag(0, "steps over which the learning rate rises to --lr", low=0)
    weight_decay: float = flag(1e-4, "AdamW weight decay", low=0)
    max_grad_norm: float = flag(0.0, "clip longer gradients to this norm; 0: no clipping", low=0)
    ema: float = flag(
        0.0, "score and keep a moving average of the weights with this decay per step; 0: no average", low=0, below=1
    )
    freeze_batch_norm: bool = flag(
        False, "keep the batch norm statistics of the backbone's weights", action=argparse.BooleanOptionalAction
    )
    seed: int = flag(42, "random seed of initialisation, dropout, patches and random test crops", low=0, high=2**32 - 1)
    select_on: str = flag(
        "auto", "set whose SRCC selects the epoch; auto: val if the split has one", choices=("auto", "val", "test")
    )


@dataclass(frozen=True)
class MachineFlags:
    """machine"""

    device: str = flag("auto", "auto (CUDA if there is a GPU), cpu, cuda or cuda:N", may_change=True)
    precision: str = flag(
        "auto",
        "precision of the layers before the score path; auto: fp32, or if the device has bf16, the faster one in a few "
        "training steps, measured once for an ablation",
        choices=("auto", "fp32", "bf16"),
        may_change=True,  # the precision that is used may not
    )
    compile: bool = flag(False, "use torch.compile, which takes about a minute")
    cuda_graph: str = flag(
        "auto", "replay the step as a CUDA graph; auto: on one GPU", choices=("auto", "on", "off"), may_change=True
    )
    deterministic: bool = flag(False, "bit-identical results on CUDA; slower")


@dataclass(frozen=True)
class OutputFlags:
    """output"""

    output_dir: str | None = flag(
        None, "folder of the run; default: logs/<name of the variant>", metavar="DIR", may_change=True
    )
    checkpoint_dir: str | None = flag(
        None, "folder of the checkpoints; default: that of the run", metavar="DIR", may_change=True
    )
    checkpoint_suffix: str = flag("", "suffix of the names of checkpoints", metavar="TEXT")
    save_model: bool = flag(
        False, "keep the weights of the selected epoch, not of the last one, and link them in checkpoints/"
    )
    overwrite: bool = flag(False, "replace the run in the output folder", may_change=True)
    resume: bool = flag(False, "continue the run in the output folder", may_change=True)
    dry_run: str | None = flag(
        None, "check the flags, or the flags and the data, and stop", choices=("flags", "data"), may_change=True
    )
    tensorboard: bool = flag(
        False, f"write curves into the output folder; needs the package tensorboard: {INSTALL}", may_change=True
    )
    traceback: bool = flag(False, "show where an error came from", may_change=True)


SECTIONS = (ModelFlags, DataFlags, RecipeFlags, MachineFlags, OutputFlags)


@dataclass(frozen=True)
class Options(*reversed(SECTIONS)):
    """All flags, checked."""


def parse_options(argv: list[str] | None = None) -> Options:
    """The flags, checked as far as possible without opening files or devices."""
    parser = cli.OneLineParser(
        description=__doc__.partition("\n")[0],
        epilog="--evaluate CHECKPOINT, with the flags of a data set, runs score_images.py.",
        formatter_class=cli.HelpWithDefaults,
        allow_abbrev=False,
    )
    for section in SECTIONS:
        cli.add_flags(parser.add_argument_group(section.__doc__), section)
    flags = parser.parse_args(argv)
    processes = int(os.environ.get("NPROC") or 1) if flags.dry_run else process_count()  # the runner sets NPROC
    given = cli.given_flags(parser, argv, flags)
    if (flags.model, flags.recipe) != (published.OWN, published.OWN):
        apply_recipe(flags, given)
    for mistake in find_mistakes(flags, given, processes):
        parser.error(mistake)
    return Options(**vars(flags))


# The command


class Run(NamedTuple):
    """A checked run, ready to start."""

    variant: Variant
    folder: RunFolder
    data: QualityData
    before: dict[str, Any] | None  # config.json of the run to resume, None for a new one


def main(argv: list[str] | None = None) -> int:
    """Train with these flags; returns the exit status."""
    evaluation = evaluation_arguments(argv)
    if evaluation:
        from score_images import main as evaluate_checkpoint

        return evaluate_checkpoint(evaluation, about="--evaluate hands over to score_images.py: ")
    with cli.Command(argv) as command:
        options = parse_options(argv)
        command.more_memory = f"choose a --batch_size smaller than {options.batch_size}"
        command.when_stopped = how_to_go_on
        run = prepare(options) if options.dry_run != "flags" else None
        if run:
            command.when_stopped = lambda: how_to_go_on(run.folder)
            with run.folder.locked() if is_first() else contextlib.nullcontext():
                run.folder.refuse_change(options, run.before)
                from train_resnet_improved import train  # it loads torch, which takes seconds

                train(options, run)
    return command.status


def evaluation_arguments(argv: list[str] | None) -> list[str] | None:
    """The arguments of score_images.py for --evaluate CHECKPOINT; None without that flag."""
    parser = cli.OneLineParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--evaluate")
    parser.add_argument("--evaluate_set", default="auto")
    known, others = parser.parse_known_args(argv)
    return ["--checkpoint", known.evaluate, "--set", known.evaluate_set, *others] if known.evaluate else None


def how_to_go_on(folder: RunFolder | None = None) -> str:
    """Advice for a stopped run. The runner prints its own command; torchrun's is not known here."""
    if "ABLATION_RUN" in os.environ:
        return ""
    if process_count() > 1:
        return "The same command with --resume goes on after the last whole epoch, if one was finished."
    words = sys.orig_argv
    if folder and folder.begun and folder.config.exists():
        words = [word for word in words if word not in ("--overwrite", "--resume")] + ["--resume"]
    return f"To go on: {shlex.join(words)}"


def prepare(options: Options) -> Run | None:
    """Check the folders and the data; None if there is nothing to train."""
    variant = published.row_of(
        options.model,
        backbone=options.backbone,
        use_multiscale=options.use_multiscale,
        use_attention=options.use_attention,
    )
    output = Path(options.output_dir or f"logs/{variant.log_name}")
    name = f"resnet_improved_{variant.tag}{options.checkpoint_suffix}"
    checkpoints = Path(options.checkpoint_dir or output)
    folder = RunFolder(
        output,
        log=output.parent / f"{output.resolve().name}.log",
        best_pth=checkpoints / f"{name}_best.pth",
        last_pth=checkpoints / f"{name}_last.pth",
    )
    before = None if options.dry_run else folder.config_to_resume(options)
    if before and folder.result.exists():
        if folder.checkpoint_folder == folder.output:  # a kill may have left them
            folder.remove_last(before)
        say(f"{folder.output}: this run is finished; see {folder.result}")
        return None
    data = load_dataset(
        options.dataset,
        options.data_path,
        mos_range=options.mos_range,
        split_seed=options.split_seed,
        split_file=folder.split if before and folder.split.exists() else options.split_file,
    )
    require_sets(data)
    require_correlation(data, "test", *(["validation"] if options.select_on != "test" else []))
    mos = data.sets["training"].mos
    if mos.min() == mos.max():
        raise ValueError(f"--data_path {data.root}: every training MOS is {mos[0]:g}, so there is nothing to learn")
    patches = len(mos) * options.train_patch_num
    if options.batch_size > patches:
        raise ValueError(
            f"--batch_size {options.batch_size}: more than the {patches} training patches of an epoch; lower it"
        )
    if not before and options.weights not in ("imagenet", "none") and not Path(options.weights).is_file():
        raise FileNotFoundError(f"--weights {options.weights}: no such file; name one, or choose imagenet or none")
    return None if options.dry_run else Run(variant, folder, data, before)


# As a script, the file ends here. `main` imports it as a module, too, for the rest, which needs torch.
if __name__ == "__main__":
    sys.exit(main())

import functools
import itertools
import json
import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR, StepLR

from data_loader import EvaluationPlan, PatchLoader, TrainingPlan, mean_per_image, open_images
from iqa.health import layer_health
from iqa.metrics import srcc_and_plcc
from iqa.models.weights import build_backbone
from iqa.training import devices, distributed
from iqa.training.description import announce, changed_processes, describe_run, size_of
from iqa.training.live_view import live_view
from iqa.training.losses import training_loss
from iqa.training.optimization import LearningRates, freeze_batch_norms, rates_by_epoch
from iqa.training.precision import measured_precision, settled_precision
from iqa.training.progress import Forecast, watch
from iqa.training.recipe import BATCH_LOSSES
from iqa.training.results import print_summary, summarise
from iqa.training.scored_model import EvalModeCopy, sample_indices
from iqa.training.step import CapturedStep, check_cuda_graph, choose_step
from models_resnet_improved import ImageQualityResNet, PatchScores

START_PATCHES = 32  # the first patches of the training, from which a new model's start is computed


class EvaluationSet(NamedTuple):
    """Images and a loader that yields the same patches of them each time."""

    images: LabelledImages
    loader: PatchLoader


def train(options: Options, run: Run) -> None:
    """Train a model, evaluate it after every epoch, and write its results."""
    device = devices.open_device(options.device)
    check_cuda_graph(options.cuda_graph, device)
    devices.choose_kernels(deterministic=options.deterministic)
    with distributed.joined(device):  # with the other processes of torchrun, where there are some
        distributed.check_same_everywhere(run.data)
        training = Training(options, run, device)
        history = training.history  # a row for each epoch, those before a resume too
        if is_first():
            training.begin_files(resumed=run.before is not None)
        board = run.folder.output / "tensorboard" if options.tensorboard and is_first() else None
        with live_view(board, history) as show:
            for epoch in range(len(history) + 1, options.epochs + 1):
                row, predictions = training.run_epoch(epoch)
                history.append(row)
                if training.last_is_best():
                    training.predictions = predictions
                if is_first():
                    # First the checkpoint, which --resume needs; then the files that report this epoch.
                    save_checkpoint(run.folder.last_pth, training.state(), keep_previous=True)
                    training.write_epoch()
                show(row)
        training.finish()


def best_epoch(history: list[dict[str, Any]], select_on: str) -> dict[str, Any] | None:
    """The row of the first epoch with the highest SRCC on the selection set; None if no epoch has a defined one."""
    rows = [row for row in history if row[f"{select_on}_srcc"] is not None]
    return max(rows, key=lambda row: row[f"{select_on}_srcc"], default=None)


def choose_selection_set(name: str, data: QualityData) -> str:
    """The set whose SRCC selects the epoch: validation, or test if --select_on says so or there is no other."""
    if len(data.sets["validation"]):
        return "val" if name == "auto" else name
    if name == "val":
        raise ValueError(f"--select_on val: the split of {data.root} has no validation images; use --select_on test")
    say("Warning: the split has no validation images, so the epoch is chosen on test: Selected Test is optimistic.")
    return "test"


class Training:
    """A run: its parts, in the state of its start or of the checkpoint to resume from, its results and its files."""

    def __init__(self, options: Options, run: Run, device: torch.device):
        data, folder, before = run.data, run.folder, run.before
        settled = distributed.by_first(lambda: settled_precision(options.precision, device, before, folder.output))
        flags = {name: value for name, value in dataclasses.asdict(options).items() if name != "dry_run"}
        config = describe_run(flags, run.variant, data, device) | (settled or {})
        saved = distributed.by_first(lambda: folder.load_last(before, config)) if before else None
        model = build_model(options, data, saved).to(device, memory_format=torch.channels_last)
        if not settled:  # the faster one of bf16 and fp32, timed on copies of the model
            batch = options.batch_size // process_count()
            config |= distributed.by_first(
                lambda: measured_precision(EagerStep, model, device, batch, options.patch_size)
            )
        config |= size_of(model, options.patch_size)
        announce(config, data)
        self.select_on = choose_selection_set(options.select_on, data)
        # The training patches; "val", where the split has one, and "test"; some training images, where the loss is not
        # in points of MOS.
        self.patches, self.evaluation, self.calibration = open_loaders(options, data, device)
        if not saved and options.model == published.OWN:
            distributed.by_first(lambda: start_model(model, self.patches, config["precision"]))

        self.rates = choose_optimizer(options, model, len(self.patches))
        deviation = data.sets["training"].mos.std()
        self.step = build_step(options, model, self.rates, deviation, config["precision"], device)
        config["step"] = self.step.name
        # What is evaluated and kept: the weights or their average.
        self.scored_model = EvalModeCopy(model, ema=options.ema)
        self.history, self.predictions = [], {}  # a row for each epoch; the predictions of the best one
        if saved:
            self.scored_model.load(saved)
            self.rates.load(saved)
            self.history = saved["history"]
            self.predictions = restore_predictions(saved["predictions"], self.evaluation)
            say(f"Resuming after epoch {len(self.history)}{changed_processes(before)}")
        if options.compile:
            self.scored_model.compile()
        self.options, self.data, self.folder, self.model = options, data, folder, model
        self.config = before or config
        loaders = [of_set.loader for of_set in (self.calibration, *self.evaluation.values()) if of_set]
        self.forecast = Forecast(len(self.history), options.epochs, self.patches, loaders)

    def run_epoch(self, epoch: int) -> tuple[dict[str, Any], dict[str, Predictions]]:
        """Train for one epoch and evaluate; returns the row of metrics.jsonl and the predictions of each set."""
        options, start, title = self.options, time.monotonic(), f"Epoch {epoch}/{self.options.epochs}"
        rate = self.rates.floats[0]  # of the backbone, in the first step
        torch.manual_seed(mixed_seed(options.seed, epoch, process_number()))  # of the dropout
        self.patches.plan.epoch = epoch  # other patches, in another order
        loss = train_epoch(
            self.model,
            self.step,
            self.patches,
            rates=self.rates,
            after_step=self.scored_model.after_step,
            freeze_batch_norm=options.freeze_batch_norm,
            names=self.data.sets["training"].names,
            title=title,
            forecast=self.forecast,
        )
        row = {"epoch": epoch, "train_loss": loss, "training_seconds": round(time.monotonic() - start, 3)}
        row["learning_rate"] = rate

        self.scored_model.refresh()
        settings = {"precision": self.config["precision"], "forecast": self.forecast}
        if self.calibration:  # the loss is not in points of MOS
            images, loader = self.calibration
            scores = evaluate(self.scored_model, loader, len(images), title=f"{title} train", **settings).scores
            row["train_l1"] = self.scored_model.calibrate(scores, images.mos, fit=options.loss in BATCH_LOSSES)
        predictions, notes = {}, {}
        for name, (images, loader) in self.evaluation.items():
            settings["with_hidden"] = name == self.select_on
            scored = evaluate(self.scored_model, loader, len(images), title=f"{title} {name}", **settings)
            # Spearman's and Pearson's correlation over images, in float64; for scores that are all equal or not finite
            # None twice, and the reason
            row[f"{name}_srcc"], row[f"{name}_plcc"], notes[name] = srcc_and_plcc(scored.scores, images.mos)
            predictions[name] = Predictions(images.names, images.mos, scored.scores, scored.attention)
            if scored.hidden:
                row["target_layers"] = [layer_health(units) for units in scored.hidden]
        row["seconds"] = round(time.monotonic() - start, 3)
        print_summary(title, row, notes)
        return row, predictions

    def last_is_best(self) -> bool:
        """Whether the last epoch has the highest SRCC on the selection set; of equal epochs, the first one counts."""
        return best_epoch(self.history, self.select_on) is self.history[-1]

    # The files of a run, in the order in which they are written; each is written whole or not at all

    def begin_files(self, *, resumed: bool) -> None:
        """Open the log, and write config.json of a new run, or the files that a killed run lacks of its last epoch."""
        options, folder = self.options, self.folder
        weights = sum(x.nbytes for x in self.model.state_dict().values())
        # The weights and two moments of AdamW; besides, the trained weights and their average where these are scored.
        copies = 5 if options.ema or options.loss in BATCH_LOSSES else 3
        folder.check_space(weights, copies * weights, publish=options.save_model and not options.checkpoint_dir)
        cli.open_log(folder.log, append=resumed)
        if resumed:
            return self.write_epoch()
        folder.remove_earlier_results()
        if self.data.drawn:
            write_atomically(folder.output / "split.csv", split_csv(self.data))
        write_json(folder.output / "config.json", self.config)

    def write_epoch(self) -> None:
        """Write the rows of all epochs, the predictions of the best one, and its weights if it is the last one."""
        output, step = self.folder.output, self.step.name
        if self.config.get("step") != step:  # the capture failed, or the run was resumed elsewhere
            self.config["step"] = step
            write_json(output / "config.json", self.config)
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in self.history]
        write_atomically(output / "metrics.jsonl", "".join(lines))
        for name, predictions in self.predictions.items():
            write_atomically(output / f"predictions_{name}.csv", predictions.to_csv())  # of val and test
        if self.options.save_model and self.last_is_best():
            state = best_state(self.scored_model.weights(), len(self.history), self.config)
            save_checkpoint(self.folder.best_pth, state)

    def finish(self) -> None:
        """Print the results; write _best.pth with them, then result.json: a run is finished when it exists.

        _best.pth has the weights of the selected epoch with --save_model, else those of the last epoch.
        """
        options, folder, chosen = self.options, self.folder, best_epoch(self.history, self.select_on)
        result = summarise(
            self.config,
            self.history,
            chosen,
            self.predictions,
            self.select_on,
            training_mos=self.data.sets["training"].mos,
            patches_per_epoch=len(self.patches) * options.batch_size,
        )
        if not is_first():
            return
        state = best_state(self.scored_model.weights(), len(self.history), self.config)  # of the last epoch
        keep_selected = options.save_model and chosen is not None and chosen["test_srcc"] is not None
        if keep_selected:
            try:
                selected = load_checkpoint(folder.best_pth)
                if selected["config"].get("run_id") != self.config["run_id"]:
                    raise ValueError(f"{folder.best_pth} is of another run")
                if selected["epoch"] != chosen["epoch"]:  # repeated after a kill, with another result
                    raise ValueError(f"{folder.best_pth} has those of epoch {selected['epoch']}")
                state = selected
            except (OSError, ValueError) as error:
                say(f"Warning: the weights of the selected epoch are lost ({error}); those of the last epoch are kept")
        save_checkpoint(folder.best_pth, {**state, "results": result, "date": time.strftime("%Y-%m-%d")})
        if keep_selected and not options.checkpoint_dir:
            folder.link_in_checkpoints(self.config["run_id"])
        write_json(folder.output / "result.json", result)
        folder.remove_last(self.config)

    def state(self) -> dict[str, Any]:
        """The content of _last.pth: everything needed to resume and to score."""
        return {
            "model": self.scored_model.weights(),
            **self.scored_model.state(),
            **self.rates.state(),  # of optimizer and schedule
            "history": self.history,
            "predictions": {
                name: {
                    "scores": torch.from_numpy(p.scores),
                    "attention": None if p.attention is None else torch.from_numpy(p.attention),
                }
                for name, p in self.predictions.items()
            },
            "run_id": self.config["run_id"],
            "config": self.config,
        }


def restore_predictions(saved: dict[str, Any], evaluation: dict[str, EvaluationSet]) -> dict[str, Predictions]:
    """The predictions in a checkpoint; older checkpoints store the text of the csv files."""
    predictions = {}
    for name, of_set in saved.items():
        if isinstance(of_set, str):
            predictions[name] = Predictions.from_csv(of_set)
        else:
            images, attention = evaluation[name].images, of_set["attention"]
            attention = None if attention is None else attention.numpy()
            predictions[name] = Predictions(images.names, images.mos, of_set["scores"].numpy(), attention)
    return predictions


def mixed_seed(seed: int, epoch: int, process: int = 0) -> int:
    """A seed for initialisation and dropout, the same wherever a run was resumed; each process has its own dropout."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1, np.uint64)[0])


# The parts of a run


def choose_optimizer(options: Options, model: nn.Module, steps_per_epoch: int) -> LearningRates:
    """One AdamW for all parameters, biases and norms too, at a constant rate; others for the other recipes."""
    recipe = PUBLISHED_RECIPES[options.model] if options.recipe == PUBLISHED_RECIPE else None
    groups = [{"params": list(model.parameters())}]
    if recipe or options.head_lr_ratio != 1:
        slow = list(model.slow_part.parameters())  # the backbone, and the distortion modules of a published model
        known = set(slow)
        rest = [parameter for parameter in model.parameters() if parameter not in known]
        groups = [{"params": slow}, {"params": rest, "lr": options.lr * options.head_lr_ratio}]
    kind = getattr(torch.optim, recipe.optimizer) if recipe else torch.optim.AdamW
    # A fused optimizer skips a step whose `found_inf` is set.
    optimizer = kind(groups, lr=options.lr, weight_decay=options.weight_decay, fused=True)
    # A constant rate, after a warm-up in which step n of N has n / N of it.
    warm_up = max(1, options.warmup_steps)
    schedules = [LinearLR(optimizer, 1 / warm_up, total_iters=warm_up - 1)]
    steps = options.epochs * steps_per_epoch
    if options.lr_schedule == "cosine":
        schedules.append(CosineAnnealingLR(optimizer, steps))
    elif options.lr_schedule == "step":
        schedules.append(StepLR(optimizer, math.ceil(steps / 3), gamma=0.1))
    elif recipe:
        rates = functools.partial(recipe.rates, options.lr, options.head_lr_ratio, epochs=options.epochs)
        schedules.append(rates_by_epoch(optimizer, rates, steps_per_epoch))
    on_gpu = next(model.parameters()).device.type == "cuda"
    return LearningRates(optimizer, ChainedScheduler(schedules), as_tensors=on_gpu)


class EagerStep:
    """Loss, backward pass, clipping and optimizer, one kernel after the other.

    A step whose loss or gradients are not finite changes no weight; `LossMeter` then ends the run. The host does not
    wait for the device.

    Args:
        model: has the trained parameters.
        optimizer: a fused one, which heeds `found_inf`.
        loss_of: inputs [B, 3, P, P] and MOS [B] -> a scalar.
        max_grad_norm: longer gradients are clipped to it; 0: never.
    """

    name = "eager"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable, max_grad_norm: float = 0):
        self.optimizer, self.loss_of, self.max_grad_norm = optimizer, loss_of, max_grad_norm
        self.parameters = list(model.parameters())
        optimizer.found_inf = torch.zeros((), device=self.parameters[0].device)

    def __call__(self, inputs: Tensor, mos: Tensor) -> tuple[Tensor, Tensor]:
        """Train on inputs [B, 3, P, P] and MOS [B]; returns loss and gradient norm, valid until the next step."""
        loss = self.loss_of(inputs, mos)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self.parameters])
        self.optimizer.found_inf.copy_(~(loss.isfinite() & norm.isfinite()))
        if self.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        self.optimizer.step()
        return loss.detach(), norm


def build_step(
    options: Options,
    model: nn.Module,
    rates: LearningRates,
    mos_deviation: float,
    precision: str,
    device: torch.device,
) -> EagerStep | CapturedStep:
    """One training step: loss, backward pass, clipping, optimizer. Gradients that are not finite change no weight."""
    # L1: mean over the batch of |score - MOS|, in points of MOS
    of_scores = F.l1_loss if options.loss == "l1" else training_loss(options.loss, mos_deviation)
    # With several processes the model of the first one is copied to the others, and gradients are averaged.
    forward = distributed.distribute(model, device)
    if options.compile:
        forward = torch.compile(forward, dynamic=False)

    def loss_of(inputs: Tensor, mos: Tensor) -> Tensor:
        with devices.autocast(device, precision):  # the model leaves it for its score path, which is in fp32
            scores = forward(inputs)
        assert scores.shape == mos.shape  # an L1 loss would broadcast silently
        return of_scores(scores, mos)  # in fp32

    step = EagerStep(model, rates.optimizer, loss_of, max_grad_norm=options.max_grad_norm)
    return choose_step(options.cuda_graph, step, device, warn=say)


def build_model(options: Options, data: QualityData, saved: dict | None) -> nn.Module:
    """The variant or published model with its starting weights, or with those of the last checkpoint."""
    mos = data.sets["training"].mos
    backbone = {
        "weights": "none" if saved else options.weights,
        "patch_size": options.patch_size,
        "drop_path_rate": options.drop_path_rate,
    }
    torch.manual_seed(mixed_seed(options.seed, 0))
    with distributed.one_here_first():  # the first process may download the weights
        if options.model == published.OWN:
            model = ImageQualityResNet(
                backbone=options.backbone,
                use_multiscale=options.use_multiscale,
                use_attention=options.use_attention,
                dropout_rate=options.dropout_rate,
                mos_mean=mos.mean(),
                mos_deviation=mos.std(),
                **backbone,
            )
        else:
            model = published.build_published(options.model, build_backbone(options.backbone, **backbone))
    if saved:
        model.load_state_dict(saved.get("training", saved)["model"])  # "training": where their average is scored
    return model


def start_model(model: ImageQualityResNet, patches: PatchLoader, precision: str) -> None:
    """Standardise the features and set the first scores, from the first patches that the model will be trained on."""
    with devices.autocast(patches.device, precision):
        model.start(patches.first(START_PATCHES))


def open_loaders(
    options: Options, data: QualityData, device: torch.device
) -> tuple[PatchLoader, dict[str, EvaluationSet], EvaluationSet | None]:
    """The training patches, the sets to evaluate, and some training images for a loss that is not in points of MOS."""
    opened, cutting = open_pixels(options, data, device)
    images = data.sets["training"]
    plan = TrainingPlan(
        opened["training"].sizes(),
        images.mos,
        patches=options.train_patch_num,
        patch_size=options.patch_size,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    if plan.dropped:
        say(f"Batches: {len(plan)} an epoch; {plan.dropped} random patches of each epoch fill no batch")
    evaluation = {
        short: evaluation_set(options, data.sets[name], opened[name], cutting)
        for short, name in (("val", "validation"), ("test", "test"))
        if name in opened
    }
    calibration = None
    if options.loss != "l1":
        indices = sample_indices(len(images))
        pixels = opened["training"].chosen(indices)
        calibration = evaluation_set(options, images.chosen(indices), pixels, cutting)
    patches = PatchLoader(opened["training"], plan, color_jitter=not options.no_color_jitter, **cutting)
    return patches, evaluation, calibration


def open_pixels(options: Options, data: QualityData, device: torch.device) -> tuple[dict, dict[str, Any]]:
    """The resized images of every set that has some, and how all loaders cut patches from them."""
    cache_dir = None if options.no_cache else Path(options.cache_dir or data.root / "cache")
    with distributed.one_here_first():  # the first process fills the cache
        opened = open_images(data, cache_dir=cache_dir, resize=options.resize)
    opened = devices.preloaded(opened, options.preload_images, device, is_cached=cache_dir is not None)
    return opened, {
        "patch_size": options.patch_size,
        "device": device,
        "num_workers": options.num_workers,
        "share": (process_number(), process_count()),
    }


def evaluation_set(options: Options, images: LabelledImages, opened, cutting: dict[str, Any]) -> EvaluationSet:
    """A set with an even grid of patches, or fixed random ones with --test_random_crop."""
    plan = EvaluationPlan(
        opened.sizes(),
        images.mos,
        images.names,
        patches=options.test_patch_num,
        patch_size=options.patch_size,
        batch_size=devices.evaluation_batch(cutting["device"], options.batch_size),
        seed=options.seed,
        random=options.test_random_crop,
    )
    return EvaluationSet(images, PatchLoader(opened, plan, color_jitter=False, **cutting))


# An epoch


class LossMeter:
    """Mean loss of an epoch, and its first step that is not finite; both are on the device until they are read.

    Args:
        refuse: raises the error of a step (what is not finite, number of the step): on a CPU in that step, on a GPU
            when the mean is read, which is at each line of progress and at the end.
    """

    def __init__(self, device: torch.device, refuse: Callable[[str, int], None]):
        self.device, self.refuse, self.steps = device, refuse, 0
        self.total = torch.zeros((), device=device)
        self.bad = torch.zeros(2, dtype=torch.int64, device=device)  # first bad step of loss and gradients

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Add the loss and the gradient norm of a step."""
        self.steps += 1
        broken = ~torch.stack([loss, norm]).isfinite() & (self.bad == 0)
        self.bad = torch.where(broken, self.steps, self.bad)
        self.total += loss
        if self.device.type == "cpu":
            self.check()

    def check(self) -> None:
        for what, step in zip(("loss", "gradients"), self.bad.tolist(), strict=True):
            if step:
                self.refuse(what, step)

    def mean(self) -> float:
        self.check()
        return self.total.item() / self.steps


def train_epoch(
    model,
    step: EagerStep | CapturedStep,
    loader: PatchLoader,
    *,
    rates: LearningRates,
    after_step: Callable[[], None] = lambda: None,
    freeze_batch_norm: bool = False,
    names: tuple[str, ...],
    title: str,
    forecast: Forecast | None = None,
) -> float:
    """One pass over the patches; returns the mean loss. On a GPU only progress lines synchronise with the device.

    Args:
        step: trains the model on one batch.
        rates: learning rates, which change with every step.
        after_step: updates the weight average, if there is one.
        freeze_batch_norm: the backbone's batch norms use and keep the statistics that they have.
        names: training image names, for error messages.
    """
    model.train()
    if freeze_batch_norm:
        freeze_batch_norms(model.slow_part)

    def refuse(what: str, number: int) -> None:
        batch = next(itertools.islice(loader.plan, number - 1, None))
        images = ", ".join(dict.fromkeys(names[i] for i in batch.image))
        raise ValueError(f"{title}, step {number}: non-finite {what}; lower --lr, or check its images: {images}")

    meter = LossMeter(loader.device, refuse)
    for inputs, batch in watch(loader, title, forecast, meter):
        loss, norm = step(inputs, batch.mos)
        meter.add(distributed.mean_over_processes(loss), norm)
        rates.step()
        after_step()
    return meter.mean()


class Scored(NamedTuple):
    """Per image, the means over its patches."""

    scores: np.ndarray  # [N]
    attention: np.ndarray | None  # [N, 4]
    hidden: list[np.ndarray]  # [N, units] of each hidden layer of the target network, where asked for


@torch.inference_mode()
def evaluate(
    scored_model: Callable[[Tensor], PatchScores],
    loader: PatchLoader,
    images: int,
    *,
    precision: str,
    title: str,
    forecast: Forecast | None = None,
    with_hidden: bool = False,
) -> Scored:
    """Score every image by the mean over its patches; the hidden units of each, which take memory, on request."""
    outputs = []
    for inputs, _ in watch(loader, title, forecast=forecast):
        with devices.autocast(loader.device, precision):
            scores, attention, hidden = scored_model(inputs)  # [B], [B, 4] or None, four times [B, units]
        outputs.append((scores, attention, *hidden) if with_hidden else (scores, attention))
    # Of all processes, in the plan's order. This waits for the device.
    scores, attention, *hidden = distributed.gather_batches(outputs)
    means = [x if x is None else mean_per_image(x, images) for x in (scores, attention, *hidden)]
    return Scored(means[0], means[1], means[2:])
