"""Terms of derivatives in training: what they are given, on every layout, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import ONE, VMAP, a_stage, arrays, recipe_of, train
from runs import NET, config
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax.config import experiment, parse, stage
from kdjax.keys import stream
from kdjax.losses import TERMS, Context, ensemble_derivatives, ensemble_logits, translations
from kdjax.losses.term import Derivatives
from kdjax.nets.net import Outputs
from kdjax.parallel import Layout
from kdjax.population import Plan

K, B, R, C, T = 2, 5, 3, 7, 2.0
FEW = dict(steps=4, batch=20, quiet=True)
ROWS = ("jacobian_matching", "tangent_propagation")
WEIGHTS = np.random.default_rng(1).normal(size=(3, 64, 10)).astype(np.float32)
BOTH = dict(
    jacobian_matching=dict(weight=0.1, directions=2),
    tangent_propagation=dict(weight=0.1, of="logits"),
    kl_divergence=1.0,
)


def bent(_, x):
    """Three teachers whose derivatives are not the same everywhere."""
    return Outputs(jnp.einsum("bd,kdc->kbc", jnp.tanh(x.reshape(len(x), -1)), WEIGHTS), {})


def taught(**fields):
    return a_stage(**dict(objective=BOTH, teacher="teachers", temperature=T) | fields)


def context(term):
    draw = lambda *shape, seed: jnp.asarray(
        np.random.default_rng(seed).normal(size=shape), jnp.float32
    )
    z, v, dz, dv = (
        draw(B, C, seed=0),
        draw(K, B, C, seed=1),
        draw(B, R, C, seed=2),
        draw(K, B, R, C, seed=3),
    )
    given = Context(
        student=Outputs(z, {}),
        teacher=Outputs(v, {}),
        targets=lambda t: v.mean(axis=0) if t is None else ensemble_logits(v, t),
        inputs=z,
        labels=jnp.zeros(B, jnp.int32),
        hparams={name: jnp.float32(T) for name in term.numbers},
        derivatives=Derivatives(
            dz,
            dv,
            lambda t: dv.mean(axis=0) if t is None else ensemble_derivatives(v, dv, t),
        ),
    )
    return z, v, dz, dv, given


@pytest.mark.parametrize("row", ROWS)
def test_a_term_matches_the_mixed_teachers_at_the_temperature_or_their_mean_logits(row):
    z, v, dz, dv, given = context(TERMS[row]())
    mixed = ensemble_logits(v, T), ensemble_derivatives(v, dv, T)
    found = TERMS[row]().function(given)
    np.testing.assert_allclose(found, kdjax.losses.derivative_matching(z, dz, *mixed, T), 1e-6)
    term = TERMS[row](of="logits")
    assert "temperature" not in term.numbers and term.label == row
    mean = v.mean(axis=0), dv.mean(axis=0)
    np.testing.assert_allclose(
        term.function(context(term)[-1]),
        kdjax.losses.derivative_matching(z, dz, *mean, None),
        rtol=1e-6,
    )


def test_without_a_teacher_the_target_is_zero():
    term = TERMS["tangent_propagation"](target="zero")
    assert not term.is_taught
    z, _, dz, _, given = context(term)
    found = term.function(term.needed(given))
    np.testing.assert_allclose(found, kdjax.losses.tangent_penalty(z, dz, T), rtol=1e-6)


@pytest.mark.parametrize("order", ["own", "shared"])
def test_a_student_that_is_its_teacher_has_the_same_derivatives(order):
    """So that both have the same view and directions: any other would cost something."""
    spec = taught(
        objective={n: w for n, w in BOTH.items() if n != "kl_divergence"},
        order=order,
        augment=dict(shift=2),
        optimizer=dict(name="sgd", learning_rate=1e-9),
        steps=2,
    )
    recipe = recipe_of(spec)
    variables = recipe.net.init(stream(0, "init"), np.zeros((1, 8, 8, 1), np.float32))
    same = lambda _, x: jax.tree.map(
        lambda x: jnp.stack([x] * 3), recipe.net.apply(variables, x, None, ())[0]
    )
    other = lambda _, x: jax.tree.map(lambda z: 2 * z, same(_, x))
    assert np.abs(train(spec, teach=same)[1]).max() < 1e-9
    assert np.abs(train(spec, teach=other)[1]).min() > 1e-4


def test_directions_are_of_the_step_and_the_example_and_shared_in_shared_order():
    """A term whose loss is what it was given: the derivatives of a net that is linear."""
    seen = kdjax.Term(
        lambda c: (c.derivatives.student[..., 0] ** 2).sum(axis=1) + 0 * c.student.logits[:, 0],
        directions=lambda key, x: jax.random.normal(key, (2, *x.shape)),
        name="seen",
    )
    apply = lambda params, x: x.reshape(len(x), -1) @ params["kernel"]
    net = kdjax.function(apply, {"kernel": WEIGHTS[0]})
    still = dict(name="sgd", learning_rate=1e-9)
    fields = dict(model=net, objective={seen: 1.0}, optimizer=still, steps=3, batch=20)
    made = lambda order: dict(order=order, members=dict(seed=2), **fields)
    spec, other = (
        parse(dict(stages=dict(student=made(order)))).stages[0] for order in ("shared", "own")
    )
    _, shared = train(spec)
    np.testing.assert_array_equal(shared[0], shared[1])
    assert len(set(shared[0].tolist())) == 3
    _, own = train(other)
    assert (own[0] != own[1]).all()
    for layout in (Layout(1, 2), Layout(2, 2)):
        np.testing.assert_allclose(train(spec, layout)[1], shared, rtol=1e-5)


NETS = {
    "mlp": dict(name="mlp", hidden=(16,), dropout=0.3),
    "cnn": dict(name="cnn", channels=(4,), dense=8, norm="batch"),
}


@pytest.mark.long
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("order", ["own", "shared"])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_no_layout_and_no_plan_changes_what_is_learned(net, order, mean):
    spec = taught(model=NETS[net], order=order, mean=mean, members=dict(seed=2), steps=3)
    one = train(spec, teach=bent)
    assert not one[0].bad.any()
    plans = [] if net == "cnn" else [(ONE, Plan("map", scan=True))]
    plans += [(ONE, Plan("unroll", scan=False))]
    plans += [(layout, VMAP) for layout in (Layout(2, 1), Layout(1, 2), Layout(2, 2))]
    for layout, plan in plans:
        found = train(spec, layout, plan, teach=bent)
        chex.assert_trees_all_close(found, one, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [dict(peers=True), dict(average=0.9)])
def test_peers_and_averages_teach_their_derivatives(inside):
    name = "peers" if "peers" in inside else "ema"
    spec = taught(
        objective=BOTH | dict(cross_entropy=1.0),
        teacher=f"kdjax.teachers:{name}",
        order="shared",
        members=dict(seed=2),
    )
    one = train(spec, **inside)
    assert not one[0].bad.any()
    chex.assert_trees_all_close(train(spec, Layout(2, 2), **inside), one, rtol=2e-3, atol=1e-4)


def test_the_first_step_costs_what_the_formula_gives_of_net_and_teachers_by_hand():
    """Jacobians by `jax.jacfwd`, of the whole nets."""
    spec = taught(objective=dict(tangent_propagation=1.0), order="shared", steps=1, batch=200)
    recipe = recipe_of(spec)
    x = jnp.asarray(arrays()[0] / 16, jnp.float32)
    variables = recipe.net.init(stream(0, "init"), x[:1])
    tangents = jax.vmap(lambda x: translations(jax.random.key(0), x))(x)

    def derivative(function, r):
        ends = jax.jvp(function, (x,), (tangents[:, r],))
        return np.asarray(ends[1], np.float64)

    log_q = lambda x: jax.nn.log_softmax(recipe.net.apply(variables, x, None, ())[0].logits / T)
    log_p = lambda x: jnp.log(jax.nn.softmax(bent((), x).logits / T).mean(axis=0))
    difference = [derivative(log_q, r) - derivative(log_p, r) for r in range(2)]
    expected = T**2 * 0.5 * np.mean([(d**2).sum(axis=1).mean() for d in difference])
    np.testing.assert_allclose(train(spec, teach=bent)[1], expected, rtol=1e-3)


# What is refused.


def run(workdir, **fields):
    kdjax.run(config(students=dict(student=stage(**NET | fields))), workdir, quiet=True)


@pytest.mark.parametrize("row", ROWS)
def test_cached_logits_have_no_derivatives(tmp_path, row):
    objective = {row: 1.0}
    for kind in ("cached", "cached_float16"):
        with refuses(
            f"student.teacher_logits is '{kind}'", f"the term '{row}' reads derivatives", "'live'"
        ):
            run(tmp_path, teacher="teachers", teacher_logits=kind, objective=objective)
    stored = kdjax.logits(np.zeros((1437, 10), np.float32), against_labels=False)
    with refuses("teacher is logits of the stored examples", "reads derivatives of the teachers"):
        parse(dict(stages=dict(student=dict(teacher=stored, objective=objective))))


def test_a_table_has_no_translations():
    x, y = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32), np.arange(60) % 3
    data = kdjax.arrays(train=(x, y), test=(x[:9], y[:9]), class_names=("a", "b", "c"))
    objective = dict(cross_entropy=1.0, tangent_propagation=dict(target="zero"))
    with refuses(
        "objective.tangent_propagation: translations are of images [height, width, channels]",
        "(12,)",
    ):
        kdjax.train(kdjax.linen(mine.LinenNet(classes=3)), data, objective=objective, **FEW)


def test_options_that_are_none_are_refused():
    for row, options, words in (
        ("jacobian_matching", dict(directions=0), "directions is 0"),
        ("jacobian_matching", dict(of="probabilities"), "of is 'probabilities'"),
        ("tangent_propagation", dict(target="labels"), "target is 'labels'"),
    ):
        with refuses(f"objective.{row}", words):
            a_stage(objective={row: options}, teacher="teachers")


@pytest.mark.parametrize(
    ("directions", "words"),
    [
        (
            lambda key, x: x,
            "directions that are float32[8, 8, 1]; they must be float32[R, 8, 8, 1]",
        ),
        (lambda key, x: x[None, :4], "directions that are float32[1, 4, 8, 1]"),
        (lambda key, x: x[None].astype("int32"), "directions that are int32[1, 8, 8, 1]"),
        (lambda key, x: x @ jnp.ones((3, 3)), "has no directions for examples of the shape"),
        (lambda key, x: None, "directions that are a NoneType"),
    ],
)
def test_directions_that_are_none_of_the_example_are_refused(directions, words):
    term = kdjax.Term(
        lambda c: c.derivatives.student.sum(axis=(1, 2)), directions=directions, name="mine"
    )
    with refuses("objective.mine", words):
        kdjax.train(kdjax.linen(mine.LinenNet()), mine.digits, objective={term: 1.0}, **FEW)


def test_a_stage_without_its_code_has_no_derivatives(tmp_path, undrawn):
    teachers = dict(teachers=stage(**NET))
    kdjax.run(experiment(stages=teachers), tmp_path / "first", quiet=True)
    fields = NET | dict(objective=dict(jacobian_matching=1.0), members=dict(seed=(7,)))
    student = stage(**fields, teacher=str(tmp_path / "first" / "teachers"))
    with refuses("opened without its code", "its derivatives cannot be taken"):
        kdjax.run(experiment(stages=dict(student=student)), tmp_path / "second", quiet=True)
    both = teachers | dict(student=stage(**fields, teacher="teachers"))
    report = kdjax.run(experiment(stages=both), tmp_path / "third", quiet=True)
    assert np.isfinite(report.rows[-1].metrics["nll"]["values"]).all()


def test_a_net_without_a_derivative_by_its_inputs_is_named():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    apply = lambda params, x: double(x.reshape(len(x), -1) @ params["kernel"])
    net = kdjax.function(apply, {"kernel": WEIGHTS[0]}, name="one_way")
    objective = dict(cross_entropy=1.0, tangent_propagation=dict(target="zero"))
    with refuses("model is one_way", "which has no derivative by its inputs"):
        kdjax.train(net, mine.digits, objective=objective, **FEW)
