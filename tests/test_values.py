"""The values that a user brings: nets, terms, teachers and data, by themselves and by name."""

import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import own_nets
import pytest
from stages import refuses

import kdjax
from examples.your_own import config, mine
from kdjax import losses
from kdjax.config import experiment, file, parse, stage
from kdjax.config.spec import plain

FEW = dict(steps=4, batch=20, quiet=True)
NET = kdjax.equinox(mine.EquinoxNet)
ROOT = Path(__file__).parents[1]


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def values():
    """A module with values, by the name "values_of_a_user"."""
    sys.modules["values_of_a_user"] = found = SimpleNamespace()
    yield found
    del sys.modules["values_of_a_user"]


def test_a_net_a_teacher_a_loss_and_data_take_less_than_ten_lines_each():
    text = inspect.getsource(mine)
    for name in ("LinenNet", "NnxNet", "EquinoxNet", "kernel_machine", "_skew"):
        lines = inspect.getsource(getattr(mine, name)).splitlines()
        assert len([line for line in lines if line]) < 10
    for name in ("digits", "flat", "skew_reverse_kl"):  # to the end of the paragraph
        assert text.partition(f"\n{name} = ")[2].partition("\n\n")[0].count("\n") < 4


# Nets.

TINY = {
    "linen": kdjax.linen(own_nets.LinenTiny()),
    "nnx": kdjax.nnx(own_nets.NNXTiny),
    "equinox": kdjax.equinox(own_nets.EquinoxTiny),
    "function": kdjax.function(own_nets.tiny, own_nets.tiny_params()),
}


@functools.cache
def trained(adaptor):
    few = mine.labels < own_nets.CLASSES
    inputs = mine.images.reshape(-1, 64)[few, 26 : 26 + own_nets.FEATURES]
    labels = mine.labels[few]
    data = kdjax.arrays(train=(inputs[:500], labels[:500]), test=(inputs[500:], labels[500:]))
    rates = (0.01, 0.03)
    return kdjax.train(TINY[adaptor], data, seeds=2, steps=50, learning_rate=rates, quiet=True)


@pytest.mark.parametrize("adaptor", ["nnx", "equinox", "function"])
def test_one_net_trains_to_the_same_bits_by_any_adaptor(adaptor):
    equal(trained(adaptor).variables, trained("linen").variables)
    assert trained(adaptor).metrics == trained("linen").metrics
    assert max(trained("linen").metrics["test"]["accuracy"]) > 0.7  # it has learnt: chance is 0.2


@pytest.mark.parametrize("net", [mine.LinenNet(), 3, [32]])
def test_what_is_no_net_is_refused(net):
    with refuses("config.stages.net.model is", "it must be a net, as kdjax.linen, nnx, equinox or"):
        kdjax.train(net, mine.digits, **FEW)


# Terms.


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(function=3), "a Term's function is 3; it must be a function"),
        (dict(), "a Term's name is '<lambda>'; it must be of letters, digits and _"),
        (dict(name="my loss"), "a Term's name is 'my loss'"),
        (dict(name="mine", needs="labels"), "the term 'mine': needs is 'labels'; it must be a set"),
        (
            dict(name="mine", needs={"label"}),
            "needs is {'label'}; it must be a set of: labels, tar",
        ),
        (
            dict(name="mine", student="mlp"),
            "student is 'mlp'; it must be a tuple, each element the",
        ),
        (
            dict(name="mine", teacher=(1,)),
            "teacher is (1,); it must be a tuple, each element the p",
        ),
        (
            dict(name="mine", hparams={"a": None}),
            "the default of a is None; only that of temperatu",
        ),
        (dict(name="mine", hparams={"a": "1"}), "the default of a is '1'; it must be a number"),
        (dict(name="mine", hparams={"temperature": 0.0}), "the default of temperature is 0.0; it"),
    ],
)
def test_a_wrong_term_is_refused_where_it_is_made(fields, words):
    with refuses(words):
        kdjax.Term(**dict(function=lambda context: 0.0) | fields)


def test_a_term_may_say_what_it_needs_in_any_collection():
    term = kdjax.Term(losses.cross_entropy, needs=["labels", "targets"])
    assert term.needs == {"labels", "targets"} and term.label == "cross_entropy"


def test_what_is_no_objective_is_refused():
    with refuses("objective is", "it must be a dict of terms, or one kdjax.Term"):
        kdjax.train(NET, mine.digits, objective=losses.cross_entropy, **FEW)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", " has the options {'layer': 'x'}: KeyError: 'x' (test_values.py, line"),
        ("unnamed", ": a Term's name is '<lambda>'"),
    ],
)
def test_a_function_that_makes_no_term_is_told(values, name, words):
    values.broken = lambda layer: {}[layer]
    values.unnamed = lambda layer: kdjax.Term(lambda context: 0.0)
    with refuses(f"objective.{name}{words}"):
        stage(objective={f"values_of_a_user:{name}": dict(layer="x")})


