"""Students: taught by cached and live targets, and swept in one program."""

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import populations
from benchmarks.data_sets import dataset
from benchmarks.populations import finished
from benchmarks.rows import microseconds
from benchmarks.session import Session
from benchmarks.timing import Case, Row, measure, row
from benchmarks.work import DIGITS, IMAGES, Work

TEACHER, STUDENT = Work(IMAGES, (1200, 1200)), Work(IMAGES, (800, 800))
STUDENTS, TEACHERS = 10, 10
SMALL_TEACHER = Work(DIGITS, (256, 256), examples=800)
SMALL_STUDENT = Work(DIGITS, (32,), optimizer="adamw", examples=800)
TEMPERATURES = tuple(1.0 + 0.5 * i for i in range(40))
SWEEP_STEPS = 1000
SINGLE = 4  # runs of one temperature in a repeat


def targets(session: Session) -> list[Row]:
    """Epochs of students of one batch, by cached and by live targets, and by labels alone. What
    filling the cache takes is in the column of what is done once."""
    data = dataset(IMAGES)
    still = dict(order="shared", augment=dict(shift=0))
    taught = dict(
        objective=dict(kl_divergence=1.0),
        temperature=4.0,
        teacher=finished(session, TEACHER, data, TEACHERS),
        members=dict(seed=tuple(range(TEACHERS, TEACHERS + STUDENTS))),  # not the teachers' own
    )
    cached, live = (taught | dict(teacher_logits=kind) for kind in ("cached", "live"))
    fields = {
        "labels": still,
        "cached": cached | still,
        "live": live | still,
        "live on jittered views": live | dict(order="shared"),
    }
    stages = {name: populations.stage(STUDENT, STUDENTS, **f) for name, f in fields.items()}
    cases = [populations.case(n, populations.set_up(s, data), True) for n, s in stages.items()]
    timings = measure(cases, session.repeats)
    labels, cached, live, jittered = (timings[name] for name in fields)
    name = f"{STUDENT.name} M={STUDENTS} K={TEACHERS}"
    return [
        row("cached_vs_live_teacher", cached, live, *microseconds(cached), of=name),
        row(f"{name} cached over labels", cached, labels, *microseconds(cached)),
        row(f"{name} live over labels", live, labels, *microseconds(live)),
        row(f"{name} live, jittered, over labels", jittered, labels, *microseconds(jittered)),
    ]


def sweep(session: Session) -> list[Row]:
    """Students at forty temperatures as one stage, against a stage for each, from the config to
    the finished directory, compilation included. In a repeat the whole sweep and a few single
    runs take turns, every time other ones."""
    data = dataset(DIGITS)
    objective = dict(kl_divergence=1.0)
    fields = dict(objective=objective, teacher_logits="cached", steps=SWEEP_STEPS)
    fields["teacher"] = finished(session, SMALL_TEACHER, data, TEACHERS)
    singles = itertools.cycle(TEMPERATURES)

    def train(temperatures: Sequence[float]) -> None:
        members = dict(seed=1, temperature=tuple(temperatures))
        stage = populations.stage(SMALL_STUDENT, 1, members=members, **fields)
        with tempfile.TemporaryDirectory(dir=session.directory) as directory:
            populations.finish(stage, data, Path(directory))

    def some() -> None:
        for temperature in itertools.islice(singles, SINGLE):
            train([temperature])

    cases = [
        Case("sweep", lambda: train(TEMPERATURES), len(TEMPERATURES)),
        Case("single runs", some, SINGLE),
    ]
    timings = measure(cases, session.repeats, warm=False)
    own, of = timings["sweep"], f"{SMALL_STUDENT.name}, {SWEEP_STEPS} steps"
    unit = "s per student"
    return [row("sweep40_vs_runs", own, timings["single runs"], own.median, unit, of=of)]
