"""The table of the paper's MNIST section (arXiv 1503.02531, section 3), with error bars.

    python -m kdjax.main --config configs/mnist.py[:WORD[,WORD ...]]

    paper  full length, for a GPU or a TPU
    cpu    the default: under two hours on two CPU cores, as predicted from quick
    quick  under half an hour on two CPU cores
    smoke  a few steps of everything
    tune   how the small nets' learning rate and weight decay were chosen: labels and the soft
           targets of one large net over the same grid, on validation data only

Large nets with jittered inputs, small nets on labels alone, and small nets taught by the first
large net, by ensembles of the first so many, on the images as they are or on the same jittered
views as their teachers. Results: docs/mnist.md.
"""

from dataclasses import dataclass

from ml_collections import ConfigDict

from kdjax.checks import InputError
from kdjax.config import experiment, stage

TRAIN, VALIDATION, BATCH = 59_000, 1_000, 250  # examples
EPOCH = TRAIN // BATCH  # steps; of fewer images, so many steps are more than an epoch
SMALL = dict(name="mlp", hidden=(800, 800))
RATES, DECAYS = (1e-3, 2e-3, 4e-3), (0.0, 0.2)
CLIP = 5.0  # with AdamW, what keeps the large gradients of a high temperature harmless
# Chosen on validation data (docs/mnist.md).
LARGE = dict(
    model=dict(name="mlp", hidden=(1200, 1200), dropout=0.25),
    optimizer=dict(learning_rate=2e-3, weight_decay=0.01, clip_norm=CLIP, max_squared_norm=15.0),
)


@dataclass(frozen=True)
class Length:
    """How long, in epochs, and how many seeds of everything."""

    large_epochs: int
    large_nets: int
    label_epochs: int
    soft_epochs: int  # on the images as they are
    view_epochs: int  # on jittered views
    sweep_epochs: int  # of each temperature
    chunk_epochs: int  # between two checkpoints
    seeds: int
    ensembles: tuple[int, ...]  # sizes; 1 is the single large net


LENGTHS = {
    "paper": Length(200, 10, 40, 40, 400, 40, 10, 10, tuple(range(1, 11))),
    "cpu": Length(60, 6, 20, 30, 80, 15, 1, 6, (1, 6)),
    "quick": Length(10, 6, 10, 12, 20, 4, 1, 4, (1, 2, 6)),
}


def get_config(argument: str = "") -> ConfigDict:
    length, config, words = read_words(argument, ("smoke", "tune"))
    config.stages.large = large(length, length.large_nets)
    config.stages.labels = small(length, length.label_epochs, loss="cross_entropy")
    config.stages.distilled = small(
        length,
        length.soft_epochs,
        loss="kl_divergence",
        temperature=20.0,
        members=dict(ensemble_size=length.ensembles),
    )
    config.stages.consistent = small(
        length,
        length.view_epochs,
        loss="kl_divergence",
        temperature=4.0,
        teacher_logits="live",
        order="shared",  # one forward pass of the teachers for all students
        augment=dict(shift=2),
    )
    config.stages.logit_matching = small(
        length, length.soft_epochs, loss="logit_matching", mean="geometric"
    )
    if "tune" in words:
        tune(config)
    return shortened(config, words)


def read_words(
    argument: str, others: tuple[str, ...] = ("smoke",)
) -> tuple[Length, ConfigDict, list[str]]:
    """The length that the words name, an experiment on MNIST without a stage, and the words."""
    words = [word for word in argument.split(",") if word]
    unknown = [word for word in words if word not in (*LENGTHS, *others)]
    lengths = [word for word in words if word in LENGTHS]
    if unknown or len(lengths) > 1:
        raise InputError(
            f"--config has the words {', '.join(unknown or lengths)}; there may be one of "
            f"{', '.join(LENGTHS)}, and beside it {' or '.join(others)}"
        )
    dataset = dict(name="mnist", validation=VALIDATION)
    length = LENGTHS[lengths[0] if lengths else "cpu"]
    return length, experiment(dataset=dataset, stages={}), words


def large(length: Length, nets: int) -> ConfigDict:
    """The paper's large nets: dropout, inputs jittered by up to two pixels."""
    return stage(
        **LARGE,
        augment=dict(shift=2),
        steps=EPOCH * length.large_epochs,
        batch=BATCH,
        chunk=EPOCH * length.chunk_epochs,
        members=dict(seed=nets),
    )


def small(
    length: Length,
    epochs: int,
    learning_rate: float = 4e-3,  # by `tune`, for labels and soft targets
    hidden: tuple[int, ...] = SMALL["hidden"],
    members: dict | None = None,
    **fields,
) -> ConfigDict:
    """The paper's small net, with no regularisation but what its teacher gives."""
    return stage(
        model=SMALL | dict(hidden=hidden),
        optimizer=dict(learning_rate=learning_rate, clip_norm=CLIP, warmup_steps=EPOCH // 4),
        steps=EPOCH * epochs,
        batch=BATCH,
        chunk=EPOCH * length.chunk_epochs,
        teacher="large",
        **dict(teacher_logits="cached") | fields,
        members=dict(seed=length.seeds) | (members or {}),
    )


def tune(config: ConfigDict) -> None:
    """Labels and one large net as teachers on the same grid, and a larger validation split."""
    config.evaluate, config.dataset.validation = "validation", 10_000
    config.stages.large.members.seed = 1
    for name in ("consistent", "logit_matching"):
        del config.stages[name]
    for name in ("labels", "distilled"):
        config.stages[name].members.update(
            seed=2, ensemble_size=(), learning_rate=RATES, weight_decay=DECAYS
        )


def shortened(config: ConfigDict, words: list[str]) -> ConfigDict:
    """With the word smoke, two members of everything for a few steps on 500 images."""
    for each in config.stages.values() if "smoke" in words else ():
        each.update(steps=4, chunk=2, batch=20)
        each.optimizer.warmup_steps = 0
        each.members.seed, each.subset.size = 2, 500.0
        if each.members.ensemble_size:
            each.members.ensemble_size = (1, 2)
    return config
