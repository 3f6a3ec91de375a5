"""Every field of every shipped config set to what it must not be, and config files that fail: one
sentence that names the field, before anything is computed or written."""

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kdjax import data, main
from kdjax import rules as checks
from kdjax.config import parse
from kdjax.config.spec import EVALUATED, StageSpec, hparam_rules
from kdjax.data import DatasetSpec
from kdjax.losses import TERMS
from kdjax.nets import NETS
from kdjax.optim import OptimizerSpec
from kdjax.parallel import ExecutionSpec
from kdjax.prepare import prepare
from kdjax.rules import InputError

ROOT = Path(__file__).parents[1]
VALUES = (
    *(None, True, -1, 0, 1, 3, 2.5, 10**6, 2**40, -1e-9, 1e39, float("inf"), float("nan"), 3j),
    *("", "many", "x" * 10_000, "tea chers", "no/such", "../..", "\n", "\0", b"cosine", "SGD"),
    *((), (0,), (3, 3), (-1,), ("a",), (12,), (2.5, None), [], [[]], {}, {"a": 1}, {1, 2}),
    *(object(), np.zeros((3, 3)), len, StageSpec),
)
TEXTS = ("many", "-1", "nan", "1e99", "(0,0)", "('a',)", "(1,", "None", "")  # on a command line
WEIGHT = 3  # may stand for the section of a term
SECTIONS = (None, WEIGHT, "mlp", [], (), [1, 2], np.zeros(3))  # where there must be a dict
CONFIGS = [("ensemble_to_one", words) for words in ("", "few_labels", "tune", "smoke")]
MNIST = ("mnist", "mnist_missing", "mnist_temperature")
CONFIGS += [pytest.param(name, "quick", marks=pytest.mark.mnist) for name in MNIST]


def shipped(name: str, words: str) -> dict:
    return importlib.import_module(f"configs.{name}").get_config(words).to_dict()


def rules(spec: type) -> dict:
    """The rule of each field, in dicts as the config has them."""
    fields = spec.__dataclass_fields__.values()
    found = {f.name: f.metadata["rule"] for f in fields if "rule" in f.metadata}
    return found | {f.name: rules(f.metadata["spec"]) for f in fields if "spec" in f.metadata}


def rules_of(config: dict) -> dict:
    """The rule of every field of a config, each where the field is."""
    seed = checks.Rule("", lambda v: isinstance(v, tuple) or checks.whole(1, 10_000).accepts(v))
    teacher = checks.Rule("", lambda v: checks.text().accepts(v) or isinstance(v, tuple | list))
    numbers = hparam_rules(OptimizerSpec) | hparam_rules(StageSpec)
    axes = {axis: checks.tuple_of(rule) for axis, rule in numbers.items()} | {"seed": seed}

    def of_terms(stage: dict, rule) -> dict:
        return {
            term: {name: rule(own) for name, (_, own) in TERMS[term].numbers.items()}
            for term in stage["objective"]
        }

    stages = {
        name: rules(StageSpec)
        | dict(
            model={"name": checks.one_of(NETS)} | NETS[stage["model"]["name"]].arguments,
            members=axes | of_terms(stage, checks.tuple_of),
            objective=of_terms(stage, lambda rule: rule),
            teacher=teacher,
        )
        for name, stage in config["stages"].items()
    }
    return dict(
        data_dir=checks.text(),
        cache_dir=checks.text(),
        evaluate=checks.one_of(EVALUATED),
        tensorboard=checks.truth(),
        recipe=checks.text(),
        dataset=rules(DatasetSpec),
        execution=rules(ExecutionSpec),
        stages=stages,
    )


def fields_of(config: dict, at: tuple = ()) -> Iterator[tuple[tuple, bool]]:
    """(path, whether it is a section) of everything in the config."""
    for name, value in config.items():
        yield (*at, name), isinstance(value, dict)
        if isinstance(value, dict):
            yield from fields_of(value, (*at, name))


def put(config: dict, path: tuple, value: object, name: str | None = None) -> dict:
    """A copy in which the field is `value`; with `name`, in which that is there instead of it."""
    first, *rest = path
    if rest:
        return config | {first: put(config[first], tuple(rest), value, name)}
    return {k: v for k, v in config.items() if k != first or not name} | {name or first: value}


def misspelt(config: dict) -> Iterator[tuple[dict, str]]:
    """(config, what the sentence must have): fields of wrong names, too many or no dict."""
    for number, (path, is_section) in enumerate(fields_of(config)):
        name, dotted = path[-1], ".".join(("config", *path))
        new = (name[1:] + "s", name + "_", name[::-1] + "2")[number % 3]
        if path[:-1] != ("stages",):  # whose names are the user's own
            yield put(config, path, 1, new), new
        if is_section:
            yield put(config, (*path, "more"), 1), "more"
            for value in SECTIONS[number % 3 :: 3]:
                if (
                    value is not WEIGHT or "objective" not in path[:-1]
                ):  # where a number is a weight
                    yield put(config, path, value), dotted


