"""What the machine can do: a large float32 matrix product, and a pass over a large array.

Both on one device, which may use all cores, and on every device at once; the faster counts. The
product is at XLA's default precision for float32, which on recent NVIDIA GPUs is TF32.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from benchmarks.timing import Case, Timing, best, longest, total

# The side of the square matrices, so large that the start of a product costs nothing, and the
# floats of the array over all devices, far more than a cache holds.
CPU, ACCELERATOR = (2048, 2**27), (8192, 2**30)
ONE, EACH = "one device", "every device its own"
PRODUCTS = [f"matmul, {where}" for where in (ONE, EACH)]
PASSES = [f"stream, {where}" for where in (ONE, EACH)]


def products() -> list[Case]:
    """Their unit is a floating-point operation."""
    devices = jax.local_device_count()
    size, _ = _sizes()
    draw = lambda seed: jax.random.normal(jax.random.key(seed), (size, size))
    matrix, matrices = jax.jit(draw)(0), jax.pmap(draw)(jnp.arange(devices))
    alone, together = jax.jit(jnp.dot), jax.pmap(jnp.dot)
    one, each = PRODUCTS
    return [
        Case(one, lambda: alone(matrix, matrix).block_until_ready(), 2 * size**3),
        Case(each, lambda: together(matrices, matrices).block_until_ready(), 2 * size**3 * devices),
    ]


def passes() -> list[Case]:
    """Their unit is a byte read or written. They work in place: a new array would cost page faults
    besides."""
    return [_pass(name) for name in PASSES]


def _pass(name: str) -> Case:
    devices = jax.local_device_count()
    _, floats = _sizes()
    share = floats // devices
    step = lambda x: 0.5 * x + 1.0
    if name.endswith(ONE):
        array, apply = jnp.zeros(share * devices), jax.jit(step, donate_argnums=0)
    else:
        array = jax.pmap(lambda _: jnp.zeros(share))(jnp.arange(devices))
        apply = jax.pmap(step, donate_argnums=0)
    return Case(name, _in_place(apply, array), 2 * 4 * share * devices)


def _sizes() -> tuple[int, int]:
    return CPU if jax.default_backend() == "cpu" else ACCELERATOR


def _in_place(apply: Callable, array: jax.Array) -> Callable[[], None]:
    def run() -> None:
        nonlocal array
        array = apply(array)
        array.block_until_ready()

    return run


def product(timings: Mapping[str, Timing]) -> Timing:
    """Of an operation, at the faster of the two."""
    return best(timings[name] for name in PRODUCTS)


def stream(timings: Mapping[str, Timing]) -> Timing:
    """Of a byte, at the faster of the two."""
    return best(timings[name] for name in PASSES)


def without_overlap(timings: Mapping[str, Timing], flops: float, moved: float) -> Timing:
    """So many operations and then so many bytes, repeat by repeat."""
    return total((flops, product(timings)), (moved, stream(timings)))


def with_overlap(timings: Mapping[str, Timing], flops: float, moved: float) -> Timing:
    """The longer of the two, repeat by repeat: the usual roofline."""
    return longest((flops, product(timings)), (moved, stream(timings)))
