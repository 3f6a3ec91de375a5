"""What a net needs to know of its batch while it trains, and the layers that need it."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.nets.net import Training


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
    is left out, and equals share the gradient, if not evenly.

    Two maxima, for on a CPU the gradients that XLA makes of a pooling window and of a maximum over
    axes take several times as long.
    """
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])
