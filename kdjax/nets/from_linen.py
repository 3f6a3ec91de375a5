"""A Linen module as a Net."""

from collections.abc import Callable
from typing import Any, cast

import flax.core
import flax.linen as nn
import jax
from flax.core import meta
from flax.traverse_util import flatten_dict

from kdjax.nets import calls, identity
from kdjax.nets.net import EVERY, Array, Net, Outputs, PyTree, Training, Variables
from kdjax.rules import InputError, shown


def linen(module: nn.Module, name: str = "") -> Net:
    """A Linen module as a Net.

    Args:
      module: its call takes inputs [B, ...] and returns logits [B, C]. It is told whether it trains
        by an argument of `calls.MODES`, such as `train` or `deterministic`, or by one that is
        annotated with `Training`, if it has one. Its layers may be Linen's own, such as
        `nn.Dropout`, and `nn.BatchNorm` without an `axis_name`.
      name: for messages and reports; that of the class if "".

    Returns:
      The net. Its taps are the paths of layers, such as "Dense_0" and "block1/Conv_0".

    Raises:
      InputError: it is no Linen module, or its call needs an argument of another name.
    """
    if not isinstance(module, nn.Module) or not callable(module):
        raise InputError(
            f"linen takes a Linen module that can be called, such as TinyNet(); it is "
            f"{shown(module)}"
        )
    name = name or type(module).__name__
    given = calls.arguments(type(module).__call__, name, positional=2)

    def init(key: jax.Array, inputs: Array) -> Variables:
        variables = module.init(key, inputs, **given(None))
        return {"params": {}} | meta.unbox(flax.core.unfreeze(variables))

    def apply(
        variables: Variables,
        inputs: Array,
        training: Training | None = None,
        taps: tuple[str, ...] = (),
    ) -> tuple[Outputs, dict[str, PyTree]]:
        outputs: dict[str, list[Any]] = {}
        others = {kind: tree for kind, tree in variables.items() if kind != "params"}
        output, changed = module.apply(
            variables,
            inputs,
            **given(training),
            rngs=_rngs(training),
            mutable=[] if training is None else list(others),
            capture_intermediates=_tapped(taps, outputs) if taps else False,
        )
        changed = dict(flax.core.unfreeze(changed))
        for (*path, method), taken in flatten_dict(changed.pop("intermediates", {})).items():
            if method == "__call__":
                outputs["/".join(path)] = list(cast(tuple[Any, ...], taken))
        features = calls.features(outputs, taps, name) if taps else {}
        return Outputs(calls.logits(output, name), features), others | changed

    spec = {
        "name": identity.reference(module),
        "arguments": identity.plain(identity.fields(module)),
    }
    return Net(init, apply, name, spec)


def _rngs(training: Training | None) -> dict[str, jax.Array]:
    """A key for dropout, and one for any other name: Linen takes "params" where it has no name."""
    if training is None or training.key is None:
        return {}
    return {"dropout": training.key, "params": jax.random.fold_in(training.key, 1)}


def _tapped(taps: tuple[str, ...], outputs: dict[str, list[Any]]) -> Callable[..., bool]:
    """Which calls Linen notes the outputs of; each call of a layer also leaves its place there."""

    def noted(layer: nn.Module, method: str) -> bool:
        path = "/".join(layer.path)
        if method != "__call__" or not path:
            return False
        outputs.setdefault(path, []).append(None)
        return path in taps or EVERY in taps

    return noted
