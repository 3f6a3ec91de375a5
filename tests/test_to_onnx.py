"""ONNX files of nets of many layers give the logits of the StableHLO they are made of."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from kdjax.nets import export, linen, to_onnx
from kdjax.nets.modules import CNN, MLP, ResNet, WideResNet

CLASSES, SHAPE = 10, (8, 8, 1)


class Pooled(nn.Module):
    """Strides, pooling of both kinds, with and without padding, two normalisations."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=2)(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.avg_pool(nn.gelu(x), (2, 2), (1, 1))
        x = nn.max_pool(nn.LayerNorm()(x), (2, 2), (1, 1), padding="SAME")
        x = nn.avg_pool(x, (3, 3), (2, 2), padding="SAME", count_include_pad=False)
        return nn.Dense(CLASSES)(nn.silu(x.reshape((x.shape[0], -1))))


class Attending(nn.Module):
    """A small vision transformer: patches, a class token, attention, GELU by erf."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (4, 4), strides=(4, 4), padding="VALID")(x)
        x = x.reshape((x.shape[0], -1, 16))
        token = self.param("token", nn.initializers.normal(), (1, 1, 16))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], 1)
        x = x + self.param("places", nn.initializers.normal(), (1, x.shape[1], 16))
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = x + nn.Dense(16)(nn.gelu(nn.Dense(32)(x), approximate=False))
        return nn.Dense(CLASSES)(x[:, 0])


class Odd(nn.Module):
    """Grouped and dilated convolutions, slices, norms and activations."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), kernel_dilation=2, padding="CIRCULAR")(x)
        x = nn.GroupNorm(2)(nn.Conv(8, (3, 3), feature_group_count=4)(x))
        x = jnp.clip(nn.leaky_relu(x), -1, 1) + nn.softplus(x) + nn.hard_swish(x) + nn.elu(x)
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)))
        parts = x.max((1, 2)), x.min((1, 2)), x.std((1, 2)), x[:, 1].mean(1), x[:, -1][:, -1]
        x = jnp.concatenate(parts, 1)
        x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        bias = jnp.where(jnp.arange(CLASSES)[None] > 3, 0.0, 1.0)
        return nn.log_softmax(nn.Dense(CLASSES)(x)) + bias


NETS = {
    "mlp": MLP(CLASSES, (16,)),
    "cnn": CNN(CLASSES, (4, 8), 8),
    "resnet": ResNet(CLASSES, blocks=1, channels=(4, 8), stem=4),
    "wide_resnet": WideResNet(CLASSES, blocks=1, widen=1),
    "pooled": Pooled(),
    "attending": Attending(),
    "odd": Odd(),
}


def program(net, shape=SHAPE, dtype="float32"):
    """The exported evaluation of a net whose parameters differ from zero."""
    variables = net.init(jax.random.key(0), np.zeros((1, *shape), np.float32))
    random = np.random.default_rng(0)
    moved = lambda x: np.asarray(x + random.uniform(0, 0.1, x.shape), np.float32)
    variables = jax.tree.map(moved, variables)
    forward = export.load(export.export(net, variables, shape), variables, shape, CLASSES)
    call = lambda x: forward.call(variables, x.astype(np.float32))
    return jax.export.deserialize(bytearray(export.whole(call, shape, dtype)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_the_logits_of_stablehlo(name):
    exported = program(linen(NETS[name]))
    session = onnxruntime.InferenceSession(to_onnx.to_onnx(exported, name, list("abcdefghij")))
    for count in (1, 5, 33):
        x = np.random.default_rng(count).uniform(size=(count, *SHAPE)).astype(np.float32)
        ours, (theirs,) = np.asarray(exported.call(x)), session.run(["logits"], {"inputs": x})
        close = 1e-5 * max(1, np.abs(ours).max())
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=close)


def test_a_file_says_its_inputs_and_classes():
    data = to_onnx.to_onnx(program(linen(MLP(CLASSES, (4,))), dtype="uint8"), "net", ["0", "ä"])
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert {p.key: p.value for p in model.metadata_props} == {"class_names": '["0", "\\u00e4"]'}
    (given,), (found,) = onnxruntime.InferenceSession(data).get_inputs(), model.graph.output
    assert given.name == "inputs" and given.shape == ["batch", 8, 8, 1]
    assert given.type == "tensor(uint8)" and found.name == "logits"


def whole(call, shape=(12,)):
    return jax.export.deserialize(bytearray(export.whole(call, shape, "float32")))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: jnp.sort(x, axis=1), "stablehlo.sort"),
        (lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * 2, x), "stablehlo.while"),
        (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), "arithmetic in bf16"),
        (lambda x: x[:, ::-1], "stablehlo.reverse"),
        (
            lambda x: jax.lax.cond(x.sum() > 0, lambda y: y, lambda y: -y, x),
            "stablehlo.case of a number that depends on the inputs",
        ),
    ],
)
def test_an_operation_that_is_not_known_is_refused_by_name(call, says):
    with pytest.raises(to_onnx.Unknown, match=says):
        to_onnx.to_onnx(whole(call), "net", [])
