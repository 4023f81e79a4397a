#!/usr/bin/env python3
"""Train and evaluate one variant of the HyperIQA ablation, or a published model, on KonIQ-10k.

    # the third variant by the reported recipe; HyperIQA as it was published by its own
    python3 train_resnet_improved.py --use_multiscale --use_attention --no_color_jitter --test_random_crop --save_model
    python3 train_resnet_improved.py --model hyperiqa --recipe published --no_color_jitter --save_model

    # a minute on a CPU, with the demo images
    python3 demo_dataset.py --output demo-data --images 60
    python3 train_resnet_improved.py --data_path demo-data --weights none --epochs 1 --patch_size 64 \
        --train_patch_num 4 --test_patch_num 2

    # your own images: labels.csv with the columns image,mos[,split]; then the same model on another data set
    python3 train_resnet_improved.py --dataset csv --data_path my-photos --save_model
    python3 train_resnet_improved.py --evaluate checkpoints/resnet_improved_ss_noatt_best.pth --dataset livec \
        --data_path ChallengeDB_release

    # 4 GPUs of one machine, which share each batch
    torchrun --nproc_per_node=4 train_resnet_improved.py --use_multiscale --use_attention --save_model

One run, from top to bottom: `train` with its loop over epochs, `train_epoch` with the training step, `evaluate` with
the score of an image. data_loader.py says what happens to an image before the network, models_resnet_improved.py what
the network is; iqa/training/ has the flags (options.py), the files (run_files.py, records.py) and the devices. By default:

    data        ./koniq-10k, its official split into training, validation and test images, MOS 0 to 100; seed 42
    patches     224x224 pixels, 25 of each image: to train, random ones in each epoch, mirrored by chance, their colours
                jittered; to evaluate, an even grid of 5x5. The reported recipe adds --no_color_jitter --test_random_crop
    model       the baseline on a ResNet50 with ImageNet weights; dropout 0.3
    loss        L1 of a patch's score and its image's MOS, mean over a batch of 32 patches, in points of MOS, in fp32
    optimizer   one fused AdamW for all parameters, biases and norms too: rate 1e-4 (constant, no warm-up), decay 1e-4, betas
                0.9 and 0.999, eps 1e-8; no clipping, no
                average of weights. A loss or gradients that are not finite end the run with an error that
                names the images: at once on a CPU; on a GPU at the next line of the log, until when the optimizer leaves
                out the steps whose gradients are not finite. --recipe best and its flags: docs/recipe.md
    precision   parameters, optimizer, and all from the target network's input to the loss in fp32 (no TF32), so the generated
                biases and last layer. The backbone, the fusion and what generates the other weights run under bf16 autocast
                where bf16 is native (CPUs with avx512_bf16 or amx_bf16, GPUs of compute capability 8.0 and above), else
                in fp32; to standardise is computed in fp32 and handed on as it came
    evaluation  after each of the 10 epochs, on validation and test, without dropout, batch norms by their running statistics
                and folded into the convolutions. An image's score is the mean of its patches'; SRCC and PLCC are of the
                images, with no fit in between
    epoch       the one of the highest validation SRCC, the first of equal ones. Where all scores of a set are alike, or any is
                not finite, SRCC is undefined: such an epoch is never chosen, and if all are such the run ends with an
                error and no result. Without validation images it is chosen on test, and a warning says so. No early stop
    files       the resized images, once, in the data folder's cache/. Then, in this order: config.json, with every flag (and
                split.csv where no file had the split). After each epoch resnet_improved_<tag>_last.pth, for --resume, the
                one before becoming _last_previous.pth; metrics.jsonl, a line for each epoch; predictions_val.csv and
                predictions_test.csv of the best epoch so far; with --save_model, after an epoch that is the best,
                _best.pth. At the end result.json: a run is finished when it exists. Each is written whole or not at
                all, and stays. The .pth lie in checkpoints/, the others in logs/<variant>/: exp1_baseline (tag ss_noatt),
                exp2_multiscale (ms_noatt), exp3_multiscale_attention (ms_att). A folder that holds a run needs --resume or
                --overwrite
"""

