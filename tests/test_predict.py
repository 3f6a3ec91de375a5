"""python -m kdjax.predict: names and probabilities of images."""

from pathlib import Path

import numpy as np
import pytest
from exports import FEW

import kdjax
from kdjax import predict


def photographs(root: Path) -> Path:
    """A folder of images of two colours, named for what they are."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 60, (9, 12, 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A stage's directory, its export, and the images that it was trained on."""
    root = tmp_path_factory.mktemp("coloured")
    photographs(root / "photographs")
    stage = kdjax.train(
        dict(name="mlp", hidden=(8,)),
        f"{root / 'photographs'}/",
        dataset=dict(image_size=8),
        workdir=root / "runs",
        seeds=2,
        **FEW | dict(steps=30, batch=8, chunk=30),
    )
    stage.best().export(root / "served", onnx=False)
    return root


def test_the_command_names_images_of_a_stage_and_of_an_export(coloured, capsys):
    images = [str(coloured / "photographs" / name / "3.png") for name in ("red", "blue")]
    printed = []
    for net in (coloured / "runs" / "net", coloured / "served"):
        predict.main([str(net), *images])
        printed.append(capsys.readouterr().out.splitlines())
    assert printed[0] == printed[1]
    for line, image, name in zip(printed[0], images, ("red", "blue"), strict=True):
        assert line.startswith(f"{image}: {name} 0.") or line == f"{image}: {name} 1.0000"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a stage or an export is missing"),
        (["SERVED"], "an image is missing"),
        (["SERVED", "--top=3", "a.png"], "'--top=3' is no argument"),
        (["nowhere", "a.png"], "'nowhere' is no directory"),
        (["SERVED", "nowhere.png"], "nowhere.png cannot be read as an image: No such file or dir"),
        (["SERVED", "ROOT"], "cannot be read as an image: Is a directory"),
        (["RUNS", "a.png"], "directory of a finished stage, such as 'net' within it"),
        (["ROOT", "a.png"], "it must be the directory of a finished stage"),
    ],
)
def test_the_command_refuses_in_one_sentence(coloured, capsys, arguments, says):
    places = {"SERVED": "served", "ROOT": ".", "RUNS": "runs"}
    places = {word: str(coloured / name) for word, name in places.items()}
    with pytest.raises(SystemExit) as ended:
        predict.main([places.get(a, a) for a in arguments])
    out, error = capsys.readouterr()
    assert ended.value.code == 2 and not out
    assert says in error and error.count("\n") == 1 and error.startswith("kdjax: ")


def test_images_for_a_net_of_other_inputs_are_refused(coloured, capsys):
    with pytest.raises(SystemExit):
        predict.main([str(trained_on_floats(coloured)), "a.png"])
    assert "image files can be read for nets that were trained on images" in capsys.readouterr().err


def trained_on_floats(root):
    net = kdjax.function(lambda w, x: x @ w, np.zeros((12, 3), np.float32))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 12)).astype(np.float32), np.arange(60) % 3
    made = kdjax.arrays(train=(x, y), test=(x, y))
    stage = kdjax.train(net, made, **FEW | dict(batch=10))
    return stage.export(root / "floats", onnx=False)
