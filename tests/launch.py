"""The command in processes of its own, alone or several over loopback."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen

ROOT = Path(__file__).parents[1]
LIMIT = 900  # seconds, after which whatever is waited for has failed


def start(directory: Path, name: str, *flags: str, **variables: str) -> Popen:
    """The config.py of `directory`, in the working directory `name` there."""
    command = [sys.executable, "-m", "undrawn", f"--config={directory / 'config.py'}"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    own = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(directory)}
    return Popen(
        [*command, f"--workdir={directory / name}", *flags],
        env=os.environ | own | variables,
        stdout=PIPE,
        stderr=PIPE,
        text=True,
    )


def start_two(
    directory: Path, name: str, *second: str, slurm: bool = False, devices: tuple = (4, 4)
) -> list[Popen]:
    """Two processes with so many devices; `second` are flags of the second alone."""
    port, processes = free_port(), []
    for i in range(2):
        variables = {"JAX_NUM_CPU_DEVICES": str(devices[i])}
        flags = [f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"]
        flags += [f"--process_id={i}"]
        if slurm:  # what srun sets
            flags = ["--distributed"]
            variables |= {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1"}
            variables |= {"SLURM_NTASKS": "2", "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}
            variables |= {"JAX_COORDINATOR_PORT": str(port)}
        processes.append(start(directory, name, *flags, *second * i, **variables))
    return processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ends(*processes: Popen) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each, or what has not ended is killed and the test fails."""
    by = time.monotonic() + LIMIT
    try:
        told = [p.communicate(timeout=max(0.0, by - time.monotonic())) for p in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        raise
    return [(p.returncode, *texts) for p, texts in zip(processes, told, strict=True)]


def wait_for(happened: Callable[[], bool], *processes: Popen) -> None:
    """Returns when something has happened, while the processes run."""
    by = time.monotonic() + LIMIT
    while not happened():
        assert all(p.poll() is None for p in processes), [p.communicate() for p in processes]
        assert time.monotonic() < by
        time.sleep(0.002)


def send(process: Popen, name: str) -> None:
    process.send_signal(signal.Signals[name])


def rows(stage: Path) -> int:
    """The chunks that a stage's metrics tell of."""
    path = stage / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def metrics(workdir: Path) -> list:
    """All that a report says of the members, which must not depend on what happened on the way."""
    content = json.loads((workdir / "report.json").read_text())["rows"]
    return [(row["stage"], row["cell"], row["metrics"]) for row in content]


def apart(one: list, two: list) -> dict[tuple, float]:
    """How far any member's numbers are apart in two reports by `metrics`, relative to the larger,
    by row: (stage, its cell as text). Infinite where one is not known, or a row is not there."""
    ones, twos = ({(s, str(cell)): numbers for s, cell, numbers in rows} for rows in (one, two))
    found = dict.fromkeys([*ones, *twos], math.inf)
    for row in ones.keys() & twos.keys():
        if ones[row].keys() == twos[row].keys():
            pairs = ((ones[row][n]["values"], twos[row][n]["values"]) for n in ones[row])
            found[row] = max(_furthest(*pair) for pair in pairs)
    return found


def _furthest(one: list, two: list) -> float:
    if [v is None for v in one] != [v is None for v in two]:
        return math.inf
    known = [(a, b) for a, b in zip(one, two, strict=True) if a is not None]
    return max((_relative(a, b) for a, b in known), default=0.0)


def _relative(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-9)