import argparse
import sys
from typing import Any, NamedTuple, TextIO

from iqa.cli import Command, say
from iqa.data.datasets import load_dataset, split_csv
from iqa.data.labels import LabelledImages, QualityData, require_correlation, require_sets
from iqa.models import published
from iqa.models.variants import Variant
from iqa.processes import is_first, process_count, process_number
from iqa.training.options import parse_options
from iqa.training.run_files import RunFiles, write_json

RESUME_HINT = "The same command with --resume goes on after the last whole epoch, if one was finished."


class Run(NamedTuple):
    """A training that may begin: what it trains, its files, and its data."""

    variant: Variant
    files: RunFiles
    data: QualityData
    before: dict[str, Any] | None  # config.json of the run to resume, None for a new one
    locks: list[TextIO]  # on the folders of the run, held until the program ends


def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate a checkpoint, as the flags say; returns the exit status."""
    with Command(argv) as command:
        options = parse_options(argv)
        if options.evaluate is not None:
            from train_resnet_improved import evaluate_checkpoint  # it loads torch, which takes seconds

            evaluate_checkpoint(options)
        else:
            command.when_stopped = RESUME_HINT
            command.more_memory = f"choose a --batch_size smaller than {options.batch_size}"
            run = prepare(options)
            if run:
                from train_resnet_improved import train  # it loads torch, which takes seconds

                train(options, run.variant, run.files, run.data, run.before)
    return command.status


def prepare(options: argparse.Namespace) -> Run | None:
    """Check the folders and the data, and keep other runs out of the folders; None if the run to resume is finished."""
    variant = published.row_of(
        options.model,
        backbone=options.backbone,
        use_multiscale=options.use_multiscale,
        use_attention=options.use_attention,
    )
    files = RunFiles.of(options, variant)
    if files.is_finished(options):
        say(f"{files.output}: this run is finished; see {files.result}")
        return None
    locks = files.lock() if is_first() else []
    before = files.config_to_resume(options)
    split_file = files.split if before and files.split.exists() else options.split_file
    data = load_dataset(
        options.dataset,
        options.data_path,
        mos_range=options.mos_range,
        split_seed=options.split_seed,
        split_file=split_file,
    )
    require_sets(data)
    require_correlation(data, "test", *(["validation"] if options.select_on != "test" else []))
    mos = data.sets["training"].mos
    if mos.min() == mos.max():
        raise ValueError(f"--data_path {data.root}: every training MOS is {mos[0]:g}, so there is nothing to learn")
    return Run(variant, files, data, before, locks)


if __name__ == "__main__":
    sys.exit(main())

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_loader import EvaluationPlan, PatchLoader, TrainingPlan, mean_per_image, open_images
from iqa.atomic_files import write_atomically
from iqa.health import layer_health
from iqa.metrics import correlate
from iqa.models.weights import build_backbone
from iqa.training import checkpoint_evaluation, devices, distributed
from iqa.training.description import announce, changed_processes, describe_run, size_of
from iqa.training.live_view import live_view
from iqa.training.losses import training_loss
from iqa.training.optimization import LearningRates, choose_recipe, freeze_batch_norms
from iqa.training.precision import measured_precision, settled_precision
from iqa.training.progress import Forecast, LossMeter, watch
from iqa.training.recipe import OF_A_BATCH
from iqa.training.records import begin_files, predictions_csv, print_summary, record, save_last, summarise
from iqa.training.scored_model import ScoredModel, some_of
from iqa.training.seeds import mixed_seed
from iqa.training.selection import best_epoch, choose_selection_set
from iqa.training.step import CapturedStep, EagerStep, check_cuda_graph, choose_step
from models_resnet_improved import ImageQualityResNet, PatchScores
from score_images import load_scorer

START_PATCHES = 32  # the first ones to train on, from which a new model's start is found


def train(options, variant, files: RunFiles, data: QualityData, before: dict | None) -> None:
    """Train a variant, evaluate it after every epoch, and leave a finished run in its output folder.

    Args:
        options: the flags.
        variant: the row of iqa/models/variants.py that they name.
        files: where the run leaves what: iqa/training/run_files.py.
        data: names, MOS and paths of the training, validation and test images, checked.
        before: config.json of the run to resume, None for a new one.
    """
    device = devices.open_device(options.device)
    check_cuda_graph(options.cuda_graph, device)
    devices.choose_kernels(deterministic=options.deterministic)
    with distributed.joined(device):  # with the other processes of torchrun, where there are some
        distributed.check_same_everywhere(data)
        settled = distributed.by_first(lambda: settled_precision(options.precision, device, before, files.output))
        config = describe_run(options, variant, data, device) | (settled or {})
        saved = distributed.by_first(lambda: files.load_last(before, config, warn=say)) if before else None
        model = build_model(options, data, saved).to(device, memory_format=torch.channels_last)
        if not settled:  # the faster one of bf16 and fp32
            batch = options.batch_size // process_count()
            config |= distributed.by_first(lambda: measured_precision(model, device, batch, options.patch_size))
        precision = config["precision"]
        config |= size_of(model, options.patch_size)
        announce(config, data)
        select_on = choose_selection_set(options.select_on, data)  # validation; test where it is asked for or alone
        training, evaluation, calibration = open_loaders(options, data, device)
        if not saved and options.model == published.OWN:
            distributed.by_first(lambda: start_model(model, training, precision))

        trained = distributed.distribute(
            model, device
        )  # the other processes take the first one's start; gradients are averaged
        rates = choose_recipe(options, model, steps_per_epoch=len(training))
        loss_of = training_loss(options.loss, data.sets["training"].mos.std())
        scored_model = ScoredModel(model, ema=options.ema)  # for evaluation, and kept: the weights or their average
        history, predictions = [], {}  # a line per epoch, and the predictions of the best one
        if saved:
            scored_model.load(saved)
            rates.load(saved)
            history, predictions = saved["history"], saved["predictions"]
        forward, score = trained, scored_model.folded.describe
        if options.compile:
            forward, score = torch.compile(forward, dynamic=False), devices.compile_for_one_size(score)
        step = choose_step(
            options.cuda_graph,
            EagerStep(
                model,
                forward,
                rates.optimizer,
                loss_of,
                precision=precision,
                max_grad_norm=options.max_grad_norm,
            ),
            device,
            warn=say,
        )
        config["step"] = step.name

        if before:
            say(f"Resuming after epoch {len(history)}{changed_processes(before)}")
            config = before
        if is_first() and not before:
            begin_files(
                files, config, split_csv(data) if data.drawn else None, overwrite=options.overwrite
            )  # config.json
        elif is_first():  # the run may have been killed between _last.pth and what tells of its epoch
            record(
                files,
                history,
                predictions,
                best_epoch(history, select_on),
                saved["model"] if options.save_model else None,
            )

        forecast = Forecast(
            options.epochs - len(history), training, [loader for _, loader in (*calibration, *evaluation.values())]
        )
        board = files.output / "tensorboard" if options.tensorboard and is_first() else None
        with live_view(board, history) as show:
            for epoch in range(len(history) + 1, options.epochs + 1):
                start, title, rate = time.monotonic(), f"Epoch {epoch}/{options.epochs}", rates.floats[0]
                torch.manual_seed(mixed_seed(options.seed, epoch, process_number()))  # of the dropout
                training.plan.epoch = epoch  # other patches, in another order
                loss = train_epoch(
                    model,
                    step,
                    training,
                    rates=rates,
                    after_step=scored_model.after_step,
                    freeze_batch_norm=options.freeze_batch_norm,
                    names=data.sets["training"].names,
                    title=title,
                    forecast=forecast,
                )
                if is_first() and config.get("step") != step.name:  # resumed elsewhere, or not to be captured
                    config["step"] = step.name
                    write_json(files.config, config)
                row = {
                    "epoch": epoch,
                    "train_loss": loss,
                    "training_seconds": round(time.monotonic() - start, 3),
                    "learning_rate": rate,
                }  # of the backbone, in the first step

                scored_model.refresh()
                for images, loader in calibration:  # where the loss is not in points of MOS: some training images
                    found = evaluate(
                        score, loader, len(images), precision=precision, title=f"{title} train", forecast=forecast
                    )
                    row["train_l1"] = scored_model.calibrate(found.scores, images.mos, fit=options.loss in OF_A_BATCH)
                scored, notes = {}, {}
                for name, (images, loader) in evaluation.items():  # validation, where there is one, and test
                    scored[name] = evaluate(
                        score,
                        loader,
                        len(images),
                        precision=precision,
                        title=f"{title} {name}",
                        forecast=forecast,
                        with_hidden=name == select_on,
                    )
                    row[f"{name}_srcc"], row[f"{name}_plcc"], notes[name] = correlate(scored[name].scores, images.mos)
                row["target_layers"] = [layer_health(units) for units in scored[select_on].hidden]
                row["seconds"] = round(time.monotonic() - start, 3)
                print_summary(title, row, notes)

                history.append(row)
                if best_epoch(history, select_on) is row:  # the highest SRCC on `select_on`, the first of equal ones
                    predictions = {n: predictions_csv(images, scored[n]) for n, (images, _) in evaluation.items()}
                if is_first():
                    # _last.pth, before what tells of the epoch: metrics.jsonl, predictions_*.csv and, of the best one, _best.pth
                    save_last(files, scored_model, rates, history, predictions)
                    weights = scored_model.weights() if options.save_model else None
                    record(files, history, predictions, best_epoch(history, select_on), weights)
                show(row)

        result = summarise(
            files,
            config,
            history,
            predictions,
            best_epoch(history, select_on),
            select_on,
            training_mos=data.sets["training"].mos,
            patches_per_epoch=len(training) * options.batch_size,
        )
        if is_first():
            write_json(files.result, result)  # result.json comes last: a run is finished when it exists


def build_model(options, data: QualityData, saved: dict | None) -> torch.nn.Module:
    """The variant or published model with its starting weights, or as the last checkpoint has it."""
    mos = data.sets["training"].mos
    backbone = {
        "weights": "none" if saved else options.weights,
        "patch_size": options.patch_size,
        "drop_path_rate": options.drop_path_rate,
    }
    torch.manual_seed(mixed_seed(options.seed, 0))
    with distributed.one_here_first():  # which may download the weights
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


def start_model(model: ImageQualityResNet, loader: PatchLoader, precision: str) -> None:
    """Let the model start as every other variant does, from the first patches that it will be trained on."""
    with devices.autocast(loader.device, precision):
        model.start(loader.first(START_PATCHES))


def open_loaders(options, data: QualityData, device: torch.device) -> tuple[PatchLoader, dict, list]:
    """Random patches to train on; "val" (where there is one) and "test": images, with the same patches each time; and some
    training images with theirs, where the loss is not in points of MOS."""
    opened, cutting = open_pixels(options, data, device)
    plan = TrainingPlan(
        opened["training"].sizes(),
        data.sets["training"].mos,
        patches=options.train_patch_num,
        patch_size=options.patch_size,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    if not len(plan):
        count = len(data.sets["training"]) * options.train_patch_num
        raise ValueError(f"--batch_size {options.batch_size}: more than the {count} training patches of an epoch")
    if plan.dropped:
        say(f"Batches: {len(plan)} an epoch; {plan.dropped} random patches of each epoch fill no batch")
    evaluation = {
        short: (data.sets[name], evaluation_loader(options, data.sets[name], opened[name], cutting))
        for short, name in (("val", "validation"), ("test", "test"))
        if name in opened
    }
    calibration = []
    if options.loss != "l1":
        numbers = some_of(len(data.sets["training"]))
        images, pixels = data.sets["training"].chosen(numbers), opened["training"].chosen(numbers)
        calibration = [(images, evaluation_loader(options, images, pixels, cutting))]
    training = PatchLoader(opened["training"], plan, color_jitter=not options.no_color_jitter, **cutting)
    return training, evaluation, calibration


def open_pixels(options, data: QualityData, device: torch.device) -> tuple[dict, dict]:
    """The resized images of every set that has some, and how all loaders cut patches from them."""
    cache_dir = None if options.no_cache else Path(options.cache_dir or data.root / "cache")
    with distributed.one_here_first():  # which fills the cache
        opened = open_images(data, cache_dir=cache_dir, resize=options.resize, log=say)
    opened = devices.preloaded(opened, options.preload_images, device, is_cached=cache_dir is not None)
    return opened, {
        "patch_size": options.patch_size,
        "device": device,
        "num_workers": options.num_workers,
        "share": (process_number(), process_count()),
    }


def evaluation_loader(options, images: LabelledImages, opened, cutting: dict) -> PatchLoader:
    """An even grid of patches, or with --test_random_crop random ones, which are the same in every epoch and variant."""
    batch = devices.evaluation_batch(cutting["device"], options.batch_size)
    plan = EvaluationPlan(
        opened.sizes(),
        images.mos,
        images.names,
        patches=options.test_patch_num,
        patch_size=options.patch_size,
        batch_size=batch,
        seed=options.seed,
        random=options.test_random_crop,
    )
    return PatchLoader(opened, plan, color_jitter=False, **cutting)


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
    """One pass over the plan; returns the mean loss, of L1 in points of MOS. On one GPU only reports wait for the device.

    Args:
        step: trains the model on one batch.
        rates: learning rates, which change with every step.
        after_step: lets the weights count in their average, where there is one.
        freeze_batch_norm: the backbone's batch norms use the statistics that they have, and keep them.
        names: of the training images, for errors.
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
    score: Callable[[Tensor], PatchScores],
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
            scores, attention, hidden = score(inputs)  # [B], [B, 4] or None, four times [B, units]
        outputs.append((scores, attention, *hidden) if with_hidden else (scores, attention))
    scores, attention, *hidden = distributed.gather_batches(
        outputs
    )  # of all processes, in the plan's order; waits for the device
    means = [x if x is None else mean_per_image(x, images) for x in (scores, attention, *hidden)]
    return Scored(means[0], means[1], means[2:])


