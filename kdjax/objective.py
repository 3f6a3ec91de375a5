"""Whether the terms of an objective fit the outputs that they will be given.

Axes: K teachers, B examples of a batch, N examples of the stage.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.config.spec import StageSpec, TermSpec, grid
from kdjax.data import Dataset
from kdjax.host import memory
from kdjax.losses import Context
from kdjax.losses.term import derivatives_of
from kdjax.nets import program
from kdjax.nets.net import Outputs, PyTree
from kdjax.rules import InputError, shown

Gather = Callable[[jax.Array], jax.Array]
INDEX = 6  # the place of the examples' numbers among the arguments of a term


def check_objective(
    stage: StageSpec,
    student: Outputs,
    teacher: Outputs | None,
    dataset: Dataset,
    examples: int,
    path: str,
) -> bool:
    """Whether a batch may be split: no term depends on the other examples of its part of the batch.

    Args:
      student: shapes of one example [1, ...].
      teacher: the same of the K teachers, [K, 1, ...].
      examples: N.

    Raises:
      InputError: a term cannot be computed of a batch, or what it keeps from step to step does not
        fit in memory; nothing has been computed.
    """
    splits = True
    for part in stage.objective:
        here, size = f"{path}.{part.name}", stage.batch
        try:
            given = student, teacher, dataset, examples
            function, *arguments = _call(part, size, *given, lambda x: x)
            value, after = jax.eval_shape(function, *arguments)
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
        if stage.augment.mixes and "labels" in part.term.needs and value.shape == ():
            raise InputError(
                f"{here} gives one number for a batch, and reads labels; it must give one for each "
                f"example where the augment is {stage.augment}, for each has two labels then"
            )
        if stage.augment.mixes and "index" in part.term.needs:
            raise InputError(
                f"{here} reads the number of each example, but the augment is {stage.augment}, "
                "which mixes two; it must be one that does not"
            )
        if part.term.memory:
            _check_memory(arguments[-1], after, len(grid(stage)), here)
        splits = splits and _splits(part, *given)
    return splits


def _check_memory(before: PyTree, after: PyTree, members: int, path: str) -> None:
    """Whether a term's memory keeps its form, and fits for all members."""
    form = lambda tree: jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
    if form(before) != form(after):
        raise InputError(
            f"{path} gives a memory of the form {shown(form(after))} after a step; it must be that "
            f"of before, {shown(form(before))}"
        )
    sizes = [((members, *x.shape), x.dtype.itemsize) for x in jax.tree.leaves(before)]
    memory.check(f"{path} keeps from step to step", sizes)


def _splits(
    part: TermSpec, student: Outputs, teacher: Outputs | None, dataset: Dataset, examples: int
) -> bool:
    """Whether a term's losses are the same whatever part of the batch they are computed with."""
    shapes = [x.shape for x in jax.tree.leaves((student, teacher))]
    sizes = [examples, *dataset.input_shape, *(n for shape in shapes for n in shape)]
    size = program.batch_size(sizes)
    given = student, teacher, dataset, examples
    function, *arguments = _call(part, size, *given, program.whole_batch)
    before = len(jax.tree.leaves(arguments[:INDEX]))
    try:
        return program.splits(jax.make_jaxpr(function)(*arguments), before, size)
    except Exception:  # it is computable, by the check before, but not for any size of a part
        return False


def _call(
    part: TermSpec,
    size: int,
    student: Outputs,
    teacher: Outputs | None,
    dataset: Dataset,
    examples: int,
    gather: Gather,
) -> tuple[Any, ...]:
    """A function, and the shapes of its arguments, that computes a term of a batch of `size`, and
    what it keeps."""
    widen = lambda x, axis: jax.ShapeDtypeStruct(
        (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype
    )
    number = jax.ShapeDtypeStruct((), np.float32)
    key, term, aux, kept = jax.eval_shape(jax.random.key, 0), part.term, None, None
    if term.aux is not None:
        aux = jax.eval_shape(term.aux, key, student, teacher)
    if term.memory is not None:
        made: Any = term.memory
        kept = jax.eval_shape(lambda *given: made(*given, examples), key, student, teacher)
    mixing = None if teacher is None else np.full(len(teacher.logits), 1 / len(teacher.logits))
    arguments = (
        jax.tree.map(lambda x: widen(x, 0), student),
        jax.tree.map(lambda x: widen(x, 1), teacher),
        jax.ShapeDtypeStruct((size, *dataset.input_shape), np.float32),
        jax.ShapeDtypeStruct((size,), np.int32),
        {name: number for name in part.term.numbers},
        aux,
        jax.ShapeDtypeStruct((size,), np.int32),
        key,
        kept,
    )

    def value(
        student: Outputs,
        teacher: Outputs | None,
        inputs: jax.Array,
        labels: jax.Array,
        numbers: dict[str, jax.Array],
        aux: PyTree,
        index: jax.Array,
        key: jax.Array,
        kept: PyTree,
    ) -> tuple[jax.Array, PyTree]:
        targets = lambda temperature: jnp.zeros_like(student.logits)
        along = derivatives_of(part.name, student, teacher, lambda theirs, temperature: theirs[0])
        context = Context(student, teacher, targets, inputs, labels, numbers, aux, gather, mixing)
        context = dataclasses.replace(context, index=index, key=key, memory=kept, derivatives=along)
        found = term.function(term.needed(context))
        if term.memory is None:
            return found, None
        if not (isinstance(found, tuple) and len(found) == 2):
            raise InputError("it has a memory, and must return a pair, its loss and the memory")
        return found

    return value, *arguments
