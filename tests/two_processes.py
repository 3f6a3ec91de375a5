"""The README's experiment in two processes: equal to one process, and to itself when killed.

    python tests/two_processes.py [--kills 4] [--seed 0] [--directory DIR]

runs it whole in one process with eight devices, in two with four each over loopback, and again in
two of which now one, now the other is killed at a random moment, after which both are started
again. Prints the metrics of all three against each other.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from launch import ends, metrics, rows, send, start, start_two

CONFIG = "from configs.ensemble_to_one import get_config\n"
STAGES = ("teachers", "baseline", "distilled", "soft_only", "logit_matching")


def done(workdir: Path) -> int:
    """Chunks that all stages' metrics tell of."""
    return sum(rows(workdir / stage) for stage in STAGES)


def disturbed(directory: Path, kills: int, chunks: int, chance: random.Random) -> list[str]:
    """The two processes until their end, killed on the way; what was killed when."""
    told, workdir = [], directory / "disturbed"
    for kill in range(kills):
        pair = start_two(directory, "disturbed")
        target = chance.uniform(kill, kill + 1) * chunks / kills  # spread over the experiment
        while done(workdir) < target and all(p.poll() is None for p in pair):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        victim = kill % 2
        send(pair[victim], "SIGKILL")
        codes = [code for code, *_ in ends(*pair)]
        if codes[victim] != -9 or codes[1 - victim] == 0:
            raise RuntimeError(f"exit codes {codes} after SIGKILL to process {victim}")
        told.append(f"process {victim} after {done(workdir)} of {chunks} chunks")
    finished(ends(*start_two(directory, "disturbed")))
    return told


def finished(ended: list[tuple[int, str, str]]) -> None:
    for code, _, errors in ended:
        if code:
            raise RuntimeError(f"exit code {code}: {errors[-2000:]}")


def compared(one: list, two: list) -> list[str]:
    """A table: of each row of the reports the mean errors, and how far any metric is apart."""
    lines = ["| stage | one process | two processes | largest difference of a member's metric |"]
    lines.append("| :--- | ---: | ---: | ---: |")
    for (stage, cell, numbers), (_, _, others) in zip(one, two, strict=True):
        apart = 0.0
        for name in numbers:
            pairs = zip(numbers[name]["values"], others[name]["values"], strict=True)
            known = [(a, b) for a, b in pairs if a is not None and b is not None]
            apart = max([apart, *(abs(a - b) / max(abs(a), abs(b), 1e-9) for a, b in known)])
        label = " ".join([stage, *(f"{k}={v:g}" for k, v in cell.items())])
        means = (f"{n['errors']['mean']:.2f}" for n in (numbers, others))
        lines.append(f"| {label} | {' | '.join(means)} | {100 * apart:.2g} % |")
    return lines


def main() -> int:
    """1 if the killed run is not, bit for bit, the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="new, and kept; default: a temporary one")
    asked = parser.parse_args()
    with contextlib.ExitStack() as opened:
        directory = asked.directory or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.py").write_text(CONFIG)
        finished(ends(start(directory, "one", JAX_NUM_CPU_DEVICES="8")))
        finished(ends(*start_two(directory, "two")))
        told = disturbed(directory, asked.kills, done(directory / "two"), random.Random(asked.seed))
        one, two, again = (metrics(directory / name) for name in ("one", "two", "disturbed"))
        report = json.loads((directory / "two" / "report.json").read_text())["environment"]
    print("\n".join(compared(one, two)))
    print(f"\n{report['processes']} processes, {report['devices']} devices")
    print(f"killed, both started again: {'; '.join(told)}")
    print(f"equal to the two left alone, bit for bit: {again == two}")
    return int(again != two)


if __name__ == "__main__":
    sys.exit(main())