def evaluate_checkpoint(options) -> None:
    """--evaluate: score the images of any data set by a checkpoint, whose run decides the model and the crops."""
    scorer = load_scorer(options.evaluate, device=options.device, precision=options.precision)
    options = checkpoint_evaluation.with_settings(options, scorer.config)
    with distributed.joined(scorer.device):
        data = load_dataset(
            options.dataset,
            options.data_path,
            mos_range=options.mos_range,
            split_seed=options.split_seed,
            split_file=options.split_file,
        )
        distributed.check_same_everywhere(data)
        chosen = checkpoint_evaluation.choose_images(options, data, scorer.config)
        files = distributed.by_first(lambda: checkpoint_evaluation.EvaluationFiles.of(options, chosen))
        checkpoint_evaluation.announce(options, scorer, data, chosen)
        opened, cutting = open_pixels(options, chosen.alone_in(data), scorer.device)
        loader = evaluation_loader(options, chosen.images, opened["test"], cutting)
        scored = evaluate(scorer.score_patches, loader, len(chosen.images), precision=scorer.precision, title="Scoring")
        srcc, plcc, note = correlate(scored.scores, chosen.images.mos)
        if note:
            raise ValueError(f"{options.evaluate}: SRCC and PLCC are undefined on {data.root}: {note}")
        facts = checkpoint_evaluation.describe(options, scorer, data, chosen) | {"srcc": srcc, "plcc": plcc}
        if is_first():
            write_atomically(files.predictions, predictions_csv(chosen.images, scored))
            write_json(files.facts, facts)
        say(f"SRCC: {srcc:.4f}\nPLCC: {plcc:.4f}\nPredictions: {files.predictions}")
