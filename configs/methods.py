"""Every method, each tuned alike, on CIFAR-10: the table of docs/methods.md.

    python -m kdjax.main --config configs/methods.py[:WORD[,WORD ...]]

A word is one of

    cpu    the default: tiny nets on images of 16 pixels, meant for an hour on two CPU cores
    quick  the same for a few methods; neither has been run in full yet
    gpu    ResNet-56 teaches ResNet-20 for 240 epochs, as in RepDistiller (arXiv 1910.10699), but
           with a cosine schedule; not run yet
    smoke  a few steps of some of it

or the names of some methods, such as `dkd,crd`.

Every method has two stages. The first is a grid: its published weight, two smaller and two larger
ones, times two seeds. The second takes the weight with the fewest validation errors, with other
seeds. The report compares the second stages, each with the labels alone and with plain
distillation.
"""

from typing import Any

from ml_collections import ConfigDict

from kdjax.config import experiment, stage
from kdjax.rules import InputError

from .transforms import smoke

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the published weight
# What a term reads: the ends of groups of blocks, or the mean over the pixels of the last one.
LAST, EVERY, POOLED = (2,), (0, 1, 2), ("pooled",)
PLAIN = "kl_divergence"
# The term of each, its weight, and its own numbers; cross_entropy of weight 1 stands beside it. The
# weights are those of the sources divided by that of the labels there, so 9 for 0.9 beside 0.1.
METHODS: dict[str, dict[str, Any]] = {
    PLAIN: dict(weight=9.0, temperature=4.0),
    "reverse_kl": dict(weight=1.0, temperature=4.0),
    "jensen_shannon": dict(weight=1.0, temperature=4.0),
    "skew_kl": dict(weight=1.0, temperature=4.0),
    "logit_matching": dict(weight=0.1),
    "log_softmax_l2": dict(weight=0.1),
    "hard_label": dict(weight=1.0),
    "virtual_teacher": dict(weight=1.0),
    "dkd": dict(weight=1.0, temperature=4.0),
    "nkd": dict(weight=1.0, temperature=3.0, gamma=3.5),
    "ttm": dict(weight=45.0, temperature=10.0),
    "wttm": dict(weight=4.0, temperature=5.0),
    "dist": dict(weight=1.0, temperature=4.0),
    "top_k_kl": dict(weight=1.0, temperature=4.0, k=3),
    "multi_temperature": dict(weight=5.0),
    "standardized": dict(weight=90.0, temperature=2.0),
    "fitnet": dict(weight=100.0, layers=LAST),
    "attention_transfer": dict(weight=1000.0, layers=EVERY),
    "nst": dict(weight=50.0, layers=LAST),
    "vid": dict(weight=1.0, layers=EVERY),
    "ickd": dict(weight=2.5, layers=LAST),
    "review_kd": dict(weight=1.0, layers=EVERY),
    "similarity_preserving": dict(weight=3000.0, layers=LAST),
    "correlation_congruence": dict(weight=1.0, layers=POOLED),
    "rkd_distance": dict(weight=25.0, layers=POOLED),
    "rkd_angle": dict(weight=50.0, layers=POOLED),
    "pkt": dict(weight=30000.0, layers=POOLED),
    "crd": dict(weight=0.8, negatives=1024, layers=POOLED),
    "jacobian_matching": dict(weight=1.0, temperature=4.0),
}
# Views of two images, with no label: function matching (arXiv 2106.05237), longer is better there.
MATCHING = "function_matching"
SMALL = dict(name="resnet", blocks=1, stem=8, channels=(8, 16, 32))
LARGE = dict(name="resnet", blocks=1, stem=16, channels=(16, 32, 64))
QUICK = (PLAIN, "dkd", "standardized", "attention_transfer", "similarity_preserving", MATCHING)
VIEW = dict(shift=2, flip=True)
NETS = dict(student="small", teacher="large")
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)  # of function matching
TEACHERS, CHOOSING, FRESH = 3, 2, 5  # nets of each stage
CPU = dict(batch=100, chunk=300, order="shared")
SMALL_SET = dict(size=10_000.0)


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    names = [*METHODS, MATCHING]
    unknown = [w for w in words if w not in (*names, "cpu", "quick", "gpu", "smoke")]
    if unknown:
        raise InputError(
            f"--config has the words {', '.join(unknown)}; there may be cpu, quick, gpu, smoke and "
            f"methods: {', '.join(names)}"
        )
    asked = [word for word in words if word in names]
    if not asked:
        asked = list(QUICK) if {"quick", "smoke"} & {*words} else names
    large = "gpu" in words
    config = experiment(
        dataset=dict(
            name="cifar10",
            validation=5000 if large else 2000,
            image_size=0 if large else 16,
            normalize="standard",
        ),
        stages=_stages(
            [PLAIN, *(n for n in asked if n != PLAIN)], _of_gpu() if large else _of_cpu()
        ),
    )
    if "smoke" in words:
        smoke(config, examples=500.0)
    return config


