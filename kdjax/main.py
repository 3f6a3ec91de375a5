"""python -m kdjax.main --config FILE[:ARGUMENT] [--config.FIELD=VALUE ...] [--workdir DIR]"""

import os
import re
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from kdjax.checks import Diverged, InputError
from kdjax.experiment import run

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/NAME in the current directory.")
BAD_INPUT, DIVERGED, DISK, INTERRUPTED = 2, 3, 4, 130  # exit codes
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
        run(read_config(), WORKDIR.value or default_workdir())
    except InputError as error:
        stop(error, BAD_INPUT)
    except Diverged as error:
        stop(error, DIVERGED)
    except OSError as error:
        stop(f"{error}; what was saved stays, and the same command goes on from there", DISK)
    except KeyboardInterrupt:
        stop("stopped; the same command goes on from the last checkpoint", INTERRUPTED)


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
    return sentence(lines[-1].removeprefix("kdjax.checks.InputError: "))


def message(error: BaseException) -> str:
    return str(error.args[0] if error.args else "").strip() or type(error).__name__


def sentence(text: str) -> str:
    """Another program's words, in which a line's end may be written out, as one sentence."""
    text = re.sub(r"(?:\. |\n|\\n)\s*([A-Z])", lambda match: f"; {match[1].lower()}", text)
    return " ".join(text.replace("\\'", "'").split())[:LONGEST]


def quiet() -> None:
    """Only what is wrong is worth a line of the libraries below; and a letter that the terminal
    lacks ends no run."""
    sys.stdout.reconfigure(errors="replace")
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def use_machine() -> None:
    """One CPU device per core, and compiled programs kept for the next run, unless set."""
    if jax.config.jax_num_cpu_devices < 1:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "kdjax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


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
        stop(line if ours else f"--config: {line}", BAD_INPUT)
    except (Exception, SystemExit) as error:  # of the config file, or ml_collections on an override
        why = sentence(message(error))
        overrides = [a for a in arguments if a.startswith("--config.")]
        if overrides and re.fullmatch(r"['\"]*\w*['\"]*", why):  # the key that was not found
            why = "there is no such field"
        wrong = [a for a in overrides if any(f"'{n}'" in why for n in _names(a))]
        stop(f"{', '.join(wrong or overrides) or '--config'}: {why}", BAD_INPUT)


def _names(override: str) -> list[str]:
    return override.partition("=")[0].split(".")[1:]


def stop(message: object, code: int) -> None:
    print(f"kdjax: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
