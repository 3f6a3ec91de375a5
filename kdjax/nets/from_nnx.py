"""An NNX module as a Net; flax.nnx, which takes long to import, is imported when one is given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.nets import calls, identity
from kdjax.nets.net import Array, Net, Outputs, PyTree, Training, Variables
from kdjax.nets.trees import Form, text
from kdjax.rules import InputError, shown


def nnx(constructor: Callable[..., Any], name: str = "") -> Net:
    """An NNX module as a Net.

    Args:
      constructor: (nnx.Rngs) -> module, such as `lambda rngs: TinyNet(10, rngs=rngs)`, or a class
        that needs only `rngs`. The module's call takes inputs [B, ...] and returns logits [B, C].
        It is told whether it trains by `train()` and `eval()`, and by an argument of `calls.MODES`
        or one that is annotated with `Training`, if it has one; an argument `rngs` is given.
      name: for messages and reports; that of the module's class if "".

    Returns:
      The net. Its variables are {"params": of `nnx.Param`, "state": of all others}; what is random
      is made anew from `Training.key`. Its taps are paths of layers, such as "blocks/0/linear".

    Raises:
      InputError: the constructor makes no NNX module, or its call needs an argument of another
        name.
    """
    from flax import nnx as flax_nnx

    by_name = calls.takes(constructor, "rngs") is not None

    def make(key: jax.Array) -> Any:
        rngs = flax_nnx.Rngs(key)
        module = constructor(rngs=rngs) if by_name else constructor(rngs)
        if not isinstance(module, flax_nnx.Module) or not callable(module):
            raise InputError(
                f"the constructor given to nnx makes {shown(module)}; it must be an NNX module "
                "that can be called"
            )
        return module

    if isinstance(constructor, flax_nnx.Module) or not callable(constructor):
        raise InputError(
            "nnx takes a constructor, such as lambda rngs: TinyNet(rngs=rngs); it is "
            f"{shown(constructor)}"
        )
    abstract = flax_nnx.eval_shape(make, jax.eval_shape(jax.random.key, 0))
    name = name or type(abstract).__name__
    call = type(abstract).__call__
    given = calls.arguments(call, name, positional=2, others=("rngs",))
    takes_rngs = calls.takes(call, "rngs") is not None
    graph, params, random, state = _split(abstract)
    param_form, state_form = _form(params), _form(state)

    def others(state: PyTree) -> dict[str, PyTree]:
        tree = state_form.nested(state)
        return {"state": tree} if tree else {}

    def init(key: jax.Array, inputs: Array) -> Variables:
        _, params, _, state = _split(make(key))
        return {"params": param_form.nested(params), **others(state)}

    def apply(
        variables: Variables,
        inputs: Array,
        training: Training | None = None,
        taps: tuple[str, ...] = (),
    ) -> tuple[Outputs, dict[str, PyTree]]:
        key = None if training is None else training.key
        params, state = variables["params"], variables.get("state", {})
        trees = param_form.tree(params), state_form.tree(state), _random(random, key)
        module = flax_nnx.merge(graph, *trees)
        module.eval() if training is None else module.train()
        rngs = {"rngs": flax_nnx.Rngs(_fixed() if key is None else key)} if takes_rngs else {}
        record = calls.Record()
        for path, layer in flax_nnx.iter_modules(module) if taps else ():
            if path and callable(layer):
                calls.record_calls(layer, "/".join(map(str, path)), record)
        output = module(inputs, **given(training), **rngs)
        features = calls.features(record.outputs, taps, name) if taps else {}
        return Outputs(calls.logits(output, name), features), others(_split(module)[3])

    return Net(init, apply, name, {"name": identity.reference(constructor), "arguments": {}})


def _split(module: Any) -> tuple[Any, PyTree, PyTree, PyTree]:
    """The graph, parameters, random state and all other variables; what a call sows is left out."""
    from flax import nnx as flax_nnx

    kinds = flax_nnx.Param, flax_nnx.RngState, flax_nnx.Intermediate
    parts: tuple[Any, ...] = flax_nnx.split(module, *kinds, ...)
    graph, params, random, _, state = parts
    return graph, params, random, state


def _form(state: PyTree) -> Form:
    """As `Form.of`, but the names are those of the variables, without `value`."""
    from flax import nnx as flax_nnx

    names = []
    is_variable = lambda node: isinstance(node, flax_nnx.Variable)
    for path, variable in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_variable):
        for inner, _ in jax.tree_util.tree_leaves_with_path(variable):
            names.append(text(path) + text(inner[1:]))
    return Form(tuple(names), jax.tree.structure(state))


def _fixed() -> jax.Array:
    """The key of a net that asks for one in evaluation."""
    return jax.random.key(0)


def _random(abstract: PyTree, key: jax.Array | None) -> PyTree:
    """The random state of a module: each stream with a key of its own, its count at zero."""
    leaves, structure = jax.tree.flatten(abstract)
    made = []
    for number, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = jax.random.fold_in(_fixed() if key is None else key, number)
            made.append(jax.random.split(own, leaf.shape) if leaf.shape else own)
        else:
            made.append(jnp.zeros(leaf.shape, leaf.dtype))
    return jax.tree.unflatten(structure, made)
