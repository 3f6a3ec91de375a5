"""What a report says in words: its finding, its warnings, and the end of a run in a terminal."""

from typing import Any

from kdjax import tables
from kdjax.report import table
from kdjax.report.report import Report
from kdjax.report.rows import Row
from kdjax.statistics import Difference, holm

LEGEND = "± is the s.d. over the n members in the table, the standard error in a difference."


def findings(report: Report) -> list[str]:
    """A sentence for each stage with a teacher, in the cell that stands for it: what it saves
    against the baseline, or against its teachers where there is none, and its size."""
    pairs = [
        (row, other)
        for row in report.representatives
        if row.stage in report.taught and row.mean("errors") is not None
        if (other := report.baseline or report.ensemble(row)) is not None
    ]
    gaps = holm([report.difference(row.label, other.label) for row, other in pairs])
    return [_finding(report, *pair, gap) for pair, gap in zip(pairs, gaps, strict=True)]


def _finding(report: Report, row: Row, other: Row, gap: Difference) -> str:
    whom = f"than {other.label} ({table.mean_errors(other)})"
    parts = [f"{saved(gap)} {whom}", *_size(report, row)]
    return f"{row.label}: {', '.join(parts)}: {gap['verdict']}"


def saved(gap: Difference) -> str:
    """A difference of errors in words: "3.5 ± 0.9 fewer errors"."""
    mean, error = gap["mean"] or 0.0, gap["standard_error"]
    count = f"{abs(mean):.1f}" + ("" if error is None else f" ± {error:.1f}")
    return f"{count} {'fewer' if mean <= 0 else 'more'} errors"


def compared(gap: Difference, judged: bool) -> str:
    """The same in a table, with the verdict or without: "+3.5 ± 0.9, better"."""
    mean, error = gap["mean"] or 0.0, gap["standard_error"]
    text = f"{-mean:+.1f}" + ("" if error is None else f" ± {error:.1f}")
    return text + f", {gap['verdict']}" * judged


def _size(report: Report, row: Row) -> list[str]:
    """How its size compares with that of one teacher, or of all of them where one's is unknown."""
    teachers = report.teachers.get(row.stage, ())
    sizes = {other.parameters for other in report.rows if other.stage in teachers}
    whom, together = "one teacher", report.ensemble(row)
    if len(sizes) != 1 and together is not None:
        sizes, whom = {together.parameters}, "its teachers together"
    if len(sizes) != 1 or not (ratio := sizes.pop() / row.parameters) > 0:
        return []
    if 0.9 < ratio < 1.1:
        return [f"as large as {whom}"]
    kind = "smaller" if ratio > 1 else "larger"
    times = float(f"{max(ratio, 1 / ratio):.2g}")
    return [f"{times:,g} times {kind} than {whom}"]


def warning(row: Row, guessing: int, examples: int) -> str:
    """That members of a row are no better than guessing; nothing where none is.

    Args:
      guessing: the errors of always naming the most frequent class.
      examples: how many there are.
    """
    if not row.unlearned:
        return ""
    who = f"{row.unlearned} of {row.n} members are" if row.n > 1 else "it is"
    return (
        f"WARNING: {row.label}: {who} no better than guessing ({table.errors(row)} of {examples:,} "
        f"wrong; always naming the most frequent class gets {guessing:,} wrong)"
    )


def warnings(report: Report) -> list[str]:
    """Which stages have members that are no better than guessing, and what to try."""
    examples = report.examples[report.evaluate]
    found = [warning(row, report.guessing, examples) for row in report.rows]
    found = [line for line in found if line]
    return [*found, _advice(report)] if found else []


def _advice(report: Report) -> str:
    """What to change in the first such stage, as flags."""
    stages: dict[str, Any] = report.config.get("stages", {})
    names = [row.stage for row in report.rows if row.unlearned and row.stage in stages]
    tries = []
    if names and "learning_rate" not in dict(stages[names[0]]["members"]):
        rate = stages[names[0]]["optimizer"]["learning_rate"] / 10
        tries.append(f"--config.stages.{names[0]}.optimizer.learning_rate={rate:.2g}")
    if report.config["dataset"].get("normalize") == "unit":
        tries.append("--config.dataset.normalize=standard")
    if names:
        tries.append(f"--config.stages.{names[0]}.steps={2 * stages[names[0]]['steps']}")
    tries = tries or ["another learning rate", "more steps"]
    return f"Such nets have learned next to nothing. Try {', or '.join(tries)}, in a new --workdir."


def terminal(report: Report) -> str:
    """The end of a run in a terminal: the table, what was found, and what went wrong."""
    shown = tables.plain(table.columns(report.rows, table.SUMMARY))
    parts = [[LEGEND], findings(report), warnings(report)]
    return "\n\n".join([shown, *("\n".join(map(tables.wrapped, part)) for part in parts if part)])
