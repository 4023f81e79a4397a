"""The flags of train_resnet_improved.py, and which of them contradict each other. This file does without torch."""

import argparse

from iqa.cli import HelpWithDefaults, OneLineParser, given_flags, number
from iqa.data.flags import STANDARD, add_dataset_flags, dataset_mistake
from iqa.data.images import RESIZES, SHORT_SIDE
from iqa.models.backbones import BACKBONES, backbone_problem, patch_size_problem
from iqa.models.published import MODELS, OWN, PATCH_MULTIPLE, PUBLISHED
from iqa.processes import process_count
from iqa.training.live_view import INSTALL, is_installed
from iqa.training.recipe import (
    BEST,
    LOSSES,
    OF_A_BATCH,
    PUBLISHED_RECIPE,
    PUBLISHED_RECIPES,
    RECIPE_FLAGS,
    RECIPES,
    SCHEDULES,
)

DESCRIPTION = "Train and evaluate one variant of the HyperIQA ablation, or a published model, on KonIQ-10k."
STRIDE = 32  # of ResNet50's last stage: the smallest patch

# With --evaluate, what is not in these comes from the checkpoint; its own data are meant where DATA_FLAGS are left out.
DATA_FLAGS = ("dataset", "data_path", "mos_range", "split_seed", "split_file")
EVALUATION_FLAGS = (
    *DATA_FLAGS,
    "evaluate",
    "evaluate_set",
    "cache_dir",
    "no_cache",
    "preload_images",
    "device",
    "precision",
    "num_workers",
    "output_dir",
    "overwrite",
    "traceback",
)
VARIANT_FLAGS = (
    "backbone",
    "use_multiscale",
    "use_attention",
    "dropout_rate",
)  # which a published model has of its own


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(description=DESCRIPTION, formatter_class=HelpWithDefaults, allow_abbrev=False)

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        choices=MODELS,
        default=OWN,
        help="a variant of the ablation, chosen by the flags below, or a published model as it is",
    )
    model.add_argument(
        "--backbone",
        default="resnet50",
        metavar="NAME",
        help=f"network that gives the feature maps: {', '.join(BACKBONES)}, or timm:NAME, a model of the package timm",
    )
    model.add_argument("--use_multiscale", action="store_true", help="fuse stages 1-4 instead of stage 4 alone")
    model.add_argument("--use_attention", action="store_true", help="weigh the scales; needs --use_multiscale")
    model.add_argument("--dropout_rate", type=number(float, 0, 1, below=True), default=0.3, help="of the hyper network")
    model.add_argument(
        "--drop_path_rate",
        type=number(float, 0, 1, below=True),
        help="of a backbone with stochastic depth; default: 0.3 for swin_b, timm's own for timm:NAME",
    )
    model.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|PATH|none",
        help="of the backbone: ImageNet weights (torchvision's ImageNet-1k V1; for timm:NAME those that timm has under that "
        "name), a file with its state dict (.pth, .safetensors), or random weights",
    )

    data = parser.add_argument_group("data")
    add_dataset_flags(data)
    data.add_argument("--data_path", default="./koniq-10k", metavar="DIR", help="labels and images")
    data.add_argument(
        "--resize",
        choices=RESIZES,
        default="keep",
        help="keep the aspect, shorter side 384 pixels; squeeze to 384x512 (width x height), as Resize((512, "
        "384)) in HyperIQA and SMART-IQA",
    )
    data.add_argument(
        "--patch_size",
        type=number(int, STRIDE, SHORT_SIDE),
        default=224,
        help=f"pixels; {SHORT_SIDE} is all of the shorter side",
    )
    data.add_argument("--train_patch_num", type=number(int, 1), default=25, help="patches per image and epoch")
    data.add_argument("--test_patch_num", type=number(int, 1), default=25, help="patches whose scores are averaged")
    data.add_argument("--test_random_crop", action="store_true", help="test on fixed random crops instead of a grid")
    data.add_argument("--no_color_jitter", action="store_true", help="leave the colours of training patches alone")
    data.add_argument("--cache_dir", metavar="DIR", help="of the resized images; default: cache/ in the data folder")
    data.add_argument("--no_cache", action="store_true", help="decode an image for each of its patches (slow)")
    data.add_argument(
        "--preload_images",
        nargs="?",
        choices=("auto", "gpu", "host", "no", "yes"),
        const="yes",
        default="auto",
        metavar="auto|gpu|host|no",
        help="where to hold the resized images; auto: in GPU memory if they take at most half of what is free and are "
        "cached, else nowhere; without a value: in GPU memory if they fit, else in host memory",
    )

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--recipe",
        choices=RECIPES,
        default=OWN,
        help=f"{OWN}: the defaults below, which are under test; best: {named(BEST)} (docs/recipe.md); published: "
        "optimizer, learning rates and the defaults of the flags below as --model was published with. "
        "A flag that is given counts over it",
    )
    recipe.add_argument(
        "--loss",
        choices=LOSSES,
        default="l1",
        help="l1 and huber compare scores with MOS, norm_in_norm and plcc their linear relation in a batch, rank "
        "the order of its pairs: docs/recipe.md",
    )
    recipe.add_argument("--epochs", type=number(int, 1), default=10, help="passes over the training patches")
    recipe.add_argument(
        "--batch_size", type=number(int, 1), default=32, help="patches per step, of all processes together"
    )
    recipe.add_argument(
        "--lr",
        type=number(float, 0),
        default=1e-4,
        help="AdamW learning rate; that of the backbone where --head_lr_ratio is not 1",
    )
    recipe.add_argument(
        "--head_lr_ratio",
        type=number(float, 0),
        default=1.0,
        help="learning rate of all but the backbone, over --lr; 0 trains the backbone alone",
    )
    recipe.add_argument(
        "--lr_schedule",
        choices=SCHEDULES,
        default="constant",
        help="of all learning rates, over the run's steps: a half cosine to 0, or a tenth after each third",
    )
    recipe.add_argument(
        "--warmup_steps", type=number(int, 0), default=0, help="over which the learning rate rises to --lr"
    )
    recipe.add_argument(
        "--ema",
        type=number(float, 0, 1, below=True),
        default=0.0,
        metavar="DECAY",
        help="score and keep an exponential moving average of the weights, of so much a step, less in the "
        "first; 0: the weights as they are",
    )
    recipe.add_argument(
        "--freeze_batch_norm",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="the batch norms of a backbone that has some keep the statistics that its weights brought",
    )
    recipe.add_argument("--max_grad_norm", type=number(float, 0), default=0.0, help="clip longer gradients; 0: never")
    recipe.add_argument("--weight_decay", type=number(float, 0), default=1e-4, help="AdamW weight decay")
    recipe.add_argument(
        "--seed",
        type=number(int, 0, 2**32 - 1),
        default=42,
        help="of initialisation, dropout, patches and random test crops",
    )
    recipe.add_argument(
        "--select_on",
        choices=("auto", "val", "test"),
        default="auto",
        help="set whose SRCC chooses the epoch; auto: val where the split has one",
    )

    scoring = parser.add_argument_group("evaluation of a checkpoint, instead of training")
    scoring.add_argument("--evaluate", metavar="CHECKPOINT", help="score the data by a _best.pth or _last.pth")
    scoring.add_argument(
        "--evaluate_set",
        choices=("auto", "val", "test", "all"),
        default="auto",
        help="auto: test of the split that the checkpoint was trained with, all images of other data",
    )

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    machine.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the arithmetic before the score path; auto: bf16 where the device has it natively",
    )
    machine.add_argument(
        "--num_workers",
        type=number(int, -1),
        default=-1,
        help="processes that cut patches; -1: 0 on a CPU, 4 for a GPU",
    )
    machine.add_argument("--compile", action="store_true", help="use torch.compile")
    machine.add_argument(
        "--cuda_graph",
        choices=("auto", "on", "off"),
        default="auto",
        help="replay the training step as one CUDA graph; auto: on one GPU, eagerly elsewhere or where it cannot be captured",
    )
    machine.add_argument("--deterministic", action="store_true", help="the same bits on every CUDA run; slower")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output_dir",
        metavar="DIR",
        help="results; default: logs/<name of the variant>, or logs/evaluation_<name of the checkpoint>",
    )
    output.add_argument(
        "--checkpoint_dir", default="checkpoints", metavar="DIR", help="weights and what --resume needs"
    )
    output.add_argument("--checkpoint_suffix", default="", metavar="TEXT", help="put behind the names of checkpoints")
    output.add_argument("--save_model", action="store_true", help="keep the weights of the chosen epoch")
    output.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    output.add_argument("--resume", action="store_true", help="go on with the run that the output folder holds")
    output.add_argument(
        "--tensorboard",
        action="store_true",
        help=f"write curves into the output folder; needs the package tensorboard: {INSTALL}",
    )
    output.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def parse_options(
    arguments: list[str] | None = None, *, about: str = "", processes: int | None = None
) -> argparse.Namespace:
    """The flags, checked as far as no file and no device has to be looked at.

    Args:
        arguments: None: those of the command line.
        about: what stands before an error.
        processes: that are to share each batch; None: those that torchrun started.
    """
    parser = build_parser()
    parser.about = about
    options = parser.parse_args(arguments)
    given = given_flags(parser, arguments, options)
    mistake = published_mistake(options, given)
    if mistake:
        parser.error(mistake)
    fill_published(options, given)
    fill_best(options, given)
    if options.evaluate is not None:
        restrict_to_evaluation(parser, options, given)
    mistake = contradiction(options, given, processes or process_count())
    if mistake:
        parser.error(mistake)
    return options


