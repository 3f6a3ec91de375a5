"""What tells a net whether it trains, under a name that kdjax does not know, is refused."""

import functools
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import pytest
from flax import nnx as flax_nnx
from net_values import X, apply, init
from own_nets import CLASSES, FEATURES, LinenNoisy

from kdjax.nets import equinox, function, linen, nnx
from kdjax.nets.calls import MODES
from kdjax.rules import InputError

CALLS = {
    "learning": lambda self, x, learning=False: x[..., :CLASSES],
    "frozen": lambda self, x, *, frozen=True: x[..., :CLASSES],
    "**kw": lambda self, x, **kw: x[..., :CLASSES],
}


def noted(self, x, learning: "bool | None" = None):
    return x[..., :CLASSES]


def known(self, x, train=False, return_features=False, **more):
    return x[..., :CLASSES]


def made(kind, call):
    """A net with this call."""
    base = {"linen": nn.Module, "nnx": flax_nnx.Module, "equinox": eqx.Module}[kind]
    own = type("Own", (base,), {"__call__": call, "__module__": __name__})
    if kind == "linen":
        return linen(own())
    return nnx(lambda rngs: own()) if kind == "nnx" else equinox(lambda key: own())


@pytest.mark.parametrize("kind", ["linen", "nnx", "equinox"])
@pytest.mark.parametrize(
    ("name", "call"), [*CALLS.items(), ("learning", noted)], ids=[*CALLS, "noted"]
)
def test_an_option_that_is_never_given_is_refused(kind, name, call):
    with pytest.raises(InputError) as refused:
        made(kind, call)
    assert f"the call of Own has the option {name}, which is never" in str(refused.value)
    assert all(mode in str(refused.value) for mode in MODES)


@pytest.mark.parametrize("kind", ["linen", "nnx", "equinox"])
def test_other_options_may_stand_beside_a_known_one(kind):
    made(kind, known)


def test_an_option_of_a_function_may_be_fixed():
    call = lambda w, x, learning=False: x @ w
    with pytest.raises(InputError, match="the option learning"):
        function(call, X[0, :FEATURES].T[:, :CLASSES])
    function(functools.partial(call, learning=False), X[0].T[:, :CLASSES])


def test_what_a_library_has_is_taken_as_it_is():
    net = linen(nn.Sequential([nn.Dense(CLASSES), nn.relu]))
    assert apply(net, init(net))[0].logits.shape == (len(X[0]), CLASSES)
    module = LinenNoisy()
    function(nn.Dense(3).apply, {"params": {"kernel": X[0]}})
    function(functools.partial(module.apply, train=False), {"params": {"kernel": X[0]}})


def test_the_documentation_lists_the_names():
    page = (Path(__file__).parents[1] / "docs" / "start.md").read_text()
    assert f"names `{'`, `'.join(MODES)}`." in " ".join(page.split())
