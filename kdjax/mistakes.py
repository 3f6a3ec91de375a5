"""Where nets are wrong: by class, on which examples, and whether they have learned anything.

Axes: M members, N examples, C classes.
"""

from typing import Any

import numpy as np

PICTURED = 24  # examples, at most
LEAST = 0.05  # of the way from guessing to no error, which a net that has learned has gone


def unlearned(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[M] whether a net is no better than guessing: it makes no fewer errors than always naming the
    most frequent class, or its answers fit the labels no better than by chance (within two standard
    errors, or with a kappa below LEAST; Cohen, 1960), as those of a net that always says the same.

    Args:
      logits: [M, N, C].
      labels: [N].
    """
    answers, count, classes = logits.argmax(axis=2), len(labels), logits.shape[2]
    right = (answers == labels[None]).mean(axis=1)
    shares = np.bincount(labels, minlength=classes) / count
    answers = np.array([np.bincount(s, minlength=classes) for s in answers]) / count
    chance = answers @ shares
    margin = np.maximum(2 * np.sqrt(chance * (1 - chance) / count), LEAST * (1 - chance))
    return (right <= shares.max()) | (right <= chance + margin)


def by_class(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[M, C] errors on the examples of each class."""
    wrong = logits.argmax(axis=2) != labels[None]
    return np.stack([np.bincount(labels[w], minlength=logits.shape[2]) for w in wrong])


def pictured(
    images: np.ndarray, logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any] | None:
    """The arguments of `figures.mistakes`: the examples that most members get wrong, with what most
    of those say; None if there is none, or the inputs are no images.

    Args:
      images: [N, H, W, channels].
      logits: [M, N, C].
      labels: [N].
    """
    answers = logits.argmax(axis=2)
    wrong = answers != labels[None]
    counts = wrong.sum(axis=0)
    shown = np.argsort(-counts, kind="stable")[: min(PICTURED, np.count_nonzero(counts))]
    if images.ndim != 4 or not len(shown):
        return None
    return {
        "images": images[shown],
        "labels": labels[shown].tolist(),
        "answers": [int(np.bincount(answers[wrong[:, i], i]).argmax()) for i in shown],
        "counts": counts[shown].tolist(),
        "members": len(logits),
        "class_names": classes,
    }
