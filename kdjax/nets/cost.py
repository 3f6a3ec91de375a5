"""What a net costs to serve: parameters, arithmetic, and the time of one example."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

CALLS = 50  # timed, after as many to warm up


def parameters(tree: Any) -> int:
    """The number of elements of all leaves."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))


def flops(function: Callable[..., jax.Array], *arguments: Any) -> float:
    """The floating-point operations of one call, as XLA counts them; it enters a loop once."""
    analysis = jax.jit(function).lower(*arguments).cost_analysis() or {}
    return float(analysis.get("flops", np.nan))


def latency_ms(function: Callable[..., jax.Array], *arguments: Any) -> float:
    """The least wall time of a call, compiled for one device: what else runs only adds to it."""
    program, arguments = jax.jit(function), jax.device_put(arguments, jax.local_devices()[0])
    times = []
    for _ in range(2 * CALLS):
        begin = time.perf_counter()
        program(*arguments).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times[CALLS:])
