"""What a net needs to know of its batch while it trains, and the layers that need it."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.nets.net import Training

FEW_CHANNELS = 3


class Dropout(nn.Module):
    """Dropout (arXiv 1207.0580) with a mask for each place in the whole batch, so that it is the
    same however the batch is split over devices.

    Of x [B, ...]. 16 random bits decide on a unit, so that the rate is right to 2^-17: on a CPU
    random bits are dear.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        if training is None or self.rate == 0:
            return x
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), training.places)
        units = math.prod(x.shape[1:])
        words = jax.vmap(lambda key: jax.random.bits(key, (-(-units // 2),)))(keys)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(len(x), -1)
        dropped = min(round(self.rate * 2**16), 2**16 - 1)
        mask = halves[:, :units].reshape(x.shape) >= dropped
        return jnp.where(mask, x / (1 - dropped / 2**16), 0.0)


class BatchNorm(nn.Module):
    """Batch normalisation (arXiv 1502.03167) by the statistics of the whole batch, so that it is
    the same however the batch is split over devices; in evaluation, by their running averages.

    Statistics are float32 whatever the dtype of x [B, ..., features], which the result keeps; the
    variance, running or not, is that of the batch itself, as in flax.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, features)
        mean, variance = running_mean.value, running_variance.value
        if training is not None:
            axes, exact = tuple(range(x.ndim - 1)), x.astype(jnp.float32)
            mean, square = training.mean((exact.mean(axes), (exact**2).mean(axes)))
            variance = jnp.maximum(square - mean**2, 0.0)
            for running, now in ((running_mean, mean), (running_variance, variance)):
                running.value = self.momentum * running.value + (1 - self.momentum) * now
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        shape = (1,) * (x.ndim - 1) + features
        factor, offset = (v.reshape(shape) for v in (factor, bias - mean * factor))
        return (x * factor + offset).astype(x.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2 x 2, [B, H, W, C] -> [B, H // 2, W // 2, C]; an odd last row or column
    is left out, and equals share the gradient evenly."""
    height, width = x.shape[1:3]
    return _largest(x[:, : height // 2 * 2, : width // 2 * 2])


@jax.custom_jvp
def _largest(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


@_largest.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """By a mask, for on a CPU the gradients that XLA makes of a pooling window, or of maxima, make
    a step of a convolutional net up to twice as long."""
    (x,), (tangent,) = primals, tangents
    b, h, w, c = x.shape
    y = _largest(x)
    places = [(i, j) for i in range(2) for j in range(2)]
    equals = sum((x[:, i::2, j::2] == y).astype(x.dtype) for i, j in places)
    wide = jnp.broadcast_to(y[:, :, None, :, None], (b, h // 2, 2, w // 2, 2, c)).reshape(x.shape)
    tangent = jnp.where(x == wide, tangent, 0.0).reshape(b, h // 2, 2, w // 2, 2, c)
    return y, tangent.sum(axis=(2, 4)) / equals


def convolve_few_channels(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """For `nn.Conv` in training: the convolution of [B, H, W, C] with a 3 x 3 kernel that keeps the
    size; of few channels on a CPU as a product with the 9 C pixels around each pixel.

    XLA takes three to eight times as long there for the convolution and its kernel's gradient.
    """
    height, width, channels = x.shape[1:]
    if channels > FEW_CHANNELS or jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    once = x.reshape(-1, channels) @ jnp.eye(channels, dtype=x.dtype)  # else x is made nine times
    x = once.reshape(x.shape)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = jnp.concatenate([x[:, :, j : j + width] for j in range(3)], axis=-1)
    x = jnp.concatenate([x[:, i : i + height] for i in range(3)], axis=-1)
    y = x.reshape(-1, 9 * channels) @ kernel.reshape(9 * channels, -1)
    return y.reshape(*x.shape[:3], -1)
