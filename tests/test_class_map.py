"""Teachers whose classes are not the student's: matched by name, or refused in one sentence."""

import sys
import types

import jax
import numpy as np
import pytest
from saved_logits import DATA, INPUTS, LOGITS, NAMES, RANDOM, fits
from scipy.special import log_softmax, softmax
from stages import refuses

import kdjax
from kdjax.class_map import ClassMap, joined, matched
from kdjax.config import parse
from kdjax.teachers import Asked

OWN = ("cat", "dog", "fish", "owl", "emu")
Z = RANDOM.normal(size=(2, 6, 5)).astype(np.float32) * 3
ALL = Asked("train", np.arange(6), np.empty(0), None)


def said(names, *, own=OWN, **chosen):
    """What a teacher of the classes `own` says of the classes `names`, and the teacher."""
    teacher = kdjax.logits(Z[..., : len(own)], class_names=own)
    found = matched(teacher, names, ClassMap(**chosen), "config.stages.s.teacher")
    return found.predict(ALL), found


def places(names):
    return [OWN.index(name) for name in names]


def test_the_same_classes_in_another_order_are_matched_by_name():
    names = OWN[::-1]
    logits, teacher = said(names)
    np.testing.assert_array_equal(logits, Z[..., places(names)])
    assert (teacher.class_names, teacher.note, teacher.masked) == (names, "", ())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_rest_of_more_classes_is_renormalised(temperature):
    names = ("owl", "cat")
    logits, teacher = said(names, extra="renormalise")
    p = softmax(Z / temperature, axis=-1)[..., places(names)]
    expected = p / p.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(softmax(logits / temperature, axis=-1), expected, rtol=1e-5)
    assert teacher.note == "logits: 3 of its 5 classes left out, and the rest renormalised"
    assert teacher.sizes == {"train": (6, 2)}


@pytest.mark.parametrize("own", [OWN, ("cat", "dog", "fish", "owl", "none")])
def test_the_mass_of_more_classes_is_kept_in_another(own):
    names = ("none", "owl", "cat")
    logits, teacher = said(names, own=own, extra="other", other="none")
    p = softmax(Z, axis=-1)
    expected = np.stack([p[..., [1, 2, 4]].sum(axis=-1), p[..., 3], p[..., 0]], axis=-1)
    np.testing.assert_allclose(softmax(logits, axis=-1), expected, rtol=1e-5)
    lost = 5 - len({"owl", "cat", "none"} & set(own))
    assert teacher.note == f"logits: {lost} of its 5 classes added to 'none'"


def test_classes_that_the_teacher_does_not_know_have_no_mass():
    names = ("bee", *OWN)
    logits, teacher = said(names, missing="zero")
    assert np.all(logits[..., 0] == -np.inf) and teacher.masked == ("bee",)
    np.testing.assert_allclose(softmax(logits, axis=-1)[..., 1:], softmax(Z, axis=-1), rtol=1e-6)
    assert teacher.note == "logits: no mass for 'bee'"


def test_classes_that_differ_both_ways():
    logits, teacher = said(("bee", "cat", "dog"), extra="renormalise", missing="zero")
    np.testing.assert_array_equal(logits[..., 1:], Z[..., :2])
    assert teacher.note.endswith("the rest renormalised and no mass for 'bee'")


@pytest.mark.parametrize(
    ("names", "chosen", "words"),
    [
        (OWN[:3], {}, "whose classes 'owl', 'emu' the data set does not have; class_map.extra"),
        (OWN[:3], dict(missing="zero"), "whose classes 'owl', 'emu' the data set does not have"),
        ((*OWN, "a"), {}, "does not know the data set's classes 'a'; class_map.missing must"),
        ((*OWN, "a"), dict(extra="other", other="a"), "does not know the data set's classes 'a'"),
        (OWN[:3], dict(extra="other"), "class_map.other of config.stages.s.teacher is 'other'; it"),
        (("a", "b"), dict(extra="renormalise", missing="zero"), "none of whose classes"),
        (("a", "b", "c", "d", "e"), {}, "none of whose classes 'cat, dog, fish, owl, emu' is one"),
        (("Cat", "dog", "fish", "owl", "emu"), {}, "whose classes 'cat' the data set does not"),
    ],
)
def test_classes_that_are_not_said_to_be_lost_are_refused(names, chosen, words):
    with refuses("config.stages.s.teacher is 'logits'" if chosen != dict(extra="other") else words):
        said(names, **chosen)
    with refuses(words):
        said(names, **chosen)


