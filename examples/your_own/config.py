"""The door of the command: the values of `mine.py` by their names, `module:attribute`.

    python -m kdjax.main --config examples/your_own/config.py[:STEPS]

The stages and their numbers are those of `notebook_door.py`, and so are the results.
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage

MINE = "examples.your_own.mine"


def get_config(steps: str = "") -> ConfigDict:
    fields = dict(steps=int(steps or 1500), optimizer=dict(learning_rate=0.01))
    of_stage = fields | dict(teacher="teachers")
    stages = dict(
        teachers=stage(
            **fields,
            model=dict(name=f"{MINE}:LinenNet", width=128),
            members=dict(seed=3),
        ),
        skewed=stage(
            **of_stage,
            model=dict(name=f"{MINE}:NnxNet"),
            objective={f"{MINE}:skew_reverse_kl": 1.0},
            temperature=2.0,
            members=dict(seed=2, skew_reverse_kl=dict(skew=(0.1, 0.5))),
        ),
        of_function=stage(
            **fields,
            model=dict(name=f"{MINE}:EquinoxNet"),
            teacher=f"{MINE}:machine",
            objective=dict(kl_divergence=1.0, cross_entropy=0.5),
            members=dict(seed=2, temperature=(1.0, 2.0)),
        ),
        hinted=stage(
            **of_stage,
            model=dict(name=f"{MINE}:NnxNet"),
            objective={
                "kl_divergence": 1.0,
                f"{MINE}:fitnet": dict(weight=0.1, student="hidden", teacher="Dense_0"),
            },
            members=dict(seed=2),
        ),
        related=stage(
            **fields,
            model=dict(name=f"{MINE}:EquinoxNet"),
            teacher=f"teachers, {MINE}:machine",
            objective={
                "cross_entropy": 1.0,
                f"{MINE}:class_relation": dict(weight=0.1, temperature=2.0),
            },
            members=dict(seed=2),
        ),
    )
    return experiment(dataset=dict(name=f"{MINE}:digits"), stages=stages)
