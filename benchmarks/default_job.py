"""The default job as a user runs it, in whole processes: kdjax's command, the plain JAX script that
trains the same nets, and another checkout of kdjax."""

import functools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import kdjax
from benchmarks import plain_jax, processes
from benchmarks.session import Session
from benchmarks.timing import Case, Row, measure, row, tell
from configs.ensemble_to_one import get_config

CONFIG = "configs/ensemble_to_one.py"
KDJAX, PLAIN, OTHER, COLD = "kdjax", "plain JAX", "the other checkout", ", cold"
PROGRAMS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}  # kept as kdjax keeps its own


def default_job(session: Session) -> list[Row]:
    """Warm, with the compiled programs and the decoded data of an earlier run, and cold, with
    none of them. A workdir is always new. Checkpoints, report and figures are part of kdjax's
    seconds; the plain script has none."""
    roots = {KDJAX: processes.ROOT} | ({OTHER: session.against} if session.against else {})
    plain = functools.partial(_plain, session, _digits(session.directory / "digits.npz"))
    jobs: dict[str, Callable[[Path], None]] = {PLAIN: plain}
    jobs |= {name: functools.partial(_command, session, root) for name, root in roots.items()}
    warm = [
        Case(name, functools.partial(job, session.directory / name), 1)
        for name, job in jobs.items()
    ]
    cold = [Case(name + COLD, _cold(session, jobs[name]), 1) for name in roots]
    for case in warm:
        tell(f"{case.name}: fills its cache")
        case.run()
    timings = measure([*warm, *cold], session.repeats, warm=False)
    own, own_cold = timings[KDJAX], timings[KDJAX + COLD]
    rows = [
        row("default_job_vs_plain_jax", own, timings[PLAIN], own.median, "s", of=CONFIG),
        row("default job, cold, over warm", own_cold, own, own_cold.median, "s"),
    ]
    if session.against:
        name = f"over {_commit(session.against)}"
        other, other_cold = timings[OTHER], timings[OTHER + COLD]
        rows += [
            row(f"default job, warm, {name}", own, other, own.median, "s"),
            row(f"default job, cold, {name}", own_cold, other_cold, own_cold.median, "s"),
        ]
    return rows


def _command(session: Session, root: Path, cache: Path) -> None:
    """kdjax's command of a checkout, which has this config in its own words."""
    workdir = tempfile.mkdtemp(dir=session.directory)
    arguments = ["-m", "kdjax.main", f"--config={CONFIG}", f"--workdir={workdir}"]
    _tell(_commit(root), processes.run(arguments, processes.caches(session, cache), root))


def _plain(session: Session, data: Path, cache: Path) -> None:
    environment = PROGRAMS | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    _tell(PLAIN, processes.run([plain_jax.__file__, str(data)], environment))


def _cold(session: Session, job: Callable[[Path], None]) -> Callable[[], None]:
    """The job with an empty cache at every call."""
    return lambda: job(Path(tempfile.mkdtemp(dir=session.directory)))


def _digits(path: Path) -> Path:
    """The data of the job, as the plain script reads them."""
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        inputs, labels = kdjax.examples(get_config(), split)
        arrays |= {f"{split}_inputs": inputs, f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


def _tell(name: str, ran: processes.Ran) -> None:
    """The seconds, and the lines that have errors with their s.d."""
    tell(f"{name}: {ran.seconds:.1f} s")
    for line in ran.printed.splitlines():
        if "±" in line:
            tell(f"  {line[:60]}")


def _commit(root: Path) -> str:
    """The commit of a checkout, or its folder's name where git does not tell."""
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else root.name