def test_numbers_are_no_names_where_the_other_side_has_names():
    for own, names in ((tuple("01234"), OWN), (OWN, tuple("01234"))):
        with refuses("none of whose classes", "kdjax.with_class_names gives those of a teacher"):
            said(names, own=own)


def test_numbers_are_names_where_both_sides_have_them():
    names = ("0", "1", "10", "2")  # as folders are sorted
    logits, _ = said(names, own=("0", "1", "2", "10"))
    np.testing.assert_array_equal(logits, Z[..., [0, 1, 3, 2]])
    logits, _ = said(("0", "1", "2"), own=tuple("01234"), extra="renormalise")
    np.testing.assert_array_equal(logits, Z[..., :3])


def test_a_part_of_the_teachers_has_the_same_classes():
    _, teacher = said(("owl", "cat"), extra="renormalise")
    one = teacher.part(1)
    assert (one.count, one.sizes) == (1, {"train": (6, 2)})
    np.testing.assert_array_equal(one.predict(ALL), Z[:1][..., [3, 0]])


def test_logits_of_half_precision_are_joined_in_full():
    half = Z.astype(np.float16)
    found = joined(half, [[0, 1, 2, 3, 4], [0]])
    assert found.dtype == np.float32
    expected = np.log(np.exp(half.astype(np.float32)).sum(axis=-1))
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5)


# A pure function whose classes have names.

ORDER = RANDOM.permutation(10)
WEIGHTS = RANDOM.normal(size=(64, 10)).astype(np.float32)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


MACHINE = kdjax.function(linear, WEIGHTS)
NAMED = kdjax.with_class_names(kdjax.function(linear, WEIGHTS[:, ORDER]), [NAMES[i] for i in ORDER])


def test_a_function_is_matched_by_the_names_that_it_is_given():
    x = np.asarray(INPUTS["train"][:4], np.float32)
    ours, theirs = (fits(teacher) for teacher in (MACHINE, NAMED))
    logits = [jax.jit(lambda v, t=t: t.apply(v, x, ()).logits)(t.variables) for t in (ours, theirs)]
    np.testing.assert_allclose(*logits, rtol=1e-5)
    assert ours.identity != theirs.identity


def test_a_config_names_a_function_with_classes(monkeypatch):
    module = types.ModuleType("classes_of_a_user")
    module.named, module.made = NAMED, lambda: NAMED
    monkeypatch.setitem(sys.modules, "classes_of_a_user", module)
    for name in ("named", "made"):
        teacher = fits(f"classes_of_a_user:{name}")
        assert teacher.class_names == NAMES and teacher.scope == "batch"


def test_names_that_are_not_as_many_as_the_logits_are_refused():
    with refuses("it has 9 names of classes, and logits of 10; there must be as many"):
        fits(kdjax.with_class_names(MACHINE, NAMES[:9]), class_map=dict(missing="zero"))
    more = kdjax.with_class_names(MACHINE, (*NAMES, "x"))
    with refuses("it has 11 names of classes, and logits of 10; there must be as many"):
        fits(more, class_map=dict(extra="renormalise"))
    with refuses("class_names has 9 names, and the logits have 10 classes"):
        kdjax.with_class_names(kdjax.logits(LOGITS["train"]), NAMES[:9])
    with refuses("teacher is 3; it must be a Stage, a Teacher such as kdjax.logits(array)"):
        kdjax.with_class_names(3, NAMES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(extra="drop"), "class_map.extra is 'drop'; it must be one of: refuse, renormalise"),
        (dict(missing="one"), "class_map.missing is 'one'; it must be one of: refuse, zero"),
        (
            dict(other="a"),
            "class_map.other is 'a', but config.stages.s.class_map.extra is 'refuse'",
        ),
        (dict(Extra="other"), "class_map has no field 'Extra' (did you mean 'extra'?)"),
    ],
)
def test_a_choice_that_is_none_or_is_not_read_is_refused(fields, words):
    with refuses(f"config.stages.s.{words}"):
        fits(MACHINE, class_map=fields)


