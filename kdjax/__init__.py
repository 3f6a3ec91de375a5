"""Knowledge distillation in JAX: populations of teachers and students, with error bars.

`run(config, workdir) -> Report` runs an experiment, `open_stage(path) -> Stage` opens a finished
stage of one; `python -m kdjax.main` is the first from a shell. `from kdjax import figures` brings
the figures of a report.
"""

from kdjax.experiment import run
from kdjax.report import Report
from kdjax.stage import Stage, open_stage

__all__ = ["Report", "Stage", "open_stage", "run"]
