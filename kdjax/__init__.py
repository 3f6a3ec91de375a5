"""Knowledge distillation in JAX: populations of teachers and students, with error bars.

`train` and `distill` train a population of any net and return a finished `Stage`; `run` runs an
experiment of several stages from a config, and `python -m kdjax.main` does so from a shell.
`open_stage` opens a finished stage, and `open_export` a net that `Stage.export` has written.
`from kdjax import losses` brings the losses, for use in any training loop, and `from kdjax import
figures` the figures of a report.

In a notebook, call `use_machine()` before anything else computes: the command does so too.
"""

from kdjax.api import distill, train
from kdjax.class_map import with_class_names
from kdjax.data import arrays
from kdjax.experiment import examples, run
from kdjax.exported import Exported, open_export
from kdjax.host.machine import use_machine
from kdjax.logits_file import save_logits
from kdjax.losses import Term
from kdjax.nets import equinox, function, linen, nnx
from kdjax.nets.net import Net
from kdjax.overview import inspect
from kdjax.report import Report
from kdjax.stage import Stage, open_stage
from kdjax.teachers import Teacher, logits

__version__ = "0.1.0"

__all__ = [
    "Exported",
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
    "inspect",
    "linen",
    "logits",
    "nnx",
    "open_export",
    "open_stage",
    "run",
    "save_logits",
    "train",
    "use_machine",
    "with_class_names",
]
