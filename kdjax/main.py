"""python -m kdjax.main --config FILE[:ARGUMENT] [--config.FIELD=VALUE ...] [--workdir DIR]

In several processes, the same command in each: with --distributed where JAX finds out about the
others, or with --coordinator_address HOST:PORT --num_processes N --process_id I.
"""

import errno
import os
import re
import sys
import traceback
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from kdjax.experiment import run
from kdjax.host import processes
from kdjax.host.machine import use_machine
from kdjax.rules import Diverged, InputError, Preempted

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/NAME in the current directory.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Find the other processes.")
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
COUNT = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
INDEX = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0 on.")
FAILED, BAD_INPUT, DIVERGED, DISK, INTERRUPTED, PREEMPTED = 1, 2, 3, 4, 130, 143  # exit codes
DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
HELP = {"--help", "-help", "--helpfull", "--helpshort", "--helpxml", "-?", "-h"}
LONGEST = 300  # characters of another program's message


def main(arguments: list[str]) -> None:
    """Runs the experiment."""
    quiet()
    use_machine()
    try:
        if not flags.FLAGS["config"].present:
            raise InputError("--config is missing; try --config configs/ensemble_to_one.py")
        if not Path(config_name()[0]).is_file():
            raise InputError(f"--config is {config_name()[0]!r}; there is no such file")
        if arguments[1:]:
            raise InputError(f"{arguments[1]!r} is no flag; a flag starts with --")
        where = DISTRIBUTED.value, COORDINATOR.value, COUNT.value, INDEX.value
        processes.check_flags(*where)
        with processes.together(*where, verdict):
            asked, raise_if_interrupted = processes.sigterm(), processes.sigint()
            stopping = lambda: raise_if_interrupted() or asked()
            run(read_config(), WORKDIR.value or default_workdir(), stop=stopping)
    except (InputError, Diverged, Preempted, OSError, KeyboardInterrupt) as error:
        stop(*verdict(error))


def verdict(error: BaseException) -> tuple[str, int]:
    """What the user is told of the end of a run, and the exit code."""
    codes = {InputError: BAD_INPUT, Diverged: DIVERGED, Preempted: PREEMPTED}
    if type(error) in codes:
        return f"kdjax: {error}", codes[type(error)]
    if isinstance(error, OSError) and error.errno in DISK_FAILS:
        return f"kdjax: {error}; what was saved stays, the same command goes on from there", DISK
    go_on = "the same command goes on from the last checkpoint"
    if isinstance(error, KeyboardInterrupt):
        return f"kdjax: stopped; {go_on}", INTERRUPTED
    trace = "".join(traceback.format_exception(error))
    return f"{trace}kdjax: this process failed, or lost another; {go_on}", FAILED


def read_config() -> ConfigDict:
    """The config with its overrides; an InputError if its file does not make one."""
    try:
        hasattr(CONFIG.value, "stages")  # raises what kept the file from being read
        return CONFIG.value
    except Exception as error:  # whatever a program may raise
        raise InputError(f"--config is {config_name()[0]!r}: {last_line(error)}") from error


def last_line(error: BaseException) -> str:
    """Of a message that may be a whole traceback, the line that says what is wrong."""
    lines = message(error).splitlines()
    return sentence(lines[-1].removeprefix("kdjax.rules.InputError: "))


def message(error: BaseException) -> str:
    return str(error.args[0] if error.args else "").strip() or type(error).__name__


def sentence(text: str) -> str:
    """Another program's words, in which a line's end may be written out, as one sentence."""
    if re.fullmatch(r"(['\"])\\?['\"].*\1", text, re.DOTALL):  # quoted, and begins with a quotation
        text = text[1:-1]
    text = re.sub(r"(?:\. |\n|\\n)\s*([A-Z])", lambda match: f"; {match[1].lower()}", text)
    return " ".join(text.replace("\\'", "'").split())[:LONGEST]


def quiet() -> None:
    """Only what is wrong is worth a line of the libraries below; and a letter that the terminal
    lacks ends no run."""
    sys.stdout.reconfigure(errors="replace")
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def config_name() -> tuple[str, str]:
    """The config's file, and the text after its colon."""
    file, _, argument = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return file, argument


def default_workdir() -> Path:
    """runs/NAME, from the config's file name and argument."""
    file, argument = config_name()
    return Path("runs") / "-".join(filter(None, [Path(file).stem, argument.replace("/", "_")]))


def parse(arguments: list[str]) -> list[str]:
    """Reads the flags; what is wrong with them, or with an override, is one sentence."""
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, InputError) as error:
        line = last_line(error)
        ours = "parsing config file" not in str(error) or line.startswith("--config")
        stop(f"kdjax: {'' if ours else '--config: '}{line}", BAD_INPUT)
    except (Exception, SystemExit) as error:  # of the config file, or ml_collections on an override
        if HELP & {*arguments}:
            sys.exit(0)
        why = sentence(message(error))
        overrides = [a for a in arguments if a.startswith("--config.")]
        if overrides and re.fullmatch(r"['\"]*\w*['\"]*", why):  # the key that was not found
            why = "there is no such field"
        wrong = [a for a in overrides if any(f"'{n}'" in why for n in _names(a))]
        stop(f"kdjax: {', '.join(wrong or overrides) or '--config'}: {why}", BAD_INPUT)


def _names(override: str) -> list[str]:
    return override.partition("=")[0].split(".")[1:]


def stop(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
