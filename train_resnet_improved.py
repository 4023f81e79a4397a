#!/usr/bin/env python3
"""Train and evaluate one variant of the ablation, or a published model.

    python3 train_resnet_improved.py --use_multiscale --use_attention --no_color_jitter --test_random_crop --save_model
    python3 train_resnet_improved.py --dataset csv --data_path my-photos --save_model    # labels.csv: image,mos[,split]
    torchrun --nproc_per_node=4 train_resnet_improved.py --use_multiscale --use_attention    # 4 GPUs share each batch

From top to bottom: the flags with their defaults; `main` and `prepare`, which check them before torch is loaded;
`train`, the course of a run; its model, optimizer, loss, step and data; `train_epoch`; and `evaluate`, the scores of
images. docs/training.md describes the files and the log of a run.
"""

import argparse
import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from iqa import cli
from iqa.cli import flag, say
from iqa.data.datasets import load_dataset, split_csv
from iqa.data.flags import PatchFlags
from iqa.data.images import RESIZES, SHORT_SIDE
from iqa.data.labels import LabelledImages, QualityData, require_correlation, require_sets
from iqa.json_files import write_json
from iqa.models import published
from iqa.models.backbones import BACKBONES, STRIDE
from iqa.models.variants import Variant
from iqa.predictions import Predictions
from iqa.processes import is_first, process_count, process_number
from iqa.training.live_view import INSTALL
from iqa.training.options import complete_flags
from iqa.training.recipe import BEST, LOSSES, PUBLISHED_RECIPE, RECIPES, SCHEDULES, published_recipe
from iqa.training.run_folder import RunFolder, best_state, save_checkpoint

# The flags, their defaults and their help


@dataclass(frozen=True)
class ModelFlags:
    """model"""

    model: str = flag(published.OWN, "a variant of the ablation, or a published model", choices=published.MODELS)
    backbone: str = flag("resnet50", f"{', '.join(BACKBONES)}, or timm:NAME, a model of timm", metavar="NAME")
    use_multiscale: bool = flag(False, "fuse stages 1-4 instead of using stage 4 alone")
    use_attention: bool = flag(False, "weight the four scales of each patch; needs --use_multiscale")
    dropout_rate: float = flag(0.3, "dropout of the hyper network", low=0, below=1)
    drop_path_rate: float | None = flag(None, "stochastic depth; default: 0.3 for swin_b, timm's own", low=0, below=1)
    weights: str = flag(
        "imagenet",
        "backbone weights: ImageNet (torchvision's ImageNet-1k V1; for timm:NAME those that timm has under that "
        "name), a file with its state dict (.pth, .safetensors), or random weights",
        metavar="imagenet|PATH|none",
    )


@dataclass(frozen=True)
class DataFlags(PatchFlags):
    """data"""

    data_path: str | None = flag("./koniq-10k", "folder of labels and images", metavar="DIR")
    resize: str = flag(
        "keep",
        "keep: the shorter side to 384 pixels, the aspect as it is; squeeze: 384x512 (width x height), as "
        "Resize((512, 384)) in HyperIQA and SMART-IQA",
        choices=RESIZES,
    )
    patch_size: int = flag(224, f"pixels; {SHORT_SIDE} is all of the shorter side", low=STRIDE, high=SHORT_SIDE)
    train_patch_num: int = flag(25, "random patches per image and epoch", low=1)
    test_patch_num: int = flag(25, "patches per image whose scores are averaged", low=1)
    test_random_crop: bool = flag(False, "evaluate on fixed random crops instead of a grid")
    no_color_jitter: bool = flag(False, "do not jitter the colours of training patches")


@dataclass(frozen=True)
class RecipeFlags:
    """recipe"""

    recipe: str = flag(
        published.OWN,
        f"{published.OWN}: the defaults below, which are under test; best: "
        f"{' '.join(f'--{name} {value}' for name, value in BEST.items())} (docs/recipe.md); published: the optimizer, "
        "learning rates and defaults of --model as it was published. A flag that is given takes precedence",
        choices=RECIPES,
    )
    loss: str = flag("l1", "l1 is in points of MOS; docs/recipe.md has the formulas", choices=LOSSES)
    epochs: int = flag(10, "passes over the training images", low=1)
    batch_size: int = flag(32, "patches per step, of all processes together", low=1)
    lr: float = flag(1e-4, "AdamW learning rate; that of the backbone where --head_lr_ratio is not 1", low=0)
    head_lr_ratio: float = flag(1.0, "learning rate of all but the backbone, divided by --lr", low=0)
    lr_schedule: str = flag("constant", "cosine: half a one, to 0; step: a tenth after each third", choices=SCHEDULES)
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

    device: str = flag("auto", "auto (CUDA where there is one), cpu, cuda or cuda:N")
    precision: str = flag(
        "auto",
        "of the arithmetic before the score path; auto: where the device has bf16, the faster one in a few training "
        "steps, measured once for an ablation",
        choices=("auto", "fp32", "bf16"),
    )
    compile: bool = flag(False, "use torch.compile, which takes about a minute")
    cuda_graph: str = flag("auto", "replay the step as a CUDA graph; auto: on one GPU", choices=("auto", "on", "off"))
    deterministic: bool = flag(False, "bit-identical results on CUDA; slower")


