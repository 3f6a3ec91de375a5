"""Whole processes of the command, watched from outside: time to the first step, and memory.

What a run leaves in its directory tells when it did so: `experiment.json` is written when all is
imported, read and checked, the line of `metrics.jsonl` after the only step and its validation.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import one_stage, populations
from benchmarks.data_sets import on_disk
from benchmarks.session import Session
from benchmarks.timing import Row, Timing, row, row_of, tell
from benchmarks.work import IMAGES, Work

ROOT = Path(__file__).parents[1]
NET = Work(IMAGES, (1200, 1200), optimizer="adamw")  # as in `one_stage.py`
TEN = 10  # members
OF = f"{NET.name} M={TEN}"
MEMBERS = (1, 5, 10, 20)
MEMORY_STEPS = dict(steps=4, chunk=2)  # two checkpoints, for a save takes memory
STARTS, PEAKS = 3, 2  # most repeats
GIB = 2**30
EXPERIMENT, METRICS = "experiment.json", "metrics.jsonl"  # of a workdir, and of a stage in it
# Linux counts the most that a process had before it became a command among the command's own, and
# this process is large: a small one starts the command, and prints what it took.
LAUNCH = """
import json, resource, subprocess, sys, time
began = time.time()
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
seconds = time.time() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([code, began, seconds, peak]))
"""


class Ran(NamedTuple):
    """A Python process that has ended: when it began (seconds since the epoch), the seconds it
    took, the most memory it had in bytes, and what it printed."""

    began: float
    seconds: float
    peak: int
    printed: str


@dataclass(frozen=True)
class Process:
    """Seconds from the start of a command to its marks, and the most memory it had, in bytes."""

    ready: float
    first_step: float
    peak: int


def start_up(session: Session) -> list[Row]:
    """How long ten large nets take to their first step, with and without the compiled programs
    (and whatever else a run keeps for the next) of an earlier run."""
    processes: dict[str, list[Process]] = {"cold": [], "warm": []}
    imports: dict[str, list[float]] = {"jax": [], "kdjax.main": []}
    for _ in range(session.few(STARTS)):
        with tempfile.TemporaryDirectory(dir=session.directory) as cache:
            for found in processes.values():
                found.append(command(session, Path(cache)))
        for module, seconds in imports.items():
            seconds.append(run(["-c", f"import {module}"]).seconds)
    jax, kdjax = (Timing(tuple(seconds)) for seconds in imports.values())
    cold, warm = (Timing(tuple(p.ready for p in found)) for found in processes.values())
    cold_step, warm_step = (
        Timing(tuple(p.first_step for p in found)) for found in processes.values()
    )
    return [
        row("warm_start_seconds", warm_step, cold_step, warm_step.median, "s", of=OF),
        row("cold start, over warm", cold_step, warm_step, cold_step.median, "s"),
        row("data read, warm over cold", warm, cold, warm.median, "s"),
        row("kdjax imported, over JAX alone", kdjax, jax, kdjax.median, "s"),
    ]


def memory(session: Session) -> list[Row]:
    """The most memory that the command has which trains large nets and compiles, the greatest of
    the repeats; the ratio is what their state and all images take over it."""
    rows, peaks = [], []
    _, images = on_disk(IMAGES, session.directory)
    for members in MEMBERS:
        fields, found = {"members.seed": members} | MEMORY_STEPS, []
        for _ in range(session.few(PEAKS)):
            with tempfile.TemporaryDirectory(dir=session.directory) as cache:
                found.append(command(session, Path(cache), fields).peak)
        state = populations.member_bytes(populations.of_stage(NET, members))
        needed = images + members * state
        peaks.append([peak / GIB for peak in found])
        name, of = f"peak memory, M={members}", ""
        if members == TEN:
            name, of = "peak_memory_gib", OF
        ratios = [needed / peak for peak in found]
        rows.append(row_of(name, ratios, max(peaks[-1]), "GiB", of=of))
    session.curve("peak memory of the process", "members", MEMBERS, peaks, "GiB")
    return rows


def command(session: Session, cache: Path, fields: dict[str, object] | None = None) -> Process:
    """Trains `one_stage.py`, with these fields of its stage, as a user would from the shell.

    Args:
      cache: where the command keeps what the next can use.
    """
    with tempfile.TemporaryDirectory(dir=session.directory) as workdir:
        flags = {f"stages.{one_stage.STAGE}.{k}": v for k, v in (fields or {}).items()}
        flags["dataset.name"], _ = on_disk(IMAGES, session.directory)
        arguments = ["-m", "kdjax.main", f"--config={one_stage.__file__}", f"--workdir={workdir}"]
        arguments += [f"--config.{name}={value}" for name, value in flags.items()]
        ran = run(arguments, caches(session, cache))
        tell(f"kdjax.main: {ran.seconds:.1f} s")
        ready, first = Path(workdir, EXPERIMENT), Path(workdir, one_stage.STAGE, METRICS)
        return Process(
            ready.stat().st_mtime - ran.began, first.stat().st_mtime - ran.began, ran.peak
        )


def caches(session: Session, cache: Path) -> dict[str, str]:
    """The environment of a process that keeps its data and programs in `cache`. The fonts that
    Matplotlib finds are no part of it."""
    return {"XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(session.directory / "matplotlib")}


def run(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, root: Path = ROOT
) -> Ran:
    """Runs Python with these arguments in a process of its own.

    Args:
      environment: is added to this process's.
      root: the checkout that the process is of. It runs there and imports from there.

    Raises:
      RuntimeError: the process failed; the message has the last line that it printed.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    imported = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *arguments]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCH, *command],
        cwd=root,
        env=inherited | {"PYTHONPATH": imported} | dict(environment or {}),
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    code, began, seconds, peak = json.loads(done.stdout)
    if code:
        lines = done.stderr.strip().splitlines() or ["nothing"]
        raise RuntimeError(f"{shlex.join(command)} has failed: {lines[-1]}")
    return Ran(began, seconds, peak * 1024, done.stderr)  # Linux counts memory in KiB