def _stages(names: list[str], fields: dict[str, dict[str, Any]]) -> dict[str, ConfigDict]:
    fresh = tuple(range(10, 10 + FRESH))
    stages = {
        "teachers": stage(**fields["large"], members=dict(seed=TEACHERS)),
        "labels": stage(**fields["small"], teacher="teachers", members=dict(seed=fresh)),
    }
    blocks = {net: fields[size]["model"]["blocks"] for net, size in NETS.items()}
    for name in names:
        given = dict(fields["small"], teacher="teachers")
        if name == MATCHING:  # the only term, whose weight AdamW does not feel
            given["augment"] = given["augment"] | dict(mixup=1.0)
            given["objective"] = {PLAIN: 1.0}
            axis: dict[str, Any] = dict(temperature=TEMPERATURES)
        else:
            numbers = _with_layers(METHODS[name], blocks)
            given["objective"] = {name: numbers, "cross_entropy": 1.0}
            axis = {name: dict(weight=tuple(factor * numbers["weight"] for factor in FACTORS))}
        choice = f"choose_{name}"
        stages[choice] = stage(**given, members=dict(seed=CHOOSING, **axis))
        stages[name] = stage(**given, members=dict(seed=fresh), numbers_from=choice)
    return stages


def _with_layers(numbers: dict[str, Any], blocks: dict[str, int]) -> dict[str, Any]:
    """The numbers of a term, with the paths in both nets of the layers that it reads."""
    numbers = dict(numbers)
    layers = numbers.pop("layers", ())
    for net in NETS if layers else ():
        last = lambda group, net=net: f"block{(group + 1) * blocks[net] - 1}"
        paths = tuple(last(layer) if isinstance(layer, int) else layer for layer in layers)
        numbers[net] = paths[0] if len(paths) == 1 else paths
    return numbers


def _of_cpu() -> dict[str, dict[str, Any]]:
    both = dict(CPU, augment=VIEW, subset=SMALL_SET)
    optimizer = dict(learning_rate=0.01, weight_decay=0.05, warmup_steps=50)
    return dict(
        large=dict(both, model=LARGE, steps=3000, optimizer=optimizer),
        small=dict(both, model=SMALL, steps=600, optimizer=optimizer),
    )


def _of_gpu() -> dict[str, dict[str, Any]]:
    epoch = 45_000 // 64
    both = dict(
        batch=64, chunk=epoch, order="shared", steps=240 * epoch, augment=dict(shift=4, flip=True)
    )
    optimizer = dict(name="sgd", learning_rate=0.05, weight_decay=5e-4, momentum=0.9)
    resnet = lambda blocks: dict(name="resnet", blocks=blocks)
    return dict(
        large=dict(both, model=resnet(9), optimizer=optimizer),
        small=dict(both, model=resnet(3), optimizer=optimizer),
    )
