"""The table of the paper's MNIST section (arXiv 1503.02531, section 3), with error bars.

    python -m kdjax.main --config configs/mnist.py[:WORD[,WORD ...]]

    paper  full length, for a GPU or a TPU: 279 seconds on one H100
    cpu    the default: under two hours on two CPU cores
    quick  under half an hour on two CPU cores
    smoke  a few steps of everything

Large nets with jittered inputs, small nets on labels alone, and small nets taught by the first
large net, by ensembles of the first so many, on the images as they are or on the same jittered
views as their teachers. How the numbers were chosen: configs/mnist_tune.py. Results: docs/mnist.md.
"""

from dataclasses import dataclass

from ml_collections import ConfigDict

from kdjax.config import experiment, stage
from kdjax.rules import InputError

from .transforms import smoke

TRAIN, VALIDATION, BATCH = 59_000, 1_000, 250  # examples
EPOCH = TRAIN // BATCH  # steps; of fewer images, so many steps are more than an epoch
SMALL = dict(name="mlp", hidden=(800, 800))
LABELS, SOFT = dict(cross_entropy=1.0), dict(kl_divergence=1.0)
CLIP = 5.0  # with AdamW, what keeps the large gradients of a high temperature harmless
# Dropout, length and optimizer were chosen on validation data; rate, decay and clipping were set.
# The paper's nets drop half of the hidden units and a fifth of the inputs, and learn more slowly.
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
    chunk_epochs: int  # between two checkpoints: 11 seconds at most, of `paper` on an H100
    seeds: int
    ensembles: tuple[int, ...]  # sizes; 1 is the single large net


LENGTHS = {
    "paper": Length(
        large_epochs=200,
        large_nets=10,
        label_epochs=40,
        soft_epochs=40,
        view_epochs=400,
        sweep_epochs=40,
        chunk_epochs=10,
        seeds=10,
        ensembles=tuple(range(1, 11)),
    ),
    "cpu": Length(
        large_epochs=60,
        large_nets=6,
        label_epochs=20,
        soft_epochs=30,
        view_epochs=160,
        sweep_epochs=15,
        chunk_epochs=1,
        seeds=6,
        ensembles=(1, 6),  # more would cost what longer training needs
    ),
    "quick": Length(
        large_epochs=10,
        large_nets=6,
        label_epochs=10,
        soft_epochs=12,
        view_epochs=20,
        sweep_epochs=4,
        chunk_epochs=1,
        seeds=4,
        ensembles=(1, 2, 6),
    ),
}


def get_config(argument: str = "") -> ConfigDict:
    length, config, words = read_words(argument)
    config.stages.large = large(length, length.large_nets)
    config.stages.labels = small(length, length.label_epochs, objective=LABELS)
    config.stages.distilled = small(
        length,
        length.soft_epochs,
        objective=SOFT,
        temperature=20.0,
        members=dict(ensemble_size=length.ensembles),
    )
    config.stages.consistent = small(
        length,
        length.view_epochs,
        objective=SOFT,
        temperature=4.0,
        teacher_logits="live",
        order="shared",  # one forward pass of the teachers for all students
        augment=dict(shift=2),
    )
    config.stages.logit_matching = small(
        length, length.soft_epochs, objective=dict(logit_matching=1.0), mean="geometric"
    )
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


def large(length: Length, nets: int, epochs: int | None = None) -> ConfigDict:
    """Large nets as in the paper: dropout, inputs jittered by up to two pixels, norms limited."""
    return stage(
        **LARGE,
        augment=dict(shift=2),
        steps=EPOCH * (epochs or length.large_epochs),
        batch=BATCH,
        chunk=EPOCH * length.chunk_epochs,
        members=dict(seed=nets),
    )


def small(
    length: Length,
    epochs: int,
    learning_rate: float = 4e-3,  # by configs/mnist_tune.py, for labels and soft targets
    hidden: tuple[int, ...] = SMALL["hidden"],
    members: dict | None = None,
    **fields,
) -> ConfigDict:
    """The paper's small net, with no regularisation but what its teacher gives."""
    if fields["objective"] != LABELS:
        fields = dict(teacher_logits="cached") | fields
    return stage(
        model=SMALL | dict(hidden=hidden),
        optimizer=dict(learning_rate=learning_rate, clip_norm=CLIP, warmup_steps=EPOCH // 4),
        steps=EPOCH * epochs,
        batch=BATCH,
        chunk=EPOCH * length.chunk_epochs,
        **dict(teacher="large") | fields,
        members=dict(seed=length.seeds) | (members or {}),
    )


def shortened(config: ConfigDict, words: list[str]) -> ConfigDict:
    """With the word smoke, two members of everything for a few steps on 500 images."""
    if "smoke" in words:
        smoke(config, examples=500.0)
    return config