@dataclass(frozen=True)
class OutputFlags:
    """output"""

    output_dir: str | None = flag(None, "folder of the run; default: logs/<name of the variant>", metavar="DIR")
    checkpoint_dir: str | None = flag(None, "folder of the checkpoints; default: that of the run", metavar="DIR")
    checkpoint_suffix: str = flag("", "text at the end of the names of checkpoints", metavar="TEXT")
    save_model: bool = flag(False, "keep the weights of the selected epoch, and link them from checkpoints/")
    overwrite: bool = flag(False, "replace the run in the output folder")
    resume: bool = flag(False, "go on with the run in the output folder")
    dry_run: str | None = flag(None, "check the flags, or flags and data, and stop", choices=("flags", "data"))
    tensorboard: bool = flag(False, f"write curves into the output folder; needs the package tensorboard: {INSTALL}")
    traceback: bool = flag(False, "show where an error came from")


SECTIONS = (ModelFlags, DataFlags, RecipeFlags, MachineFlags, OutputFlags)


@dataclass(frozen=True)
class Options(*reversed(SECTIONS)):
    """All flags, checked."""


def parse_options(argv: list[str] | None = None) -> Options:
    """The flags, checked as far as possible without opening files or devices."""
    parser = cli.OneLineParser(
        description=__doc__.partition("\n")[0],
        epilog="--evaluate CHECKPOINT, with the flags of a data set, hands over to score_images.py.",
        formatter_class=cli.HelpWithDefaults,
        allow_abbrev=False,
    )
    for section in SECTIONS:
        cli.add_flags(parser.add_argument_group(section.__doc__), section)
    flags = parser.parse_args(argv)
    processes = int(os.environ.get("NPROC") or 1) if flags.dry_run else process_count()  # the runner sets NPROC
    mistake = complete_flags(flags, cli.given_flags(parser, argv, flags), processes)
    if mistake:
        parser.error(mistake)
    return Options(**vars(flags))


# The command


class Run(NamedTuple):
    """A checked run, ready to start."""

    variant: Variant
    folder: RunFolder
    data: QualityData
    before: dict[str, Any] | None  # config.json of the run to resume, None for a new one
    locks: list[TextIO]  # held until the program ends


def main(argv: list[str] | None = None) -> int:
    """Train with these flags; returns the exit status."""
    evaluation = evaluation_arguments(argv)
    if evaluation:
        from score_images import main as evaluate_checkpoint

        return evaluate_checkpoint(evaluation, about="--evaluate hands over to score_images.py: ")
    with cli.Command(argv) as command:
        options = parse_options(argv)
        command.more_memory = f"choose a --batch_size smaller than {options.batch_size}"
        command.when_stopped = how_to_go_on(sys.orig_argv)
        run = prepare(options) if options.dry_run != "flags" else None
        if run:
            try:
                from train_resnet_improved import train  # it loads torch, which takes seconds

                train(options, run)
            finally:
                if run.locks:
                    run.folder.release()
                words = [word for word in sys.orig_argv if word not in ("--resume", "--overwrite")]
                command.when_stopped = how_to_go_on([*words, *run.folder.flags_to_go_on()])
    return command.status


def evaluation_arguments(argv: list[str] | None) -> list[str] | None:
    """The arguments of score_images.py for --evaluate CHECKPOINT; None without that flag."""
    parser = cli.OneLineParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--evaluate")
    parser.add_argument("--evaluate_set", default="auto")
    known, others = parser.parse_known_args(argv)
    return ["--checkpoint", known.evaluate, "--set", known.evaluate_set, *others] if known.evaluate else None


def how_to_go_on(command: list[str]) -> str:
    """Advice for a stopped run. The runner prints its own command; torchrun's is not known here."""
    if "ABLATION_RUN" in os.environ:
        return ""
    if process_count() > 1:
        return "The same command with --resume goes on after the last whole epoch, if one was finished."
    return f"To go on: {shlex.join(command)}"


