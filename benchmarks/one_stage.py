"""The config that `processes.py` runs: one stage of one step, ten nets of 784-1200-1200-10."""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage

STAGE = "timed"


def get_config() -> ConfigDict:
    timed = stage(
        model=dict(name="mlp", hidden=(1200, 1200)),
        optimizer=dict(name="adamw", schedule="constant"),
        augment=dict(shift=2),
        members=dict(seed=10),
        batch=100,
        steps=1,
        chunk=1,
    )
    return experiment(dataset=dict(name="mnist"), stages={STAGE: timed})
