"""What is compiled, and what is not compiled again."""

import jax
from runs import STUDENT, config

import kdjax
from kdjax.config import stage


def test_a_stage_of_equal_shape_compiles_nothing_new(tmp_path):
    """Seeds, temperatures, rates and which examples: none of them makes another program."""
    fields = STUDENT | dict(
        objective=dict(kl_divergence=1.0), teacher_logits="cached", steps=16, chunk=8
    )
    first = stage(**fields, subset=dict(without=(3,), size=300.0))
    other = stage(
        **fields
        | dict(
            members=dict(seed=(7, 8)),
            temperature=5.0,
            optimizer=dict(learning_rate=3e-3, weight_decay=0.1),
            subset=dict(without=(4,), size=300.0, seed=1),
        )
    )
    missed = []

    def listen(event: str, **_):
        if event == "/jax/compilation_cache/cache_misses":
            missed.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        kdjax.run(config(students=dict(first=first)), tmp_path / "a", quiet=True)
        assert missed
        missed.clear()
        kdjax.run(config(students=dict(first=other)), tmp_path / "b", quiet=True)
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert not missed
