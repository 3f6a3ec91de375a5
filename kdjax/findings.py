"""What the finished stages of an experiment say: its report, and all that is computed for it."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import config as configs
from kdjax import evaluation, metrics, missing
from kdjax.config.spec import ExperimentSpec, cells, grid
from kdjax.data.dataset import Dataset
from kdjax.evaluation import Examined
from kdjax.host import checkpoint, files
from kdjax.host.versions import environment
from kdjax.losses.logits import LOSSES
from kdjax.mixing import ensemble_logits
from kdjax.prepare import Job
from kdjax.report import ENSEMBLE, METRICS, Report, Row, representatives, summarise
from kdjax.report.rows import AMONG
from kdjax.stage import Stage, open_stage
from kdjax.teachers import Teachers, open_teachers

PICTURED = 4  # examples whose soft targets the report shows, chosen among the first AMONG
SOFT = 4.0  # temperature at which the teachers are shown beside a student of T = 1
SHOWN = ("steps", "batch")  # fields that the report shows, though no stage changes them

# Compiled once for all stages of equal shapes.
_mixed = jax.jit(ensemble_logits)
_calibration_of_members = jax.jit(jax.vmap(metrics.calibration, (0, None)))


@dataclass(frozen=True)
class Found:
    """A finished stage on the evaluated split.

    Attributes:
      result: what its directory says.
      stage: the stage, opened.
      rows: one for each cell of its grid.
      places: label of a row to where its members stand in the grid, less those that diverged.
      logits: [M, N, C].
    """

    job: Job
    result: dict[str, Any]
    stage: Stage
    rows: list[Row]
    places: dict[str, list[int]]
    logits: np.ndarray


def report_of(
    config: dict[str, Any], spec: ExperimentSpec, dataset: Dataset, jobs: tuple[Job, ...]
) -> Report:
    """The report of finished stages, on the split that the experiment evaluates."""
    inputs, labels = dataset.whole(spec.evaluate)
    teachers = functools.cache(open_teachers)
    taught = lambda paths: teachers(paths).predict(inputs) if paths else None
    evaluated = functools.cache(lambda paths: Examined(inputs, labels, taught(paths)))
    students = [job for job in jobs if _reads_teachers(job)]
    pictured, soft_targets = max(students, key=_reads_temperature, default=None), None
    names: dict[tuple[Path, ...], str] = {(): ""}
    rows, curves, calibration, lacking, environments, layouts = [], {}, [], [], {}, {}
    for job in jobs:
        if job.teachers not in names:
            name = "+".join(path.name for path in job.teachers)
            name = "+".join(map(str, job.teachers)) if name in names.values() else name
            names[job.teachers] = name
            alike = [other for other in jobs if other.teachers == job.teachers]
            split = evaluated(job.teachers)
            ensembles = _ensembles(name, alike, teachers(job.teachers), split, dataset, spec)
            calibration += _ensembles_calibration(ensembles, split)
            rows += ensembles
        found = _open(job, inputs, spec.evaluate)
        rows += found.rows
        curves |= _curves(found)
        calibration += _calibration(found, labels)
        lacking += _missing(found, teachers(job.teachers), labels, dataset)
        if "environment" in found.result:
            environments[job.stage.name] = found.result["environment"]
        layouts[job.stage.name] = found.result.get("layout")
        if job is pictured:
            soft_targets = _soft_targets(found, evaluated(job.teachers), dataset.class_names)
    return Report(
        rows=tuple(rows),
        dataset=spec.dataset.name,
        evaluate=spec.evaluate,
        examples={name: len(dataset.splits[name]) for name in ("train", "validation", "test")},
        class_names=dataset.class_names,
        environment=environment(),
        environments=environments,
        config=config,
        settings=changed_settings(config["stages"]),
        taught=frozenset(job.stage.name for job in students),
        teaching=frozenset(
            job.stage.name for job in jobs if any(job.directory in j.teachers for j in jobs)
        ),
        mixtures={
            job.stage.name: "arithmetic" for job in jobs if job.teachers
        },  # as eval_step does
        curves=curves,
        calibration=tuple(calibration),
        soft_targets=soft_targets,
        missing=tuple(lacking),
        layouts=layouts,
    )


def changed_settings(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{stage: {field: value}} of the fields in which any stage is not as `config.stage` makes it,
    and of SHOWN; inner fields as "optimizer.learning_rate"."""
    default = _flat(configs.stage().to_dict())
    given = {name: _flat(fields) for name, fields in stages.items()}
    changed = {
        field: None
        for fields in given.values()
        for field, value in fields.items()
        if field in SHOWN or value != default.get(field)
    }
    ordered = sorted(changed, key=list(dict.fromkeys(f for g in given.values() for f in g)).index)
    return {n: {f: fields[f] for f in ordered if f in fields} for n, fields in given.items()}


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"optimizer.learning_rate": 0.1, ...} from nested fields."""
    flat = {}
    for name, value in fields.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{path}{name}.") if inner else {path + str(name): value}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}


def _reads_teachers(job: Job) -> bool:
    return LOSSES[job.stage.loss].teacher


def _reads_temperature(job: Job) -> bool:
    return "temperature" in LOSSES[job.stage.loss].hparams


def _open(job: Job, inputs: np.ndarray, split: str) -> Found:
    """The stage, with a row for each cell of its grid, over its seeds."""
    result, members = checkpoint.results(job.directory), grid(job.stage)
    stage = open_stage(job.directory)
    rows, healthy = [], {}
    for here, places in cells(job.stage):
        measured = {
            name: _summaries(result["metrics"][name], places, result["diverged"])
            for name in ("validation", split)
        }
        row = Row(
            stage=job.stage.name,
            cell=here,
            seeds=tuple(members[i]["seed"] for i in places),
            members=len(places),
            diverged=sum(result["diverged"][i] for i in places),
            metrics=measured[split],
            validation_errors=measured["validation"]["errors"]["mean"],
            **_cost(result),
            seconds=result["seconds"] * len(places) / len(members),
        )
        rows.append(row)
        healthy[row.label] = [i for i in places if not result["diverged"][i]]
    return Found(job, result, stage, rows, healthy, stage.predict(inputs))


def _ensembles(
    name: str,
    jobs: Sequence[Job],
    teachers: Teachers,
    split: Examined,
    dataset: Dataset,
    spec: ExperimentSpec,
) -> list[Row]:
    """The teachers of these jobs as one classifier: all of them and, where students of theirs learn
    from the first so many, the first so many."""
    seconds = sum(checkpoint.results(path)["seconds"] for path in jobs[0].teachers)
    whole, count = checkpoint.results(jobs[0].directory)["teacher"], teachers.count
    sizes = {member["ensemble_size"] or count for job in jobs for member in grid(job.stage)}
    rows = []
    for size in sorted(sizes | {count}):
        measured = whole
        if size < count:
            logits = split.teacher_logits[:size]
            measured = evaluation.ensemble_cost(teachers.first(size), evaluation.example(dataset))
            measured["metrics"] = {spec.evaluate: evaluation.ensemble_metrics(logits, split.labels)}
        values = {metric: [v] for metric, v in measured["metrics"][spec.evaluate].items()}
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
        )
        rows.append(row)
    return rows


def _missing(
    found: Found, teachers: Teachers, labels: np.ndarray, dataset: Dataset
) -> Iterator[dict[str, Any]]:
    """What each cell of a stage with teachers makes of the classes that its subset left out."""
    classes = missing.missing_classes(found.job.stage.subset, dataset.classes)
    if not classes or not teachers.count:
        return
    inputs, _ = dataset.whole("validation")
    taught, unlabelled = teachers.predict(inputs), found.stage.predict(inputs)
    _, hparams, _ = checkpoint.open_variables(found.job.directory)
    for label, here in found.places.items():
        if here:
            mixed = [_mixed(taught, 1.0, weights=hparams["mixing"][m]) for m in here]
            students = unlabelled[here], np.stack(mixed), found.logits[here]
            yield {"label": label, **missing.examine(*students, labels, classes)}


def _calibration(found: Found, labels: np.ndarray) -> list[dict[str, Any]]:
    """How often the members of a stage are right, by how sure they are."""
    shown = representatives(found.rows)
    return [_bins(row, found.logits[found.places[row.label]], labels) for row in shown]


def _ensembles_calibration(rows: Sequence[Row], split: Examined) -> list[dict[str, Any]]:
    """The same of ensembles."""
    logits, bins = split.teacher_logits, []
    for row in representatives(rows):
        size = row.cell.get("ensemble_size", len(logits))
        bins.append(_bins(row, _mixed(logits[:size], 1.0)[None], split.labels))
    return bins


def _bins(row: Row, logits: jax.Array | np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {"label": row.label} | files.strict(_calibration_of_members(logits, labels))


def _cost(result: dict[str, Any]) -> dict[str, Any]:
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

    def healthy(values: Sequence[float], places: Sequence[int]) -> list[float | None]:
        return [None if diverged[i] else values[i] for i in places]

    return {
        row.label: {
            "step": [line["step"] for line in lines],
            "loss": [healthy(line["loss"], places) for line in lines],
            "validation_accuracy": [
                healthy(line["validation"]["accuracy"], places) for line in lines
            ],
        }
        for row, (_, places) in zip(found.rows, cells(found.job.stage), strict=True)
    }


def _soft_targets(
    found: Found, split: Examined, class_names: tuple[str, ...]
) -> dict[str, Any] | None:
    """What teachers and their students say of a few examples, each of another class, that the
    teachers are least sure of."""
    teachers, job = split.teacher_logits, found.job
    mean = lambda logits, t: np.exp(np.asarray(_mixed(logits, t)) / t)  # [N, C]
    ranked = np.sort(mean(teachers[:, :AMONG], 1.0), axis=1)
    unsure = np.argsort(ranked[:, -1] - ranked[:, -2])
    _, first = np.unique(split.labels[unsure], return_index=True)
    chosen = unsure[np.sort(first)][:PICTURED]
    if not representatives(found.rows):
        return None
    [row] = representatives(found.rows)
    places = found.places[row.label]
    temperature = grid(job.stage)[places[0]]["temperature"] if _reads_temperature(job) else 1.0
    title = f"mean of {len(teachers)} teachers" if len(teachers) > 1 else "the teacher"
    shown = {
        f"{title}\nT = {t:g}": mean(teachers[:, chosen], t)
        for t in (1.0, SOFT if temperature == 1 else temperature)
    }
    student = mean(found.logits[places][:, chosen], temperature)
    shown[f"{row.label}\nn = {len(places)}, T = {temperature:g}"] = student
    return {
        "images": split.inputs[chosen] if split.inputs.ndim == 4 else None,
        "labels": split.labels[chosen].tolist(),
        "distributions": shown,
        "class_names": class_names,
    }
