"""Contrastive representation distillation (arXiv 1910.10699), and its term, which remembers the
embeddings of all examples.

Axes: K teachers, B examples of the batch or of this device's part of it, N of the stage, D
dimensions of an embedding, n negatives.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kdjax.losses.features import projection
from kdjax.losses.layers import EXACT, Paths, both_layers, over_teachers, pairs, read, unit
from kdjax.losses.term import Context, Term
from kdjax.nets.net import Outputs, PyTree
from kdjax.rules import InputError, check, fraction, shown, whole

UNSET = jnp.inf  # a normaliser before the first batch


def crd_negatives(key: jax.Array, index: jax.Array, examples: int, count: int) -> jax.Array:
    """How often each of N examples is a negative of each of B.

    They are drawn alike, with replacement, from all examples but the one itself, whatever their
    classes, which need not be known; the authors' loader takes those of other classes.

    Args:
      key: of the step; an example's draw depends on it and on its number alone.
      index: [B], the numbers of the examples, below N.
      examples: N, at least 2.
      count: n.

    Returns:
      [B, N] float32 whole numbers with the sum n in each row.
    """

    def of_one(number: jax.Array) -> jax.Array:
        places = jax.random.randint(
            jax.random.fold_in(key, number), (count,), 0, examples - 1, dtype=jnp.int32
        )
        places += places >= number
        return jnp.zeros(examples, jnp.int32).at[places].add(1)  # integers: in any order the same

    return jax.vmap(of_one)(index).astype(jnp.float32)


def crd_log_normaliser(
    anchor: jax.Array,
    bank: jax.Array,
    index: jax.Array,
    negatives: jax.Array,
    temperature: jax.Array | float,
) -> jax.Array:
    """[B]: the logarithm of N times the mean of exp(cosine / temperature) of each anchor with its
    positive and its negatives; of the same arguments as `crd`."""
    scores = jnp.matmul(anchor, bank.T, precision=EXACT) / temperature
    own = jax.nn.one_hot(index, len(bank), dtype=scores.dtype)
    count = 1 + jnp.sum(negatives, axis=1)
    found = jax.nn.logsumexp(scores, axis=1, b=negatives + own)
    return found - jnp.log(count) + jnp.log(len(bank))


def crd(
    anchor: jax.Array,
    bank: jax.Array,
    index: jax.Array,
    negatives: jax.Array,
    log_z: jax.Array,
    temperature: jax.Array | float = 0.07,
) -> jax.Array:
    """The noise-contrastive loss of telling an example's own row of a bank from n others, by
    h = P / (P + n / N) with P = exp(cosine / temperature) / Z: -log h of its own minus the sum of
    log(1 - h) of the others (arXiv 1910.10699, equation 18). The loss of a step is this of the
    student with the teacher's bank plus that of the teacher with the student's. Published weight
    0.8, with n = 16384, D = 128 and a temperature of 0.07.

    It needs B N numbers.

    Args:
      anchor: [B, D] embeddings of length 1.
      bank: [N, D] of the other net; no gradient into it.
      index: [B], which row of the bank is each anchor's own.
      negatives: [B, N], how often each row is a negative, as `crd_negatives` has it.
      log_z: scalar, the logarithm of Z; no gradient into it.

    Returns:
      [B].
    """
    bank, log_z = jax.lax.stop_gradient((bank, log_z))
    count = jnp.sum(negatives, axis=1, keepdims=True)
    scores = jnp.matmul(anchor, bank.T, precision=EXACT) / temperature - log_z
    against = scores - jnp.log(count / len(bank))  # the logarithm of h / (1 - h)
    own = jax.nn.one_hot(index, len(bank), dtype=scores.dtype)
    loss = own * jax.nn.softplus(-against) + negatives * jax.nn.softplus(against)
    return jnp.sum(loss, axis=1)


def crd_update_bank(
    bank: jax.Array, index: jax.Array, embedding: jax.Array, momentum: jax.Array | float
) -> jax.Array:
    """The bank [N, D] with the rows `index` [B] moved to the embeddings [B, D], all of length 1:
    `momentum` old and the rest new. Of an example that is twice in a batch the last is taken."""
    moved = unit(momentum * bank[index] + (1 - momentum) * embedding)
    same = (index[:, None] == index[None, :]) & (
        jnp.arange(len(index))[:, None] < jnp.arange(len(index))[None, :]
    )
    rows = jnp.where(same.any(axis=1), len(bank), index)  # that row is not there
    return bank.at[rows].set(moved, mode="drop")


def crd_row(
    student: Paths = "", teacher: Paths = "", dimensions: int = 128, negatives: int = 16384
) -> Term:
    """A term of `crd`: embeddings of a layer of each net, linear and of length 1, trained with the
    student, and for each teacher a bank of both nets' embeddings of all examples and two
    normalisers, which are those of the first batch.

    Args:
      student, teacher: the path of a layer of each.
      dimensions: D, of an embedding.
      negatives: n, of each example.
    """
    (s, t), *more = pairs(student, teacher)
    if more:
        raise InputError(f"student is {shown(student)}; it must be the path of one layer")
    check(whole(1), "dimensions", dimensions)
    check(whole(1), "negatives", negatives)

    def features(student: Outputs, teacher: Outputs) -> tuple[jax.Array, jax.Array]:
        """[B, F] and [K, B, G]."""
        f, g = read(student.features, teacher.features, (s, t))
        f, g = both_layers(f, jnp.moveaxis(g, 1, 0))
        return f.reshape(len(f), -1), jnp.moveaxis(g, 1, 0).reshape(g.shape[1], len(g), -1)

    def embeddings(key: jax.Array, student: Outputs, teacher: Outputs | None) -> PyTree:
        assert teacher is not None
        f, g = features(student, teacher)

        def of_teacher(key: jax.Array) -> dict[str, Any]:
            ours, theirs = jax.random.split(key)
            zeros = jnp.zeros(dimensions)
            return {
                "student": {"kernel": projection(ours, f.shape[-1], dimensions), "bias": zeros},
                "teacher": {"kernel": projection(theirs, g.shape[-1], dimensions), "bias": zeros},
            }

        return jax.vmap(of_teacher)(jax.random.split(key, len(g)))

    def banks(key: jax.Array, student: Outputs, teacher: Outputs | None, examples: int) -> PyTree:
        assert teacher is not None
        if examples < 2:
            raise InputError(f"there are {examples} examples; a negative needs another one")
        shape, size = (len(teacher.logits), examples, dimensions), (3 / dimensions) ** 0.5
        ours, theirs = jax.random.split(key)
        rows = lambda key: jax.random.uniform(key, shape, minval=-size, maxval=size)
        log_z = jnp.full((shape[0], 2), UNSET)
        return {"student": rows(ours), "teacher": rows(theirs), "log_z": log_z}

    def function(context: Context) -> tuple[jax.Array, PyTree]:
        assert context.teacher is not None
        assert context.index is not None and context.key is not None
        temperature, momentum = (context.hparams[n] for n in ("temperature", "momentum"))
        f, g = features(context.student, context.teacher)
        index, examples = context.index, context.memory["student"].shape[1]
        counts = crd_negatives(context.key, index, examples, negatives)
        every = context.gather(index)

        def of_teacher(g: jax.Array, aux: PyTree, memory: PyTree) -> tuple[jax.Array, PyTree]:
            ours, theirs = (_embedded(aux[n], x) for n, x in (("student", f), ("teacher", g)))
            each = (ours, memory["teacher"]), (theirs, memory["student"])
            log_z = jnp.stack([_log_z(context, *pair, counts) for pair in each])
            log_z = jnp.where(memory["log_z"] == UNSET, log_z, memory["log_z"])
            losses = [
                crd(*pair, index, counts, z, temperature)
                for pair, z in zip(each, log_z, strict=True)
            ]
            move = lambda bank, new: crd_update_bank(bank, every, context.gather(new), momentum)
            after = {"student": move(memory["student"], ours), "log_z": log_z}
            return losses[0] + losses[1], after | {"teacher": move(memory["teacher"], theirs)}

        losses, memory = jax.vmap(of_teacher)(g, context.aux, context.memory)
        return over_teachers(context, losses), memory

    return Term(
        function,
        needs=frozenset({"teacher", "index", "key"}),
        hparams={"temperature": 0.07, "momentum": (0.5, fraction())},
        aux=embeddings,
        memory=banks,
        student=(s,),
        teacher=(t,),
        name="crd",
    )


def _embedded(parameters: PyTree, x: jax.Array) -> jax.Array:
    """[B, F] -> [B, D]."""
    return unit(jnp.matmul(x, parameters["kernel"], precision=EXACT) + parameters["bias"][None])


def _log_z(context: Context, anchor: jax.Array, bank: jax.Array, negatives: jax.Array) -> jax.Array:
    """The logarithm of the normaliser of a whole batch."""
    index, temperature = context.index, context.hparams["temperature"]
    assert index is not None
    each = context.gather(crd_log_normaliser(anchor, bank, index, negatives, temperature))
    found = jax.nn.logsumexp(each) - jnp.log(len(each))
    return jax.lax.stop_gradient(found)
