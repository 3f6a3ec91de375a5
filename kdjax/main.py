"""Runs the experiment of a config file: its stages in order, then the report.

In several processes, give the same command in each: with --distributed where JAX finds out about
the others, or with --coordinator_address, --num_processes and --process_id.
"""

import argparse
import errno
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax

from kdjax.config import file
from kdjax.config.file import Override
from kdjax.experiment import run_stages
from kdjax.host import machine, processes
from kdjax.host.progress import write
from kdjax.rules import Diverged, InputError, Preempted, did_you_mean

FAILED, BAD_INPUT, DIVERGED, DISK, INTERRUPTED, PREEMPTED = 1, 2, 3, 4, 130, 143  # exit codes
DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
USAGE = "python -m kdjax.main --config FILE[:ARGUMENT] [--config.FIELD=VALUE ...] [--workdir DIR]"
FORGET = 10  # stages after which the command frees compiled programs; tens of MiB each


def main(arguments: Sequence[str]) -> None:
    """Runs the experiment that the command's arguments describe."""
    quiet()
    machine.use_machine()
    try:
        asked, overrides = parse(arguments)
        where = asked.distributed, asked.coordinator_address, asked.num_processes, asked.process_id
        processes.check_flags(*where)
        with processes.together(*where, verdict):
            machine.check_devices()
            sigterm, raise_if_interrupted = processes.sigterm(), processes.sigint()
            config = file.read(asked.config, overrides)
            stopping = lambda: raise_if_interrupted() or sigterm()
            workdir = asked.workdir or default_workdir(asked.config)
            run_stages(config, workdir, stop=stopping, after_stage=forget_programs(FORGET))
    except (InputError, Diverged, Preempted, OSError, KeyboardInterrupt) as error:
        message, code = verdict(error)
        write(message, sys.stderr)
        sys.exit(code)


def command() -> None:
    """The console command `kdjax`."""
    main(sys.argv[1:])


def forget_programs(stages: int) -> Callable[[], None]:
    """To call after each stage: frees the compiled programs of every so many stages, which JAX
    keeps as long as the process lives. The command may: there are no others in its process."""
    count = itertools.count(1)
    return lambda: None if next(count) % stages else jax.clear_caches()


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Override]]:
    """The flags, and the overrides of the config in the order they were given.

    Raises:
      InputError: there is no such flag, or it has no such value.
    """
    parser = _Parser(usage=USAGE, description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--config", metavar="FILE[:ARGUMENT]", help="has get_config([ARGUMENT]) -> the config")
    add("--workdir", metavar="DIR", help="default: runs/NAME in the current directory")
    add("--distributed", action="store_true", help="find the other processes")
    add("--coordinator_address", metavar="HOST:PORT", help="of process 0")
    add("--num_processes", type=int, metavar="N", help="how many processes there are")
    add("--process_id", type=int, metavar="I", help="which of them this is, from 0 on")
    overrides, rest, left = [], [], iter(arguments)
    for argument in left:
        field, equals, text = argument.partition("=")
        if not field.startswith("--config."):
            rest.append(argument)
            continue
        text = text if equals else next(left, "--")
        if not equals and text.startswith("--"):
            raise InputError(f"{field} has no value; it must be {field}=VALUE")
        overrides.append((field.removeprefix("--"), text))
    asked, others = parser.parse_known_args(rest)
    if others:
        close = did_you_mean(others[0].partition("=")[0], parser.flags())
        rule = "" if others[0].startswith("-") else "; a flag starts with --"
        raise InputError(f"{others[0]!r} is no flag{close}{rule}")
    if asked.config is None:
        raise InputError("--config is missing; try --config configs/ensemble_to_one.py")
    return asked, overrides


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def flags(self) -> list[str]:
        return list(self._option_string_actions)


def verdict(error: BaseException) -> tuple[str, int]:
    """What the user is told of the end of a run, and the exit code."""
    codes = {InputError: BAD_INPUT, Diverged: DIVERGED, Preempted: PREEMPTED}
    code = next((code for kind, code in codes.items() if type(error) is kind), None)
    if code is not None:
        return f"kdjax: {error}", code
    if isinstance(error, OSError) and error.errno in DISK_FAILS:
        return f"kdjax: {error}; what was saved stays, the same command goes on from there", DISK
    go_on = "the same command goes on from the last checkpoint"
    if isinstance(error, KeyboardInterrupt):
        return f"kdjax: stopped; {go_on}", INTERRUPTED
    trace = "".join(traceback.format_exception(error))
    return f"{trace}kdjax: this process failed, or lost another; {go_on}", FAILED


def quiet() -> None:
    """Leaves of what the libraries below print the errors; a letter that the terminal lacks, or a
    closed output, ends no run."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the descriptor was closed; a file must not take its place
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's has not
        sys.stdout.reconfigure(errors="replace")
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def default_workdir(config: str) -> Path:
    """runs/NAME, from the config's file name and argument."""
    name, _, argument = config.partition(":")
    return Path("runs") / "-".join(
        filter(None, [Path(name).stem, argument.strip("/").replace("/", "_")])
    )


if __name__ == "__main__":
    command()