def test_the_order_of_terms_changes_nothing():
    weights = dict(kl_divergence=0.3, cross_entropy=0.5, logit_matching=0.2)
    one, other = (
        parse(
            dict(dataset=mine.digits, stages=dict(a=dict(teacher=mine.machine, objective=given)))
        ).stages[0]
        for given in (weights, dict(sorted(weights.items())))
    )
    assert [part.name for part in one.objective] == [part.name for part in other.objective]
    assert one.objective[0].name == "cross_entropy"


# Teachers.


@pytest.mark.parametrize("name", ["kdjax.teachers:peers", "kdjax.teachers:ema"])
def test_a_function_that_a_config_names_makes_a_teacher(name):
    given = stage(teacher=name, objective=dict(kl_divergence=1.0), order="shared")
    given.members.seed = 2
    (teacher,) = parse(experiment(stages=dict(a=given))).stages[0].teacher
    assert teacher.name == name.rpartition(":")[2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "none",
            "is None; it must be a Stage, a Teacher such as kdjax.logits(array), or kdjax.fun",
        ),
        ("number", "is 3; it must be a Stage, a Teacher such as kdjax.logits(array), or kdjax.fun"),
        ("broken", "makes no teacher: IndexError: list index out of range (test_values.py, line"),
    ],
)
def test_what_makes_no_teacher_is_refused(values, name, words):
    values.none, values.number, values.broken = lambda: None, 3, lambda: [][0]
    given = stage(teacher=f"values_of_a_user:{name}", objective=dict(kl_divergence=1.0))
    with refuses(f"config.stages.a.teacher, 'values_of_a_user:{name}', {words}"):
        parse(experiment(stages=dict(a=given)))


@pytest.mark.slow
def test_logits_in_a_file_teach_by_its_name_as_they_do_by_value(undrawn, tmp_path):
    of_digits = dict(dataset=mine.digits, stages=dict(a={}))
    found = {
        split: kdjax.examples(of_digits, split)[0] for split in ("train", "validation", "test")
    }
    taught = lambda x: mine.machine.apply(mine.machine.variables, x, None, ())[0].logits
    found = {split: np.asarray(taught(inputs)) for split, inputs in found.items()}
    np.savez(tmp_path / "logits.npz", **found)
    one = kdjax.distill(NET, kdjax.logits(**found), mine.digits, **FEW)
    other = kdjax.distill(NET, str(tmp_path / "logits.npz"), mine.digits, **FEW)
    equal(one.variables, other.variables)
    assert one.metrics == other.metrics and "agreement" in one.metrics["test"]


def test_logits_of_all_given_examples_are_told_of_the_validation_split():
    with refuses(
        "train logits are of 1000 examples", "for validation: kdjax.examples(data, 'train')"
    ):
        kdjax.distill(NET, kdjax.logits(np.zeros((1000, 10), np.float32)), mine.digits, **FEW)
    with refuses("train logits are of 999 examples and 10 classes; they must be of 900 and 10"):
        kdjax.distill(NET, kdjax.logits(np.zeros((999, 10), np.float32)), mine.digits, **FEW)


# Data, and the arguments of both doors.


def test_the_fields_of_the_data_set_hold_for_arrays(undrawn):
    by_value = kdjax.train(NET, mine.digits, dataset=dict(normalize="standard"), **FEW)
    assert abs(by_value.preprocessing.mean[0] - mine.images.mean()) < 0.01
    assert by_value.preprocessing.scale[0] > 2
    with refuses("dataset has the name 'digits'; data is the data set's name"):
        kdjax.train(NET, mine.digits, dataset=dict(name="digits"), **FEW)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(learnig_rate=0.1), "'learnig_rate' (did you mean 'learning_rate'?); it must be one"),
        (dict(stages={}), "there is no argument 'stages'"),
        (dict(model="mlp"), "there is no argument 'model'"),
    ],
)
def test_an_unknown_argument_is_refused(fields, words):
    with refuses(words):
        kdjax.train(NET, mine.digits, **fields)


def test_data_that_is_none_is_refused():
    with refuses("data is (array(", "it must be kdjax.arrays(...), or the name of a data set"):
        kdjax.train(NET, (mine.images, mine.labels), **FEW)


def test_the_command_reads_the_example_as_python_does():
    read = file.read("examples/your_own/config.py:6")
    assert plain(parse(read)) == plain(parse(config.get_config("6")))
    assert {stage.steps for stage in parse(read).stages} == {6}


def test_a_module_may_make_its_nets_before_the_machine_is_told():
    lines = (
        "import kdjax.host.machine as machine",
        "machine.cores = lambda: 3",
        "import examples.your_own.mine, jax, kdjax",
        "kdjax.use_machine()",
        "assert jax.device_count() == 3",
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    own = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", "\n".join(lines)], env=kept | own, check=True)
