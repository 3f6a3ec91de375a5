"""Knowledge distillation in JAX: populations of teachers and students, with error bars.

`train` and `distill` train a population of any net and return a finished `Stage`; `run` runs an
experiment of several stages from a config, and `python -m kdjax.main` does so from a shell.
`open_stage` opens a finished stage. `from kdjax import losses` brings the losses, for use in any
training loop, and `from kdjax import figures` the figures of a report.

In a notebook, call `use_machine()` before anything else computes: the command does so too.
"""

from kdjax.api import distill, train
from kdjax.data import arrays
from kdjax.experiment import examples, run
from kdjax.host.machine import use_machine
from kdjax.losses import Term
from kdjax.nets import equinox, function, linen, nnx
from kdjax.nets.net import Net
from kdjax.report import Report
from kdjax.stage import Stage, open_stage
from kdjax.teachers import Teacher, logits

__version__ = "0.1.0"

__all__ = [
    "Net",
    "Report",
    "Stage",
    "Teacher",
    "Term",
    "arrays",
    "distill",
    "equinox",
    "examples",
    "function",
    "linen",
    "logits",
    "nnx",
    "open_stage",
    "run",
    "train",
    "use_machine",
]