def test_a_stage_without_a_teacher_has_no_classes_to_match():
    stages = dict(s=dict(class_map=dict(missing="zero")))
    with refuses("config.stages.s.class_map is ClassMap(", "but there is no teacher"):
        parse(dict(dataset=DATA, stages=stages))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("logit_matching", {}),
        ("log_softmax_l2", {}),
        ("reverse_kl", {}),
        ("jensen_shannon", dict(beta=1.0)),
        ("standardized", dict(term="reverse_kl")),
    ],
)
def test_a_term_that_needs_every_class_is_refused(name, numbers):
    few = kdjax.logits(LOGITS["train"][..., :9], class_names=NAMES[:9], against_labels=False)
    given = dict(class_map=dict(missing="zero"))
    assert fits(few, **given).masked == ("9",)
    with refuses(f"has {name}, which needs the logit of every class", "does not know '9'"):
        fits(few, objective={name: dict(weight=1.0, **numbers)}, **given)
    soft = dict(jensen_shannon=1.0, dkd=1.0, cross_entropy=1.0, standardized=1.0)
    assert fits(few, objective=soft, **given).masked == ("9",)


FEW = dict(steps=3, batch=20, seeds=2, quiet=True)
MLP = dict(name="mlp", hidden=(8,))


@pytest.mark.slow
def test_a_live_teacher_of_other_classes_teaches_what_one_of_the_students_does(undrawn):
    more = np.concatenate([WEIGHTS[:, ORDER], WEIGHTS[:, :2]], axis=1)
    names = (*(NAMES[i] for i in ORDER), "x", "y")
    wide = kdjax.with_class_names(kdjax.function(linear, more), names)
    given = dict(augment=dict(shift=1), temperature=3.0)
    ours = kdjax.distill(MLP, MACHINE, DATA, **FEW, **given)
    theirs = kdjax.distill(MLP, wide, DATA, **FEW, **given, class_map=dict(extra="renormalise"))
    for x, y in zip(*map(jax.tree.leaves, (ours.variables, theirs.variables)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert theirs.metrics["test"]["agreement"] == ours.metrics["test"]["agreement"]


@pytest.mark.slow
def test_a_stage_of_more_classes_teaches_a_student_of_some(undrawn, tmp_path):
    kept = kdjax.train(MLP, DATA, workdir=tmp_path, name="ten", **FEW).path
    images, labels = kdjax.examples(DATA, "train")
    some = np.isin(labels, (3, 7, 8))
    images, labels = images[some], np.array(NAMES)[labels[some]]
    data = kdjax.arrays(train=(images[10:], labels[10:]), test=(images[:10], labels[:10]))
    with refuses(
        "whose classes '0', '1', '2', '4', '5', '6' and 1 more the data set does not have"
    ):
        kdjax.distill(MLP, str(kept), data, **FEW)
    given = dict(class_map=dict(extra="renormalise"), teacher_logits="cached")
    student = kdjax.distill(MLP, str(kept), data, **FEW, **given)
    assert student.class_names == ("3", "7", "8") and not any(student.diverged)
    told = log_softmax(kdjax.open_stage(kept).predict(images[:10])[..., [3, 7, 8]], axis=-1)
    mean = np.exp(told).mean(axis=0).argmax(axis=-1)
    agreement = (student.predict(images[:10]).argmax(axis=-1) == mean).mean(axis=1)
    np.testing.assert_allclose(student.metrics["test"]["agreement"], agreement, atol=1e-6)
