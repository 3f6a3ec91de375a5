"""What tells the values of a user from others: a stage is not taken for another one's."""

import functools
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from flax import nnx
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import losses, nets
from kdjax.config import parse
from kdjax.experiment import load
from kdjax.losses import Term
from kdjax.nets import identity
from kdjax.prepare import prepare

FEW = dict(steps=2, batch=20, chunk=1, quiet=True)
MLP = dict(name="mlp", hidden=(8,))
RANDOM = np.random.default_rng(0).normal(size=(2, 64, 10)).astype(np.float32)


class Wide(nnx.Module):
    def __init__(self, width, rngs):
        self.first = nnx.Linear(64, width, rngs=rngs)
        self.second = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x.reshape(len(x), -1))))


class Active(nn.Module):
    active: object = nn.relu
    start: object = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16, kernel_init=self.start)(x.reshape(len(x), -1))
        return nn.Dense(10)(self.active(x))


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def scaled(by):
    return lambda params, x: linear(params, x) * by


def steep(by):
    """The identity, with a derivative of one's own."""

    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, gradient: (by * gradient,))
    return same


NETS = {
    "width": lambda n: kdjax.nnx(lambda rngs: Wide(8 * (n + 1), rngs)),
    "partial": lambda n: kdjax.linen(
        Active(functools.partial(nn.leaky_relu, negative_slope=(0.01, -3.0)[n]))
    ),
    "start": lambda n: kdjax.linen(Active(start=nn.initializers.constant((0.0, 0.1)[n]))),
    "params": lambda n: kdjax.function(linear, RANDOM[n]),
    "constant": lambda n: kdjax.function(scaled(RANDOM[n, :1]), RANDOM[0]),
    "code": lambda n: kdjax.function(scaled((1.0, 2.0)[n]), RANDOM[0]),
    "derivative": lambda n: kdjax.linen(Active(steep((1.0, 2.0)[n]))),
}
MINE = functools.partial(Term, needs={"labels"}, name="mine")
ENTROPY = lambda c: losses.cross_entropy(c.student.logits, c.labels)
SQUARE = lambda c: jnp.square(c.student.logits).sum(-1)
GATHERED = lambda c: jnp.square(c.gather(c.student.logits)).sum(-1)
TERMS = {
    "code": lambda n: MINE((ENTROPY, SQUARE)[n]),
    "constant": lambda n: MINE(lambda c: ENTROPY(c) * RANDOM[n, 0, 0]),
    "array": lambda n: MINE(lambda c: (c.student.logits * RANDOM[n, :1]).sum(-1)),
    "needs": lambda n: Term(SQUARE, needs=({"labels"}, ())[n], name="mine"),
    "tap": lambda n: MINE(
        lambda c: jnp.square(next(iter(c.student.features.values()))).sum(-1),
        student=(f"Dense_{n}",),
    ),
    "number": lambda n: MINE(lambda c: c.hparams["ab"[n]] * ENTROPY(c), hparams=dict(a=1.0, b=1.0)),
    "aux": lambda n: MINE(
        lambda c: SQUARE(c) * c.aux["scale"], aux=lambda *_: {"scale": jnp.float32((1.0, 2.0)[n])}
    ),
    "derivative": lambda n: MINE(lambda c: steep((1.0, 2.0)[n])(ENTROPY(c))),
    "gather": lambda n: MINE((SQUARE, GATHERED)[n]),
    "temperature": lambda n: Term(
        lambda c: losses.kl_divergence(c.student.logits, c.targets((1.0, 2.0)[n]), 1.0),
        needs={"targets"},
        name="mine",
    ),
}


def identity_of(**fields):
    """Of a stage; nothing is trained."""
    fields = dict(model=MLP, steps=2, batch=20) | fields
    spec = parse(dict(dataset=mine.digits, stages=dict(net=fields)))
    (job,) = prepare(spec, load(spec), Path("/there is no such place"))
    return job.identity


@pytest.mark.parametrize("name", NETS)
def test_another_net_has_another_identity(name):
    one = identity_of(model=NETS[name](0))
    assert one == identity_of(model=NETS[name](0)) != identity_of(model=NETS[name](1))


@pytest.mark.parametrize("name", TERMS)
def test_another_term_has_another_identity(name):
    of = lambda n: identity_of(
        model=dict(name="mlp", hidden=(8, 8)),
        objective=TERMS[name](n),
        teacher=mine.machine if name == "temperature" else (),
    )
    assert of(0) == of(0) != of(1)


def test_a_rerun_with_another_net_is_refused(tmp_path):
    train = lambda n: kdjax.train(NETS["width"](n), mine.digits, workdir=tmp_path, **FEW)
    kept = train(0).variables
    jax.tree.map(np.testing.assert_array_equal, train(0).variables, kept)
    with refuses(
        "has other settings (stage.model.programs",
        "stage.model.variables.params/first/kernel: float32[64, 8] -> float32[64, 16]",
    ):
        train(1)


def test_a_stage_starts_from_variables_of_its_own_form(tmp_path):
    wide = lambda n: dict(model=NETS["width"](n), steps=2, batch=20)
    stages = dict(first=wide(0), second=wide(1) | dict(init_from="first"))
    with refuses("config.stages.second.init_from is 'first', whose net Wide has other variables"):
        kdjax.run(dict(dataset=mine.digits, stages=stages), tmp_path, quiet=True)
    assert not any(tmp_path.iterdir())


def _identities():
    shapes = {12: own_nets.CLASSES}
    values = [
        (kdjax.linen(own_nets.LinenNoisy()), (12,)),
        (kdjax.nnx(own_nets.NNXNoisy), (12,)),
        (kdjax.equinox(own_nets.EquinoxNoisy), (12,)),
        *((net(0), (8, 8, 1)) for net in NETS.values()),
        (kdjax.function(_called, RANDOM[0]), (8, 8, 1)),
    ]
    for net, shape in values:
        facts = nets.checked(net, shape, shapes.get(shape[0], 10), "a net")
        print(net.name, nets.identified(net, facts, "a net"))
    key = jax.random.key(3)
    print(identity.digest(jax.make_jaxpr(lambda: jax.random.split(key))()))
    print(identity.digest(jax.make_jaxpr(lambda x: functools.reduce(jnp.add, [x] * 3))(1.0)))


def _called(params, x):
    """With a function of the host's in it, which has an address."""
    shape = jax.ShapeDtypeStruct((), np.float32)
    one = jax.pure_callback(lambda: np.float32(1), shape)
    return linear(params, x) * jax.lax.stop_gradient(one)


@pytest.mark.slow
def test_identities_are_the_same_in_every_process():
    root = Path(__file__).parents[1]
    lines = "import test_identity; test_identity._identities()"
    found = [
        subprocess.run(
            [sys.executable, "-c", lines],
            env={"PYTHONPATH": f"{root}:{root}/tests", "JAX_PLATFORMS": "cpu"}
            | {"PYTHONHASHSEED": seed, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, flags in (("1", ""), ("2", "--xla_force_host_platform_device_count=2"))
    ]
    assert found[0] == found[1] and len(set(found[0].splitlines())) == 4 + len(NETS) + 2


def test_the_identity_of_a_stage_of_kdjax_alone_has_no_program():
    found = identity_of(objective=dict(cross_entropy=1.0), model=dict(name="cnn"))
    assert found["stage"]["model"].keys() == {"name", "arguments"}
    assert found["stage"]["objective"][0].keys() == {"name", "source", "options", "numbers"}
