"""A pure function as a Net."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.nets import calls, identity
from kdjax.nets.net import Array, Net, Outputs, PyTree, Training, Variables
from kdjax.nets.trees import Form
from kdjax.rules import InputError, shown

Apply = Callable[..., jax.Array | tuple[jax.Array, dict[str, jax.Array]]]


def function(apply: Apply, params: PyTree, name: str = "") -> Net:
    """A pure function as a Net.

    Args:
      apply: (params, inputs [B, ...]) -> logits [B, C], or (logits, {name: feature [B, ...]}). It
        is told whether it trains by an argument of `calls.MODES`, or by one that is annotated with
        `Training`, if it has one.
      params: a pytree of arrays, the start of every member; or (key, inputs [1, ...]) -> such a
        pytree.
      name: for messages and reports; that of the function if "".

    Returns:
      The net. Its variables are {"params": the floating arrays, "constants": other arrays}; with a
      pytree they are also `Net.variables`, the same for every seed. Its taps are the names of the
      features.

    Raises:
      InputError: `apply` is no function or needs another argument, or a leaf of `params` is no
        array.
    """
    if not callable(apply):
        raise InputError(f"function takes (params, inputs) -> logits; it is {shown(apply)}")
    name = name or getattr(apply, "__name__", type(apply).__name__)
    given = calls.arguments(apply, name, positional=2)
    from_key = callable(params) and jax.tree_util.treedef_is_leaf(jax.tree.structure(params))
    fixed = None if from_key else _forms(params, name)

    @functools.cache
    def forms_of(shape: tuple[int, ...], dtype: Any) -> dict[str, Form]:
        key = jax.eval_shape(jax.random.key, 0)
        made = jax.eval_shape(params, key, jax.ShapeDtypeStruct((1, *shape), dtype))
        return _forms(made, name)

    def forms(inputs: Array) -> dict[str, Form]:
        return fixed or forms_of(inputs.shape[1:], inputs.dtype)

    def init(key: jax.Array, inputs: Array) -> Variables:
        return _variables(forms(inputs), params(key, inputs) if from_key else params)

    def forward(
        variables: Variables,
        inputs: Array,
        training: Training | None = None,
        taps: tuple[str, ...] = (),
    ) -> tuple[Outputs, dict[str, PyTree]]:
        trees = [form.tree(variables[kind]) for kind, form in forms(inputs).items()]
        first = lambda *leaves: next((leaf for leaf in leaves if leaf is not None), None)
        joined = jax.tree.map(first, *trees, is_leaf=lambda leaf: leaf is None)
        output = apply(joined, inputs, **given(training))
        features: Mapping[str, jax.Array] = {}
        if isinstance(output, tuple) and len(output) == 2:
            output, features = output
        if not isinstance(features, Mapping):
            raise InputError(
                f"{name} returns {shown(features)} beside its logits; it must be a dict of features"
            )
        taken = calls.features({path: [x] for path, x in features.items()}, taps, name)
        others = {kind: tree for kind, tree in variables.items() if kind != "params"}
        return Outputs(calls.logits(output, name), taken), others

    spec = {"name": identity.reference(apply), "arguments": {}}
    variables = None if fixed is None else _variables(fixed, params)
    return Net(init, forward, name, spec, variables=variables)


def _forms(params: PyTree, name: str) -> dict[str, Form]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            raise InputError(
                f"the parameters of {name} have {shown(leaf)} at {jax.tree_util.keystr(path)}; "
                "they must be arrays"
            )
    floating, constants = _parted(params)
    forms = {"params": Form.of(floating)}
    if jax.tree.leaves(constants):
        forms["constants"] = Form.of(constants)
    return forms


def _variables(forms: dict[str, Form], params: PyTree) -> Variables:
    trees = [jax.tree.map(_array, part) for part in _parted(params)]
    return {
        kind: form.nested(tree) for (kind, form), tree in zip(forms.items(), trees, strict=False)
    }


def _array(leaf: Any) -> jax.Array | np.ndarray:
    """A leaf as an array, which does not go to a device yet: a module may make a net before
    `use_machine` says which devices there are."""
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, jnp.result_type(leaf))


def _parted(tree: PyTree) -> tuple[PyTree, PyTree]:
    """The floating leaves of a pytree, and the others; None in the place of the rest."""
    floating = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return (
        jax.tree.map(lambda leaf: leaf if floating(leaf) else None, tree),
        jax.tree.map(lambda leaf: None if floating(leaf) else leaf, tree),
    )
