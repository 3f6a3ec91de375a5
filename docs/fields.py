"""The tables of docs/config.md, made of the specs: every field, its default and what it may be."""

import dataclasses

from sphinx.pycode import ModuleAnalyzer

from kdjax.class_map import ClassMap
from kdjax.config.spec import ExperimentSpec, StageSpec
from kdjax.data import DatasetSpec, SubsetSpec
from kdjax.losses import TERMS, Term
from kdjax.nets import NETS, calls
from kdjax.optim import OptimizerSpec
from kdjax.parallel import ExecutionSpec
from kdjax.views import AugmentSpec

SPECS = {
    "config": ExperimentSpec,
    "config.dataset": DatasetSpec,
    "config.execution": ExecutionSpec,
    "config.stages.NAME": StageSpec,
    "config.stages.NAME.optimizer": OptimizerSpec,
    "config.stages.NAME.subset": SubsetSpec,
    "config.stages.NAME.augment": AugmentSpec,
    "config.stages.NAME.class_map": ClassMap,
}


def page() -> str:
    """All tables, as Markdown."""
    parts = [_table(path, spec) for path, spec in SPECS.items()]
    return "\n\n".join([*parts, _nets(), _terms()]) + "\n"


def _table(path: str, spec: type) -> str:
    told = ModuleAnalyzer.for_module(spec.__module__).find_attr_docs()
    rows = []
    for field in dataclasses.fields(spec):
        if "rule" not in field.metadata:
            continue
        about = " ".join(told[spec.__name__, field.name]).strip()  # a KeyError: say what it is
        swept = "yes" if field.metadata["hparam"] else ""
        says = field.metadata["rule"].says
        rows.append(f"| `{field.name}` | `{field.default!r}` | {says} | {swept} | {about} |")
    head = (
        "| field | default | allowed | in `members` | what it is |\n| --- | --- | --- | --- | --- |"
    )
    return f"## `{path}`\n\n{head}\n" + "\n".join(rows)


def _nets() -> str:
    rows = [
        f"| `{name}` | `{argument}` | `{row.defaults[argument]!r}` | {rule.says} |"
        for name, row in NETS.items()
        for argument, rule in row.arguments.items()
    ]
    rows += [  # of the net that is made of another
        "| `hydra` | `body` | `'mlp'` | the name of a net, whose arguments stand beside it |",
        "| `hydra` | `heads` | none | how many heads, a whole number from 1 |",
    ]
    head = "| `name` | argument | default | allowed |\n| --- | --- | --- | --- |"
    return "## `config.stages.NAME.model`\n\n" + head + "\n" + "\n".join(rows)


def _terms() -> str:
    rows = []
    for name, row in TERMS.items():
        if not isinstance(row, Term):
            options = calls.parameters(row)
            says = "fixed for all members"
            default = lambda o: "" if o.default is o.empty else f"`{o.default!r}`"
            rows += [f"| `{name}` | `{o.name}` | {default(o)} | {says} |" for o in options]
            row = row(**{o.name: "a_layer" for o in options if o.name in ("student", "teacher")})
        for number, (default, rule) in row.numbers.items():
            shown = "the stage's" if default is None else f"`{default!r}`"
            rows.append(f"| `{name}` | `{number}` | {shown} | {rule.says} |")
    head = "| term | number or option | default | allowed |\n| --- | --- | --- | --- |"
    return "## `config.stages.NAME.objective`\n\n" + head + "\n" + "\n".join(rows)
