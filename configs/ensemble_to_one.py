"""From an ensemble to one net: ten teachers, and the small net taught in the paper's ways.

    python -m kdjax.main --config configs/ensemble_to_one.py[:WORD[,WORD ...]]

A word is a data set (`digits`, the default; `mnist`, `fashion_mnist`, `cifar10` or any other image
classification set of TFDS; a path to an .npz of one's own), `few_labels` (labels of 100 training
examples only, the rest an unlabelled transfer set) or `smoke` (a few steps of everything).
The rates, decays and temperatures were chosen by `tune.py`.
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    few_labels, smoke = "few_labels" in words, "smoke" in words
    dataset = next((w for w in words if w not in ("few_labels", "smoke")), "digits")

    labelled = dict(size=100 if few_labels else 1.0)
    transfer = dict(labelled=100 if few_labels else 1.0)
    large_net = dict(
        model=dict(name="mlp", hidden=(256, 256), dropout_input=0.1, dropout=0.5),
        optimizer=dict(learning_rate=1e-3),
        steps=2500,
        members=dict(seed=10),
    )
    small_net = dict(
        model=dict(name="mlp", hidden=(16,) if few_labels else (32,)),
        steps=3000,
        teacher="teachers",  # of the baseline too, to measure its agreement with them
        teacher_logits="cached",
        members=dict(seed=10),
    )
    students = dict(small_net, optimizer=dict(learning_rate=0.04, weight_decay=0.1))
    stages = dict(
        teachers=stage(**large_net, subset=labelled),
        baseline=stage(
            **small_net, optimizer=dict(learning_rate=0.02, weight_decay=0.3), subset=labelled
        ),
        distilled=stage(
            **students, loss="distillation", temperature=2.0, hard_weight=0.5, subset=transfer
        ),
        soft_only=stage(**students, loss="kl_divergence", temperature=2.0, subset=transfer),
        logit_matching=stage(**students, loss="logit_matching", mean="geometric", subset=transfer),
    )
    if smoke:
        for each in stages.values():
            each.update(steps=4, chunk=2, batch=20)
            each.members.seed = 2
    return experiment(dataset=dict(name=dataset), stages=stages)
