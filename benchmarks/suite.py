"""What is measured, headlines first: a benchmark takes a session and returns rows, its headlines
first. Add a function, and its name to `BENCHMARKS`."""

from collections.abc import Callable

from benchmarks import (
    convolutions,
    default_job,
    dense,
    distillation,
    growth,
    processes,
    saving,
    serving,
)
from benchmarks.session import Session
from benchmarks.timing import Row

BENCHMARKS: dict[str, Callable[[Session], list[Row]]] = {
    "dense": dense.dense,
    "regularised": dense.regularised,
    "small": dense.small,
    "convolutional": convolutions.convolutional,
    "targets": distillation.targets,
    "sweep": distillation.sweep,
    "predict": serving.predict,
    "latency": serving.latency,
    "exported": serving.exported,
    "start_up": processes.start_up,
    "memory": processes.memory,
    "adamw": dense.adamw,
    "others": dense.others,
    "checkpoint": saving.checkpoint,
    "growth": growth.growth,
    "plans": dense.plans,
    "grid": dense.grid,
    "accelerator": dense.accelerator,
    "default_job": default_job.default_job,
}
LONG = ("grid", "accelerator", "default_job")  # run by name alone, for they take long
DEFAULT = [name for name in BENCHMARKS if name not in LONG]