def prepare(options: Options) -> Run | None:
    """Check the folders and the data and lock the folders; None if there is nothing to train."""
    variant = published.row_of(
        options.model,
        backbone=options.backbone,
        use_multiscale=options.use_multiscale,
        use_attention=options.use_attention,
    )
    output = Path(options.output_dir or f"logs/{variant.log_name}")
    checkpoint_dir = Path(options.checkpoint_dir) if options.checkpoint_dir else None
    folder = RunFolder(output, f"resnet_improved_{variant.tag}{options.checkpoint_suffix}", checkpoint_dir)
    if options.resume and folder.is_finished(vars(options)):
        say(f"{folder.output}: this run is finished; see {folder.result}")
        return None
    before = folder.config_to_resume(resume=options.resume, overwrite=options.overwrite)
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
    if options.dry_run:
        return None
    return Run(variant, folder, data, before, folder.lock() if is_first() else [])


if __name__ == "__main__":
    sys.exit(main())

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_loader import EvaluationPlan, PatchLoader, TrainingPlan, mean_per_image, open_images
from iqa.health import layer_health
from iqa.metrics import srcc_and_plcc
from iqa.models.weights import build_backbone
from iqa.training import devices, distributed
from iqa.training.description import announce, changed_processes, describe_run, size_of
from iqa.training.live_view import live_view
from iqa.training.losses import training_loss
from iqa.training.optimization import LearningRates, build_optimizer, build_schedule, freeze_batch_norms
from iqa.training.precision import measured_precision, settled_precision
from iqa.training.progress import Forecast, LossMeter, watch
from iqa.training.recipe import BATCH_LOSSES
from iqa.training.results import choose_selection_set, print_summary, summarise
from iqa.training.scored_model import ScoredModel, sample_indices
from iqa.training.step import CapturedStep, EagerStep, check_cuda_graph, choose_step
from models_resnet_improved import ImageQualityResNet, PatchScores

START_PATCHES = 32  # the first patches of the training, from which a new model's start is computed


class EvaluationSet(NamedTuple):
    """Images and a loader that yields the same patches of them each time."""

    images: LabelledImages
    loader: PatchLoader


@dataclass
class Training:
    """The parts of a run, and its results so far."""

    config: dict[str, Any]  # the content of config.json
    model: nn.Module  # what is trained
    scored_model: ScoredModel  # its folded or averaged copy, which is evaluated and kept
    step: EagerStep | CapturedStep  # trains the model on one batch
    rates: LearningRates  # of the optimizer
    patches: PatchLoader  # the training patches
    evaluation: dict[str, EvaluationSet]  # "val", where the split has one, and "test"
    calibration: EvaluationSet | None  # some training images, where the loss is not in points of MOS
    select_on: str  # the set whose SRCC selects the epoch
    history: list[dict[str, Any]]  # a row for each epoch
    predictions: dict[str, Predictions]  # of the best epoch


def train(options: Options, run: Run) -> None:
    """Train a model, evaluate it after every epoch, and write its results."""
    device = devices.open_device(options.device)
    check_cuda_graph(options.cuda_graph, device)
    devices.choose_kernels(deterministic=options.deterministic)
    with distributed.joined(device):  # with the other processes of torchrun, where there are some
        distributed.check_same_everywhere(run.data)
        training = set_up(options, run, device)
        history, select_on = training.history, training.select_on
        if is_first():
            begin_files(options, run, training)
        loaders = [of_set.loader for of_set in (training.calibration, *training.evaluation.values()) if of_set]
        forecast = Forecast(len(history), options.epochs, training.patches, loaders)
        board = run.folder.output / "tensorboard" if options.tensorboard and is_first() else None
        with live_view(board, history) as show:
            for epoch in range(len(history) + 1, options.epochs + 1):
                row, predictions = run_epoch(options, run.data, training, epoch, forecast)
                history.append(row)
                is_best = best_epoch(history, select_on) is row  # the highest SRCC, the first of equal ones
                if is_best:
                    training.predictions = predictions
                if is_first():
                    # First _last.pth, with all that --resume needs; then the files that report this epoch.
                    save_checkpoint(run.folder.last, state_of(training), keep_previous=True)
                    write_epoch(options, run.folder, training, is_best=is_best)
                show(row)

        result = summarise(
            training.config,
            history,
            best_epoch(history, select_on),
            training.predictions,
            select_on,
            training_mos=run.data.sets["training"].mos,
            patches_per_epoch=len(training.patches) * options.batch_size,
        )
        if is_first():
            # _best.pth with the results, then result.json: a run is finished when it exists. _last.pth is removed.
            weights = training.scored_model.weights()
            run.folder.finish(result, weights, training.config, save_model=options.save_model)


