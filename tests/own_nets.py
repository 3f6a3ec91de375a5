"""Nets as users write them: the same net in Linen, NNX, Equinox and as a pure function, and nets
with dropout and batch normalisation that keep the habits of each library."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

FEATURES, HIDDEN, CLASSES = 12, 16, 5


def start(key, shape, dtype=jnp.float32):
    """Parameters that differ from each other, whatever the key."""
    numbers = jnp.arange(1, 1 + shape[0] * shape[1], dtype=dtype).reshape(shape)
    return jnp.sin(numbers) / shape[0] ** 0.5


class LinenTiny(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, kernel_init=start, name="first")(x))
        return nn.Dense(CLASSES, kernel_init=start, name="second")(x)


class NNXTiny(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(FEATURES, HIDDEN, kernel_init=start, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, CLASSES, kernel_init=start, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


class Affine(eqx.Module):
    """As eqx.nn.Linear, but with the kernel's axes as Flax has them."""

    kernel: jax.Array
    bias: jax.Array

    def __init__(self, inputs, outputs, key):
        self.kernel, self.bias = start(key, (inputs, outputs)), jnp.zeros(outputs)

    def __call__(self, x):
        return x @ self.kernel + self.bias


class EquinoxTiny(eqx.Module):
    first: Affine
    second: Affine

    def __init__(self, key):
        self.first, self.second = Affine(FEATURES, HIDDEN, key), Affine(HIDDEN, CLASSES, key)

    def __call__(self, x):
        return self.second(jax.nn.relu(self.first(x)))


def tiny_params():
    affine = lambda *shape: {"kernel": start(None, shape), "bias": jnp.zeros(shape[1])}
    return {"first": affine(FEATURES, HIDDEN), "second": affine(HIDDEN, CLASSES)}


def tiny(params, x):
    first = x @ params["first"]["kernel"] + params["first"]["bias"].reshape(1, -1)
    x = jax.nn.relu(first)
    second = x @ params["second"]["kernel"] + params["second"]["bias"].reshape(1, -1)
    return second, {"first": first, "second": second}


class LinenNoisy(nn.Module):
    """With dropout and batch normalisation, told by `train`."""

    classes: int = CLASSES
    width: int = HIDDEN

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.width)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.classes)(x)


class NNXNoisy(nnx.Module):
    def __init__(self, features=FEATURES, classes=CLASSES, *, rngs):
        self.blocks = nnx.List([nnx.Linear(features, HIDDEN, rngs=rngs)])
        self.norm = nnx.BatchNorm(HIDDEN, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(HIDDEN, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.blocks[0](x)))))


class EquinoxNoisy(eqx.Module):
    layers: list
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout

    def __init__(self, features=FEATURES, classes=CLASSES, *, key):
        first, second = jax.random.split(key)
        self.layers = [
            eqx.nn.Linear(features, HIDDEN, key=first),
            eqx.nn.Linear(HIDDEN, classes, key=second),
        ]
        self.norm = eqx.nn.BatchNorm(HIDDEN, "batch", mode="batch", momentum=0.9)
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.layers[0](x), state)
        x = self.dropout(jax.nn.relu(x), key=key)
        return self.layers[1](x), state
