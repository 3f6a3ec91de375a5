"""Knowledge distillation in JAX: populations of teachers and students, with error bars.

`run(config, workdir) -> Report` runs an experiment, `open_stage(path) -> Stage` opens a finished
stage of one; `python -m kdjax.main` is the first from a shell. `from kdjax import figures` brings
the figures of a report.

In a notebook, call `use_machine()` before anything else computes: the command does so too. The
raw data of an experiment are `examples(config, split) -> (inputs, labels)`.
"""

from kdjax.experiment import examples, run
from kdjax.host.machine import use_machine
from kdjax.report import Report
from kdjax.stage import Stage, open_stage

__all__ = ["Report", "Stage", "examples", "open_stage", "run", "use_machine"]
