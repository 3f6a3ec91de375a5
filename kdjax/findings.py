"""What the finished stages of an experiment say: its report, and all that is computed for it."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from kdjax import evaluation, metrics, missing, mistakes
from kdjax.config.settings import settings_of
from kdjax.config.spec import ExperimentSpec, StageSpec, cells, grid, plain
from kdjax.data import SPLITS, Dataset, left_out, numbered, numbers
from kdjax.evaluation import Evaluated, EvaluatedSplit
from kdjax.host import checkpoint, files
from kdjax.host.versions import environment
from kdjax.identity import another
from kdjax.losses import ensemble_logits
from kdjax.prepare import Job
from kdjax.report import ENSEMBLE, METRICS, Report, Row, representatives, words
from kdjax.report.rows import AMONG
from kdjax.stage import Stage
from kdjax.statistics import summarise

PICTURED = 4  # examples whose soft targets the report shows, chosen among the first AMONG
SOFT = 4.0  # temperature at which the teachers are shown beside a student of T = 1


_mix = jax.jit(ensemble_logits, static_argnames="mean")
_calibrations = jax.jit(jax.vmap(metrics.calibration, (0, None)))


@dataclass(frozen=True)
class Found:
    """What a finished stage says of the evaluated split; its nets are not needed any more.

    Attributes:
      evaluated: the splits as the stage's teachers see them.
      result: what its directory says.
      rows: one for each cell of its grid.
      places: label of a row to where its members stand in the grid, less those that diverged.
      logits: [M, N, C].
      missing: as `missing.examine` returns it, for each cell.
    """

    job: Job
    evaluated: Evaluated
    result: dict[str, Any]
    rows: list[Row]
    places: dict[str, list[int]]
    logits: np.ndarray
    missing: list[dict[str, Any]]


def report_of(
    spec: ExperimentSpec, dataset: Dataset, stages: Sequence[Found], name: str = ""
) -> Report:
    """The report of finished stages, in their order, on the split that the experiment evaluates.

    Args:
      name: of the experiment.
    """
    split = spec.evaluate
    jobs = [found.job for found in stages]
    students = [found for found in stages if found.job.stage.taught]
    answered = [found for found in students if found.evaluated.ensemble]
    pictured = max(answered, key=lambda found: found.job.stage.reads_temperature, default=None)
    rows: list[Row] = []
    calibration: list[dict[str, Any]] = []
    class_errors: dict[str, list[list[int]]] = {}
    names: dict[Evaluated, str] = {}  # whose ensembles have their rows, by their names
    for found in stages:
        seen = found.evaluated
        if seen.ensemble and split in seen.ensemble["metrics"] and seen not in names:
            assert seen.teacher is not None
            names[seen] = another(seen.teacher.name, names.values())
            alike = [other.job for other in stages if other.evaluated is seen]
            ensembles = _ensembles(seen, names[seen], alike, dataset, split)
            calibration += _ensembles_calibration(ensembles, seen.splits[split])
            rows += ensembles
        rows += found.rows
        calibration += _calibration(found, seen.splits[split].labels)
        class_errors |= _class_errors(found, seen.splits[split].labels)
    soft_targets = None
    if pictured is not None:
        seen_there = pictured.evaluated.splits[split]
        soft_targets = _soft_targets(pictured, seen_there, dataset.class_names)
    shown = stages[0].evaluated.splits[split]
    return Report(
        name=name,
        rows=tuple(rows),
        dataset=dataset.name,
        evaluate=split,
        examples={name: len(dataset.splits[name]) for name in SPLITS},
        class_names=dataset.class_names,
        class_counts=tuple(np.bincount(shown.labels, minlength=dataset.classes).tolist()),
        environment=environment(),
        environments={
            found.job.stage.name: found.result["environment"]
            for found in stages
            if "environment" in found.result
        },
        config=plain(spec) | {"stages": {job.stage.name: plain(job.stage) for job in jobs}},
        settings=settings_of([_named(job.stage, dataset.class_names) for job in jobs]),
        taught=frozenset(found.job.stage.name for found in students),
        teachers={
            job.stage.name: tuple(t for t in job.teachers if isinstance(t, str))
            for job in jobs
            if job.teachers
        },
        ensembles={
            found.job.stage.name: names[found.evaluated] + ENSEMBLE
            for found in stages
            if found.evaluated in names
        },
        mixtures={job.stage.name: job.stage.mean for job in jobs if job.teachers},
        curves={label: curve for found in stages for label, curve in _curves(found).items()},
        calibration=tuple(calibration),
        soft_targets=soft_targets,
        class_errors=class_errors,
        mistakes=_mistakes(students or stages, shown, dataset.class_names),
        missing=tuple(each for found in stages for each in found.missing),
        layouts={found.job.stage.name: found.result.get("layout") for found in stages},
    )


def _named(stage: StageSpec, class_names: tuple[str, ...]) -> StageSpec:
    """The stage, the classes of its subset by name where they have names."""
    if class_names == numbered(len(class_names)):
        return stage

    def names(field: str) -> tuple[str, ...]:
        given = getattr(stage.subset, field)
        return tuple(class_names[c] for c in numbers(given, class_names, f"subset.{field}"))

    subset = dataclasses.replace(stage.subset, classes=names("classes"), without=names("without"))
    return dataclasses.replace(stage, subset=subset)


def find(job: Job, stage: Stage, evaluated: Evaluated, dataset: Dataset, split: str) -> Found:
    """The stage, with a row for each cell of its grid, over its seeds."""
    result, members = checkpoint.results(job.directory), grid(job.stage)
    rows, healthy = [], {}
    logits = stage.predict(evaluated.splits[split].inputs)
    blind = mistakes.unlearned(logits, evaluated.splits[split].labels)
    for here, places in cells(job.stage):
        measured = {
            name: _summaries(result["metrics"][name], places, result["diverged"])
            for name in ("validation", split)
        }
        row = Row(
            stage=job.stage.name,
            cell=here,
            seeds=tuple(int(members[i]["seed"]) for i in places),
            members=len(places),
            diverged=sum(result["diverged"][i] for i in places),
            metrics=measured[split],
            validation_errors=measured["validation"]["errors"]["mean"],
            **_cost(result),
            seconds=result["seconds"] * len(places) / len(members),
            unlearned=sum(bool(blind[i]) for i in places if not result["diverged"][i]),
        )
        rows.append(row)
        healthy[row.label] = [i for i in places if not result["diverged"][i]]
    lacking = _missing(job, stage, evaluated, healthy, logits, dataset, split)
    return Found(job, evaluated, result, rows, healthy, logits, list(lacking))


def warnings(found: Found, split: str) -> list[str]:
    """Which rows of a stage have members that are no better than guessing, in words."""
    labels = found.evaluated.splits[split].labels
    guessing = len(labels) - int(np.bincount(labels).max())
    lines = [words.warning(row, guessing, len(labels)) for row in found.rows]
    return [line for line in lines if line]


def _ensembles(
    evaluated: Evaluated,
    name: str,
    jobs: Sequence[Job],
    dataset: Dataset,
    split: str,
) -> list[Row]:
    """The teachers of these jobs as one classifier: all of them and, where students of theirs learn
    from the first so many, the first so many."""
    teacher, logits = evaluated.teacher, evaluated.splits[split].teacher_logits
    assert teacher is not None and logits is not None and evaluated.ensemble is not None
    labels, count = evaluated.splits[split].labels, len(logits)
    kept = [stage for stage in teacher.stages if stage.path is not None]
    seconds = sum(checkpoint.results(stage.path)["seconds"] for stage in kept if stage.path)
    if sum(len(stage.members) for stage in kept) < count:
        seconds = math.nan  # of others, how long they trained is not known
    sizes = {int(m.get("ensemble_size", 0)) or count for job in jobs for m in grid(job.stage)}
    rows = []
    for size in sorted(sizes | {count}):
        measured: dict[str, Any] = evaluated.ensemble
        if size < count:
            costs = evaluation.ensemble_cost(teacher.part(size), evaluation.example(dataset))
            found = evaluation.ensemble_metrics(logits[:size], labels)
            measured = {**costs, "metrics": {split: found}}
        values = {metric: [v] for metric, v in measured["metrics"][split].items()}
        row = Row(
            stage=name + ENSEMBLE,
            cell={} if sizes == {count} else {"ensemble_size": size},
            seeds=(),
            members=1,
            diverged=0,
            metrics=_summaries(values, [0], [False]),
            validation_errors=None,
            **_cost(measured),
            seconds=seconds * size / count,
            unlearned=int(mistakes.unlearned(_mix(logits[:size], 1.0)[None], labels)[0]),
        )
        rows.append(row)
    return rows


def _missing(
    job: Job,
    opened: Stage,
    evaluated: Evaluated,
    places: Mapping[str, list[int]],
    logits: np.ndarray,
    dataset: Dataset,
    split: str,
) -> Iterator[dict[str, Any]]:
    """What each cell of a stage with teachers makes of the classes that its subset left out."""
    stage, validation = job.stage, evaluated.splits["validation"]
    classes = left_out(stage.subset, dataset.class_names)
    if not classes or validation.teacher_logits is None:
        return
    unlabelled = opened.predict(validation.inputs)
    hparams = checkpoint.open_hparams(job.directory)
    mixed = lambda m: _mix(validation.teacher_logits, 1.0, stage.mean, hparams["mixing"][m])
    for label, here in places.items():
        if here:
            taught = np.stack([mixed(m) for m in here])
            labels = evaluated.splits[split].labels
            students = unlabelled[here], taught, logits[here]
            yield {"label": label, **missing.examine(*students, labels, classes)}


def _calibration(found: Found, labels: np.ndarray) -> list[dict[str, Any]]:
    """How often the members of a stage are right, by how sure they are."""
    shown = representatives(found.rows)
    return [_bins(row, found.logits[found.places[row.label]], labels) for row in shown]


def _class_errors(found: Found, labels: np.ndarray) -> dict[str, list[list[int]]]:
    """The errors on each class of the rows that stand for their stage."""
    members = {row.label: found.places[row.label] for row in representatives(found.rows)}
    return {
        name: mistakes.by_class(found.logits[places], labels).tolist()
        for name, places in members.items()
    }


def _mistakes(
    stages: Sequence[Found], split: EvaluatedSplit, names: tuple[str, ...]
) -> dict[str, Any] | None:
    """What the row with the fewest validation errors gets wrong."""
    rows = [(row, found) for found in stages for row in representatives(found.rows)]
    if not rows:
        return None
    row, found = min(rows, key=lambda each: each[0].validation_errors or 0.0)
    logits = found.logits[found.places[row.label]]
    shown = mistakes.pictured(split.inputs, logits, split.labels, names)
    return shown and {"label": row.label} | shown


def _ensembles_calibration(rows: Sequence[Row], evaluated: EvaluatedSplit) -> list[dict[str, Any]]:
    """The same of ensembles."""
    logits, bins = evaluated.teacher_logits, []
    assert logits is not None
    for row in representatives(rows):
        size = row.cell.get("ensemble_size", len(logits))
        bins.append(_bins(row, _mix(logits[:size], 1.0)[None], evaluated.labels))
    return bins


def _bins(row: Row, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found = metrics.without_empty_bins(_calibrations(logits, labels))
    return {"label": row.label} | files.strict(found)


def _cost(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("parameters", "flops_per_example", "latency_ms")}


def _summaries(values: dict[str, list], places: list[int], diverged: list[bool]) -> dict[str, Any]:
    return {
        name: summarise(
            [values[name][i] if name in values and not diverged[i] else None for i in places]
        )
        for name in METRICS
    }


def _curves(found: Found) -> dict[str, dict[str, list]]:
    """{label of a row: the training curves of its members}."""
    lines, diverged = checkpoint.read_metrics(found.job.directory), found.result["diverged"]

    def keep(values: Sequence[float], places: Sequence[int]) -> list[float | None]:
        return [None if diverged[i] else values[i] for i in places]

    return {
        row.label: {
            "step": [line["step"] for line in lines],
            "loss": [keep(line["loss"], places) for line in lines],
            "validation_accuracy": [keep(line["validation"]["accuracy"], places) for line in lines],
        }
        for row, (_, places) in zip(found.rows, cells(found.job.stage), strict=True)
    }


def _soft_targets(
    found: Found, evaluated: EvaluatedSplit, class_names: tuple[str, ...]
) -> dict[str, Any] | None:
    """What teachers and their students say of a few examples, each of another class, that the
    teachers are least sure of."""
    teachers, job = evaluated.teacher_logits, found.job
    assert teachers is not None
    mean = lambda logits, t: np.exp(np.asarray(_mix(logits, t)) / t)  # [N, C]
    ranked = np.sort(mean(teachers[:, :AMONG], 1.0), axis=1)
    unsure = np.argsort(ranked[:, -1] - ranked[:, -2])
    _, first = np.unique(evaluated.labels[unsure], return_index=True)
    chosen = unsure[np.sort(first)][:PICTURED]
    if not representatives(found.rows):
        return None
    [row] = representatives(found.rows)
    places = found.places[row.label]
    temperature = grid(job.stage)[places[0]].get("temperature", 1.0)
    title = f"mean of {len(teachers)} teachers" if len(teachers) > 1 else "the teacher"
    shown = {
        f"{title}\nT = {t:g}": mean(teachers[:, chosen], t)
        for t in (1.0, SOFT if temperature == 1 else temperature)
    }
    student = mean(found.logits[places][:, chosen], temperature)
    shown[f"{row.label}\nn = {len(places)}, T = {temperature:g}"] = student
    return {
        "images": evaluated.inputs[chosen] if evaluated.inputs.ndim == 4 else None,
        "labels": evaluated.labels[chosen].tolist(),
        "distributions": shown,
        "class_names": class_names,
    }
