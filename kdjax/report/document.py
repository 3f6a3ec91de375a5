"""What a report says: the values that `templates/content.jinja` puts into words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kdjax.report import table
from kdjax.report.report import Report
from kdjax.report.rows import AMONG, count_members, summarise, swept
from kdjax.report.table import Columns, number, spread

REPAIRS = {
    "as_trained": "as trained",
    "matched": "matched, without labels",
    "best": "best, with labels",
}
PROCESS = {  # what is told of the process that trained a stage, or wrote the report
    "command": lambda env: env["command"],
    "devices": lambda env: f"{env['devices']} x {env['device']}, {env['cpus']} CPU cores",
    "system": lambda env: env["platform"],
    "versions": lambda env: ", ".join(f"{k} {v}" for k, v in env["versions"].items() if v),
}


def contents(report: Report, figures: Collection[str]) -> dict[str, Any]:
    """The values of the template; `figures` are the names of those that were drawn."""
    shown = [row for row in report.representatives if not row.is_ensemble]
    ensembles = [row for row in report.representatives if row.is_ensemble]
    taught = [row for row in shown if row.stage in report.taught]
    guessing = report.examples[report.evaluate] * (1 - 1 / len(report.class_names))
    return {
        "report": report,
        "title": f"{report.dataset}, {report.evaluate} split",
        "split": report.evaluate,
        "count": f"{report.examples[report.evaluate]:,}",
        "figures": figures,
        "among": AMONG,
        "n": count_members(shown),
        "grids": any(row.cell for row in shown),
        "best": min(taught, key=lambda row: row.validation_errors, default=None),
        "ensemble": ensembles[-1] if len({row.stage for row in ensembles}) == 1 else None,
        "guesses": [row.label for row in shown if row.mean("errors") > 0.95 * guessing],
        "sweeps": {f"sweep_{axis}": rows for axis, rows in swept(report.rows).items()},
        "results": table.results(report.rows),
        "differences": _differences(report),
        "missing": _missing(report),
        "costs": table.costs(report.rows),
        "settings": _settings(report.settings),
        "facts_of_run": _facts(report),
        "ends": [(row.label, _end(curve)) for row, curve in report.curves_shown],
    }


def _differences(report: Report) -> Columns:
    """Every row's errors less those of the baseline; no columns without one to compare."""
    base = report.baseline
    rows = [row for row in report.rows if not row.is_ensemble and row.std("errors") is not None]
    others = [row for row in rows if row is not base]
    if base is None or not others:
        return []
    gaps = [report.difference(row.label, base.label) for row in others]
    return [
        ("stage", [row.label for row in others]),
        (f"errors minus {base.label}", [number(gap["mean"], "+.1f") for gap in gaps]),
        ("standard error", [number(gap["standard_error"], ".1f") for gap in gaps]),
        ("ratio", [number(gap["ratio"], "+.1f") for gap in gaps]),
    ]


def _missing(report: Report) -> Columns:
    """Stages that never saw some classes, before and after their biases were shifted."""
    lines = [
        (found, found[name], says) for found in report.missing for name, says in REPAIRS.items()
    ]
    names = lambda classes: ", ".join(report.class_names[c] for c in classes)
    shares = [summarise(100 * e / found["of"] for e in here["errors"]) for found, here, _ in lines]
    spreads = lambda name, form: [spread(summarise(here[name]), form) for _, here, _ in lines]
    return [
        ("stage", [found["label"] for found, *_ in lines]),
        ("missing", [names(found["classes"]) for found, *_ in lines]),
        ("bias", [says for *_, says in lines]),
        ("shift", spreads("shift", ".2f")),
        ("errors", spreads("errors", ".1f")),
        ("errors %", [number(share["mean"], ".2f") for share in shares]),
        ("errors on the missing", spreads("missing_errors", ".1f")),
        ("of", [str(found["examples"]) for found, *_ in lines]),
    ]


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> Columns:
    """A line for each field that some stage has changed, a column for each stage."""
    fields = list(dict.fromkeys(field for stage in settings.values() for field in stage))
    columns = [(name, [_text(stage.get(f)) for f in fields]) for name, stage in settings.items()]
    return [("field", fields), *columns] if fields else []


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        value = ", ".join(map(_text, value))
    return "-" if value is None or value == "" else str(value)


def _facts(report: Report) -> dict[str, str]:
    """Where and how the stages were trained, once if all were trained and reported alike."""
    splits = ", ".join(f"{count:,} {name}" for name, count in report.examples.items())
    seconds = sum(row.seconds for row in report.rows if not row.is_ensemble)
    stages = {row.stage for row in report.rows if not row.is_ensemble}
    processes = report.environments | {"this report": report.environment}
    facts = {}
    for fact, text in PROCESS.items():
        told: dict[str, list[str]] = {}
        for name, environment in processes.items():
            told.setdefault(text(environment), []).append(name)
        alike = len(told) == 1 and stages <= report.environments.keys()
        facts |= {
            fact if alike else f"{fact} of {', '.join(of)}": text for text, of in told.items()
        }
    facts["data set"] = f"{report.dataset}: {splits} examples"
    facts["training"] = f"{seconds:,.0f} seconds, all stages together"
    return facts


def _end(curve: Mapping[str, Sequence]) -> str:
    """The last point of a training curve."""
    loss, right = (curve[name][-1] for name in ("loss", "validation_accuracy"))
    wrong = summarise(None if share is None else 100 * (1 - share) for share in right)
    return f"loss {spread(summarise(loss), '.3g')}, validation errors {spread(wrong, '.2f')} %"
