"""The report as a page of Markdown, report.md: one section for each thing a run can find."""

from collections.abc import Sequence
from typing import Any

from kdjax import table
from kdjax.report import Report, summarise
from kdjax.spec import teachers_of

REPAIRS = {
    "as_trained": "as trained",
    "matched": "matched, without labels",
    "best": "best, with labels",
}


def page(report: Report, figures: Sequence[str]) -> str:
    """The text; `figures` are file names without their .png."""
    env = report.environment
    versions = ", ".join(f"{k} {v}" for k, v in env["versions"].items() if v)
    parts = [
        f"# {report.config['dataset']['name']}, {report.evaluate} split",
        f"All numbers are of the last step: the mean, and after ± the s.d., over the n members of "
        f"a row, less those that diverged; every s.d. is in report.json. Device: {env['devices']} "
        f"x {env['device']}, {env['cpus']} CPU cores, {env['platform']}; {versions}. "
        f"Command: `{env['command']}`",
        report.table(),
        _differences(report),
        _missing(report),
        "\n".join(f"![{name}](figures/{name}.png)" for name in figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _differences(report: Report) -> str:
    """Every row's errors less those of the first stage that is neither teacher nor taught."""
    teachers = (teachers_of(s.get("teacher", "")) for s in report.config["stages"].values())
    known = report.taught.union(*teachers)
    rows = [row for row in report.rows if not row.is_ensemble and row.std("errors") is not None]
    first = next((row for row in rows if row.stage not in known), None)
    others = [row for row in rows if row is not first]
    if first is None or not others:
        return ""
    gaps = [report.difference(row.label, first.label) for row in others]
    columns = [
        ("stage", [row.label for row in others]),
        (f"errors minus {first.label}", [f"{gap['mean']:+.1f}" for gap in gaps]),
        ("standard error", [f"{gap['standard_error']:.1f}" for gap in gaps]),
        ("ratio", [table.number(gap["ratio"], "+.1f") for gap in gaps]),
    ]
    return "## Differences\n\n" + table.markdown(columns)


def _missing(report: Report) -> str:
    """Stages that never saw some classes, before and after their biases were shifted."""
    if not report.missing:
        return ""
    lines = [(found, name) for found in report.missing for name in REPAIRS]
    columns = [
        ("stage", [found["label"] for found, _ in lines]),
        ("missing", [",".join(map(str, found["classes"])) for found, _ in lines]),
        ("bias", [REPAIRS[name] for _, name in lines]),
        ("shift", [_spread(found[name]["shift"], ".2f") for found, name in lines]),
        ("errors", [_spread(found[name]["errors"], ".1f") for found, name in lines]),
        ("errors %", [_percent(found[name]["errors"], found["of"]) for found, name in lines]),
        (
            "errors on the missing",
            [_spread(found[name]["missing_errors"], ".1f") for found, name in lines],
        ),
        ("of", [str(found["examples"]) for found, _ in lines]),
    ]
    about = (
        "Stages that saw no example of some classes, with a shift added to the logits of those "
        "(taking it from the others is the same), each member its own. Matched: a missing class "
        "wins as often as the member's teachers name one, on the validation split, whose labels "
        "are not used. Best: fewest errors on the split of this report, with its labels."
    )
    return f"## Missing classes\n\n{about}\n\n" + table.markdown(columns)


def _spread(values: Sequence[float | None], form: str) -> str:
    found = summarise(values)
    mean = table.number(found["mean"], form)
    return mean if found["std"] is None else f"{mean} ± {table.number(found['std'], form)}"


def _percent(values: Sequence[Any], of: int) -> str:
    mean = summarise(values)["mean"]
    return table.number(None if mean is None else 100 * mean / of, ".2f")
