"""Linen modules, one network each.

Every module maps inputs [B, ...] to float32 logits [B, C]; its last argument is None in
evaluation. `dtype` is that of the arithmetic; parameters, statistics and the last layer are
float32.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.nets.layers import BatchNorm, Dropout, Training, convolve_few_channels, max_pool


class MLP(nn.Module):
    """Dense ReLU layers (arXiv 1503.02531, section 3), inputs flattened."""

    classes: int
    hidden: tuple[int, ...] = (800, 800)
    dropout_input: float = 0.0
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, training: Training | None = None) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1).astype(self.dtype)
        x = Dropout(self.dropout_input)(x, training)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
            x = Dropout(self.dropout)(x, training)
        return _logits(x, self.classes)


class CNN(nn.Module):
    """3x3 convolutions with ReLU, each halving the image, then one dense layer.

    With `norm` "batch" each convolution is normalised over the batch, after its pooling, which
    leaves a quarter of the numbers to normalise.
    """

    classes: int
    channels: tuple[int, ...] = (32, 64, 128)
    dense: int = 128
    norm: str = "none"
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, training: Training | None = None) -> jax.Array:
        x = _images(inputs, len(self.channels)).astype(self.dtype)
        normalised = self.norm == "batch"
        bias, convolve = not normalised, _of_images(training)
        for width in self.channels:
            conv = partial(nn.Conv, use_bias=bias, dtype=self.dtype, conv_general_dilated=convolve)
            x = max_pool(conv(width, (3, 3))(x))
            x = nn.relu(BatchNorm()(x, training) if normalised else x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.dense, dtype=self.dtype)(x))
        x = Dropout(self.dropout)(x, training)
        return _logits(x, self.classes)


class ResNet(nn.Module):
    """The residual net for small images (arXiv 1512.03385, section 4.2): 6 `blocks` + 2 layers,
    so that 3 blocks make ResNet-20. Its blocks are the layers "block0", "block1" and so on, and
    what the last layer reads is the layer "pooled"."""

    classes: int
    blocks: int = 3  # in each group
    stem: int = 16  # channels of the first convolution
    channels: tuple[int, ...] = (16, 32, 64)  # of each group
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, training: Training | None = None) -> jax.Array:
        x = _images(inputs).astype(self.dtype)
        x = nn.relu(BatchNorm()(_stem(self.stem, self.dtype, training)(x), training))
        for number, (width, stride) in enumerate(_blocks(self.channels, self.blocks)):
            x = ResidualBlock(width, stride, self.dtype, name=f"block{number}")(x, training)
        return _logits(GlobalMean(name="pooled")(x), self.classes)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes;
    [B, H, W, C] -> [B, H / stride, W / stride, width], after the last ReLU."""

    width: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        shortcut = x
        x = nn.relu(BatchNorm()(_conv(self.width, 3, self.stride, self.dtype)(x), training))
        x = BatchNorm()(_conv(self.width, 3, 1, self.dtype)(x), training)
        if shortcut.shape != x.shape:
            shortcut = _conv(self.width, 1, self.stride, self.dtype)(shortcut)
            shortcut = BatchNorm()(shortcut, training)
        return nn.relu(x + shortcut)


class WideResNet(nn.Module):
    """The wide residual net (arXiv 1605.07146), normalised before each convolution: 6 `blocks` + 4
    layers, so that 2 blocks and `widen` 2 make WRN-16-2. Its blocks are the layers "block0",
    "block1" and so on, and what the last layer reads is the layer "pooled"."""

    classes: int
    blocks: int = 2  # in each of the three groups
    widen: int = 2
    dropout: float = 0.0  # between the convolutions of a block
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, training: Training | None = None) -> jax.Array:
        x = _stem(16, self.dtype, training)(_images(inputs).astype(self.dtype))
        channels = tuple(self.widen * width for width in (16, 32, 64))
        for number, (width, stride) in enumerate(_blocks(channels, self.blocks)):
            block = WideBlock(width, stride, self.dropout, self.dtype, name=f"block{number}")
            x = block(x, training)
        x = nn.relu(BatchNorm()(x, training))
        return _logits(GlobalMean(name="pooled")(x), self.classes)


class WideBlock(nn.Module):
    """Two convolutions, each after normalisation and ReLU, beside a shortcut, which is a 1x1
    convolution where the shape changes; [B, H, W, C] -> [B, H / stride, W / stride, width]."""

    width: int
    stride: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, training: Training | None) -> jax.Array:
        shortcut, x = x, nn.relu(BatchNorm()(x, training))
        if shortcut.shape[-1] != self.width or self.stride > 1:
            shortcut = _conv(self.width, 1, self.stride, self.dtype)(x)
        x = _conv(self.width, 3, self.stride, self.dtype)(x)
        x = nn.relu(BatchNorm()(x, training))
        x = Dropout(self.dropout)(x, training)
        return shortcut + _conv(self.width, 3, 1, self.dtype)(x)


class GlobalMean(nn.Module):
    """The mean over pixels, [B, H, W, C] -> [B, C]: the layer "pooled" of the residual nets."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x.mean(axis=(1, 2))


def _images(inputs: jax.Array, halvings: int = 0) -> jax.Array:
    """The inputs, if they are images that can be halved so often."""
    if inputs.ndim != 4:
        raise ValueError("it needs examples of 3 axes, [height, width, channels]")
    if min(inputs.shape[1:3]) < 2**halvings:
        height, width = inputs.shape[1:3]
        raise ValueError(f"{halvings} halvings leave nothing of {height} x {width} pixels")
    return inputs


def _blocks(channels: tuple[int, ...], blocks: int) -> list[tuple[int, int]]:
    """(channels, stride) of every block: each group but the first begins by halving the image."""
    return [
        (width, 2 if group and not block else 1)
        for group, width in enumerate(channels)
        for block in range(blocks)
    ]


def _conv(width: int, size: int, stride: int, dtype: str, convolve: Any = None) -> nn.Conv:
    """A convolution that is followed by a normalisation."""
    return nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),  # arXiv 1502.01852
        dtype=dtype,
        conv_general_dilated=convolve,
    )


def _stem(width: int, dtype: str, training: Training | None) -> nn.Conv:
    """The first convolution."""
    return _conv(width, 3, 1, dtype, _of_images(training))


def _of_images(training: Training | None) -> Any:
    """How a 3 x 3 kernel is applied to the images. In evaluation as everywhere, for an exported
    program is for all kinds of devices."""
    return None if training is None else convolve_few_channels


def _logits(x: jax.Array, classes: int) -> jax.Array:
    return nn.Dense(classes)(x.astype(jnp.float32))
