"""What a checkpoint after every epoch costs, which the other benchmarks of epochs leave out."""

from benchmarks import populations
from benchmarks.data_sets import dataset
from benchmarks.rows import microseconds
from benchmarks.session import Session
from benchmarks.timing import Row, measure, row
from benchmarks.work import IMAGES, Work
from kdjax.host.checkpoint import Checkpoints

NET = Work(IMAGES, (800, 800), steps=100, examples=10_000)
TEN = 10  # members
SAVES = 3  # most repeats


def checkpoint(session: Session) -> list[Row]:
    """Epochs that end with a checkpoint, over the same without; a save runs beside the next
    epoch, and the next save waits for it."""
    make = lambda: populations.set_up(populations.stage(NET, TEN), dataset(NET.data))
    with Checkpoints(session.directory / "saving") as saved:
        cases = [
            populations.case("without", make(), NET.validate),
            populations.case("with", make(), NET.validate, saved),
        ]
        timings = measure(cases, session.few(SAVES))
    own = timings["with"]
    name = f"{NET.name} M={TEN}, a checkpoint every {NET.examples:,} examples over none"
    return [row(name, own, timings["without"], *microseconds(own))]
