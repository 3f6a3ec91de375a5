"""Logits of two teachers on scikit-learn's digits, saved to files, and the data they are of."""

import numpy as np
from digits import arrays

import kdjax
from kdjax import experiment, logits_file, prepare
from kdjax.config import parse

IMAGES, LABELS = arrays()
DATA = kdjax.arrays(train=(IMAGES[:150], LABELS[:150]), test=(IMAGES[150:], LABELS[150:]))
SPLITS = {split: kdjax.examples(DATA, split) for split in logits_file.SPLITS}
INPUTS = {split: inputs for split, (inputs, _) in SPLITS.items()}
NAMES = tuple("0123456789")
RANDOM = np.random.default_rng(0)
LOGITS = {
    split: (3 * np.eye(10)[labels] + RANDOM.normal(size=(2, len(labels), 10))).astype(np.float32)
    for split, (_, labels) in SPLITS.items()
}


def save(folder, kind="npz", inputs=INPUTS, names=NAMES, **changes):
    """The path of a file of that kind, of the logits with these changes."""
    path = folder / f"teachers.{kind}"
    kdjax.save_logits(path, LOGITS | changes, inputs, names)
    return path


def fits(teacher, data=DATA, **fields):
    """The teacher of a student on the data, if nothing speaks against it; nothing is trained."""
    stage = dict(teacher=teacher, objective=dict(kl_divergence=1.0), batch=10) | fields
    spec = parse(dict(dataset=data, stages=dict(s=stage)))
    (job,) = prepare.prepare(spec, experiment.load(spec), prepare.Path("never-written"))
    return job.teachers[0]
