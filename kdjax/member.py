"""One member: its state, its numbers, and one training or evaluation step.

Nothing here knows of other members or devices: `population.py` adds the members, `parallel.py`
the devices. Axes: B batch, K teachers, C classes.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import metrics
from kdjax.keys import stream
from kdjax.losses import Context, Term, ensemble_derivatives, ensemble_logits
from kdjax.losses.arrays import weighted
from kdjax.losses.term import END, derivatives_of
from kdjax.nets.derivatives import along
from kdjax.nets.net import Array, Net, Outputs, PyTree, Training

Hparams = dict[str, jax.Array]  # a member's own numbers, and "mixing" [K], which sums to 1
WHOLE = {"seed": np.int32, "ensemble_size": np.int32}  # the numbers that are integers


@flax.struct.dataclass
class State:
    """What training changes.

    Attributes:
      collections: the net's variables other than its parameters, such as batch statistics.
      aux: {term: its own parameters}.
      memory: {term: what it keeps from step to step, without a gradient}.
      average: the moving average of the net's variables that teaches it; None without one.
      bad: a loss or a gradient was not finite once; updates have stopped.
    """

    step: jax.Array
    params: PyTree
    collections: dict[str, PyTree]
    aux: dict[str, PyTree]
    memory: dict[str, PyTree]
    opt_state: PyTree
    average: PyTree
    bad: jax.Array

    @property
    def variables(self) -> dict[str, PyTree]:
        """What the net is evaluated with, and what a finished stage keeps."""
        return {"params": self.params, **self.collections}


@flax.struct.dataclass
class Batch:
    """`inputs` [B, ...] float32; `labels` [B], negative where there is none; in training `index`
    [B], the number of each example among the stage's, and `directions` {term: [B, R, ...]} of the
    inputs, of the terms that have some. Where each example is mixed with another: `others` [B], the
    labels of those, and `share` [B] of the first."""

    inputs: jax.Array
    labels: jax.Array
    others: jax.Array | None = None
    share: jax.Array | None = None
    index: jax.Array | None = None
    directions: dict[str, jax.Array] = flax.struct.field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What every member of a stage has in common.

    Attributes:
      objective: terms by name.
      optimizer: the numbers of a member -> its optimizer.
      mean: how a member's teachers are mixed, "arithmetic" or "geometric".
      progress: (step) -> from 0 to 1, how far the numbers that change are on their way.
      average: the decay of the member's own average, which then teaches it; None without one.
      examples: how many the stage trains on.
    """

    net: Net
    objective: dict[str, Term]
    optimizer: Callable[[Hparams], optax.GradientTransformation]
    mean: str = "arithmetic"
    progress: Callable[[jax.Array], jax.Array | float] = lambda step: 0.0
    average: float | None = None
    examples: int = 0

    @property
    def taps(self) -> tuple[str, ...]:
        """The paths of the net's layers whose outputs the terms read."""
        return tuple(dict.fromkeys(p for term in self.objective.values() for p in term.student))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The same of the teachers' layers."""
        return tuple(dict.fromkeys(p for term in self.objective.values() for p in term.teacher))

    def teacher_directions(self, batch: Batch) -> dict[str, jax.Array]:
        """The directions of the batch along which the teachers' logits are differentiated."""
        return {n: d for n, d in batch.directions.items() if self.objective[n].is_taught}


@dataclass(frozen=True)
class Shards:
    """What a step may know of other devices.

    Attributes:
      mean: averages a pytree over the parts of the batch.
      number: of this device's part of the batch.
      gather: [b, ...] of this part of the batch -> [B, ...] of the whole batch.
      share: `share(f, xs)` is f(xs), of which the leading axis, of steps, is divided.
      members: [M/Dm, ...] of the members here -> [M, ...] of all members.
    """

    mean: Callable[[PyTree], PyTree] = lambda tree: tree
    number: Callable[[], jax.Array | int] = lambda: 0
    gather: Callable[[jax.Array], jax.Array] = lambda x: x
    share: Callable[[Callable, PyTree], PyTree] = lambda function, xs: function(xs)
    members: Callable[[PyTree], PyTree] = lambda tree: tree


