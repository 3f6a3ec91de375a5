"""A net as a value: two pure functions, whoever wrote them.

Axes: B examples, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any
Array = jax.Array | np.ndarray
Variables = dict[str, PyTree]  # {"params": ..., and the other collections}

EVERY = "*"  # as a tap: every layer that is called once


class Outputs(NamedTuple):
    """What a net makes of a batch.

    Attributes:
      logits: [B, C].
      features: {path of a tapped layer: its output [B, ...]}.
      derivatives: {term: [B, R, C] of the logits along the R directions of a `Term`}; kdjax adds
        them where a term asks for them.
    """

    logits: jax.Array
    features: Mapping[str, jax.Array]
    derivatives: Mapping[str, jax.Array] = {}


@dataclass(frozen=True)
class Training:
    """What a net may know of its batch while it trains; None in its place means evaluation.

    Attributes:
      places: [B] of the examples in the whole batch, of which this may be a part.
      key: for dropout and whatever else is random; None if nothing is.
      mean: averages a pytree over the parts.
    """

    places: jax.Array
    key: jax.Array | None = None
    mean: Callable[[PyTree], PyTree] = lambda tree: tree


@dataclass(frozen=True, eq=False)
class Net:
    """A net.

    Attributes:
      init: (key, inputs [1, ...]) -> variables, `{"params": ...}` and the other collections, all
        of them dicts with text as keys.
      apply: (variables, inputs [B, ...], training, taps) -> (outputs, the collections other than
        "params" as they are after the call). `taps` are the paths of the layers whose outputs are
        asked for.
      name: for messages and reports.
      spec: plain data that tells this net from others; a stage directory keeps it.
      splits: whether its results in training do not depend on how a batch is split over devices;
        None if `kdjax.nets.check.checked` is to find out.
      variables: of a net that comes with them, such as a pure function; `init` returns them
        whatever the key. None if the key decides.
    """

    init: Callable[[jax.Array, Array], Variables]
    apply: Callable[
        [Variables, Array, Training | None, tuple[str, ...]], tuple[Outputs, dict[str, PyTree]]
    ]
    name: str
    spec: Mapping[str, Any]
    splits: bool | None = None
    variables: Variables | None = None
