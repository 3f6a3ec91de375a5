"""One example alone, and the sizes of batches in messages."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.nets import function
from kdjax.nets.check import checked
from kdjax.rules import InputError

CLASSES, FEATURES = 5, 12
KERNEL = np.ones((FEATURES, CLASSES), np.float32)


def facts(call, taps=()):
    return checked(function(call, KERNEL, "net"), (FEATURES,), CLASSES, "model", taps)


def test_a_net_that_squeezes_its_batch_is_refused():
    says = r"model is net, whose logits of one example alone have the shape \[5\]; .* \[1, 5\], as"
    with pytest.raises(InputError, match=says):
        facts(lambda w, x: (x @ w).squeeze())


def test_a_layer_that_squeezes_is_refused_where_it_is_tapped():
    call = lambda w, x: (x @ w, {"mean": x.mean(1, keepdims=True).squeeze()})
    assert facts(call).outputs.logits.shape == (1, CLASSES)
    with pytest.raises(
        InputError, match=r"whose layer 'mean' of one example alone .*\[\]; .*\[1\]"
    ):
        facts(call, ("mean",))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda w, x: x.ravel() @ w, r"\(12\*B,\)"),
        (lambda w, x: jnp.concatenate([x @ w, x[:, 0]]), r"(?!.*\d\d\d)"),
        (lambda w, x: (x @ w).reshape(-1, 7), r"\(B, 5\)|\[?B"),
    ],
)
def test_a_message_names_the_batch_and_not_the_size_that_was_tried(call, says):
    with pytest.raises(InputError, match=f"does not take examples.*{says}") as refused:
        facts(call)
    numbers = [
        int(n) for n in "".join(c if c.isdigit() else " " for c in str(refused.value)).split()
    ]
    assert max(numbers, default=0) < 1000
