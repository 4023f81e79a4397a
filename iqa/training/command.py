"""How train_resnet_improved.py begins and ends as a command.

It begins without torch, which takes seconds to load, so that what is wrong with a flag, a folder or a label is told at
once. It ends with an exit status and, where something went wrong, with one line on standard error.
"""

import argparse
import functools
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TextIO

from iqa import command_line
from iqa.command_line import FAULTS, one_line, report, stop_on_signals, write_error
from iqa.console import say
from iqa.data.datasets import load_dataset
from iqa.data.labels import QualityData, require_sets
from iqa.models.published import row_of
from iqa.models.variants import Variant
from iqa.processes import is_first, leave
from iqa.training.options import parse_options
from iqa.training.run_files import RunFiles


class Run(NamedTuple):
    """A training that may begin: what it trains, where it leaves what, and from which data."""

    variant: Variant
    files: RunFiles
    data: QualityData
    before: dict[str, Any] | None  # config.json of the run to resume, None for a new one


class Command(NamedTuple):
    """One call of the command."""

    options: argparse.Namespace
    run: Run | tuple[()]  # empty with --evaluate, whose data the checkpoint decides
    tell_why: Callable[[BaseException], int]
    locks: list[TextIO]  # on the folders of the run, held until the program ends


def begin() -> Command:
    """The checked flags, and the run that they describe; ends the program where there is nothing to do."""
    received, options, locks = stop_on_signals(), argparse.Namespace(evaluate=None, traceback=False), []
    tell = functools.partial(tell_why, options=options, received=received)

    def check() -> Run | tuple[()]:
        vars(options).update(vars(parse_options()))
        return () if options.evaluate else prepare(options, locks)

    return Command(options, command_line.begin(check, tell), tell, locks)


def end(command: Command, work: Callable[..., None]) -> NoReturn:
    """Do the work, and end the program as it went."""
    command_line.end(lambda: work(command.options, *command.run), command.tell_why)


def prepare(options: argparse.Namespace, locks: list[TextIO]) -> Run:
    """Check the folders and the data, and keep others out of the folders."""
    variant = row_of(
        options.model,
        backbone=options.backbone,
        use_multiscale=options.use_multiscale,
        use_attention=options.use_attention,
    )
    files = RunFiles.of(options, variant)
    if files.is_finished(options):
        say(f"{files.output}: this run is finished; see {files.result}")
        leave(0)
    if is_first():
        locks += files.lock()
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
    mos = data.sets["training"].mos
    if mos.min() == mos.max():
        raise ValueError(f"--data_path {data.root}: every training MOS is {mos[0]:g}, so there is nothing to learn")
    return Run(variant, files, data, before)


def tell_why(error: BaseException, options: argparse.Namespace, received: list[int]) -> int:
    """Say what ended the run; returns the exit status."""
    if isinstance(error, SystemExit):
        return error.code
    if received:  # workers that got the signal too may have ended the run by an error of theirs
        again = "The same command with --resume goes on after the last whole epoch, if one was finished."
        if is_first():
            write_error(f"Stopped by {signal.Signals(received[0]).name}. {again * (options.evaluate is None)}")
        return 128 + received[0]
    if options.traceback or not isinstance(error, FAULTS):
        traceback.print_exception(error)
        return 1
    smaller = () if options.evaluate else (f"choose a --batch_size smaller than {options.batch_size}",)
    report(one_line(error, *smaller))
    return 1
