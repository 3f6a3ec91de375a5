"""Nets that a config names: rows of the table, and the user's own."""

import sys

import jax
import pytest

from kdjax.nets.check import checked
from kdjax.nets.table import NETS, build, defaults
from kdjax.rules import InputError, resolve

CLASSES, IMAGE = 5, (8, 8, 1)


@pytest.mark.parametrize("name", NETS)
def test_every_row_makes_a_net_that_can_be_split(name):
    net = build({"name": name, **NETS[name].defaults}, CLASSES)
    facts = checked(net, IMAGE, CLASSES, "net")
    assert net.name == name and facts.splits
    assert facts.kind == ("dense" if name == "mlp" else "convolutional")
    assert set(net.spec["arguments"]) == set(defaults(name)) == set(NETS[name].arguments)
    assert build({"name": name}, CLASSES).spec == net.spec


OWN = [
    ("own_nets:LinenNoisy", {"width": 8}, {"width": 8}, 8),
    ("own_nets:NNXNoisy", {"features": 64}, {"features": 64}, 16),
    ("own_nets:EquinoxNoisy", {"features": 64}, {"features": 64}, 16),
    ("tables_of_mine:of_function", {"width": 4}, {"width": 4, "depth": 1}, 4),
    ("tables_of_mine:of_any", {"width": 6}, {"width": 6}, 6),
    ("tables_of_mine:net", {}, {}, 3),
    ("tables_of_mine:Zoo.module", {}, {}, 2),
]

MINE = """
import flax.linen as nn
from kdjax import nets

class Tiny(nn.Module):
    n_classes: int
    width: int = 2
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.n_classes)(nn.Dense(self.width)(x))

def of_function(classes, width=3, depth=1): return nets.linen(Tiny(classes, width))
def of_any(num_classes, **arguments): return Tiny(num_classes, **arguments)
def wrong(classes): return classes
def raises(classes): raise RuntimeError("it went\\nwrong")
def refuses(classes): nets.linen(3)
net = nets.linen(Tiny(5, 3))
class Zoo: module = Tiny(5)
number = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """Modules of the user's in the current folder, of which three cannot be imported."""
    (tmp_path / "tables_of_mine.py").write_text(MINE)
    (tmp_path / "broken_of_mine.py").write_text("1 / 0\n")
    (tmp_path / "needing_of_mine.py").write_text("import not_there_at_all\n")
    (tmp_path / "leaving_of_mine.py").write_text("raise SystemExit('bye')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("tables_of_mine", "broken_of_mine", "needing_of_mine", "leaving_of_mine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "given", "arguments", "width"), OWN)
def test_a_net_of_the_user_s_own_is_named_by_module_and_attribute(name, given, arguments, width):
    net = build({"name": name, **given}, CLASSES, "config.stages.a.model")
    known = {k: v for k, v in net.spec["arguments"].items() if k in arguments}
    assert net.spec["name"] == name and known == arguments
    facts = checked(net, (64,), CLASSES, "net")
    shapes = [leaf.shape for leaf in jax.tree.leaves(facts.variables["params"])]
    assert any(64 in shape and width in shape for shape in shapes)


def test_defaults_of_the_user_s_own_nets_are_those_of_their_signature():
    assert defaults("tables_of_mine:of_function") == {"width": 3, "depth": 1}
    assert defaults("own_nets:LinenNoisy") == {"width": 16}
    assert defaults("tables_of_mine:net") == {}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "mpl"}, "name is 'mpl'; it must be one of: mlp, cnn, .*or the module:attribute"),
        ({"name": ("mlp",)}, r"name is \('mlp',\); it must be one of: mlp"),
        ({"name": "mlp", "hiden": 3}, "has no field 'hiden'; it must be one of: name, hidden, "),
        ({"name": "mlp", "hidden": 3}, "hidden is 3; it must be a tuple, each element a whole"),
        ({"name": "own_nets:LinenNoisy", "widht": 3}, "no field 'widht'; .* one of: name, width$"),
        ({"name": "own_nets:LinenNoisy", "classes": 3}, "has no field 'classes'"),
        ({"name": "tables_of_mine:Tiny"}, "has no field 'n_classes', which tables_of_mine:Tiny n"),
        ({"name": "tables_of_mine:net", "width": 3}, "has no field 'width'; .* one of: name$"),
        ({"name": "tables_of_mine:wrong"}, "'tables_of_mine:wrong': it is or makes 5; it must be"),
        ({"name": "tables_of_mine:number"}, "it is or makes 3; it must be a Linen, NNX or Equinox"),
        ({"name": "tables_of_mine:raises"}, "cannot be made of {}: RuntimeError: it went$"),
        ({"name": "tables_of_mine:refuses"}, "'tables_of_mine:refuses': linen takes a Linen mod"),
        ({"name": "tables_of_mine:of_any", "depth": 3}, "cannot be made of {'depth': 3}: .*depth"),
        ({"name": "tables_of_mine:ney"}, "has no 'ney'; did you mean tables_of_mine:net?"),
        ({"name": "tables_of_mine:x.y"}, "'tables_of_mine' has no 'x.y'"),
        ({"name": "not_of_mine:net"}, "there is no module 'not_of_mine' to import"),
        ({"name": "not.of.mine:net"}, "there is no module 'not' to import"),
        ({"name": "broken_of_mine:net"}, "module cannot be imported: ZeroDivisionError"),
        ({"name": "needing_of_mine:net"}, "module cannot be imported: ModuleNotFoundErr"),
        ({"name": "leaving_of_mine:net"}, "module cannot be imported: SystemExit: bye"),
        ({"name": "my nets:net"}, "name is 'my nets:net'; it must be module:attribute, such"),
        ({"name": "nets:"}, "name is 'nets:'; it must be module:attribute, such as"),
    ],
)
def test_a_net_that_cannot_be_had_is_one_sentence(spec, says):
    with pytest.raises(InputError, match=rf"^config\.stages\.a\.model.*{says}") as error:
        build(spec, CLASSES, "config.stages.a.model")
    assert "\n" not in str(error.value)


def test_whatever_a_module_holds_can_be_named():
    assert resolve("tables_of_mine:Zoo.module.width", "here") == 2
