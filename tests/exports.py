"""Small stages that are exported, on scikit-learn's digits."""

import flax.linen as nn
import numpy as np
from digits import arrays as digit_arrays

import kdjax

FEW = dict(steps=3, batch=40, chunk=3, quiet=True)


class Normed(nn.Module):
    """A user's own net, with batch normalisation, pooling and another activation."""

    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(6, (3, 3), strides=2)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.avg_pool(nn.gelu(x), (2, 2), (2, 2))
        return nn.Dense(self.classes)(x.reshape((x.shape[0], -1)))


def data(dtype="uint8"):
    images, labels = digit_arrays()
    images = images if dtype == "uint8" else images.astype(np.float32) / 16
    return kdjax.arrays(train=(images[:160], labels[:160]), test=(images[160:], labels[160:]))


def trained(net, dtype="uint8", **fields):
    return kdjax.train(net, data(dtype), seeds=2, **FEW | fields)
