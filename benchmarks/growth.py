"""What a member's step costs with cached targets, as members, classes or examples grow."""

from dataclasses import replace

from benchmarks import populations
from benchmarks.data_sets import dataset
from benchmarks.populations import finished
from benchmarks.rows import UNIT, microseconds
from benchmarks.session import Session
from benchmarks.timing import Case, Row, measure, row, tell
from benchmarks.work import IMAGES, Work
from kdjax.data.sources import numbered

STUDENT = Work(IMAGES, (128, 128), optimizer="adamw", steps=20, validate=False)
TEACHER, TEACHERS = replace(STUDENT, hidden=(32,)), 10
# One size at a time, the others as in BASE.
BASE = dict(members=10, classes=10, examples=3_000)
SIZES = {
    "members": (1, 2, 10, 20, 50),
    "classes": (10, 100, 1000),
    "examples": (1_000, 3_000, 10_000, 59_000),
}
FIRST = dict(members=2, classes=10, examples=1_000)  # one member is split: a row of its own


def growth(session: Session) -> list[Row]:
    """At each size over the first: how many times as cheap as if the cost of all were in
    proportion to it. A member's step knows neither members nor examples, so that its own cost
    must not grow with them; with classes it may grow in proportion."""
    rows = []
    for axis, sizes in SIZES.items():
        tell(axis)
        timings = measure([_case(session, axis, size) for size in sizes], session.repeats)
        first = FIRST[axis]
        for size in sizes:
            own, proportion = timings[str(size)], size / first if axis == "classes" else 1.0
            name = f"{axis}: {size} over {first}, if in proportion"
            if size != first:
                base = timings[str(first)]
                rows.append(row(name, own, base, *microseconds(own), scale=proportion))
        costs = [[1e6 * seconds for seconds in timings[str(size)].seconds] for size in sizes]
        session.curve(f"{STUDENT.name}, K={TEACHERS} cached", axis, sizes, costs, UNIT)
    return rows


def _case(session: Session, axis: str, size: int) -> Case:
    numbers = BASE | {axis: size}
    names = numbered(numbers["classes"])  # most of them without examples
    data = replace(dataset(IMAGES), class_names=names)
    work = replace(STUDENT, examples=numbers["examples"])
    config = populations.stage(
        work,
        numbers["members"],
        augment=dict(shift=0),
        objective=dict(kl_divergence=1.0),
        teacher=finished(session, TEACHER, data, TEACHERS),
        teacher_logits="cached",
    )
    return populations.case(str(size), populations.set_up(config, data), work.validate)
