"""What a net costs to serve: parameters, arithmetic, and the time of one example."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

CALLS, SECONDS = 20, 0.3  # in a row; of all rows
_MEASURED: dict[str, float] = {}  # digest of a program and its device -> milliseconds


def parameters(tree: Any) -> int:
    """The number of elements of all leaves."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))


def flops(function: Callable[..., jax.Array], *arguments: Any) -> float:
    """The floating-point operations of one call, as XLA counts them; it enters a loop once.

    NaN where XLA does not say. On some backends it counts those of a compiled program only.
    """
    lowered = jax.jit(function).lower(*arguments)
    analysis = lowered.cost_analysis() or lowered.compile().cost_analysis() or {}
    return float(analysis.get("flops", np.nan))


def latency_ms(function: Callable[..., jax.Array], *arguments: Any) -> float:
    """The wall time of a call, compiled for one device: the least mean of some calls in a row.

    A program is measured once in a process, so that nets of one form have one latency. The thread
    that runs a single call of a small net is sometimes asleep when the call comes, and to wake it
    takes longer than the call; among calls in a row it is awake.
    """
    device, program = jax.local_devices()[0], jax.jit(function)
    text = f"{device}\n{program.lower(*arguments).as_text()}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest not in _MEASURED:
        _MEASURED[digest] = 1e3 * _least_mean(program, jax.device_put(arguments, device))
    return _MEASURED[digest]


def _least_mean(program: Callable[..., jax.Array], arguments: tuple[Any, ...]) -> float:
    program(*arguments).block_until_ready()
    means: list[float] = []
    begin = time.perf_counter()
    while len(means) < 3 or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        results = [program(*arguments) for _ in range(CALLS)]
        results[-1].block_until_ready()
        means.append((time.perf_counter() - start) / CALLS)
    return min(means)
