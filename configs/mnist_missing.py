"""Knowing a digit one never saw (arXiv 1503.02531, section 3): transfer sets without some classes.

    python -m kdjax.main --config configs/mnist_missing.py[:WORD[,WORD ...]]

The words are those of configs/mnist.py. One large net, which knows all ten digits,
teaches small nets on all images, on those without 3s and on 7s and 8s alone; a net on labels
without 3s is the control. The report repairs the biases of the missing classes. Results:
docs/mnist.md.
"""

from ml_collections import ConfigDict

from .mnist import LABELS, SOFT, large, read_words, shortened, small

VALIDATION = 5_000  # images, whose labels are not used, by which biases are repaired


def get_config(argument: str = "") -> ConfigDict:
    length, config, words = read_words(argument)
    config.dataset.validation = VALIDATION
    config.stages.large = large(length, nets=1)
    taught = dict(objective=SOFT, temperature=20.0)
    for name, subset in (
        ("all_digits", {}),
        ("without_3", dict(without=(3,))),
        ("only_7_8", dict(classes=(7, 8))),
    ):
        config.stages[name] = small(length, length.soft_epochs, **taught, subset=subset)
    config.stages.labels_without_3 = small(
        length, length.label_epochs, objective=LABELS, subset=dict(without=(3,))
    )
    return shortened(config, words)