def named(values: dict) -> str:
    """'--lr 2e-05 --ema 0.999'"""
    return " ".join(f"--{name} {value}" for name, value in values.items())


def restrict_to_evaluation(parser: argparse.ArgumentParser, options: argparse.Namespace, given: set[str]) -> None:
    """Refuse the flags that a checkpoint decides, and mark the data flags that are left to it with None."""
    foreign = [f"--{name}" for name in vars(options) if name in given and name not in EVALUATION_FLAGS]
    if foreign:
        parser.error(
            f"--evaluate takes the model, crops and recipe from the checkpoint: leave out {', '.join(foreign)}"
        )
    for name in DATA_FLAGS:
        if name not in given:
            setattr(options, name, None)


def published_mistake(options: argparse.Namespace, given: set[str]) -> str | None:
    """What is wrong with the flags of a published model together."""
    if options.recipe == PUBLISHED_RECIPE and options.model == OWN:
        return f"--recipe {options.recipe} is that of a published model: add --model {' or '.join(PUBLISHED)}"
    if options.recipe == PUBLISHED_RECIPE and "lr_schedule" in given and options.lr_schedule == "constant":
        return "--lr_schedule constant: --recipe published has a schedule of its own; leave one of them out, or choose cosine or step"
    foreign = [f"--{name}" for name in VARIANT_FLAGS if name in given]
    if foreign and options.model != OWN:
        return f"--model {options.model} is built as it was published: leave out {', '.join(foreign)}"
    return None


