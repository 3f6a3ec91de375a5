"""Linen modules, one network each, and the table a stage picks its model from.

Every module maps inputs [B, ...] to logits [B, C]. `places` [B] are the examples' places in the
whole batch, while training; None means evaluation.
"""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.checks import Rule, fraction, tuple_of, whole


class Dropout(nn.Module):
    """Dropout (arXiv 1207.0580) with a mask for each place in the whole batch, so that it is the
    same however the batch is split over devices.

    16 random bits decide on a unit, to which the rate is rounded: on a CPU random bits are dear.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, places: jax.Array | None) -> jax.Array:
        if places is None or self.rate == 0:
            return x
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), places)
        units = math.prod(x.shape[1:])
        words = jax.vmap(lambda key: jax.random.bits(key, (-(-units // 2),)))(keys)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(len(x), -1)
        dropped = min(round(self.rate * 2**16), 2**16 - 1)
        kept = halves[:, :units].reshape(x.shape) >= dropped
        return jnp.where(kept, x / (1 - dropped / 2**16), 0.0)


class MLP(nn.Module):
    """Dense ReLU layers (arXiv 1503.02531, section 3), inputs flattened."""

    classes: int
    hidden: tuple[int, ...] = (800, 800)
    dropout_input: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, inputs: jax.Array, places: jax.Array | None = None) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1)
        x = Dropout(self.dropout_input)(x, places)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            x = Dropout(self.dropout)(x, places)
        return nn.Dense(self.classes)(x)


class CNN(nn.Module):
    """3x3 convolutions with ReLU, each stage halving the image, then one dense layer."""

    classes: int
    channels: tuple[int, ...] = (32, 64, 128)
    dense: int = 128
    dropout: float = 0.0

    @nn.compact
    def __call__(self, inputs: jax.Array, places: jax.Array | None = None) -> jax.Array:
        x = inputs
        for width in self.channels:
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.dense)(x))
        x = Dropout(self.dropout)(x, places)
        return nn.Dense(self.classes)(x)


@dataclass(frozen=True)
class Model:
    """An entry of `MODELS`: the module, its kind (the execution plan depends on it), the least
    rank of one example, and what each of its arguments may be."""

    module: type[nn.Module]
    kind: str
    rank: int
    arguments: dict[str, Rule]


MODELS = {
    "mlp": Model(
        MLP,
        kind="dense",
        rank=1,
        arguments={
            "hidden": tuple_of(whole(1)),
            "dropout_input": fraction(),
            "dropout": fraction(),
        },
    ),
    "cnn": Model(
        CNN,
        kind="convolutional",
        rank=3,
        arguments={
            "channels": tuple_of(whole(1)),
            "dense": whole(1),
            "dropout": fraction(),
        },
    ),
}
