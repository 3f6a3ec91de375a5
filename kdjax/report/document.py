"""What a report says: the values that `templates/content.jinja` puts into words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.report import table, words
from kdjax.report.report import Report
from kdjax.report.rows import AMONG, Row, count_members, swept
from kdjax.statistics import holm, summarise
from kdjax.tables import Columns

WORST = 20  # classes that the table of errors by class has, at most

PROCESS = {  # what is told of the process that trained a stage, or wrote the report
    "command": lambda env: env["command"],
    "devices": lambda env: f"{env['devices']} x {env['device']}, {env['cpus']} CPU cores",
    "system": lambda env: env["platform"],
    "versions": lambda env: ", ".join(f"{k} {v}" for k, v in env["versions"].items() if v),
}


def contents(report: Report, figures: Collection[str]) -> dict[str, Any]:
    """The values of the template; `figures` are the names of those that were drawn."""
    shown = [row for row in report.representatives if not row.is_ensemble]
    data = f"{report.dataset}, {report.evaluate} split"
    return {
        "report": report,
        "figures": figures,
        "among": AMONG,
        "n": count_members(shown),
        "grids": any(row.cell for row in shown),
        "findings": words.findings(report),
        "warnings": words.warnings(report),
        "sweeps": {a: rows for a, rows in swept(report.rows).items() if f"sweep_{a}" in figures},
        "results": table.columns(report.rows, table.RESULTS),
        "differences": _differences(report),
        "missing": _missing(report),
        "classes": _classes(report),
        "costs": table.columns(report.rows, table.COSTS),
        "settings": _settings(report.settings),
        "facts_of_run": _facts(report),
        "title": f"{report.name}: {data}" if report.name else data,
    }


def _differences(report: Report) -> Columns:
    """How many fewer errors every row makes than the baseline, than plain distillation, where there
    are several other methods, and than the ensemble of its teachers; nothing where there are
    none."""
    rows = [r for r in report.rows if r.n and not r.is_ensemble and r.stage not in report.choosing]
    base, plain = report.baseline, report.plain
    left_out = {name for names in report.teachers.values() for name in names}
    left_out |= {row.stage for row in (base, plain) if row is not None}
    methods = {row.stage for row in rows} - left_out
    several = plain is not None and len(methods) > 1
    columns: Columns = [("stage", [row.label for row in rows])]
    if base is not None:
        others = [None if row is base else base for row in rows]
        columns += _saved(report, rows, others, base.label, paired=several)
    if plain is not None and several:
        others = [plain if row.stage in methods else None for row in rows]
        columns += _saved(report, rows, others, plain.label, paired=True)
    ensembles = [report.ensemble(row) for row in rows]
    names = {other.label for other in ensembles if other is not None}
    name = "the ensemble" if len(names) > 1 else "".join(names)
    columns += _saved(report, rows, ensembles, name)
    return columns if len(columns) > 1 else []


def _saved(
    report: Report,
    rows: list[Row],
    others: Sequence[Row | None],
    name: str,
    paired: bool = False,
) -> Columns:
    """How many fewer errors rows make than others, ± the standard error; and the verdict of those
    that stand for their stage.

    Args:
      paired: by pairs of members, where both have the same seeds.
    """
    pairs = [(row, other) for row, other in zip(rows, others, strict=True) if other is not None]
    alike = lambda a, b: paired and {*a.seeds} == {*b.seeds}
    gaps = [report.difference(a.label, b.label, paired=alike(a, b)) for a, b in pairs]
    judged = [i for i, (row, _) in enumerate(pairs) if row in report.representatives]
    verdicts = dict(zip(judged, holm([gaps[i] for i in judged]), strict=True))
    words_of = (words.compared(verdicts.get(i, gap), i in verdicts) for i, gap in enumerate(gaps))
    found = ["-" if other is None else next(words_of) for other in others]
    return [(f"fewer errors than {name}", found)] if gaps else []


def _classes(report: Report) -> Columns:
    """Mean errors on each class, of the rows that stand for their stages; worst classes first."""
    means = {label: np.mean(errors, axis=0) for label, errors in report.class_errors.items()}
    if not means:
        return []
    shares = np.sum([*means.values()], axis=0) / np.maximum(report.class_counts, 1)
    shown = np.argsort(-shares, kind="stable")[:WORST]
    columns = [("class", [report.class_names[c] for c in shown])]
    columns.append(("examples", [f"{report.class_counts[c]:,}" for c in shown]))
    return columns + [(label, [f"{mean[c]:.1f}" for c in shown]) for label, mean in means.items()]


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
        words_of: dict[str, list[str]] = {}
        for name, environment in processes.items():
            words_of.setdefault(text(environment), []).append(name)
        alike = len(words_of) == 1 and stages <= report.environments.keys()
        facts |= {
            fact if alike else f"{fact} of {', '.join(of)}": text for text, of in words_of.items()
        }
    split: dict[str, list[str]] = {}
    for name, layout in report.layouts.items():
        if layout is not None:
            parts = f"{layout['member_shards']} x {layout['data_shards']}"
            split.setdefault(parts, []).append(name)
    if split:
        facts["parts of members x parts of batches"] = "; ".join(
            f"{parts} for {', '.join(names)}" for parts, names in split.items()
        )
    scaled = report.config.get("dataset", {}).get("normalize")
    inputs = f", inputs normalized: {scaled}" if scaled else ""
    facts["data set"] = f"{report.dataset}: {splits} examples{inputs}"
    if report.config.get("recipe"):
        facts["recipe"] = report.config["recipe"]
    facts["training"] = f"{seconds:,.0f} seconds, all stages together"
    return facts
