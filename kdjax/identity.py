"""What tells a stage from others, as plain data: its config, and what values it is made of.

Axes: K teachers, B examples of a batch.
"""

import dataclasses
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.config.spec import ExperimentSpec, StageSpec, plain
from kdjax.data import Dataset, DatasetSpec
from kdjax.host import checkpoint
from kdjax.losses import TERMS, Context, Term
from kdjax.losses.term import derivatives_of
from kdjax.nets import identity
from kdjax.nets.net import Outputs, PyTree
from kdjax.rules import InputError, told
from kdjax.stage import Stage
from kdjax.teachers import Teacher

STEP = ("index", "key")  # the needs that are another at each step


def of_stage(
    stage: StageSpec,
    model: dict[str, Any],
    terms: Mapping[str, dict[str, Any]],
    teachers: tuple[str | Teacher, ...],
    init: str | Stage | None,
    earlier: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """The stage's fields but for `chunk`, with what its net and terms are made of, and what it
    comes from: earlier stages, and teachers and directories, each known by what it holds, for it
    may be moved."""
    fields: dict[str, Any] = plain(stage)
    sources: dict[str, Any] = {}
    for field in ("chunk", "teacher", "init_from"):
        fields.pop(field, None)
    if stage.subset.unlabelled:
        del fields["subset"]["unlabelled"]
    for teacher in teachers:
        if isinstance(teacher, str):
            sources[another(teacher, sources)] = earlier[teacher]
        else:
            sources[another(teacher.name, sources)] = plain(teacher.identity)
    fields["teacher"], fields["model"] = list(sources), model
    if stage.numbers_from:
        sources[another(f"numbers {stage.numbers_from}", sources)] = earlier[stage.numbers_from]
    else:
        del fields["numbers_from"]
    for part in fields["objective"]:
        part |= terms.get(part["name"], {})
    if init is not None:
        name = init if isinstance(init, str) else init.name
        digest = earlier[init] if isinstance(init, str) else checkpoint.digest(init.variables)
        fields["init_from"], sources[another(f"init {name}", sources)] = name, digest
    return {"stage": fields, "from": sources}


def another(name: str, taken: Collection[str]) -> str:
    """The name, or the first of "name 2", "name 3", ... that is not taken."""
    names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)


def of_data(spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """The data set as far as it determines results: where it is and how it is read do not."""
    facts = plain(spec.dataset) | {"version": dataset.version}
    del facts["resident"]
    for field in ("duplicates", "train_splits", "test_splits"):
        if getattr(spec.dataset, field) == getattr(DatasetSpec, field):
            del facts[field]
    if spec.dataset.name.endswith(("/", ".npz")):
        facts["name"] = Path(spec.dataset.name).name  # the version is of its content
    return facts | {"validation": len(dataset.splits["validation"])}


def of_terms(
    stage: StageSpec,
    student: Outputs,
    teacher: Outputs | None,
    dataset: Dataset,
    examples: int,
    path: str,
) -> dict[str, dict[str, Any]]:
    """{name: what it declares, and a digest of its program and of its derivative's} of each term
    that is none of kdjax's own, as plain data; nothing is computed.

    Args:
      student: shapes of one example [1, ...].
      teacher: the same of the K teachers, [K, 1, ...]; None without a term that reads them.
      examples: how many the stage trains on.
      path: of the objective, for messages.

    Raises:
      InputError: a term has no derivative.
    """
    size, found = stage.batch, {}
    wide = lambda x, axis: jax.ShapeDtypeStruct(
        (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype
    )
    for part in stage.objective:
        if part.source in TERMS:
            continue
        term, shape = part.term, jax.ShapeDtypeStruct
        own = lambda outputs, part=part: (
            outputs
            and outputs._replace(
                derivatives={n: d for n, d in outputs.derivatives.items() if n == part.name}
            )
        )
        given = (
            jax.eval_shape(jax.random.key, 0),
            jax.tree.map(lambda x: wide(x, 0), own(student)),
            jax.tree.map(lambda x: wide(x, 1), own(teacher)),
            shape((size, *dataset.input_shape), np.float32),
            shape((size,), np.int32),
            {name: shape((), np.float32) for name in term.numbers},
        )
        try:
            step = shape((size,), np.int32), given[0]  # the examples' numbers, and a key
            given += tuple(x for x, name in zip(step, STEP, strict=True) if name in term.needs)
            derivative = lambda *given, term=term: _derivative(term, examples, *given)
            program = jax.make_jaxpr(derivative)(*given)
        except Exception as error:  # whatever a term of the user's does
            raise InputError(f"{path}.{part.name} has no derivative: {told(error)}") from error
        found[part.name] = {
            "needs": sorted(term.needs),
            "hparams": sorted(term.numbers),
            "student": list(term.student),
            "teacher": list(term.teacher),
            "program": identity.digest(program),
        }
        if term.directions is not None:
            example = shape(dataset.input_shape, np.float32)
            directions = jax.make_jaxpr(term.directions)(given[0], example)
            found[part.name]["directions"] = identity.digest(directions)
    return found


def _derivative(
    term: Term,
    examples: int,
    key: jax.Array,
    student: Outputs,
    teacher: Outputs | None,
    inputs: jax.Array,
    labels: jax.Array,
    numbers: dict[str, jax.Array],
    *step: jax.Array,
) -> PyTree:
    """A term and its derivative by all that may be trained: the student's outputs, and its aux; and
    what it keeps. `step`: of what is another at each step, what the term reads."""
    first = lambda tree, axis: jax.tree.map(lambda x: x.take(jnp.arange(1), axis), tree)
    one = lambda: (first(student, 0), first(teacher, 1))
    aux = term.aux and term.aux(key, *one())
    memory = term.memory and term.memory(key, *one(), examples)
    read = (name for name in STEP if name in term.needs)
    given: dict[str, Any] = dict(zip(read, step, strict=True))
    # A constant, so that a term that does not read it has the program that it had without.
    mixing = None if teacher is None else np.full(len(teacher.logits), 1 / len(teacher.logits))
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    leaves, form = jax.tree.leaves((student, aux)), jax.tree.structure((student, aux))

    def value(*some: jax.Array) -> Any:
        floats = iter(some)
        all_leaves = [next(floats) if floating(x) else x for x in leaves]
        own, aux = jax.tree.unflatten(form, all_leaves)
        targets = lambda temperature: _targets(own.logits, temperature)
        mixed = lambda theirs, temperature: _targets(theirs[0], temperature)
        along = derivatives_of(next(iter(own.derivatives), ""), own, teacher, mixed)
        context = Context(own, teacher, targets, inputs, labels, numbers, aux, _gather, mixing)
        context = dataclasses.replace(context, derivatives=along, memory=memory, **given)
        return term.function(context)

    trained = list(filter(floating, leaves))
    if term.memory:
        found, pull, after = jax.vjp(value, *trained, has_aux=True)
        return found, pull(jnp.ones_like(found)), after
    found, pull = jax.vjp(value, *trained)
    return found, pull(jnp.ones_like(found))


@jax.jit
def _targets(logits: jax.Array, temperature: jax.Array | float | None) -> jax.Array:
    """Stands for the mixed teachers in a program that is only traced, with their temperature."""
    zeros = jnp.zeros_like(logits)
    return zeros if temperature is None else (zeros * temperature).astype(logits.dtype)


@jax.jit
def _gather(part: jax.Array) -> jax.Array:
    """Stands for the whole batch in a program that is only traced."""
    return part
