"""What a report says, part by part; `page` makes Markdown and HTML of it."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdjax import config
from kdjax.config.spec import teachers_of
from kdjax.metrics import BINS
from kdjax.report import table
from kdjax.report.findings import AMONG
from kdjax.report.report import Report, Row, count_members, summarise, swept
from kdjax.report.table import Columns

REPAIRS = {
    "as_trained": "as trained",
    "matched": "matched, without labels",
    "best": "best, with labels",
}
BEST_CELL = "Of a stage with a grid, the cell with the fewest errors on the validation split."
LOG_BAND = "On a logarithmic axis a band that would reach 0 ends at the lowest member."
COSTS = (
    "Latency is of one example at a time, on one device. It is measured when a stage is finished; "
    "that of an ensemble when its first student begins, of the first few of an ensemble when the "
    "report is written. The seconds of an ensemble are those of its members."
)
PROCESS = {  # what is told of the process that trained a stage, or wrote the report
    "command": lambda env: env["command"],
    "devices": lambda env: f"{env['devices']} x {env['device']}, {env['cpus']} CPU cores",
    "system": lambda env: env["platform"],
    "versions": lambda env: ", ".join(f"{k} {v}" for k, v in env["versions"].items() if v),
}


@dataclass(frozen=True)
class Facts:
    """Pairs of name and value; those named in `code` are verbatim."""

    pairs: dict[str, str]
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """`says` what it holds, to those who cannot see it."""

    says: str
    columns: Columns


@dataclass(frozen=True)
class Picture:
    """A figure of `figures.of_report` by its name; `alt` stands for it where it is not seen."""

    name: str
    caption: str
    alt: str


Part = str | Facts | Table | Picture


@dataclass(frozen=True)
class Section:
    """Under one heading: paragraphs of plain text and other parts."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    title: str
    sections: tuple[Section, ...]


def of_report(report: Report, figures: Container[str]) -> Document:
    """All that the report has numbers for; `figures` are the names of those that were drawn."""
    pictures = [picture for picture in _pictures(report) if picture.name in figures]
    take = lambda prefix: [p for p in pictures if p.name.startswith(prefix)]
    sections = {
        "Run": [_run(report)],
        "Results": [_about(report), Table("Results", table.results(report.rows))],
        "Differences": _differences(report),
        "Errors against parameters": take("errors_against_parameters"),
        "Sweeps": take("sweep_"),
        "Missing classes": [*_missing(report), *take("missing_classes")],
        "Soft targets": take("soft_targets"),
        "Calibration": take("reliability"),
        "Training": take("training_curves"),
        "Costs": [COSTS, Table("Costs", table.costs(report.rows))],
        "Settings": _settings(report),
    }
    filled = {title: parts for title, each in sections.items() if (parts := tuple(each))}
    title = f"{report.config['dataset']['name']}, {report.evaluate} split"
    return Document(title, tuple(Section(*section) for section in filled.items()))


def _run(report: Report) -> Facts:
    """Where and how the stages were trained, once if all were trained and reported alike."""
    told = {fact: _of_processes(report, fact) for fact in PROCESS}
    facts, splits = {k: v for each in told.values() for k, v in each.items()}, report.examples
    dataset = ", ".join(f"{count:,} {name}" for name, count in splits.items())
    seconds = sum(row.seconds for row in report.rows if not row.is_ensemble)
    facts["data set"] = f"{report.config['dataset']['name']}: {dataset} examples"
    facts["training"] = f"{seconds:,.0f} seconds, all stages together"
    return Facts(facts, code=tuple(told["command"]))


def _of_processes(report: Report, fact: str) -> dict[str, str]:
    """One of PROCESS under its name, or if processes differ, with those that say the same."""
    names: dict[str, list[str]] = {}
    for name, env in (report.environments | {"this report": report.environment}).items():
        names.setdefault(PROCESS[fact](env), []).append(name)
    known = report.environments.keys() >= report.config["stages"].keys()
    if known and len(names) == 1:
        return {fact: next(iter(names))}
    return {f"{fact} of {', '.join(of)}": text for text, of in names.items()}


def _about(report: Report) -> str:
    count, split = report.examples[report.evaluate], report.evaluate
    return (
        f"All numbers are of the last step, on the {count:,} examples of the {split} split: the "
        "mean, and after ± the s.d., over the n members of a row that did not diverge. nll and "
        "teacher KL are in nats per example; agreement and KL are with the mean of a member's own "
        "teachers: all of its stage's, one or the first few, as mixing and ensemble_size say. Each "
        "member's numbers are in report.json."
    )


def _differences(report: Report) -> Iterator[str | Table]:
    """Every row's errors less those of the first stage that is neither teacher nor taught, in the
    cell of its grid that stands for it."""
    teachers = (teachers_of(s.get("teacher", "")) for s in report.config["stages"].values())
    known = report.taught.union(*teachers)
    rows = [row for row in report.rows if not row.is_ensemble and row.std("errors") is not None]
    labelled = (row for row in report.representatives if row in rows and row.stage not in known)
    first = next(labelled, None)
    others = [row for row in rows if row is not first]
    if first is None or not others:
        return
    gaps = [report.difference(row.label, first.label) for row in others]
    yield (
        "The standard error is of a difference of two means over members, not paired, given these "
        "teachers and this test set. It takes members for independent, which those with shared "
        "batches or a common init_from are not."
    )
    yield Table(
        f"Errors less those of {first.label}",
        [
            ("stage", [row.label for row in others]),
            (f"errors minus {first.label}", [f"{gap['mean']:+.1f}" for gap in gaps]),
            ("standard error", [f"{gap['standard_error']:.1f}" for gap in gaps]),
            ("ratio", [table.number(gap["ratio"], "+.1f") for gap in gaps]),
        ],
    )


