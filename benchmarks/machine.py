"""What the machine can do: the rate of a large float32 matrix product."""

import jax
import jax.numpy as jnp

from benchmarks.timing import Case, Timing, best

SIZE = 2048
NAMES = ONE, EACH = "matmul, one device", "matmul, every device its own"


def cases() -> list[Case]:
    """The product on one device, which may use all cores, and one on every device at once.
    Their unit is a floating-point operation."""
    flops, devices = 2 * SIZE**3, jax.local_device_count()
    matrix = jnp.ones((SIZE, SIZE))
    matrices = jax.pmap(lambda _: matrix)(jnp.arange(devices))
    product, products = jax.jit(jnp.dot), jax.pmap(jnp.dot)
    return [
        Case(
            ONE,
            run=lambda: product(matrix, matrix).block_until_ready(),
            units=flops,
            compile=lambda: product.lower(matrix, matrix).compile(),
        ),
        Case(
            EACH,
            run=lambda: products(matrices, matrices).block_until_ready(),
            units=flops * devices,
            compile=lambda: products.lower(matrices, matrices).compile(),
        ),
    ]


def fastest(timings: dict[str, Timing]) -> Timing:
    """The faster of the two."""
    return best((timings[ONE], timings[EACH]))
