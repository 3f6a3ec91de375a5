"""Exports run in processes without kdjax, and give its logits."""

import os
import subprocess
import sys

import numpy as np
import pytest
from digits import arrays as digit_arrays
from exports import Normed, trained

import kdjax

STABLEHLO = """
import pathlib, sys
import numpy as np
import jax, jax.export
folder, inputs, out = map(pathlib.Path, sys.argv[1:])
program = jax.export.deserialize(bytearray((folder / "forward.stablehlo").read_bytes()))
np.save(out, np.asarray(jax.jit(program.call)(np.load(inputs))))
assert "kdjax" not in sys.modules and "flax" not in sys.modules
"""
ONNX = """
import sys
import numpy as np
import onnxruntime
folder, inputs, out = sys.argv[1:]
session = onnxruntime.InferenceSession(folder + "/model.onnx")
np.save(out, session.run(["logits"], {"inputs": np.load(inputs)})[0])
assert "jax" not in sys.modules and "kdjax" not in sys.modules
"""
WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def alone(code, without, *arguments):
    """Runs a script in a process where these packages cannot be imported."""
    code = WITHOUT.replace("NAMES", repr(without)) + code
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]


NETS = {
    "mlp": dict(name="mlp", hidden=(16,)),
    "cnn": dict(name="cnn", channels=(4, 8), dense=8),
    "resnet": dict(name="resnet", blocks=1, stem=4, channels=(4, 8)),
    "own": kdjax.linen(Normed()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [("cnn", "float32"), *((name, "uint8") for name in NETS)]
)
def test_each_form_gives_the_logits_without_kdjax(name, dtype, tmp_path):
    best = trained(NETS[name], dtype).best()
    folder, (images, _) = best.export(tmp_path / "served"), digit_arrays()
    images = images if dtype == "uint8" else images.astype(np.float32) / 16
    np.save(tmp_path / "inputs.npy", images)
    ours = best.predict(images)[0]
    forms = (("stablehlo", STABLEHLO, ("kdjax", "flax")), ("onnx", ONNX, ("kdjax", "jax", "flax")))
    for form, code, without in forms:
        alone(code, without, folder, tmp_path / "inputs.npy", tmp_path / f"{form}.npy")
        found = np.load(tmp_path / f"{form}.npy")
        assert found.shape == ours.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-5)
