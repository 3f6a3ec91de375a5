"""A net of `teachers.py` as a pure function of its weights, without torch: it runs on what the
student sees, such as shifted images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import kdjax
from examples.pytorch_teacher.config import FOLDER

MEAN, DEVIATION = 0.1307, 0.3081


def apply(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Images [B, H, W, 1] from 0 to 1, as kdjax gives them to the student -> logits [B, C]."""
    x = (jnp.moveaxis(images, 3, 1) - MEAN) / DEVIATION
    for conv, norm in (("0", "1"), ("4", "5")):
        wide = lambda name: weights[name][:, None, None]
        x = lax.conv(x, weights[f"{conv}.weight"], (1, 1), "SAME") + wide(f"{conv}.bias")
        scale = wide(f"{norm}.weight") * lax.rsqrt(wide(f"{norm}.running_var") + 1e-5)
        x = jax.nn.relu((x - wide(f"{norm}.running_mean")) * scale + wide(f"{norm}.bias"))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return x.reshape(len(x), -1) @ weights["10.weight"].T + weights["10.bias"]


def teacher(folder: str | Path = FOLDER, class_names=tuple("0123456789")) -> kdjax.Teacher:
    with np.load(Path(folder) / "net.npz") as file:
        weights = {name: file[name] for name in file if not name.endswith("tracked")}
    return kdjax.with_class_names(kdjax.function(apply, weights), class_names)
