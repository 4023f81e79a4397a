"""The runs of an ablation, for run_resnet_ablation.sh: for each seed and variant a line with its name and flags.

    SEEDS="42 43" BACKBONES=resnet50 NPROC=1 python3 iqa/ablation.py [--demo] [--with_published] FLAGS...

FLAGS are those of train_resnet_improved.py that all runs share. The flags of every run and the data folder are checked
before the first run begins: each mistake is one line on standard error and status 2. This file does not load torch.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":  # started by its path, so that no folder iqa/ of the current folder is taken
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from iqa.cli import OneLineParser, first_line, report
from iqa.models.published import OWN, PUBLISHED
from iqa.models.variants import variants_of
from iqa.training.recipe import BEST, PUBLISHED_RECIPE

TRAINING = Path(__file__).parent.parent / "train_resnet_improved.py"
OWN_FLAGS = ("--demo", "--with_published")
SET_FOR_EACH_RUN = ("--use_multiscale", "--use_attention", "--output_dir", "--checkpoint_suffix")


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        for run in list_runs(arguments, os.environ):
            print(*run)
    except ValueError as error:
        report(first_line(error))
        return 2
    return 0


def list_runs(arguments: list[str], environment: Mapping[str, str]) -> list[list[str]]:
    """The log name and the flags of each run, seed by seed.

    Raises:
        ValueError: a flag, a variable or the data folder is not usable.
    """
    given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    parser = OneLineParser(add_help=False, allow_abbrev=False)
    for name in ("recipe", "backbone", "data_path"):
        parser.add_argument(f"--{name}", action="append", default=[])
    values, _ = parser.parse_known_args(arguments)  # all values of each flag
    refuse_flags(values, given)
    processes = environment.get("NPROC") or "1"
    if not re.fullmatch("[1-9][0-9]*", processes):
        raise ValueError(f"NPROC={processes}: not a number of processes; give 1 or more")
    seeds = different_words("SEEDS", environment.get("SEEDS", ""))
    backbones = different_words("BACKBONES", environment.get("BACKBONES") or "resnet50")
    rows = table_rows(backbones, values.recipe, given)

    shared = [argument for argument in arguments if argument not in OWN_FLAGS]
    runs = []
    for seed in seeds or [None]:
        suffix = f"_seed{seed}" if len(seeds) > 1 else ""
        for name, *flags in rows:
            flags += ["--seed", seed] * (seed is not None) + ["--checkpoint_suffix", suffix] * bool(suffix)
            if len(runs) < len(rows) or name == rows[0][0]:  # every row, and every seed
                check_data = not runs and "--demo" not in given
                check(name, [*shared, *flags, f"--dry_run={'data' if check_data else 'flags'}"])
            runs.append([name + suffix, *flags])
    return runs


def check(name: str, flags: list[str]) -> None:
    """Check the flags of a run, or its data too, by train_resnet_improved.py, which ends before it loads torch."""
    command = [sys.executable, TRAINING, *flags]
    process = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if process.returncode:
        raise ValueError(f"{name}: {process.stderr.strip().removeprefix('error: ')}")


def different_words(variable: str, text: str) -> list[str]:
    """The words of an environment variable; a repeated word is an error."""
    words = [str(int(word)) if re.fullmatch("[+]?[0-9]+", word) else word for word in text.split()]
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f'{variable}="{text}": {word} is listed twice; name it once')
    return words


def refuse_flags(values: argparse.Namespace, given: set[str]) -> None:
    """Refuse flags that only a single run can have, and those that contradict each other."""
    of_each_run = {
        "--model": "--with_published also trains HyperIQA and SMART-IQA",
        "--backbone": f'write BACKBONES="{" ".join(values.backbone[-1:])}" before the command',
        **dict.fromkeys(SET_FOR_EACH_RUN, "for a single run use train_resnet_improved.py"),
    }
    for flag, advice in of_each_run.items():
        if flag in given:
            raise ValueError(f"{flag} is set for each run; {advice}")
    if "--overwrite" in given:
        raise ValueError("--overwrite is for a single run: an ablation replaces none; name other folders")
    if "--resume" in given:
        raise ValueError("--resume uses the flags of the interrupted ablation: give no others")
    for flag in sorted(given - set(OWN_FLAGS)):
        for meant in difflib.get_close_matches(flag, OWN_FLAGS, 1, cutoff=0.8):
            raise ValueError(f"unrecognized arguments: {flag}; did you mean {meant}?")
    if "--demo" in given and (len(values.data_path) > 1 or "--dataset" in given):
        flag = f"--data_path {values.data_path[-1]}" if len(values.data_path) > 1 else "--dataset"
        raise ValueError(f"--demo makes its own images: leave out {flag}, or --demo")


def table_rows(backbones: list[str], recipes: list[str], given: set[str]) -> list[list[str]]:
    """The name and the flags of the variants on each backbone, and of the published models.

    Args:
        recipes: the values of --recipe: one for all rows, and "published" for the published models.
        given: the flags that the command line contains.
    """
    by_own, with_published = PUBLISHED_RECIPE in recipes, "--with_published" in given
    if by_own and not with_published:
        raise ValueError(f"--recipe {PUBLISHED_RECIPE} is for the published models: add --with_published")
    recipe = [OWN, *(name for name in recipes if name != PUBLISHED_RECIPE)][-1]
    rows = []
    for backbone in backbones:
        try:
            variants = variants_of(backbone)
        except ValueError as error:
            raise ValueError(f"BACKBONES: {error}") from None
        for variant in variants:
            fusion = [f"--{name}" for name in ("use_multiscale", "use_attention") if getattr(variant, name)]
            rows.append([variant.log_name, "--backbone", backbone, *fusion, "--recipe", recipe])
    if with_published:
        flags = ["--recipe", PUBLISHED_RECIPE if by_own else recipe]
        if by_own and recipe == "best" and "--patch_size" not in given:  # all rows are compared on the same patches
            flags += ["--patch_size", str(BEST["patch_size"])]
        rows += [[model.variant.log_name, "--model", name, *flags] for name, model in PUBLISHED.items()]
    return rows


if __name__ == "__main__":
    sys.exit(main())
