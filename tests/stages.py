"""Stage directories made by hand, for the tests of checkpoints."""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.host import checkpoint
from kdjax.host.checkpoint import Checkpoints
from kdjax.optim import OptimizerSpec, build
from kdjax.rules import InputError

MEMBERS = 3
IDENTITY = {"stage": {"name": "teachers", "steps": 100, "members": [["seed", [0, 1]]]}, "from": {}}


def make(seed: int, optimizer: str = "adamw") -> dict:
    """The arguments of `save`, with arrays of every dtype a stage may have."""
    random = np.random.default_rng(seed)
    params = {
        "Dense_0": {
            "kernel": random.normal(size=(MEMBERS, 7, 32)).astype(np.float32),
            "bias": random.normal(size=(MEMBERS, 32)).astype(jnp.bfloat16),
        }
    }
    hparams = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    rule = build(OptimizerSpec(name=optimizer, clip_norm=1.0), 100, hparams)
    state = jax.tree.map(np.array, jax.vmap(rule.init)(params))
    return {
        "variables": {"params": params},
        "opt": {
            "opt_state": jax.tree.map(
                lambda x: (x + random.normal(size=x.shape)).astype(x.dtype), state
            ),
            "step": np.full(MEMBERS, seed, np.int32),
            "bad": random.random(MEMBERS) < 0.5,
        },
        "hparams": {
            "seed": random.integers(2**32, size=MEMBERS, dtype=np.uint32),
            "temperature": np.array([1.0, np.inf, np.nan], np.float32),
            "mixing": random.random((MEMBERS, 4)),
        },
        "meta": {"name": "mlp", "step": seed, "accuracy": float("nan"), "hidden": [7, 32]},
    }


def assert_same(read, saved):
    """The same structure, and leaves of the same type, dtype, shape and bits."""
    assert jax.tree.structure(read) == jax.tree.structure(saved)
    for x, y in zip(jax.tree.leaves(read), jax.tree.leaves(saved), strict=True):
        assert type(x) is np.ndarray and x.dtype == y.dtype and x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def assert_restores(checkpoints: Checkpoints, step: int, saved: dict):
    variables, opt, hparams, meta = checkpoints.restore(step, saved["opt"])
    assert_same((variables, opt, hparams), (saved["variables"], saved["opt"], saved["hparams"]))
    assert meta["step"] == saved["meta"]["step"] and meta["accuracy"] is None


def write_stage(directory: Path, steps=(10, 20, 30)) -> Path:
    checkpoint.start(directory, IDENTITY)
    with Checkpoints(directory) as checkpoints:
        for step in steps:
            checkpoints.save(step, **make(step))
    checkpoint.finish(directory, {"accuracy": [0.9]})
    return directory


def snapshot(directory: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in directory.rglob("*")}


def steps_of(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@contextlib.contextmanager
def refuses(*words: str):
    """An InputError in one line that says all of `words`."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for word in words:
        assert word in message


# The directory.
