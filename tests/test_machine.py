"""What the command tells JAX before it computes."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import a_stage, arrays, recipe_of

from kdjax import member, population
from kdjax.config.spec import grid
from kdjax.member import Batch, Shards


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_updates_the_state_where_it_stands(optimizer):
    """What XLA's flags are for: no step copies a weight matrix, or goes over one twice."""
    spec = a_stage(optimizer=dict(name=optimizer), model=dict(name="mlp", hidden=(48,)))
    recipe = recipe_of(spec)
    hparams = jax.tree.map(lambda x: x[0], population.hparams(grid(spec), np.zeros((1, 0))))
    images, labels = arrays()
    batch = Batch(jnp.asarray(images, jnp.float32), jnp.asarray(labels))

    def chunk(state, hparams, batch):
        step = lambda state, _: member.train_step(recipe, Shards(), state, hparams, batch, None)
        return jax.lax.scan(step, state, length=5)

    state = member.init(recipe, hparams, batch.inputs[:1])
    # As users compile, and not as the other tests do.
    options = {"xla_cpu_use_fusion_emitters": True, "xla_disable_hlo_passes": ""}
    lowered = jax.jit(chunk, donate_argnums=0).lower(state, hparams, batch)
    program = lowered.compile(options).as_text()
    loop = next(part for part in program.split("\n\n") if "get-tuple-element" in part)
    assert not re.findall(r"f32\[64,48\]\S* copy\(", loop)
    passes = [line for line in loop.splitlines() if " fusion(" in line and "f32[64,48]" in line]
    assert len([line for line in passes if "select" in line.partition("=")[0]]) == 1, passes


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's malloc")
def test_memory_is_kept_from_step_to_step():
    """Large arrays that come and go do not ask the system for pages each time."""
    program = """
import resource
import numpy as np
from kdjax.host.machine import keep_memory

keep_memory()
for turn in range(20):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2_000_000 + 100 * i) for i in range(3)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    asked = ("MALLOC_", "GLIBC_TUNABLES")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(asked)}
    faults = lambda **given: int(
        subprocess.check_output([sys.executable, "-c", program], env=inherited | given)
    )
    assert faults() < 100
    assert faults(MALLOC_MMAP_THRESHOLD_="131072") > 10_000