def _missing(report: Report) -> Iterator[str | Table]:
    """Stages that never saw some classes, before and after their biases were shifted."""
    if not report.missing:
        return
    lines = [(found, name) for found in report.missing for name in REPAIRS]
    yield (
        "Stages that saw no example of some classes, with a shift added to the logits of those "
        "(taking it from the others is the same), each member its own. Matched: a missing class "
        "wins as often as the member's teachers name one, on the validation split, whose labels "
        "are not used. Best: fewest errors on the split of this report, with its labels."
    )
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
    yield Table("Missing classes", columns)


def _settings(report: Report) -> Iterator[str | Table]:
    """The fields in which a stage is not as `config.stage` makes it, a column for each stage."""
    default = _flat(config.stage().to_dict())
    stages = {name: _flat(fields) for name, fields in report.config["stages"].items()}
    fields = dict.fromkeys(field for stage in stages.values() for field in stage)
    changed = lambda stage, field: field in stage and stage[field] != default.get(field)
    shown = [field for field in fields if any(changed(s, field) for s in stages.values())]
    if not shown:
        return
    columns = [(name, [_text(stage.get(f)) for f in shown]) for name, stage in stages.items()]
    yield "Fields that are not named here have their defaults in every stage; report.json has all."
    yield Table("Settings", [("field", shown), *columns])


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"optimizer.learning_rate": 0.1, ...} from nested fields."""
    flat = {}
    for name, value in fields.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{path}{name}.") if inner else {path + str(name): value}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(_text, value))
    return "-" if value is None or value == "" else str(value)


def _pictures(report: Report) -> Iterator[Picture]:
    """Every figure that there can be, with what it shows."""
    split, count = report.evaluate, report.examples[report.evaluate]
    shown = [row for row in report.representatives if not row.is_ensemble]
    n, spread = count_members(shown), "the mean over the n members, with one s.d. around it"
    errors = f"Errors on the {count:,} examples of the {split} split"
    yield Picture(
        "errors_against_parameters",
        f"{errors} against the number of parameters: {spread} ({n}). {BEST_CELL} "
        "A diamond is an ensemble as one classifier.",
        f"Errors and parameters. {_each(report, lambda r: f'{table.errors(r)}, {r.parameters:,}')}",
    )
    for axis, rows in swept(report.rows).items():
        name = axis.replace("_", " ")
        yield Picture(
            f"sweep_{axis}",
            f"{errors} against {name}: {spread} ({count_members(rows)}). {LOG_BAND}",
            f"Errors by {name}. " + "; ".join(f"{r.label}: {table.errors(r)}" for r in rows),
        )
    yield Picture(
        "missing_classes",
        f"{errors} against one shift for all members: {spread}. Marks: the means with each "
        "member's own shift.",
        "Errors of students that never saw some classes against the shift of those classes' "
        "biases; the table has the numbers at the marks.",
    )
    if report.soft_targets:
        titles = [title.replace("\n", ", ") for title in report.soft_targets["distributions"]]
        names = report.soft_targets["class_names"]
        labels = [names[label] for label in report.soft_targets["labels"]]
        yield Picture(
            "soft_targets",
            f"What teachers and students say of {len(labels)} {split} examples: of the first "
            f"{AMONG} those that the teachers are least sure of, each of another class. Left to "
            f"right: {'; '.join(titles)}. Blue: the label.",
            f"Examples of the classes {', '.join(labels)}, each with bars for the "
            f"probability of every class: {'; '.join(titles)}.",
        )
    yield Picture(
        "reliability",
        f"Reliability on the {split} split: accuracy against confidence, in the {BINS} bins of the "
        f"calibration error (ECE), of all members' examples together ({n}); a point's area is the "
        "share of the examples in its bin, its bar one s.d. over the members, where each has "
        f"examples. On the dashed line a net is as often right as it says. {BEST_CELL}",
        f"Reliability diagrams. ECE: {_each(report, lambda r: table.number(r.mean('ece'), '.3f'))}",
    )
    yield Picture(
        "training_curves",
        f"Training loss and validation errors, after every chunk of steps: {spread} ({n}). The "
        f"losses of different kinds of stage do not compare. {LOG_BAND} {BEST_CELL}",
        "Curves of loss and validation errors against training steps, one for each stage. In the "
        f"end: {'; '.join(f'{row.label}: {_end(c)}' for row, c in report.curves_shown)}",
    )


def _each(report: Report, text: Callable[[Row], str]) -> str:
    return "; ".join(f"{row.label}: {text(row)}" for row in report.representatives)


def _end(curve: Mapping[str, Any]) -> str:
    """The last point of a training curve."""
    loss, right = (curve[name][-1] for name in ("loss", "validation_accuracy"))
    wrong = [None if share is None else 100 * (1 - share) for share in right]
    return f"loss {_spread(loss, '.3g')}, validation errors {_spread(wrong, '.2f')} %"


def _spread(values: Sequence[float | None], form: str) -> str:
    found = summarise(values)
    mean = table.number(found["mean"], form)
    return mean if found["std"] is None else f"{mean} ± {table.number(found['std'], form)}"


def _percent(values: Sequence[Any], of: int) -> str:
    mean = summarise(values)["mean"]
    return table.number(None if mean is None else 100 * mean / of, ".2f")
