"""What a user of kdjax brings: nets, a teacher, losses and data, each as it would be written for
any other training loop. `notebook_door.py` uses them as values, `config.py` names them."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge

import kdjax

# Data: any arrays in memory, [N, ...] and [N]. Here floats from 0 to 1, taken as they are.

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8).astype("float32") / 16
digits = kdjax.arrays(train=(images[:1000], labels[:1000]), test=(images[1000:], labels[1000:]))


# Nets: a module of Linen, NNX or Equinox. In a config kdjax gives `classes`, `rngs` and `key`.


class LinenNet(nn.Module):
    classes: int = 10
    width: int = 64

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


class NnxNet(nnx.Module):
    def __init__(self, classes=10, width=32, *, rngs):
        self.hidden = nnx.Linear(64, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.logits = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.dropout(nnx.relu(self.hidden(x.reshape(len(x), -1)))))


class EquinoxNet(eqx.Module):
    layers: list

    def __init__(self, classes=10, width=32, *, key):
        keys, sizes = jax.random.split(key), [(64, width), (width, classes)]
        self.layers = [eqx.nn.Linear(*n, key=k) for n, k in zip(sizes, keys, strict=True)]

    def __call__(self, x):  # one example
        return self.layers[1](jax.nn.relu(self.layers[0](x.ravel())))


# A teacher: any pure function of parameters and inputs. Here a kernel machine of scikit-learn.


def kernel_machine(params, x):
    difference = x.reshape(len(x), 1, -1) - params["examples"][None]
    return jnp.exp(-0.2 * (difference**2).sum(axis=-1)) @ params["weights"]


flat = images[:1000].reshape(1000, -1)
fitted = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.2).fit(flat, 10 * np.eye(10)[labels[:1000]])
machine = kdjax.function(kernel_machine, {"examples": flat, "weights": fitted.dual_coef_})


# Losses: a Term is a function of one member and one batch, and says what it reads.


def _skew(context):
    """KL(s || (1 - a) t + a s), t of the teachers and s of the student (arXiv 2402.03898)."""
    temperature, a = context.hparams["temperature"], context.hparams["skew"]
    targets = context.targets(temperature)
    t, s = (jax.nn.log_softmax(z / temperature) for z in (targets, context.student.logits))
    mixture = jnp.logaddexp(jnp.log1p(-a) + t, jnp.log(a) + s)
    return temperature**2 * (jnp.exp(s) * (s - mixture)).sum(axis=-1)


skew_reverse_kl = kdjax.Term(
    _skew, needs={"targets"}, hparams={"temperature": None, "skew": 0.1}, name="skew_reverse_kl"
)


def fitnet(student: str, teacher: str):
    """FitNet (arXiv 1412.6550): a layer of the student, projected, against one of each teacher."""

    def projection(key, student_outputs, teacher_outputs):
        f, g = student_outputs.features[student], teacher_outputs.features[teacher]
        scale = f.shape[1] ** -0.5
        return scale * jax.random.normal(key, (len(g), f.shape[1], g.shape[2]))

    def function(context):
        f, g = context.student.features[student], context.teacher.features[teacher]
        return ((jnp.einsum("bf,kfg->kbg", f, context.aux) - g) ** 2).mean(axis=(0, 2))

    taps = {"student": (student,), "teacher": (teacher,)}
    return kdjax.Term(function, needs={"teacher"}, aux=projection, **taps, name="fitnet")


def _class_relation(context):
    """How alike the classes are: the square of S'S - T'T of two [B, C] (Jin et al., CVPR 2023)."""
    temperature = context.hparams["temperature"]
    logits = context.student.logits, context.targets(temperature)
    s, t = (jax.nn.softmax(context.gather(z) / temperature) for z in logits)
    return ((s.T @ s - t.T @ t) ** 2).sum() / s.shape[1]


class_relation = kdjax.Term(
    _class_relation, needs={"targets"}, hparams={"temperature": None}, name="class_relation"
)
