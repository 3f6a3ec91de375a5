"""What a report shows of the fields of stages: those in which any of them is not at the default."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdjax.config.spec import StageSpec, plain

SHOWN = ("steps", "batch")  # fields that are shown, though no stage changes them


def settings_of(stages: Sequence[StageSpec]) -> dict[str, dict[str, Any]]:
    """{stage: {field: value}} of the fields in which any stage is not at the default, and of SHOWN;
    inner fields as "optimizer.learning_rate"."""
    given = {stage.name: _fields(stage) for stage in stages}
    default = _fields(StageSpec("", stages[0].model, (), ()))
    of_nets = ("model", "objective", "members", "teacher")  # which have no default worth a name
    fields = list(dict.fromkeys(f for own in given.values() for f in own))
    changed = [
        f
        for f in fields
        if f.startswith(of_nets)
        or f in SHOWN
        or any(f in own and own[f] != default.get(f) for own in given.values())
    ]
    return {n: {f: own[f] for f in changed if f in own} for n, own in given.items()}


def _fields(stage: StageSpec) -> dict[str, Any]:
    """A stage's fields, {"optimizer.learning_rate": 0.1, ...}."""
    fields = plain(stage)
    del fields["name"]
    fields["model"] = {"name": stage.model.name} | dict(stage.model.arguments)
    fields["objective"] = {
        part.name: dict(part.options) | dict(part.numbers) for part in stage.objective
    }
    fields["members"] = {name: len(v) if name == "seed" else v for name, v in stage.members}
    fields["teacher"] = [t if isinstance(t, str) else t.name for t in stage.teacher]
    return _flat(fields)


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{path}{name}.") if inner else {path + str(name): value}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}