def best_epoch(history: list[dict[str, Any]], select_on: str) -> dict[str, Any] | None:
    """The row of the first epoch with the highest SRCC on the selection set; None if no epoch has a defined one."""
    rows = [row for row in history if row[f"{select_on}_srcc"] is not None]
    return max(rows, key=lambda row: row[f"{select_on}_srcc"], default=None)


def begin_files(options: Options, run: Run, training: Training) -> None:
    """Open the log, and write config.json of a new run, or the files that a killed run lacks of its last epoch."""
    weights = sum(x.nbytes for x in training.model.state_dict().values())
    # The weights and two moments of AdamW; besides, the trained weights and their average where these are scored.
    copies = 5 if options.ema or options.loss in BATCH_LOSSES else 3
    run.folder.check_space(copies * weights, save_model=options.save_model and not options.checkpoint_dir)
    cli.open_log(run.folder.log, append=run.before is not None)
    if run.before is None:
        run.folder.begin(training.config, split_csv(run.data) if run.data.drawn else None)
    else:
        is_best = best_epoch(training.history, training.select_on) is training.history[-1]
        write_epoch(options, run.folder, training, is_best=is_best)


def write_epoch(options: Options, folder: RunFolder, training: Training, *, is_best: bool) -> None:
    """metrics.jsonl, the predictions of the best epoch, and the weights of the last epoch where it is the best one."""
    if training.config.get("step") != training.step.name:  # the capture failed, or the run was resumed elsewhere
        training.config["step"] = training.step.name
        write_json(folder.config, training.config)
    folder.write_scores(training.history, training.predictions)
    if is_best and options.save_model:
        state = best_state(training.scored_model.weights(), len(training.history), training.config)
        save_checkpoint(folder.best, state)


def run_epoch(
    options: Options, data: QualityData, training: Training, epoch: int, forecast: Forecast
) -> tuple[dict[str, Any], dict[str, Predictions]]:
    """Train for one epoch and evaluate; returns the row of metrics.jsonl and the predictions of each set."""
    start, title, rate = time.monotonic(), f"Epoch {epoch}/{options.epochs}", training.rates.floats[0]
    precision, scored_model = training.config["precision"], training.scored_model
    torch.manual_seed(mixed_seed(options.seed, epoch, process_number()))  # of the dropout
    training.patches.plan.epoch = epoch  # other patches, in another order
    loss = train_epoch(
        training.model,
        training.step,
        training.patches,
        rates=training.rates,
        after_step=scored_model.after_step,
        freeze_batch_norm=options.freeze_batch_norm,
        names=data.sets["training"].names,
        title=title,
        forecast=forecast,
    )
    row = {"epoch": epoch, "train_loss": loss, "training_seconds": round(time.monotonic() - start, 3)}
    row["learning_rate"] = rate  # of the backbone, in the first step

    scored_model.refresh()
    if training.calibration:  # the loss is not in points of MOS
        images, loader = training.calibration
        scored = evaluate(
            scored_model, loader, len(images), precision=precision, title=f"{title} train", forecast=forecast
        )
        row["train_l1"] = scored_model.calibrate(scored.scores, images.mos, fit=options.loss in BATCH_LOSSES)
    predictions, notes = {}, {}
    for name, (images, loader) in training.evaluation.items():
        scored = evaluate(
            scored_model,
            loader,
            len(images),
            precision=precision,
            title=f"{title} {name}",
            forecast=forecast,
            with_hidden=name == training.select_on,
        )
        row[f"{name}_srcc"], row[f"{name}_plcc"], notes[name] = srcc_and_plcc(scored.scores, images.mos)
        predictions[name] = Predictions(images.names, images.mos, scored.scores, scored.attention)
        if scored.hidden:
            row["target_layers"] = [layer_health(units) for units in scored.hidden]
    row["seconds"] = round(time.monotonic() - start, 3)
    print_summary(title, row, notes)
    return row, predictions


# What a run consists of