def init(recipe: Recipe, hparams: Hparams, inputs: Array, teacher: Outputs | None = None) -> State:
    """The state before the first step.

    Args:
      inputs: [1, ...], the shape of an example.
      teacher: outputs of the teachers [K, 1, ...], for their shapes; None without teachers.
    """
    variables = recipe.net.init(stream(hparams["seed"], "init"), inputs)
    params = variables["params"]
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    aux, memory = {}, {}
    if any(term.aux or term.memory for term in recipe.objective.values()):
        outputs, _ = recipe.net.apply(variables, inputs, None, recipe.taps)
        key = lambda use, name: stream(hparams["seed"], f"{use} {name}")
        for name, term in recipe.objective.items():
            if term.aux:
                aux[name] = term.aux(key("aux", name), outputs, teacher)
            if term.memory:
                count = recipe.examples
                memory[name] = term.memory(key("memory", name), outputs, teacher, count)
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=collections,
        aux=aux,
        memory=memory,
        opt_state=recipe.optimizer(hparams).init((params, aux)),
        average=None if recipe.average is None else variables,
        bad=jnp.zeros((), bool),
    )


def train_step(
    recipe: Recipe,
    shards: Shards,
    state: State,
    hparams: Hparams,
    batch: Batch,
    teacher: Outputs | None,
) -> tuple[State, jax.Array]:
    """One update.

    Args:
      teacher: outputs of the teachers [K, B, ...] on this very view of the batch, or None.

    Returns:
      The new state and the loss of the batch. Once a loss or a gradient is not finite, the member
      keeps the state it had and is marked bad.
    """
    if recipe.average is not None:
        teacher = jax.tree.map(lambda x: x[None], teach(recipe, state.average, batch))
    places = shards.number() * len(batch.labels) + jnp.arange(len(batch.labels))
    training = Training(places, stream(hparams["seed"], "dropout", state.step), shards.mean)

    def loss_of(trained: tuple[PyTree, dict[str, PyTree]]) -> tuple[jax.Array, Any]:
        now = dataclasses.replace(state, params=trained[0], aux=trained[1])
        apply = lambda inputs: recipe.net.apply(now.variables, inputs, training, recipe.taps)
        outputs, collections = along(apply, batch.inputs, batch.directions)
        loss, memory = _objective(recipe, shards, outputs, teacher, batch, hparams, now)
        return loss, (collections, memory)

    trained = state.params, state.aux
    (loss, after), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
    collections, memory = after
    loss, gradient = shards.mean((loss, gradient))
    collections = _floating(shards.mean, collections)
    updates, opt_state = recipe.optimizer(hparams).update(gradient, state.opt_state, trained)
    params, aux = optax.apply_updates(trained, updates)

    average, decay = state.average, recipe.average
    if decay is not None:
        now = {"params": params, **collections}
        average = _floating(lambda old, new: decay * old + (1 - decay) * new, average, now)
    bad = state.bad | ~jnp.isfinite(loss) | ~jnp.isfinite(optax.tree.norm(gradient))
    new = State(state.step, params, dict(collections), aux, memory, opt_state, average, bad)
    new = jax.tree.map(lambda before, after: jnp.where(bad, before, after), state, new)
    return new.replace(step=state.step + 1, bad=bad), loss


def teach(recipe: Recipe, variables: dict[str, PyTree], batch: Batch) -> Outputs:
    """What a member says of a batch in evaluation, [B, ...], for its own average or its peers."""
    apply = lambda inputs: recipe.net.apply(variables, inputs, None, recipe.teacher_taps)
    return along(apply, batch.inputs, recipe.teacher_directions(batch))[0]


def _floating(function: Callable[..., jax.Array], *trees: PyTree) -> PyTree:
    """`function` of the floating leaves; counts and truths, which every part of a batch has alike,
    are those of the last tree."""
    floats = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.tree.map(lambda *x: function(*x) if floats(x[-1]) else x[-1], *trees)