def fill_published(options: argparse.Namespace, given: set[str]) -> None:
    """Put the facts of a published model, and of its recipe where that is asked for, in the place of defaults."""
    if options.model == OWN:
        return
    row = PUBLISHED[options.model]
    facts = row.variant._asdict()
    values = {name: facts.get(name) for name in VARIANT_FLAGS}
    if options.recipe == PUBLISHED_RECIPE:
        values |= {name: getattr(PUBLISHED_RECIPES[options.model], name) for name in RECIPE_FLAGS if name not in given}
    vars(options).update(values)


def fill_best(options: argparse.Namespace, given: set[str]) -> None:
    """Put the table of --recipe best in the place of defaults."""
    if options.recipe == "best":
        vars(options).update({name: value for name, value in BEST.items() if name not in given})


def backbone_mistake(options: argparse.Namespace) -> str | None:
    """What is wrong with --backbone, or with --patch_size and --drop_path_rate for it."""
    mistake = None
    if options.model != OWN:
        mistake = patch_size_problem(PUBLISHED[options.model].title, PATCH_MULTIPLE, options.patch_size)
    return mistake or backbone_problem(
        options.backbone, patch_size=options.patch_size, drop_path_rate=options.drop_path_rate
    )


def contradiction(options: argparse.Namespace, given: set[str], processes: int) -> str | None:
    """What is wrong with the flags together."""
    evaluate, other = options.evaluate is not None, options.dataset not in (None, STANDARD)
    if options.use_attention and not options.use_multiscale:
        return "--use_attention weighs the four scales against each other: add --use_multiscale"
    if options.batch_size % processes and not evaluate:
        return f"--batch_size {options.batch_size}: {processes} processes share it evenly; choose a multiple of {processes}"
    if options.batch_size == 1 and options.loss in OF_A_BATCH and not evaluate:
        return f"--loss {options.loss} compares the images of a batch: raise --batch_size, which is 1, or choose l1 or huber"
    if options.batch_size == 1 and options.patch_size <= STRIDE:
        return f"--batch_size 1 with --patch_size {options.patch_size}: batch norm needs two values; raise one of them"
    if "/" in options.checkpoint_suffix:
        return f"--checkpoint_suffix {options.checkpoint_suffix}: part of a file name; folders go to --checkpoint_dir"
    if options.resume and options.overwrite:
        return "--resume continues a run and --overwrite replaces it: choose one"
    if options.no_cache and options.cache_dir:
        return f"--cache_dir {options.cache_dir} and --no_cache contradict each other: choose one"
    if "evaluate_set" in given and not evaluate:
        return f"--evaluate_set {options.evaluate_set} says what --evaluate scores: add --evaluate CHECKPOINT"
    if other and "data_path" not in given:
        return f"--dataset {options.dataset} needs --data_path: the folder of its labels and images"
    if options.tensorboard and not is_installed():
        return f"--tensorboard needs the package tensorboard: {INSTALL}"
    return dataset_mistake(options, given) or backbone_mistake(options)
