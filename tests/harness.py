"""Runs that are stopped again and again: what had been saved stays, and the end is the same.

    python tests/harness.py [--kills 50] [--terms 20] [--seed 0] [--directory DIR]

runs the experiment of the README on few steps, sends SIGKILL or SIGTERM at random moments of every
stage, starts it again each time, and prints what was lost and whether the metrics at the end are
those of a run that was left alone, bit for bit. Each signal costs a start of the program.
"""

import argparse
import collections
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launch import ends, metrics, send, start

CONFIG = """
from configs.ensemble_to_one import get_config as long
def get_config():
    config = long()
    for stage in config.stages.values():
        stage.update(steps=80, chunk=2)
    return config
"""
STAGES = ("teachers", "baseline", "distilled", "soft_only", "logit_matching")
SIGNALS = ("SIGKILL", "SIGTERM")
MOMENTS = ("start-up", "chunk", "save", "stage end", "report")
DELAYS = dict(zip(MOMENTS, (5.0, 0.2, 0.05, 1.0, 2.0), strict=True))  # most seconds after a moment
PER_RUN = 12  # signals, before a run may end
SAVED = 143  # the exit code after SIGTERM
PATIENCE = 600  # seconds for a moment to come

Kept = dict[str, tuple[bytes | None, list[str]]]  # of each stage DONE, and rows of metrics


def lines(stage: Path) -> list[str]:
    """The whole lines of a stage's metrics."""
    with contextlib.suppress(FileNotFoundError):
        return [s for s in (stage / "metrics.jsonl").read_text().splitlines(True) if s[-1] == "\n"]
    return []


def step_of(rows: list[str]) -> int:
    """Of the last one; 0 if there is none."""
    return json.loads(rows[-1])["step"] if rows else 0


def saved_step(stage: Path) -> int:
    """Of the newest whole checkpoint; 0 if there is none."""
    steps = (path.name for path in stage.glob("checkpoints/*"))
    return max([int(name) for name in steps if name.isdigit()], default=0)


def saved(workdir: Path) -> Kept:
    """What no signal may take: of each stage DONE, and its metrics up to the newest checkpoint.

    Metrics hold the seconds of their chunk: a chunk that was trained again has other ones."""
    found = {}
    for stage in (path.parent for path in sorted(workdir.glob("*/config.json"))):
        done = (stage / "DONE").read_bytes() if (stage / "DONE").exists() else None
        step = saved_step(stage)
        found[stage.name] = done, [s for s in lines(stage) if json.loads(s)["step"] <= step]
    return found


def lost(before: Kept, workdir: Path) -> tuple[int, int]:
    """How many finished stages and how many saved steps of `before` are not there any more."""
    stages = steps = 0
    now = saved(workdir)
    for name, (done, rows) in before.items():
        done_now, rows_now = now.get(name, (None, []))
        stages += done is not None and done != done_now
        kept = next((i for i, row in enumerate(rows) if row not in rows_now), len(rows))
        steps += step_of(rows) - step_of(rows[:kept])
    return stages, steps


