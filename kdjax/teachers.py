"""Who teaches a stage, and when it is asked.

Axes: K teachers, B examples of a batch, N of a split, C classes.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import logits_file
from kdjax.data import Preprocessing
from kdjax.host import checkpoint, files
from kdjax.logits_file import Logits
from kdjax.losses import ensemble_logits
from kdjax.nets import cost
from kdjax.nets.net import Array, Net, Outputs, PyTree
from kdjax.raw import in_batches
from kdjax.rules import InputError, check, fraction, shown
from kdjax.stage import Stage, open_stage
from kdjax.views import preprocess

__all__ = ["Teacher", "as_teacher", "ema", "ensemble_logits", "logits", "peers", "stages"]

Costs = dict[str, float]


@dataclass(frozen=True, eq=False)
class Asked:
    """Examples of a split: their `positions` [n] in it, raw `inputs` [n, ...], and how those are
    preprocessed."""

    split: str
    positions: np.ndarray
    inputs: np.ndarray
    preprocessing: Preprocessing


Apply = Callable[[PyTree, Array, tuple[str, ...]], Outputs]


def _not_live(variables: PyTree, inputs: Array, taps: tuple[str, ...]) -> Outputs:
    raise TypeError("only teachers of scope 'batch' are asked for each batch")


@dataclass(frozen=True, eq=False)
class Teacher:
    """K teachers.

    Attributes:
      name: for reports and messages.
      count: K; 0 for a scope inside the stage, where it is known when the stage is.
      scope: when they are asked: "batch", once for each batch, outside the members' axis; "index",
        looked up by the number of an example, on the stored view alone; "population", the other
        members on the same batch (arXiv 1706.00384); "member", the member's own average.
      identity: plain data that tells them from others.
      variables, apply: `apply(variables, inputs [B, ...] preprocessed, paths of layers)` -> Outputs
        [K, B, ...], traceable; of scope "batch".
      predict: the `Asked` examples of a split -> logits [K, n, C] on the host; None where they are
        not known, as those of scopes inside the stage.
      decay: of the average of scope "member".
      costs: (one preprocessed example [1, ...]) -> `parameters` and `flops_per_example` of all K.
      part: (size) -> the first so many of them.
      stages: those that they come from.
      sizes: of scope "index", {split: (N, C)} of its logits.
      kind: "convolutional" or "dense", of the nets that run in the student's steps.
      class_names: [C] in the order of the logits, matched with the student's by name; () where they
        are the student's.
      masked: classes that have no mass, for the teachers do not know them.
      note: what became of classes that only the teachers or the student have, for messages.
      inputs: of scope "index", {split: digest of the inputs [N, ...] that the logits are of}; {}
        where it is not known.
      against_labels: of scope "index", whether the logits are held against the training labels.
    """

    name: str
    count: int
    scope: str
    identity: Any
    variables: PyTree = ()
    apply: Apply = _not_live
    predict: Callable[[Asked], np.ndarray | None] = lambda asked: None
    decay: float | None = None
    costs: Callable[[Array], Costs] | None = None
    part: Callable[[int], "Teacher"] = lambda size: peers()
    stages: tuple[Stage, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    kind: str = "dense"
    class_names: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    note: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    against_labels: bool = False


def of_stage(stage: Stage) -> Teacher:
    """The members of a finished stage that did not diverge."""
    healthy = stage.healthy()
    count = len(healthy.members)

    def costs(_: Array) -> Costs:
        return {k: count * healthy.costs[k] for k in ("parameters", "flops_per_example")}

    return Teacher(
        name=stage.path.name if stage.path else stage.name,
        count=count,
        scope="batch",
        identity=checkpoint.digest(stage.variables),
        variables=healthy.variables,
        apply=healthy.forward,
        predict=lambda asked: healthy.predict(asked.inputs),
        costs=costs,
        part=lambda size: of_stage(healthy.part(range(size))),
        stages=(healthy,),
        kind=healthy.kind,
        class_names=healthy.class_names,
    )


def stages(*paths: str | Path) -> Teacher:
    """The members of finished stages, in one row.

    Raises:
      InputError: a directory is not that of a finished stage, or all its members diverged.
    """
    return together([of_stage(open_stage(path)) for path in paths])


def of_net(net: Net) -> Teacher:
    """A net whose parameters are given, such as a pure function; it sees what the student sees."""
    variables = dict(net.variables or {})

    def apply(variables: PyTree, inputs: Array, taps: tuple[str, ...]) -> Outputs:
        outputs, _ = net.apply(variables, inputs, None, taps)
        return jax.tree.map(lambda x: x[None], outputs)

    @functools.partial(jax.jit, static_argnums=2)
    def program(variables: PyTree, inputs: jax.Array, prepared: Preprocessing) -> jax.Array:
        return apply(variables, preprocess(inputs, prepared), ()).logits

    def predict(asked: Asked) -> np.ndarray:
        call = lambda inputs: np.asarray(program(variables, inputs, asked.preprocessing))
        return in_batches(call, asked.inputs, axis=1)

    def costs(example: Array) -> Costs:
        serve = lambda v, x: apply(v, x, ()).logits
        flops = cost.flops(serve, variables, example)
        return {"parameters": cost.parameters(variables["params"]), "flops_per_example": flops}

    return Teacher(
        name=net.name,
        count=1,
        scope="batch",
        identity=[dict(net.spec), checkpoint.digest(variables)],
        variables=variables,
        apply=apply,
        predict=predict,
        costs=costs,
        part=lambda size: of_net(net),
    )


def logits(
    train: Any,
    validation: Any = None,
    test: Any = None,
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    against_labels: bool = True,
) -> Teacher:
    """Logits of teachers from elsewhere, for the examples as they are stored.

    Args:
      train: [N, C] or [K, N, C] of the training examples in the order of
        `kdjax.examples(config, "train")`; or the path of a file that `save_logits` wrote, or of an
        .npz file with the array `train`, and perhaps `validation` and `test`.
      validation, test: the same of those splits; without, agreement is not measured there.
      name: in messages and reports; None: that of the file, or "logits".
      class_names: [C] in the order of the logits; None where they are the student's, or stand in
        the file.
      against_labels: whether teachers whose training logits agree with the labels no better than
        by chance are refused, as those of examples in another order are.

    Raises:
      InputError: an array is not of that shape, is not finite, or a file cannot be read.
    """
    if not isinstance(train, str | os.PathLike):
        arrays = {"train": train, "validation": validation, "test": test}
        arrays = {split: z for split, z in arrays.items() if z is not None}
        checked = logits_file.checked(arrays, class_names)
        return _of_logits(checked, name or "logits", against_labels)
    found, name = logits_file.read(train), name or files.expand(os.fspath(train)).stem
    if validation is not None or test is not None:
        raise InputError(f"logits are of the file {name!r}, which must have those of all splits")
    if class_names is not None:
        found = logits_file.named(found, class_names, name)
    return _of_logits(found, name, against_labels)


def _of_logits(found: Logits, name: str, against_labels: bool) -> Teacher:
    arrays = found.arrays
    part = lambda size: {split: z[:size] for split, z in arrays.items()}
    return Teacher(
        name=name,
        count=len(arrays["train"]),
        scope="index",
        identity=found.digest,
        predict=lambda a: arrays[a.split][:, a.positions] if a.split in arrays else None,
        sizes={split: z.shape[1:] for split, z in arrays.items()},
        part=lambda size: _of_logits(replace(found, arrays=part(size)), name, against_labels),
        class_names=found.class_names,
        inputs=found.inputs,
        against_labels=against_labels,
    )


def peers() -> Teacher:
    """The other members of the population, on the same batch: mutual learning, arXiv 1706.00384.

    The stage needs order="shared", so that all members have the same batch. A term of labels must
    stand beside the soft targets, as objective=dict(kl_divergence=1.0, cross_entropy=1.0): peers
    that learn from each other alone learn nothing of the classes.
    """
    return Teacher("peers", 0, "population", "peers")


def ema(decay: float = 0.999) -> Teacher:
    """The member's own variables, averaged over its steps: `decay` old and the rest new, as in the
    mean teacher, arXiv 1703.01780. A term of labels must stand beside its soft targets: a member
    that learns from its own average alone learns nothing of the classes.

    Raises:
      InputError: the decay is not from 0 to below 1.
    """
    check(fraction(), "the decay of ema", decay)
    return Teacher("ema", 0, "member", f"ema {decay}", decay=decay)


def as_teacher(value: Any, path: str) -> Teacher:
    """A stage, a net with its parameters, or a teacher, as a teacher.

    Raises:
      InputError: it is neither.
    """
    if isinstance(value, Teacher):
        return value
    if isinstance(value, Stage):
        return of_stage(value)
    if isinstance(value, Net) and value.variables is not None:
        return of_net(value)
    raise InputError(
        f"{path} is {shown(value)}; it must be a Stage, a Teacher such as kdjax.logits(array), "
        "or kdjax.function(apply, params)"
    )


def together(teachers: Sequence[Teacher]) -> Teacher:
    """Several teachers as one, K of all. One of scope "index" makes all of that scope."""
    if len(teachers) == 1:
        return teachers[0]
    scopes = {teacher.scope for teacher in teachers}
    names = {teacher.class_names for teacher in teachers if teacher.class_names}
    if len(names) > 1:
        raise InputError(
            f"the teachers {', '.join(repr(t.name) for t in teachers)} have different classes; "
            "each must be given alone, to be matched with the student"
        )

    def apply(variables: PyTree, inputs: Array, taps: tuple[str, ...]) -> Outputs:
        pairs = zip(teachers, variables, strict=True)
        found = [teacher.apply(each, inputs, taps) for teacher, each in pairs]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *found)

    def predict(asked: Asked) -> np.ndarray | None:
        found = [teacher.predict(asked) for teacher in teachers]
        known = [z for z in found if z is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    def part(size: int) -> Teacher:
        found, left = [], size
        for teacher in teachers:
            if left > 0:
                found.append(teacher.part(min(left, teacher.count)))
            left -= teacher.count
        return together(found)

    def costs(example: Array) -> Costs:
        each = [teacher.costs(example) for teacher in teachers if teacher.costs]
        return {k: sum(c[k] for c in each) for k in ("parameters", "flops_per_example")}

    return Teacher(
        name="+".join(teacher.name for teacher in teachers),
        count=sum(teacher.count for teacher in teachers),
        scope="index" if "index" in scopes else "batch",
        identity=[teacher.identity for teacher in teachers],
        variables=tuple(teacher.variables for teacher in teachers),
        apply=apply,
        costs=costs if all(t.costs for t in teachers) else None,
        part=part,
        stages=tuple(stage for teacher in teachers for stage in teacher.stages),
        kind=min(teacher.kind for teacher in teachers),  # in the order of the alphabet
        predict=predict,
        class_names=next(iter(names), ()),
        note="; ".join(teacher.note for teacher in teachers if teacher.note),
    )
