"""The README's experiment in two processes: as in one, and the same when either is killed.

    python tests/two_processes.py [--kills 4] [--seed 0] [--directory DIR]

runs it whole in one process with eight devices, in two with four each over loopback, and again in
two of which now one, now the other is killed at a random moment, after which both are started
again. Prints the metrics of all three against each other.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path
from subprocess import Popen

from harness import PATIENCE, STAGES
from launch import apart, ends, metrics, rows, send, start, start_two

CONFIG = "from configs.ensemble_to_one import get_config\n"
LIKE = 1e-3  # the order of sums is another one where batches are split in other parts


def done(workdir: Path) -> int:
    """Chunks that all stages' metrics tell of."""
    return sum(rows(workdir / stage) for stage in STAGES)


def finish(*processes: Popen) -> None:
    """Waits for the end, which must be a good one."""
    for code, _, errors in ends(*processes):
        if code:
            raise RuntimeError(f"exit code {code}: {errors[-2000:]}")


def kill(directory: Path, victim: int, after: float) -> bool:
    """Starts both, and kills one at a moment after so many chunks; whether they still ran then."""
    pair, until = start_two(directory, "disturbed"), time.monotonic() + PATIENCE
    try:
        while done(directory / "disturbed") < after and pair[victim].poll() is None:
            if time.monotonic() > until:
                raise TimeoutError(f"{PATIENCE} seconds")
            time.sleep(0.01)
        came = pair[victim].poll() is None
        send(pair[victim], "SIGKILL")
        ended = ends(*pair)
    finally:
        for process in pair:
            process.kill()
    codes = [code for code, *_ in ended]
    if came and (codes[victim] != -9 or codes[1 - victim] == 0):
        raise RuntimeError(f"exit codes {codes} after SIGKILL to {victim}: {ended[1 - victim][2]}")
    return came


def table(one: list, two: list) -> str:
    """Of each row of the reports the mean errors in one process and in two, and the difference."""
    lines = ["| stage | one process | two processes | largest difference of a member's metric |"]
    lines.append("| :--- | ---: | ---: | ---: |")
    means = [{(s, str(c)): str(n["errors"]["mean"]) for s, c, n in rows} for rows in (one, two)]
    for row, difference in apart(one, two).items():
        cells = [row[0], *(mean.get(row, "-") for mean in means), f"{100 * difference:.2g} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """1 if one process is not like two, or the killed run is not, bit for bit, the other, or the
    kills did not all come in time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="new, and kept; default: a temporary one")
    asked = parser.parse_args()
    chance, told = random.Random(asked.seed), []
    with contextlib.ExitStack() as opened:
        directory = asked.directory or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.py").write_text(CONFIG)
        finish(start(directory, "one", JAX_NUM_CPU_DEVICES="8"))
        finish(*start_two(directory, "two"))
        chunks = done(directory / "two")
        for number in range(asked.kills):
            after = chance.uniform(number, number + 1) * chunks / asked.kills
            if kill(directory, number % 2, after):
                at = done(directory / "disturbed")
                told.append(f"process {number % 2} after {at} of {chunks} chunks")
        finish(*start_two(directory, "disturbed"))
        one, two, again = (metrics(directory / name) for name in ("one", "two", "disturbed"))
    print(table(one, two))
    print(f"\nkilled, and both started again: {'; '.join(told)}")
    print(f"equal to the two left alone, bit for bit: {again == two}")
    right = again == two and max(apart(one, two).values()) <= LIKE and len(told) == asked.kills
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