def _objective(
    recipe: Recipe,
    shards: Shards,
    student: Outputs,
    teacher: Outputs | None,
    batch: Batch,
    hparams: Hparams,
    state: State,
) -> tuple[jax.Array, dict[str, PyTree]]:
    """The weighted sum of the terms, a scalar: the mean over the examples of those that have a loss
    for each, and those of the whole batch, scalars or a loss for each of its gathered examples; and
    what the terms keep for the next step."""
    teacher = jax.lax.stop_gradient(teacher)

    def mixed(
        mixture: Callable[..., jax.Array],
        temperature: jax.Array | float | None,
        *derivatives: jax.Array,
    ) -> jax.Array:
        assert teacher is not None
        mean = "geometric" if temperature is None else recipe.mean  # of the logits themselves
        scale = 1.0 if temperature is None else temperature
        return mixture(teacher.logits, *derivatives, scale, mean, hparams["mixing"])

    targets = lambda temperature: mixed(ensemble_logits, temperature)
    derivatives = lambda theirs, temperature: mixed(ensemble_derivatives, temperature, theirs)
    progress = recipe.progress(state.step)
    each: list[jax.Array] = []
    whole: list[jax.Array] = []
    memory: dict[str, PyTree] = {}
    for name, term in recipe.objective.items():
        numbers = numbers_of(name, term, hparams, progress)
        trained = functools.partial(_trained, numbers["weight"])
        own = jax.tree.map(trained, student)
        context = Context(
            student=own,
            teacher=teacher,
            targets=targets,
            inputs=batch.inputs,
            labels=batch.labels,
            hparams=numbers,
            aux=jax.tree.map(trained, state.aux.get(name)),
            gather=shards.gather,
            mixing=hparams["mixing"],
            index=batch.index,
            key=stream(hparams["seed"], f"term {name}", state.step),
            memory=state.memory.get(name),
            derivatives=derivatives_of(name, own, teacher, derivatives),
        )
        value, after = _of_term(term, context)
        if term.memory:
            memory[name] = after
        if batch.share is not None and batch.others is not None and "labels" in term.needs:
            other, _ = _of_term(term, dataclasses.replace(context, labels=batch.others))
            mine = value.shape == batch.share.shape
            share = batch.share if mine else shards.gather(batch.share)
            value = share * value + (1 - share) * other
        value = weighted(numbers["weight"], value)
        if value.shape == batch.labels.shape:
            each.append(value)
        else:
            whole.append(value.mean())
    sums = [functools.reduce(operator.add, each).mean()] if each else []
    return functools.reduce(operator.add, sums + whole), jax.lax.stop_gradient(memory)


def _of_term(term: Term, context: Context) -> tuple[jax.Array, PyTree]:
    """The losses of a term, and its memory after the step, None without one."""
    found = term.function(term.needed(context))
    losses, memory = found if term.memory else (found, None)
    return jnp.asarray(losses), memory


def _trained(weight: jax.Array, x: jax.Array) -> jax.Array:
    """`x`, without a gradient where the weight is 0: that of an infinite term is no number."""
    return jnp.where(weight == 0, jax.lax.stop_gradient(x), x)


def numbers_of(name: str, term: Term, hparams: Hparams, progress: jax.Array | float) -> Hparams:
    """The numbers that a term reads: its own, or the stage's temperature, each as far on its way to
    its end, where it has one, as `progress` from 0 to 1 says."""
    found = {}
    for number in ("weight", *term.hparams):
        value = hparams.get(f"{name}.{number}", hparams.get(number))
        end = hparams.get(f"{name}.{number}{END}")
        if value is not None:
            found[number] = value if end is None else value + progress * (end - value)
    return found


def predict(net: Net, variables: dict[str, PyTree], inputs: jax.Array) -> jax.Array:
    """Logits [B, C] of one net, in evaluation."""
    return net.apply(variables, inputs, None, ())[0].logits


def eval_step(
    recipe: Recipe, state: State, hparams: Hparams, batch: Batch, teacher_logits: jax.Array | None
) -> dict[str, jax.Array]:
    """The metric sums of one batch; `teacher_logits` [K, B, C] raw, or None. The teachers are
    mixed as they are where they teach, at a temperature of 1."""
    logits = predict(recipe.net, state.variables, batch.inputs)
    if teacher_logits is not None:
        teacher_logits = ensemble_logits(teacher_logits, 1.0, recipe.mean, hparams["mixing"])
    return metrics.sums(logits, batch.labels, teacher_logits)
