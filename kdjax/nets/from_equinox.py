"""An Equinox module as a Net; Equinox need not be installed until one is given."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from kdjax.nets import calls, identity
from kdjax.nets.net import Array, Net, Outputs, PyTree, Training, Variables
from kdjax.nets.trees import Form
from kdjax.rules import InputError, shown

BATCH = "batch"  # the name of the examples' axis, for layers such as eqx.nn.BatchNorm


def equinox(constructor: Callable[..., Any], name: str = "") -> Net:
    """An Equinox module as a Net.

    Args:
      constructor: (key) -> module, or (module, eqx.nn.State). The module's call takes one example,
        and returns logits [C]; one with state takes and returns the state too. It is mapped over
        the batch, whose axis has the name "batch". It is told whether it trains by
        `eqx.nn.inference_mode`, and by an argument of `calls.MODES`, if it has one; an argument
        `key` is given, another one for each example.
      name: for messages and reports; that of the module's class if "".

    Returns:
      The net. Its variables are {"params": the floating arrays, "constants": other arrays,
      "state": the state}. Its taps are paths of layers, such as "layers/0".

    Raises:
      InputError: Equinox is not installed, the constructor makes no Equinox module, or its call
        needs an argument of another name.
    """
    try:
        import equinox as eqx
    except ImportError as error:
        raise InputError("equinox needs the package equinox; pip install equinox") from error
    if isinstance(constructor, eqx.Module) or not callable(constructor):
        raise InputError(
            "equinox takes a constructor, such as lambda key: TinyNet(key=key); it is "
            f"{shown(constructor)}"
        )
    by_name = calls.takes(constructor, "key") is not None

    def make(key: jax.Array) -> tuple[Any, Any]:
        made = constructor(key=key) if by_name else constructor(key)
        module, state = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(module, eqx.Module) or not callable(module):
            raise InputError(
                f"the constructor given to equinox makes {shown(module)}; it must be an Equinox "
                "module that can be called"
            )
        if state is None:
            module, state = eqx.nn.delete_init_state(module), eqx.nn.State(module)
        return module, state

    abstract, abstract_state = eqx.filter_eval_shape(make, jax.eval_shape(jax.random.key, 0))
    name = name or type(abstract).__name__
    call = type(abstract).__call__
    given = calls.arguments(call, name, positional=2, others=("key", "state"))
    takes_key = calls.takes(call, "key")
    needs_key = takes_key is not None and takes_key.default is takes_key.empty
    params, rest = eqx.partition(abstract, _is_floating)
    constants, static = eqx.partition(rest, _is_array)
    trees = {"params": params, "constants": constants, "state": abstract_state}
    forms = {kind: Form.of(tree) for kind, tree in trees.items()}
    forms = {kind: form for kind, form in forms.items() if kind == "params" or form.names}

    def init(key: jax.Array, inputs: Array) -> Variables:
        module, state = make(key)
        params, rest = eqx.partition(module, _is_floating)
        trees = {"params": params, "constants": eqx.filter(rest, _is_array), "state": state}
        return {kind: form.nested(_strong(trees[kind])) for kind, form in forms.items()}

    def forward(
        variables: Variables,
        inputs: jax.Array,
        places: jax.Array | None,
        key: jax.Array | None,
        training: Training | None,
        taps: tuple[str, ...],
    ) -> tuple[Outputs, dict[str, PyTree]]:
        if training is not None and places is not None:
            training = dataclasses.replace(training, places=places, key=key)
        trees = {kind: form.tree(variables[kind]) for kind, form in forms.items()}
        state = trees.pop("state", None)
        module = eqx.combine(*trees.values(), static)
        module = eqx.nn.inference_mode(module, training is None)

        def one(example: jax.Array, key: jax.Array | None, state: Any) -> tuple[Outputs, Any]:
            own = module
            record = calls.Record()
            if taps:
                own = jax.tree.map(lambda leaf: leaf, module)  # layers of this call alone
                for path, layer in _layers(own):
                    calls.record_calls(layer, path, record)
            arguments = given(training) | ({} if key is None else {"key": key})
            if state is None:
                output = own(example, **arguments)
            elif calls.takes(call, "state"):
                output, state = own(example, state=state, **arguments)
            else:
                output, state = own(example, state, **arguments)
            features = calls.features(_without_state(record.outputs), taps, name) if taps else {}
            return Outputs(calls.logits(output, name), features), state

        keys, axis = (jax.random.key(0) if needs_key else None), None
        if takes_key and training is not None and training.key is not None:
            keys, axis = jax.vmap(jax.random.fold_in, (None, 0))(training.key, training.places), 0
        mapped = jax.vmap(one, (0, axis, None), (0, None), axis_name=BATCH)
        outputs, state = mapped(inputs, keys, state)
        others = {kind: tree for kind, tree in variables.items() if kind != "params"}
        if state is not None:
            others["state"] = forms["state"].nested(_strong(state))
        return outputs, others

    def apply(
        variables: Variables,
        inputs: Array,
        training: Training | None = None,
        taps: tuple[str, ...] = (),
    ) -> tuple[Outputs, dict[str, PyTree]]:
        places = None if training is None else training.places
        key = None if training is None else training.key
        arrays = variables, jnp.asarray(inputs), places, key
        run = functools.partial(forward, training=training, taps=taps)
        if "state" not in forms:
            return run(*arrays)
        # Traced apart from the devices: a State refuses a value whose type does not have the mesh
        # of the one before, and a new constant has none.
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays)
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            traced, found = jax.make_jaxpr(run, return_shape=True)(*shapes)
        leaves = jaxpr_as_fun(traced)(*jax.tree.leaves(arrays))
        result = jax.tree.unflatten(jax.tree.structure(found), leaves)
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), result, found)

    return Net(init, apply, name, {"name": identity.reference(constructor), "arguments": {}})


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic)


def _is_floating(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _strong(tree: PyTree) -> PyTree:
    """Arrays whose types do not give way to others: a loop wants those of its start at its end."""
    return jax.tree.map(lambda x: jnp.asarray(x, x.dtype), tree)


def _without_state(outputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What layers put out, without the state that some of them return beside it."""
    import equinox as eqx

    with_state = lambda x: isinstance(x, tuple) and len(x) > 1 and isinstance(x[-1], eqx.nn.State)
    return {path: [x[0] if with_state(x) else x for x in each] for path, each in outputs.items()}


def _layers(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The modules inside a module, with their paths."""
    import equinox as eqx

    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, eqx.Module):
        own = [f for f in dataclasses.fields(node) if not f.metadata.get("static")]
        children = [(f.name, getattr(node, f.name, None)) for f in own]
        if path and callable(node):
            yield "/".join(path), node
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    elif isinstance(node, dict):
        children = node.items()
    for key, child in children:
        yield from _layers(child, (*path, str(key)))
