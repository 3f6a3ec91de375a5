"""A student of the PyTorch nets of `teachers.py`, beside one that learns from labels.

python -m kdjax.main --config examples/pytorch_teacher/config.py[:live]

live  one student more, taught by the first net alone, which runs on the shifted images that the
      student sees
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage

DATA = dict(name="mnist")
FOLDER = "runs/pytorch_teacher"
STUDENT = dict(
    model=dict(name="mlp", hidden=(64,)),
    steps=6000,
    chunk=1000,
    order="shared",
    optimizer=dict(learning_rate=2e-3),
    members=dict(seed=5),
)
SOFT = dict(objective=dict(kl_divergence=1.0), temperature=4.0)


def get_config(word: str = "") -> ConfigDict:
    teacher = f"{FOLDER}/teachers.npz"
    stages = dict(
        labels=stage(**STUDENT, teacher=teacher),  # compared with the teachers, and not taught
        distilled=stage(**STUDENT, **SOFT, teacher=teacher),
    )
    if word == "live":
        shifted = dict(augment=dict(shift=1), teacher="examples.pytorch_teacher.live:teacher")
        stages["live"] = stage(**STUDENT, **SOFT, **shifted)
    return experiment(dataset=DATA, stages=stages)
