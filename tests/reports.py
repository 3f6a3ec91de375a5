"""Reports to test with: errors of a few nets on the 797 digits of a test split."""

import functools

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from kdjax import metrics
from kdjax.host import files
from kdjax.missing import examine
from kdjax.report import ENSEMBLE, METRICS, Report, Row, representatives
from kdjax.statistics import summarise

STUDENT = [31, 28, 35, 30, 26]
BASELINE = [36, 33, 38, 37, 29]
EPOCHS = range(1, 13)
RATES = (0.002, 0.01, 0.05)
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "kdjax": None, "jax": "0.10.2"},
    "platform": "Linux",
    "device": "cpu",
    "devices": 2,
    "cpus": 2,
    "command": "python -m kdjax.main --config=configs/digits.py",
}


def row(stage, errors, cell=None, compared=False, **fields):
    """A row of 797 test examples; the other metrics, with a teacher or not, follow the errors."""
    shares = [None if e is None else e / 797 for e in errors]
    values = dict.fromkeys(METRICS, shares) | {"errors": errors}
    values["accuracy"] = [None if s is None else 1 - s for s in shares]
    if not compared:
        values |= dict.fromkeys(("agreement", "teacher_kl"), [None] * len(errors))
    defaults = {"parameters": 2410, "flops_per_example": 4820.0, "latency_ms": 0.02, "seconds": 3.5}
    alone = stage.endswith(ENSEMBLE)
    defaults["seeds"] = () if alone else tuple(range(len(errors)))
    defaults["validation_errors"] = None if alone else summarise(errors)["mean"]
    return Row(
        stage=stage,
        cell=cell or {},
        members=len(errors),
        diverged=sum(e is None for e in errors),
        metrics={name: summarise(values[name]) for name in METRICS},
        **defaults | fields,
    )


def a_report(*rows, **fields):
    """A report of stages some of which learn from "teachers"."""
    defaults = {"dataset": "digits", "evaluate": "test", "class_names": tuple("0123456789")}
    defaults |= {"examples": {"train": 800, "validation": 200, "test": 797}}
    defaults |= {"config": {"dataset": {"name": "digits"}}, "environment": ENVIRONMENT}
    defaults |= {"environments": {row.stage: ENVIRONMENT for row in rows if not row.is_ensemble}}
    defaults |= {"class_counts": (79, 80, 77, 79, 83, 82, 80, 80, 76, 81)}
    taught = ("distilled", "sweep", "students")
    defaults |= {"taught": frozenset(taught), "teachers": dict.fromkeys(taught, ("teachers",))}
    defaults |= {"ensembles": dict.fromkeys((*taught, "baseline"), "teachers/ensemble")}
    return Report(rows=rows, **defaults | fields)


@functools.cache
def a_missing():
    """Two linear nets that never saw a three, as `missing.examine` describes them."""
    digits = load_digits()
    inputs, labels = digits.data / 16, digits.target
    train, validation, test = slice(0, 900), slice(900, 1200), slice(1200, None)
    splits = {"validation": validation, "test": test}

    def logits(seed, seen):
        model = MLPClassifier((16,), random_state=seed, max_iter=15, learning_rate_init=0.01)
        model.partial_fit(inputs[train][:1], labels[train][:1], classes=range(10))
        rows = np.flatnonzero(seen(labels[train]))
        for _ in range(15):
            model.partial_fit(inputs[train][rows], labels[train][rows])
        return {n: model.predict_log_proba(inputs[s]) for n, s in splits.items()}

    students = [logits(seed, lambda y: y != 3) for seed in range(2)]
    unlabelled, test = (np.stack([s[name] for s in students]) for name in splits)
    teacher = np.stack([logits(2, lambda y: y >= 0)["validation"]] * 2)
    return {"label": "without_3"} | examine(unlabelled, teacher, test, labels[1200:], (3,))


def small():
    return a_report(
        row("teachers", [24, 25, 23], parameters=85002, flops_per_example=170004.0),
        row("teachers/ensemble", [21], parameters=255006),
        row("baseline", BASELINE, compared=True),
        row("distilled", STUDENT, compared=True),
        row("sweep", [30, None, 34], {"temperature": 4.0}, compared=True),
        row("sweep", [29, 33, 32], {"temperature": 0.5}, compared=True),
    )


def a_mistake():
    """The arguments of `figures.mistakes`, of three digits."""
    images, labels = load_digits().images[:3, ..., None], [0, 1, 2]
    found = {"images": images, "labels": labels, "answers": [8, 7, 1], "counts": [4, 3, 1]}
    return found | {"members": 4, "class_names": tuple("0123456789"), "label": "students"}


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


@functools.cache
def study():
    """Nets of scikit-learn on its digits: curves, rows and soft targets as a report has them."""
    digits = load_digits()
    inputs, labels = digits.data / 16, digits.target
    train, validation, test = slice(0, 900), slice(900, 1000), slice(1000, None)

    def net(width, seed, rate):
        model = MLPClassifier((width,), random_state=seed, learning_rate_init=rate, batch_size=100)
        curve = []
        for _ in EPOCHS:
            model.partial_fit(inputs[train], labels[train], classes=range(10))
            curve.append((model.loss_, model.score(inputs[validation], labels[validation])))
        return model, curve

    def population(width, rate, seeds):
        nets = [net(width, seed, rate) for seed in range(seeds)]
        loss, accuracy = np.array([curve for _, curve in nets]).transpose(2, 1, 0)
        curve = {"step": [9 * e for e in EPOCHS], "loss": loss, "validation_accuracy": accuracy}
        logits = np.array([model.predict_log_proba(inputs[test]) for model, _ in nets])
        return logits, curve, (logits.argmax(axis=2) != labels[test]).sum(axis=1).tolist()

    def bins(name, logits):
        found = jax.vmap(metrics.calibration, (0, None))(logits, labels[test])
        return {"label": name} | files.strict(metrics.without_empty_bins(found))

    teachers, curve, wrong = population(64, 0.003, 3)
    p = np.exp(teachers).mean(axis=0)
    together = int((p.argmax(axis=1) != labels[test]).sum())
    rows = [row("teachers", wrong, parameters=4810)]
    rows.append(row("teachers/ensemble", [together], parameters=3 * 4810))
    curves = {"teachers": curve}
    calibration = [bins("teachers", teachers), bins("teachers/ensemble", np.log(p)[None])]
    found = {}
    for rate in RATES:
        students, curve, wrong = population(8, rate, 4)
        rows.append(row("students", wrong, {"learning_rate": rate}, compared=True, parameters=610))
        curves[rows[-1].label] = curve
        found[rows[-1].label] = bins(rows[-1].label, students)
    calibration.append(found[representatives(rows)[-1].label])
    unsure = np.argsort(p.max(axis=1))[:3]
    powers = {f"teachers\nT = {t}": p[unsure] ** (1 / t) for t in (1, 4)}
    soft_targets = {
        "images": digits.images[test][unsure],
        "labels": labels[test][unsure].tolist(),
        "distributions": {k: q / q.sum(axis=1, keepdims=True) for k, q in powers.items()},
        "class_names": tuple("0123456789"),
    }
    return a_report(
        *rows,
        curves=curves,
        calibration=tuple(calibration),
        soft_targets=soft_targets,
    )
