"""From an ensemble to one net: ten teachers, and the small net taught in the paper's ways.

    python -m kdjax.main --config configs/ensemble_to_one.py[:WORD[,WORD ...]]

A word is a data set (`digits`, the default; `mnist`, `fashion_mnist`, `cifar10` or any other image
classification set of TFDS; a path to an .npz of one's own), `few_labels` (labels of 100 training
examples only, the rest an unlabelled transfer set) or `smoke` (a few steps of everything).
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    few_labels, smoke = "few_labels" in words, "smoke" in words
    names = [word for word in words if word not in ("few_labels", "smoke")]
    dataset = names[0] if names else "digits"

    labelled = dict(size=100 if few_labels else 1.0)
    transfer = dict(labelled=100 if few_labels else 1.0)
    teacher_net = dict(
        model=dict(name="mlp", hidden=(256, 256)),
        optimizer=dict(learning_rate=2e-3),
        steps=800,
    )
    small_net = dict(
        model=dict(name="mlp", hidden=(16,) if few_labels else (32,)),
        optimizer=dict(learning_rate=0.02),
        steps=1500,
        teacher="teachers",
        teacher_logits="cached",
        members=dict(seed=10),
    )
    stages = dict(
        teachers=stage(**teacher_net, subset=labelled, members=dict(seed=10)),
        baseline=stage(**small_net, subset=labelled),
        distilled=stage(
            **small_net, loss="distillation", temperature=4.0, hard_weight=0.1, subset=transfer
        ),
        soft_only=stage(**small_net, loss="kl_divergence", temperature=4.0, subset=transfer),
        logit_matching=stage(**small_net, loss="logit_matching", mean="geometric", subset=transfer),
    )
    if smoke:
        for each in stages.values():
            each.update(steps=4, chunk=2, batch=20)
            each.members.seed = 2
    return experiment(dataset=dict(name=dataset), stages=stages)
