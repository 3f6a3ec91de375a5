"""What a report says: the values that `templates/content.jinja` puts into words."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from kdjax.report import table
from kdjax.report.report import Report
from kdjax.report.rows import AMONG, count_members, summarise, swept
from kdjax.report.table import Columns

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
        "figures": figures,
        "among": AMONG,
        "n": count_members(shown),
        "grids": any(row.cell for row in shown),
        "best": min(taught, key=lambda row: row.validation_errors or 0, default=None),
        "ensemble": ensembles[-1] if len({row.stage for row in ensembles}) == 1 else None,
        "guesses": [row.label for row in shown if (row.mean("errors") or 0) > 0.95 * guessing],
        "sweeps": {a: rows for a, rows in swept(report.rows).items() if f"sweep_{a}" in figures},
        "results": table.columns(report.rows, table.RESULTS),
        "differences": _differences(report),
        "missing": _missing(report),
        "costs": table.columns(report.rows, table.COSTS),
        "settings": _settings(report.settings),
        "facts_of_run": _facts(report),
    }


def _differences(report: Report) -> list[dict[str, Any]]:
    """Every row's errors less those of the baseline; none without one to compare."""
    base = report.baseline
    if base is None:
        return []
    rows = [row for row in report.rows if not row.is_ensemble and row is not base]
    rows = [row for row in rows if row.std("errors") is not None]
    return [{"stage": row.label, **report.difference(row.label, base.label)} for row in rows]


def _missing(report: Report) -> list[dict[str, Any]]:
    """Stages that never saw some classes, before and after their biases were shifted."""
    names = lambda classes: ", ".join(report.class_names[c] for c in classes)
    line = lambda found, repair: {
        "stage": found["label"],
        "missing": names(found["classes"]),
        "bias": repair.replace("_", " "),
        "of": str(found["examples"]),
        "percent": 100 * np.mean(found[repair]["errors"]) / found["of"],
        **{name: summarise(values) for name, values in found[repair].items()},
    }
    return [
        line(found, repair)
        for found in report.missing
        for repair in ("as_trained", "matched", "best")
    ]


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> Columns:
    """A line for each field that some stage has changed, a column for each stage."""
    several = lambda value: value if isinstance(value, tuple | list) else [value]
    text = lambda value: "" if value is None else ", ".join(map(str, several(value)))
    fields = list(dict.fromkeys(field for stage in settings.values() for field in stage))
    columns = [(name, [text(s.get(f)) or "-" for f in fields]) for name, s in settings.items()]
    return [("field", fields), *columns] if fields else []


def _facts(report: Report) -> dict[str, str]:
    """Where and how the stages were trained, once if all were trained and reported alike."""
    splits = ", ".join(f"{count:,} {name}" for name, count in report.examples.items())
    seconds = sum(row.seconds for row in report.rows if not row.is_ensemble)
    stages = {row.stage for row in report.rows if not row.is_ensemble}
    processes = report.environments | {"this report": report.environment}
    facts: dict[str, str] = {}
    for fact, text in PROCESS.items():
        told: dict[str, list[str]] = {}
        for name, environment in processes.items():
            told.setdefault(text(environment), []).append(name)
        alike = len(told) == 1 and stages <= report.environments.keys()
        facts |= {
            fact if alike else f"{fact} of {', '.join(of)}": text for text, of in told.items()
        }
    facts["data set"] = f"{report.dataset}: {splits} examples"
    if report.config.get("recipe"):
        facts["recipe"] = report.config["recipe"]
    facts["training"] = f"{seconds:,.0f} seconds, all stages together"
    return facts