def misvalued(config: dict, part: int = 11) -> Iterator[tuple[dict, tuple, bool]]:
    """(config, path of the field, whether its rule has it that the value is wrong): one of `part`
    of VALUES in each field, other ones in each stage."""
    every = rules_of(config)
    for number, (path, is_section) in enumerate(fields_of(config)):
        if not is_section:
            rule = functools.reduce(dict.__getitem__, path, every)
            for value in VALUES[number % part :: part]:
                yield put(config, path, value), path, not rule.accepts(value)


def check_sentence(message: str, words: str) -> None:
    """It is one sentence, which can be read and has these words."""
    assert "\n" not in message and len(message) < 700 and not re.search(r"\. [A-Z]", message)
    assert words in message, (words, message)


@pytest.mark.parametrize(("name", "words"), CONFIGS)
def test_a_mutated_config_is_refused_in_one_sentence_that_names_the_field(name, words):
    config = shipped(name, words)
    parse(config)
    count = 0
    for mutant, named in misspelt(config):
        with pytest.raises(InputError) as caught:
            parse(mutant)
        check_sentence(str(caught.value), named)
        count += 1
    for mutant, path, wrong in misvalued(config):
        try:
            parse(mutant)
        except InputError as error:
            check_sentence(str(error), ".".join(("config", *path)) if wrong else path[-1])
            count += 1
        else:
            assert not wrong, (path, mutant)
    print(f"{name}:{words}: {count} mutations refused")
    assert count > 300


@pytest.mark.long
def test_a_config_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    """Wrong is what only the data, the devices or the teachers show."""
    config = shipped("ensemble_to_one", "")
    first, *_, last = config["stages"]
    config["stages"] = {stage: config["stages"][stage] for stage in (first, last)}
    load = functools.cache(lambda spec: data.load(spec, ""))
    count = 0
    for mutant, path, wrong in misvalued(config, part=1):
        if wrong or path[:2] == ("stages", first):
            continue
        try:
            spec = parse(mutant)
        except InputError:
            continue
        try:
            prepare(spec, load(spec.dataset), tmp_path / "run")
        except InputError as error:
            check_sentence(str(error), path[-1])
            count += 1
    print(f"{count} mutations refused that do not fit")
    assert count > 10 and not any(tmp_path.iterdir())


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: (exit code, what it printed to stderr); it trains nothing."""
    monkeypatch.setattr(main, "quiet", lambda: None)
    monkeypatch.setattr(main.machine, "use_machine", lambda: None)
    monkeypatch.setattr(main, "run_stages", lambda config, *_, **__: parse(config))

    def call(*arguments: str) -> tuple[int, str]:
        try:
            main.main(arguments)
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


def refused(code: int, errors: str, named: str) -> None:
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("kdjax: ")
    check_sentence(line, named)


def test_a_wrong_override_is_refused_in_one_sentence_that_names_the_field(
    command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file, config = str(ROOT / "configs" / "ensemble_to_one.py"), shipped("ensemble_to_one", "")
    count = 0
    assert command("--config", file, "--config.stages.distilled.steps=7") == (0, "")
    for number, (path, is_section) in enumerate(fields_of(config)):
        if path[0] == "stages" and path[1:2] != ("distilled",):
            continue
        dotted = ".".join(("config", *path))
        code, errors = command("--config", file, f"--{dotted}_=1")
        refused(code, errors, path[-1] + "_")
        for text in ("3",) if is_section else TEXTS[number % 3 :: 3]:
            code, errors = command("--config", file, f"--{dotted}={text}")
            if code:
                refused(code, errors, path[-1])
            count += 1 + bool(code)
    print(f"{count} overrides refused")
    assert count > 150 and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def get_config(:", "invalid syntax"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("1 / 0", "division by zero"),
        ("", "get_config"),
        ("get_config = 3", "not callable"),
        ("def get_config(): return None", "it must be a dict of fields"),
        ("def get_config(): return [1]", "it must be a dict of fields"),
        ("def get_config(word): return {}", "word"),
        ("def get_config(): return get_config()", "recursion"),
        ("raise ValueError('one\\n\\ntwo')", "two"),
        ("raise ValueError('x' * 10**6)", "xxx"),
        ("raise RuntimeError", "RuntimeError"),
        ("raise SystemExit(7)", "7"),
        ("raise OSError(5, 'Input/output error')", "Input/output error"),
        ("x = '\0'", "null bytes"),
        ("x = '\udcff'", "decode"),
    ],
)
def test_a_config_file_that_fails_is_one_sentence(command, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.py"
    path.write_bytes(content.encode(errors="surrogateescape"))
    code, errors = command("--config", str(path))
    refused(code, errors, words)
    assert f"--config is '{path}', wh" in errors
    assert list(tmp_path.iterdir()) == [path]


def test_a_config_that_is_a_directory_or_has_a_wrong_name_is_one_sentence(command, tmp_path):
    for name in (str(tmp_path), f"{tmp_path}/none.py", "", ":", "a\nb.py", "\0"):
        code, errors = command("--config", name)
        refused(code, errors, "--config")
