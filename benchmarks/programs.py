"""The programs that XLA compiles for each stage of a run, and which line asks for each.

    python benchmarks/programs.py configs/ensemble_to_one.py:smoke

A program that comes from the persistent cache counts as well. The file imports no other benchmark,
so that with PYTHONPATH=CHECKOUT it counts those of another checkout.
"""

import importlib.util
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

import kdjax

COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's event, one for a program
AFTER = "after the stages"  # the report
DONE = "DONE"  # the file of a finished stage
PACKAGE = Path(kdjax.__file__).parent


class Program(NamedTuple):
    """A compiled program: its name in XLA, and the file, line and function of kdjax whose call
    compiled it."""

    name: str
    caller: str


def compiled(config: Mapping[str, Any], workdir: Path) -> dict[str, list[Program]]:
    """Runs an experiment in an empty workdir. Returns each stage's programs in the order in which
    they are compiled, and those that are compiled after the last stage.

    A program that this process has compiled before is not compiled again: count in a fresh
    process, or after `jax.clear_caches()`.
    """
    stages = list(config["stages"])
    found: dict[str, list[Program]] = {name: [] for name in [*stages, AFTER]}

    def listen(event: str, seconds: float, fun_name: str = "", **_: object) -> None:
        if event == COMPILED:
            unfinished = (name for name in stages if not (workdir / name / DONE).exists())
            found[next(unfinished, AFTER)].append(Program(fun_name, _caller()))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        kdjax.run(config, workdir, quiet=True)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return found


def _caller() -> str:
    """Of the functions that are running, the innermost that is kdjax's."""
    for frame, line in traceback.walk_stack(None):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            place = file.relative_to(PACKAGE.parent)
            return f"{place}:{line} {frame.f_code.co_name}"
    return "not kdjax"


def main(config: str) -> None:
    """Prints the programs of a config, FILE[:ARGUMENT], stage by stage."""
    kdjax.use_machine()
    file, _, argument = config.partition(":")
    spec = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory(prefix="programs-") as workdir:
        found = compiled(module.get_config(argument), Path(workdir))
    for stage, programs in found.items():
        print(f"{stage}: {len(programs)}")
        for name, caller in programs:
            print(f"  {name:40} {caller}")


if __name__ == "__main__":
    main(sys.argv[1])
