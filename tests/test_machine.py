"""What the command tells JAX before it computes."""

import re

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