def set_up(options: Options, run: Run, device: torch.device) -> Training:
    """Build the parts of a run, in the state of its start or of the checkpoint to resume from."""
    data, before = run.data, run.before
    settled = distributed.by_first(lambda: settled_precision(options.precision, device, before, run.folder.output))
    flags = {name: value for name, value in dataclasses.asdict(options).items() if name != "dry_run"}
    config = describe_run(flags, run.variant, data, device) | (settled or {})
    saved = distributed.by_first(lambda: run.folder.load_last(before, config)) if before else None
    model = build_model(options, data, saved).to(device, memory_format=torch.channels_last)
    if not settled:  # the faster one of bf16 and fp32
        batch = options.batch_size // process_count()
        config |= distributed.by_first(lambda: measured_precision(model, device, batch, options.patch_size))
    config |= size_of(model, options.patch_size)
    announce(config, data)
    select_on = choose_selection_set(options.select_on, data)  # validation, unless test is requested or is the only set
    patches, evaluation, calibration = open_loaders(options, data, device)
    if not saved and options.model == published.OWN:
        distributed.by_first(lambda: start_model(model, patches, config["precision"]))

    rates = choose_optimizer(options, model, len(patches))
    step = build_step(options, model, rates, data.sets["training"].mos.std(), config["precision"], device)
    config["step"] = step.name
    scored_model = ScoredModel(model, ema=options.ema)
    history, predictions = [], {}
    if saved:
        scored_model.load(saved)
        rates.load(saved)
        history, predictions = saved["history"], restore_predictions(saved["predictions"], evaluation)
        say(f"Resuming after epoch {len(history)}{changed_processes(before)}")
    if options.compile:
        scored_model.compile()
    return Training(
        config=before or config,
        model=model,
        scored_model=scored_model,
        step=step,
        rates=rates,
        patches=patches,
        evaluation=evaluation,
        calibration=calibration,
        select_on=select_on,
        history=history,
        predictions=predictions,
    )


def choose_optimizer(options: Options, model: nn.Module, steps_per_epoch: int) -> LearningRates:
    """One AdamW for all parameters, biases and norms too, at a constant rate; others for the other recipes."""
    recipe = published_recipe(options.model, vars(options)) if options.recipe == PUBLISHED_RECIPE else None
    if recipe or options.head_lr_ratio != 1:
        optimizer = build_optimizer(
            model,
            lr=options.lr,
            weight_decay=options.weight_decay,
            kind=recipe.optimizer if recipe else "AdamW",
            head_lr_ratio=options.head_lr_ratio,
        )
    else:  # a fused optimizer skips a step whose `found_inf` is set
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
    schedule = build_schedule(
        optimizer,
        options.lr_schedule,
        warmup_steps=options.warmup_steps,
        epochs=options.epochs,
        steps_per_epoch=steps_per_epoch,
        recipe=recipe,
    )
    on_gpu = next(model.parameters()).device.type == "cuda"
    return LearningRates(optimizer, schedule, as_tensors=on_gpu)


def build_step(
    options: Options,
    model: nn.Module,
    rates: LearningRates,
    mos_deviation: float,
    precision: str,
    device: torch.device,
) -> EagerStep | CapturedStep:
    """One training step: forward pass, loss, backward pass, clipping and optimizer."""
    if options.loss == "l1":
        loss_of = F.l1_loss  # mean over the batch of |score - MOS|, in points of MOS
    else:
        loss_of = training_loss(options.loss, mos_deviation)
    # With several processes the model of the first one is copied to the others, and gradients are averaged.
    forward = distributed.distribute(model, device)
    if options.compile:
        forward = torch.compile(forward, dynamic=False)
    max_grad_norm = options.max_grad_norm
    step = EagerStep(model, forward, rates.optimizer, loss_of, precision=precision, max_grad_norm=max_grad_norm)
    return choose_step(options.cuda_graph, step, device, warn=say)


def state_of(training: Training) -> dict[str, Any]:
    """The content of _last.pth: everything needed to resume and to score."""
    return {
        "model": training.scored_model.weights(),
        **training.scored_model.state(),
        **training.rates.state(),  # of optimizer and schedule
        "history": training.history,
        "predictions": {
            name: {
                key: None if x is None else torch.from_numpy(x)
                for key, x in (("scores", p.scores), ("attention", p.attention))
            }
            for name, p in training.predictions.items()
        },
        "run_id": training.config["run_id"],
        "config": training.config,
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
        model.load_state_dict(saved.get("training", saved)["model"])
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
    if not len(plan):
        count = len(images) * options.train_patch_num
        raise ValueError(f"--batch_size {options.batch_size}: more than the {count} training patches of an epoch")
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
        opened = open_images(data, cache_dir=cache_dir, resize=options.resize, log=say)
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
    meter = LossMeter(loader, names, title, forecast)
    for inputs, batch in meter.batches():
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
