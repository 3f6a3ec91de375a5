"""What is measured: a benchmark takes a session and returns rows. Add a function, and its name
to `BENCHMARKS`."""

from collections.abc import Callable

from benchmarks import convolutions, dense, distillation, growth, processes
from benchmarks.session import Session
from benchmarks.timing import Row

BENCHMARKS: dict[str, Callable[[Session], list[Row]]] = {
    "small": dense.small,
    "dense": dense.dense,
    "regularised": dense.regularised,
    "convolutional": convolutions.convolutional,
    "targets": distillation.targets,
    "sweep": distillation.sweep,
    "latency": distillation.latency,
    "start_up": processes.start_up,
    "memory": processes.memory,
    "growth": growth.growth,
    "plans": dense.plans,
    "grid": dense.grid,
}
DEFAULT = [name for name in BENCHMARKS if name != "grid"]  # which takes as long as all others
