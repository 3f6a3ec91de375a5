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


def serve(function: Callable[..., jax.Array], *arguments: Any) -> dict[str, float]:
    """The cost of one call, compiled for one device.

    Returns:
      `flops_per_example` as XLA counts them, and `latency_ms`, the median wall time of a call.
    """
    program, arguments = jax.jit(function), jax.device_put(arguments, jax.local_devices()[0])
    analysis = program.lower(*arguments).cost_analysis() or {}
    times = []
    for _ in range(2 * CALLS):
        begin = time.perf_counter()
        program(*arguments).block_until_ready()
        times.append(time.perf_counter() - begin)
    return {
        "flops_per_example": float(analysis.get("flops", np.nan)),
        "latency_ms": 1e3 * float(np.median(times[CALLS:])),
    }
