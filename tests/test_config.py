"""Every wrong config is refused in one sentence that names field, value and what is allowed."""

import numpy as np
import pytest
from runs import STUDENT, TEACHERS, config

import kdjax
from kdjax.config import experiment, parse, stage
from kdjax.config.spec import cell, grid, plain, read_hparams
from kdjax.host.files import differences
from kdjax.rules import InputError


def students(**fields):
    return config(students=dict(s=stage(**STUDENT | fields)))


KD = dict(objective=dict(kl_divergence=1.0, cross_entropy=0.1))

SMOOTH = dict(cross_entropy=dict(label_smoothing=1.0))

REFUSED = [
    (lambda: experiment(stages={}), r"config.stages is empty"),
    (lambda: experiment(stages={"a b": stage()}), r"config.stages has 'a b'"),
    (lambda: students(objective=dict(kl=1.0)), r"objective.kl is 'kl'; it must be one of: cross_e"),
    (lambda: students(optimizer=dict(name="adm")), r"optimizer.name is 'adm'.*sgd, nesterov, ri"),
    (lambda: students(optimizer=dict(schedule="cos")), r"schedule is 'cos'.*constant, cosine"),
    (lambda: students(temperature=0.0), r"temperature is 0.0; it must be a number of at least 0.0"),
    (lambda: students(temperature=float("nan")), r"temperature is nan; it must be a number"),
    (lambda: students(temperature=float("inf")), r"temperature is inf; it must be a number"),
    (lambda: students(temperature="hot"), r"temperature is 'hot'; it must be a number"),
    (lambda: students(temperature=True), r"temperature is True; it must be a number"),
    (lambda: students(objective=dict(cross_entropy=-1.0)), r"cross_entropy is -1.0; .* at least 0"),
    (lambda: students(objective={}), r"objective is empty; it must have at least one term"),
    (lambda: students(objective=3), r"objective is 3; it must be a dict of terms"),
    (
        lambda: students(objective=dict(cross_entropy=dict(beta=1.0))),
        r"objective.cross_entropy has no field 'beta'; it must be one of: weight, label_smoothing",
    ),
    (lambda: students(objective=SMOOTH), r"label_smoothing is 1.0; it must be .* below 1"),
    (lambda: students(optimizer=dict(learning_rate=0.0)), r"learning_rate is 0.0; .* above 0"),
    (lambda: students(optimizer=dict(weight_decay=-1.0)), r"weight_decay is -1.0"),
    (
        lambda: students(optimizer=dict(warmup_steps=17)),
        r"warmup_steps is 17; .* at most steps, 16",
    ),
    (lambda: students(steps=0), r"steps is 0; it must be a whole number from 1"),
    (lambda: students(batch=2.5), r"batch is 2.5; it must be a whole number from 1"),
    (lambda: students(chunk=0), r"chunk is 0; it must be a whole number from 1"),
    (lambda: students(order="random"), r"order is 'random'; it must be one of: own, shared"),
    (lambda: students(mean="harmonic"), r"mean is 'harmonic'; .* arithmetic, geometric"),
    (lambda: students(mixing="some"), r"mixing is 'some'; .* all, one_to_one, best"),
    (
        lambda: students(members=dict(seed=0)),
        r"members.seed is 0; it must be a whole number from 1",
    ),
    (lambda: students(members=dict(seed=())), r"members.seed is \(\); there must be at least one"),
    (lambda: students(members=dict(seed=(1, 1))), r"members.seed is \(1, 1\); each value must"),
    (lambda: students(members=dict(seed=(-1,))), r"members.seed is \(-1,\); it must be a tuple"),
    (
        lambda: students(members=dict(temperature=(1.0, 2.0))),
        r"temperature is .*, but nothing .* reads 'temp",
    ),
    (
        lambda: students(members=dict(momentum=(0.5, 0.9))),
        r"momentum is .*, but nothing .* reads 'mom",
    ),
    (lambda: students(**KD, members=dict(temperature=(1.0, 0.0))), r"temperature is \(1.0, 0.0\)"),
    (
        lambda: students(teacher="", **KD),
        r"teacher is empty; the term 'kl_divergence' needs a teach",
    ),
    (lambda: students(teacher="techers"), r"teacher is 'techers'; .*earlier stage \(teachers\)"),
    (lambda: students(teacher="s"), r"teacher is 's'; it must be an earlier stage"),
    (lambda: students(init_from="nobody"), r"init_from is 'nobody'; it must be an earlier stage"),
    (
        lambda: students(**KD, teacher_logits="cached", augment=dict(shift=1)),
        r"teacher_logits is 'cached', but .*augment with shift 1 changes the "
        r"view that the student sees; it must be 'live', so that the teacher sees the same view",
    ),
    (
        lambda: students(**KD, subset=dict(labelled=0)),
        r"labelled is 0, but the objective has a term of labels",
    ),
    (lambda: students(model=dict(name="mpl")), r"model.name is 'mpl'; it must be one of: mlp, cnn"),
    (lambda: students(model=dict(hidden=(0,))), r"model.hidden is \(0,\); it must be a tuple"),
    (lambda: students(model=dict(hidden=16)), r"model.hidden is 16; it must be a tuple"),
    (lambda: students(model=dict(depth=3)), r"model has no field 'depth'; .* hidden, dropout"),
    (lambda: students(temprature=4.0), r"has no field 'temprature' \(did you mean 'temperature'"),
    (lambda: students(members=dict(seeds=3)), r"members has no field 'seeds'"),
    (lambda: students(optimizer=dict(lr=0.1)), r"optimizer has no field 'lr'"),
    (lambda: config(cache_dir=None), r"cache_dir is None; it must be text"),
    (lambda: config(evaluate="train"), r"evaluate is 'train'; .* validation, test"),
    (lambda: experiment(stages={"figures": stage()}), r"config.stages has 'figures'"),
    (lambda: experiment(stages=[stage()]), r"config.stages is .*; it must be a dict of fields"),
    (lambda: experiment(stages={"a": None}), r"config.stages.a is None; it must be a dict"),
    (lambda: dict(stages={3: {}, "a": {"steps": 0}}), r"stages.a.steps is 0"),
    (lambda: None, r"config is None; it must be a dict of fields"),
    (lambda: students(model="mlp"), r"model is 'mlp'; it must be a dict of fields"),
    (lambda: students(temperature=9.0), r"temperature is 9.0, which nothing in the stage reads"),
    (lambda: students(optimizer=dict(momentum=0.1)), r"momentum is 0.1, which nothing .*'adamw'"),
    (lambda: students(teacher_logits="cached"), r"teacher_logits is 'cached', which nothing"),
    (lambda: students(subset=dict(seed=3)), r"subset.seed is 3, which nothing"),
    (lambda: students(members=3), r"members is 3; it must be a dict of fields"),
    (lambda: students(optimizer="adamw"), r"optimizer is 'adamw'; it must be a dict of fields"),
    (lambda: students(objective=dict(cross_entropy=1e39)), r"entropy is 1e\+39; .* at most 1e\+06"),
    (lambda: students(members=dict(seed=10**9)), r"seed is 1000000000; .* from 1 to 10000"),
    (
        lambda: students(**KD, members=dict(seed=5000, kl_divergence=dict(weight=(1.0, 2.0, 3.0)))),
        r"members has 3 of kl_divergence.weight x 5000 of seed; there must be at most 10,000",
    ),
    (lambda: students(teacher="teachers,teachers"), r"it must name each stage once"),
    (lambda: students(init_from="a,b"), r"init_from is 'a,b'; it must be an earlier stage"),
    (lambda: students(objective=dict(cross_entropy=0.0)), r"which are all 0 for a member"),
    (
        lambda: students(**KD, mixing="best", members=dict(ensemble_size=(1, 2))),
        r"ensemble_size is 2, but config.stages.s.mixing is 'best'",
    ),
    (
        lambda: students(**KD, members=dict(ensemble_size=(0, 2))),
        r"members.ensemble_size has 0 among others; it must be how many teachers, from 1",
    ),
    (lambda: config(datadir="x"), r"config has no field 'datadir'"),
    (lambda: config(execution=dict(plan="fast")), r"execution.plan is 'fast'; .* auto, vmap, map"),
    (lambda: config(execution=dict(devices=-1)), r"execution.devices is -1; it must be a whole"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_a_wrong_config_is_refused(make, words):
    with pytest.raises(InputError, match=words) as caught:
        parse(make())
    assert "\n" not in str(caught.value)


MISFITS = [
    (dict(subset=dict(labelled=50)), r"hides the labels of 750 of its 800 .* every label"),
    (dict(subset=dict(without=(3, 3))), r"subset.without is \(3, 3\); .*, none of them twice"),
    (dict(subset=dict(classes=(12,))), r"subset.classes has 12; it must be of classes 0 to 9"),
    (dict(subset=dict(classes=(3,), without=(3,))), r"there is no example"),
    (dict(subset=dict(size=801)), r"subset.size is 801; it must be at most 800"),
    (dict(model=dict(name="cnn", channels=(4, 4, 4, 4))), r"does not take examples of the shape"),
    (dict(subset=dict(size=0)), r"subset.size is 0; there must be at least one"),
    (dict(model=dict(hidden=(2**31 - 1,))), r"s.model is .*, whose parameters are .* GiB, more t"),
    (dict(batch=2**31 - 1), r"s.batch is 2147483647, for which a chunk needs .* GiB, more than"),
    (dict(augment=dict(shift=8)), r"augment.shift is 8; it must be less"),
    (dict(**KD, members=dict(ensemble_size=(2, 4))), r"ensemble_size is 4; .* the 3 teachers"),
    (dict(**KD, mixing="one_to_one"), r"mixing is 'one_to_one', but there are 2 seeds and 3 teach"),
    (
        dict(**KD, model=dict(hidden=(24,))),
        r"members.seed has 0, as has its teacher 'teachers' of the same net.* such as \(3, 4\)",
    ),
    (dict(init_from="teachers"), r"init_from is 'teachers', whose net mlp has"),
    (dict(teacher="no/such/place"), r"teacher is 'no/such/place': no/such/place does not exist"),
]


@pytest.mark.parametrize(("fields", "words"), MISFITS, ids=[words[:40] for _, words in MISFITS])
def test_a_stage_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, fields, words):
    with pytest.raises(InputError, match=words) as caught:
        kdjax.run(students(**fields), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (dict(devices=99), r"devices is 99; it must be at most the 8"),
        (dict(member_shards=2), r"member_shards is 2; it must divide the 3 members of config.st"),
        (dict(data_shards=3), r"data_shards is 3; it must divide the 40 examples of a batch"),
    ],
)
def test_devices_that_do_not_divide_are_refused_with_the_numbers(tmp_path, execution, words):
    with pytest.raises(InputError, match=words):
        kdjax.run(config(execution=execution), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_net_that_needs_images_refuses_vectors(tmp_path):
    arrays = {"train_inputs": np.zeros((40, 5), np.float32), "train_labels": np.arange(40) % 2}
    arrays |= {k.replace("train", "test"): v for k, v in arrays.items()}
    np.savez(tmp_path / "own.npz", **arrays)
    stages = dict(s=stage(model=dict(name="cnn")))
    with pytest.raises(InputError, match=r"which does not take .* it needs examples of 3 axes"):
        own = experiment(dataset=dict(name=str(tmp_path / "own.npz")), stages=stages)
        kdjax.run(own, tmp_path / "run", quiet=True)


def test_a_teacher_of_other_classes_or_shape_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"train_inputs": rng.random((80, 5), np.float32), "train_labels": np.arange(80) % 2}
    arrays |= {k.replace("train", "test"): v for k, v in arrays.items()}
    np.savez(tmp_path / "own.npz", **arrays)
    two = experiment(
        dataset=dict(name=str(tmp_path / "own.npz")), stages=dict(teachers=stage(**TEACHERS))
    )
    kdjax.run(two, tmp_path / "two", quiet=True)
    with pytest.raises(InputError, match=r"whose input_shape \[5\] differs from this data"):
        student = stage(**STUDENT | dict(teacher=str(tmp_path / "two" / "teachers")), **KD)
        kdjax.run(experiment(stages=dict(s=student)), tmp_path / "run", quiet=True)
    grey = arrays | {k: np.uint8(255 * v) for k, v in arrays.items() if k.endswith("inputs")}
    np.savez(tmp_path / "grey.npz", **grey)
    shared = dict(name=str(tmp_path / "grey.npz"))
    with pytest.raises(
        InputError, match=r"whose input_dtype float32 differs from .* uint8; the two"
    ):
        kdjax.run(experiment(dataset=shared, stages=dict(s=student)), tmp_path / "run", quiet=True)
    (tmp_path / "two" / "teachers" / "DONE").unlink()
    with pytest.raises(InputError, match="not finished"):
        kdjax.run(experiment(stages=dict(s=student)), tmp_path / "run", quiet=True)


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        kdjax.run(config(), tmp_path / "file" / "run", quiet=True)


