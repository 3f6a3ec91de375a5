"""Whether the terms of an objective fit the outputs that they will be given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.config.spec import StageSpec, TermSpec
from kdjax.data import Dataset
from kdjax.losses import Context
from kdjax.nets.net import Outputs
from kdjax.rules import InputError


def check_objective(
    stage: StageSpec, student: Outputs, teacher: Outputs | None, dataset: Dataset, path: str
) -> None:
    """Raises InputError if a term cannot be computed of a batch; nothing is computed.

    Args:
      student: shapes of one example [1, ...].
      teacher: the same of the K teachers, [K, 1, ...].
    """
    size = stage.batch
    widen = lambda x, axis: jax.ShapeDtypeStruct(
        (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype
    )
    students = jax.tree.map(lambda x: widen(x, 0), student)
    teachers = jax.tree.map(lambda x: widen(x, 1), teacher)
    inputs = jax.ShapeDtypeStruct((size, *dataset.input_shape), np.float32)
    labels = jax.ShapeDtypeStruct((size,), np.int32)
    for part in stage.objective:
        here = f"{path}.{part.name}"
        try:
            value = jax.eval_shape(
                lambda *given, part=part: _value(part, *given), students, teachers, inputs, labels
            )
        except InputError as error:
            raise InputError(f"{here}: {error}") from error
        except Exception as error:  # whatever a term of the user's does
            line = (str(error).strip().splitlines() or [""])[0]
            raise InputError(
                f"{here} cannot be computed for a batch of {size} examples: "
                f"{type(error).__name__}: {line}"
            ) from error
        shape = getattr(value, "shape", None)
        if shape not in ((), (size,)) or not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"{here} gives {value} for a batch of {size} examples; it must be floating, one "
                "number for each example or one for the batch"
            )


def _value(
    part: TermSpec, student: Outputs, teacher: Outputs | None, inputs: Any, labels: Any
) -> jax.Array:
    """A term of zeros, for its shape."""
    numbers = {
        name: jnp.float32(default or 1.0) for name, (default, _) in part.term.numbers.items()
    }
    first = lambda tree, axis: jax.tree.map(lambda x: x.take(jnp.arange(1), axis), tree)
    aux = None
    if part.term.aux is not None:
        aux = part.term.aux(jax.random.key(0), first(student, 0), first(teacher, 1))
    context = Context(
        student=student,
        teacher=teacher,
        targets=lambda temperature: jnp.zeros_like(student.logits),
        inputs=inputs,
        labels=labels,
        hparams=numbers,
        aux=aux,
    )
    return part.term.function(context)
