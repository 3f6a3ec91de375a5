"""The default job, `configs/ensemble_to_one.py`, as a script in plain JAX, Flax and optax.

    python benchmarks/plain_jax.py DIGITS.npz

The file has `train_inputs` [N, 8, 8, 1], `train_labels` [N], `test_inputs` and `test_labels`, with
inputs from 0 to 16. Members are vmapped, steps are scanned, and each population is one compiled
program. There are no checkpoints, no validation and no report.
"""

import functools
import sys
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

SEEDS, BATCH, CLASSES, BRIGHTEST = 10, 100, 10, 16
TEACHER_STEPS, STUDENT_STEPS = 2500, 3000


class MLP(nn.Module):
    """Dense ReLU layers with dropout, [B, ...] -> [B, CLASSES]."""

    hidden: tuple[int, ...]
    dropout_input: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        x = nn.Dropout(self.dropout_input, deterministic=not train)(x)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(CLASSES)(x)


@functools.partial(jax.jit, static_argnums=0)
def forward(net: MLP, params: dict, x: jax.Array) -> jax.Array:
    """Logits [SEEDS, N, C] of inputs [N, ...]."""
    return jax.vmap(net.apply, (0, None))(params, x)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[B, C] and [B] -> [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def soft_loss(logits: jax.Array, log_targets: jax.Array, temperature: float) -> jax.Array:
    """T^2 KL(targets || student) of [B, C] logits and log-probabilities (arXiv 1503.02531)."""
    log_q = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_q, log_targets)


def logit_matching(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Half the squared difference of centred logits, [B, C] each -> [B]."""
    difference = logits - teacher_logits
    return 0.5 * jnp.sum((difference - difference.mean(1, keepdims=True)) ** 2, 1)


def train(
    net: MLP,
    loss: Callable,
    x: jax.Array,
    targets: jax.Array | tuple,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> dict:
    """Parameters [SEEDS, ...], each member with its own initial values, order and dropout.

    Args:
      loss: (logits [B, C], targets of the batch) -> [B].
      targets: of all examples, each leaf [N, ...].
    """
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(learning_rate, steps),
        weight_decay=weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )

    def member(key: jax.Array, x: jax.Array, targets: jax.Array | tuple) -> dict:
        key, init_key, order_key = jax.random.split(key, 3)
        epochs = -(-steps // (len(x) // BATCH))
        shuffle = lambda key: jax.random.permutation(key, len(x) // BATCH * BATCH)
        order = jax.vmap(shuffle)(jax.random.split(order_key, epochs)).reshape(-1, BATCH)[:steps]

        def step(state: tuple, index: jax.Array) -> tuple[tuple, jax.Array]:
            params, moments, i = state

            def objective(params: dict) -> jax.Array:
                rngs = {"dropout": jax.random.fold_in(key, i)}
                logits = net.apply(params, x[index], train=True, rngs=rngs)
                return loss(logits, jax.tree.map(lambda t: t[index], targets)).mean()

            value, gradient = jax.value_and_grad(objective)(params)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments, i + 1), value

        params = net.init(init_key, x[:1])
        (params, _, _), _ = jax.lax.scan(step, (params, optimizer.init(params), 0), order)
        return params

    keys = jax.random.split(jax.random.key(0), SEEDS)
    return jax.jit(jax.vmap(member, (0, None, None)))(keys, x, targets)


def main(path: str) -> None:
    data = np.load(path)
    x, x_test = (
        data[f"{split}_inputs"].astype(np.float32) / BRIGHTEST for split in ("train", "test")
    )
    y, y_test = (data[f"{split}_labels"] for split in ("train", "test"))
    large, small = MLP((256, 256), dropout_input=0.1, dropout=0.5), MLP((32,))

    def report(name: str, logits: jax.Array) -> None:
        errors = np.asarray((logits.argmax(-1) != y_test).sum(-1))
        print(f"{name}: {errors.mean():.1f} ± {errors.std(ddof=1):.1f}", flush=True)

    teachers = train(large, cross_entropy, x, y, TEACHER_STEPS, 1e-3)
    report("teachers", forward(large, teachers, x_test))
    logits, temperature = forward(large, teachers, x), 2.0  # [SEEDS, N, C]
    log_p = jax.nn.log_softmax(logits / temperature)
    log_targets = jax.nn.logsumexp(log_p, 0) - jnp.log(SEEDS)
    soft = lambda logits, log_targets: soft_loss(logits, log_targets, temperature)
    both = lambda logits, targets: (
        soft(logits, targets[0]) + 0.5 * cross_entropy(logits, targets[1])
    )
    students = {
        "baseline": (cross_entropy, y, 0.02, 0.3),
        "distilled": (both, (log_targets, y), 0.04, 0.1),
        "soft_only": (soft, log_targets, 0.04, 0.1),
        "logit_matching": (logit_matching, logits.mean(0), 0.04, 0.0),
    }
    for name, (loss, targets, learning_rate, weight_decay) in students.items():
        params = train(small, loss, x, targets, STUDENT_STEPS, learning_rate, weight_decay)
        report(name, forward(small, params, x_test))


if __name__ == "__main__":
    main(sys.argv[1])
