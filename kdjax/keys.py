"""Every random number's key, as a function of integers: nothing random is carried or saved."""

import zlib

import jax


def stream(seed: jax.Array | int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of one use of randomness (`name`, such as "init" or "dropout") at one step."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)