def test_a_config_holds_every_field_so_that_each_can_be_overridden():
    made = config()
    fields = made.stages.distilled
    read = {name.partition(".")[0] for name in read_hparams(parse(made).stages[-1])}
    assert read <= set(fields.members)
    for name in ("temperature", "objective", "init_from", "mean"):
        assert name in fields
    assert fields.objective.cross_entropy.label_smoothing == 0.0
    assert fields.model.dropout == 0.0 and fields.optimizer.clip_norm == 0.0
    assert parse(made) == parse(made.to_dict())
    assert parse(dict(stages=dict(a={}))) == parse(experiment(stages=dict(a=stage())))


def test_the_grid_runs_over_its_axes_with_seeds_fastest():
    spec = parse(students(**KD, members=dict(seed=(3, 5), temperature=(1.0, 2.0)))).stages[-1]
    members = grid(spec)
    assert [(m["temperature"], m["seed"]) for m in members] == [(1, 3), (1, 5), (2, 3), (2, 5)]
    assert all(m["cross_entropy.weight"] == 0.1 for m in members)
    assert cell(spec, members[2]) == {"temperature": 2.0}


def test_differences_name_the_keys():
    old, new = (plain(parse(students(steps=s)).stages[-1]) for s in (20, 30))
    assert differences(old, old) == []
    assert differences(old, new) == ["steps: 20 -> 30"]
