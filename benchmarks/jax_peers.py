"""JAX as it is written without kdjax: a call for each step, on JAX's one default device.

The nets, the jitter and the data are kdjax's, the loops, the loss and the update are not.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.data_sets import dataset
from benchmarks.timing import Case
from benchmarks.work import CLASSES, OPTIMIZERS, SHIFT, Work
from kdjax.data import fetch
from kdjax.nets.modules import MLP
from kdjax.views import AugmentSpec, view

STEPS = 10  # of a turn, which is spared validation


def cases(work: Work, members: int) -> list[Case]:
    """All members in a vmapped step, and one member after another; the unit is a member's step."""
    steps = min(STEPS, work.steps)
    turns = {"JAX without scan": _vmapped, "JAX loop over members": _one_by_one}
    return [
        Case(f"{name} M={members}", make(work, members, steps), members * steps)
        for name, make in turns.items()
    ]


def _vmapped(work: Work, members: int, steps: int) -> Callable[[], None]:
    init, step, inputs, labels = _single(work)
    keys = jax.random.split(jax.random.key(0), members)
    states = jax.vmap(init)(keys)
    step = jax.jit(jax.vmap(step, (0, None, None, 0, 0)), donate_argnums=0)
    orders = [_order(work, len(labels), seed) for seed in range(members)]

    def turn() -> None:
        nonlocal states
        for _ in range(steps):
            index = np.stack([next(order) for order in orders])
            states, _ = step(states, inputs, labels, index, keys)
        jax.block_until_ready(states)

    return turn


def _one_by_one(work: Work, members: int, steps: int) -> Callable[[], None]:
    init, step, inputs, labels = _single(work)
    keys = list(jax.random.split(jax.random.key(0), members))
    states = [init(key) for key in keys]
    step = jax.jit(step, donate_argnums=0)
    orders = [_order(work, len(labels), seed) for seed in range(members)]

    def turn() -> None:
        for m in range(members):
            for index in itertools.islice(orders[m], steps):
                states[m], _ = step(states[m], inputs, labels, index, keys[m])
        jax.block_until_ready(states)

    return turn


def _single(work: Work) -> tuple[Callable, Callable, jax.Array, jax.Array]:
    """One net's init and step, and the data on the device."""
    read = dataset(work.data)
    train, rows = read.splits["train"], np.arange(work.examples)
    inputs, labels = jax.device_put((fetch(train, rows), train.labels[rows]))
    model, optimizer = MLP(CLASSES, work.hidden), _optimizer(work)
    jitter = AugmentSpec(shift=SHIFT[work.data])

    @jax.jit
    def init(key: jax.Array) -> tuple:
        params = model.init(key, np.zeros((1, *read.input_shape), np.float32))
        return params, optimizer.init(params), jnp.zeros((), jnp.int32)

    def step(
        state: tuple, inputs: jax.Array, labels: jax.Array, index: jax.Array, key: jax.Array
    ) -> tuple[tuple, jax.Array]:
        params, moments, count = state
        key = jax.random.fold_in(key, count)
        batch = view(inputs[index], index, key, jitter, read.preprocessing)

        def objective(params: Any) -> jax.Array:
            logits = model.apply(params, batch)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[index]).mean()

        loss, gradient = jax.value_and_grad(objective)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments, count + 1), loss

    return init, step, inputs, labels


def _optimizer(work: Work) -> optax.GradientTransformation:
    numbers = OPTIMIZERS[work.optimizer]
    make = {
        "sgd": lambda: optax.sgd(numbers["learning_rate"], numbers["momentum"]),
        "adamw": lambda: optax.adamw(
            numbers["learning_rate"], weight_decay=numbers["weight_decay"]
        ),
    }
    return make[work.optimizer]()


def _order(work: Work, examples: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    while True:
        shuffled = random.permutation(examples)
        yield from shuffled[: examples // work.batch * work.batch].reshape(-1, work.batch)