def wait_until(there: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Whether it came true before the process ended."""
    until = time.monotonic() + PATIENCE
    while not there():
        if process.poll() is not None:
            return there()
        if time.monotonic() > until:
            process.kill()
            raise TimeoutError(f"{PATIENCE} seconds")
        time.sleep(0.002)
    return True


def claim(workdir: Path) -> int:
    """A number of the file that every run writes anew at its start; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return (workdir / "experiment.json").stat().st_ino
    return 0


def wait_for(moment: str, stage: Path, process: subprocess.Popen) -> bool:
    """Whether the moment came in this stage of the process."""
    known = len(lines(stage))
    one_more = lambda: len(lines(stage)) > known
    saving = lambda: any(stage.glob("checkpoints/*.orbax-checkpoint-tmp*"))
    if moment == "start-up":
        return True
    if moment == "chunk":
        return wait_until(one_more, process)
    if moment == "save":
        return wait_until(one_more, process) and wait_until(saving, process)
    if moment == "stage end":
        return wait_until((stage / "DONE").exists, process)
    claimed = claim(stage.parent)  # by a run before; this one has its own when it is past start-up
    reports = lambda: claim(stage.parent) != claimed and (stage / "DONE").exists()
    return wait_until(reports, process)


def ended(process: subprocess.Popen, *codes: int) -> int:
    """The exit code; a RuntimeError if it is none of these."""
    ((code, _, errors),) = ends(process)
    if code not in codes:
        raise RuntimeError(f"exit code {code}, not one of {codes}: {errors[-2000:]}")
    return code


def disturbed(
    directory: Path, name: str, signals: list[str], chance: random.Random
) -> tuple[collections.Counter, int, int]:
    """Runs until the end, stopped by `signals`, spread over the stages; how often each signal came
    in which stage and moment, and the finished stages and saved steps that were lost."""
    workdir = directory / name
    undone = lambda: [s for s in STAGES if not (workdir / s / "DONE").exists()]
    counts, lost_stages, lost_steps, before = collections.Counter(), 0, 0, {}
    for place, sent in enumerate(signals):
        planned = place * (len(STAGES) + 1) // len(signals)
        later = [s for s in STAGES[planned:] if s in undone()]
        moment = chance.choice(MOMENTS[:-1]) if later else "report"
        process = start(directory, name)
        came = wait_for(moment, workdir / (later or STAGES[-1:])[0], process)
        if came:
            time.sleep(chance.uniform(0, DELAYS[moment]))
            came = process.poll() is None
            send(process, sent)
        # SIGTERM kills before there is a run to end; in the report it is too late, which is written
        stops = {"SIGKILL": [-9], "SIGTERM": [SAVED] + [-15] * (moment == "start-up")}[sent]
        code = ended(process, 0, *stops)
        if came:
            counts[(undone() or ["report"])[0], moment, sent] += 1
        stages, steps = lost(before, workdir)
        lost_stages, lost_steps, before = lost_stages + stages, lost_steps + steps, saved(workdir)
        if code == SAVED:
            lost_steps += sum(step_of(lines(workdir / s)) - saved_step(workdir / s) for s in STAGES)
    ended(start(directory, name), 0)
    stages, steps = lost(before, workdir)
    return counts, lost_stages + stages, lost_steps + steps


def table(counts: collections.Counter) -> str:
    """Signals by stage and moment, as "kills + terms"."""
    rows = [["stage", *MOMENTS], ["-" * 14] * (1 + len(MOMENTS))]
    for stage in (*STAGES, "report"):
        cells = (" + ".join(str(counts[stage, m, s]) for s in SIGNALS) for m in MOMENTS)
        rows.append([stage, *cells])
    return "\n".join("| " + " | ".join(cell.ljust(14) for cell in row) + " |" for row in rows)


def main() -> int:
    """Prints what came of it; 1 if anything was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="new, and kept; default: a temporary one")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    signals = ["SIGKILL"] * asked.kills + ["SIGTERM"] * asked.terms
    chance.shuffle(signals)
    counts, stages, steps, same, runs = collections.Counter(), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        directory = asked.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.py").write_text(CONFIG)
        began = time.monotonic()
        ended(start(directory, "alone"), 0)
        print(f"a run left alone: {time.monotonic() - began:.0f} seconds", flush=True)
        for at in range(0, len(signals), PER_RUN):
            runs += 1
            part, name = signals[at : at + PER_RUN], f"run_{runs}"
            found, lost_stages, lost_steps = disturbed(directory, name, part, chance)
            counts, stages, steps = counts + found, stages + lost_stages, steps + lost_steps
            same += metrics(directory / name) == metrics(directory / "alone")
            print(f"run {runs}: {found.total()} signals", flush=True)
    print(
        f"\n{table(counts)}\n\nSIGKILL + SIGTERM that came before a run had ended: "
        f"{counts.total()} of {len(signals)} sent, in {time.monotonic() - began:.0f} seconds\n"
        f"lost: {stages} finished stages, {steps} saved steps\n"
        f"equal to the run left alone, bit for bit: {same} of {runs}"
    )
    return int(bool(stages or steps or same < runs))


if __name__ == "__main__":
    sys.exit(main())
