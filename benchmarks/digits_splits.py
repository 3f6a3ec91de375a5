"""What distillation saves on other splits of the digits than README's.

    python -m benchmarks.digits_splits [SEED ...]

A row for each seed: the stages of `configs/ensemble_to_one.py` on a random split of scikit-learn's
1,797 images into 1,000 for training and 797 for the test, as many as in README's split.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import kdjax
from benchmarks.plain_jax import BRIGHTEST
from configs import ensemble_to_one
from kdjax.config import experiment

WORKDIR = Path("runs/digits_splits")
STAGES = ("teachers", "baseline", "distilled", "soft_only", "logit_matching")


def row(seed: int) -> str:
    """A line of the table."""
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = (inputs[order] / BRIGHTEST).astype(np.float32).reshape(-1, 8, 8, 1)
    train, test = slice(0, 1000), slice(1000, None)
    splits = dict(train=(images[train], labels[order][train]))
    splits |= dict(test=(images[test], labels[order][test]))
    config = experiment(dataset=dict(name=kdjax.arrays(**splits)), stages=ensemble_to_one.digits())
    report = kdjax.run(config, WORKDIR / str(seed), quiet=True)
    errors = {found.stage: found for found in report.rows}
    cells = [str(seed)]
    for stage in STAGES:
        cells.append(f"{errors[stage].mean('errors'):.1f} ± {errors[stage].std('errors'):.1f}")
    saved = report.difference("baseline", "distilled", metric="errors")
    cells.append(f"{saved['mean']:.1f} ± {saved['standard_error']:.1f}")
    return f"| {' | '.join(cells)} |"


def main(seeds: Sequence[int]) -> None:
    kdjax.use_machine()
    print(f"| split | {' | '.join(STAGES)} | saved |\n| ---: |{' ---: |' * (len(STAGES) + 1)}")
    for seed in seeds:
        print(row(seed), flush=True)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [1, 2, 3, 4])
