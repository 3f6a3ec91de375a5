"""Whether the terms of an objective fit the outputs that they will be given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.config.spec import StageSpec, TermSpec
from kdjax.data import Dataset
from kdjax.losses import Context
from kdjax.losses.term import derivatives_of
from kdjax.nets import program
from kdjax.nets.net import Outputs, PyTree
from kdjax.rules import InputError

Gather = Callable[[jax.Array], jax.Array]


def check_objective(
    stage: StageSpec, student: Outputs, teacher: Outputs | None, dataset: Dataset, path: str
) -> bool:
    """Whether a batch may be split: no term depends on the other examples of its part of the batch.

    Args:
      student: shapes of one example [1, ...].
      teacher: the same of the K teachers, [K, 1, ...].

    Raises:
      InputError: a term cannot be computed of a batch; nothing has been computed.
    """
    splits = True
    for part in stage.objective:
        here, size = f"{path}.{part.name}", stage.batch
        try:
            value = jax.eval_shape(*_call(part, size, student, teacher, dataset, lambda x: x))
        except InputError as error:
            raise InputError(f"{here}: {error}") from error
        except Exception as error:  # whatever a term of the user's does
            line = (str(error).strip().splitlines() or [""])[0]
            needs = ", ".join(sorted(part.term.needs)) or "nothing"
            raise InputError(
                f"{here}, whose needs are: {needs}, cannot be computed for a batch of {size} "
                f"examples: {type(error).__name__}: {line}"
            ) from error
        leaves = jax.tree.leaves(value)
        one = len(leaves) == 1 and leaves[0] is value
        if not (one and value.shape in ((), (size,)) and jnp.issubdtype(value.dtype, jnp.floating)):
            found = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves) or "nothing"
            raise InputError(
                f"{here} gives {found} for a batch of {size} examples; it must be floating, one "
                "number for each example or one for the batch"
            )
        splits = splits and _splits(part, student, teacher, dataset)
    return splits


def _splits(part: TermSpec, student: Outputs, teacher: Outputs | None, dataset: Dataset) -> bool:
    """Whether a term's losses are the same whatever part of the batch they are computed with."""
    shapes = [x.shape for x in jax.tree.leaves((student, teacher))]
    size = program.batch_size([*dataset.input_shape, *(n for shape in shapes for n in shape)])
    function, *arguments = _call(part, size, student, teacher, dataset, program.whole_batch)
    try:
        return program.splits(jax.make_jaxpr(function)(*arguments), -1, size)
    except Exception:  # it is computable, by the check before, but not for any size of a part
        return False


def _call(
    part: TermSpec,
    size: int,
    student: Outputs,
    teacher: Outputs | None,
    dataset: Dataset,
    gather: Gather,
) -> tuple[Any, ...]:
    """A function, and the shapes of its arguments, that computes a term of a batch of `size`."""
    widen = lambda x, axis: jax.ShapeDtypeStruct(
        (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype
    )
    number = jax.ShapeDtypeStruct((), np.float32)
    aux = None
    if part.term.aux is not None:
        aux = jax.eval_shape(part.term.aux, jax.eval_shape(jax.random.key, 0), student, teacher)
    arguments = (
        jax.tree.map(lambda x: widen(x, 0), student),
        jax.tree.map(lambda x: widen(x, 1), teacher),
        jax.ShapeDtypeStruct((size, *dataset.input_shape), np.float32),
        jax.ShapeDtypeStruct((size,), np.int32),
        {name: number for name in part.term.numbers},
        aux,
    )

    def value(
        student: Outputs,
        teacher: Outputs | None,
        inputs: jax.Array,
        labels: jax.Array,
        numbers: dict[str, jax.Array],
        aux: PyTree,
    ) -> jax.Array:
        targets = lambda temperature: jnp.zeros_like(student.logits)
        along = derivatives_of(part.name, student, teacher, lambda theirs, temperature: theirs[0])
        equal = teacher and jnp.full(len(teacher.logits), 1 / len(teacher.logits))
        context = Context(
            student, teacher, targets, inputs, labels, numbers, aux, gather, along, equal
        )
        return part.term.function(part.term.needed(context))

    return value, *arguments
