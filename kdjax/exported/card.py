"""The model card of an exported net: README.md of its folder."""

from collections.abc import Mapping
from typing import Any

from kdjax.data.sources import printable
from kdjax.exported import forms
from kdjax.metrics import TEMPERATURES

SHOWN = (
    ("errors", ".0f"),
    ("accuracy", ".4f"),
    ("nll", ".4f"),
    ("ece", ".4f"),
    ("agreement", ".4f"),
)
LISTED = 20  # classes that are named
UNTESTED = (
    "on inputs from elsewhere than this data set: another camera, time, place or group of people",
    "on inputs of no class that it knows: it names one of its classes whatever it is given",
    "against inputs that are made to deceive it",
    "for the fairness of its errors over groups of people",
    "in its StableHLO form on GPUs and TPUs, for which the file was made, but not run",
    "in its ONNX form on runtimes other than onnxruntime on a CPU",
)


def of(config: Mapping[str, Any]) -> str:
    """The card, Markdown, of what config.json will say."""
    parts = [
        _head(config),
        _inputs(config),
        _measured(config),
        _temperature(config),
        _forms(config),
        "## Not tested\n\nThis net was not tested:\n\n"
        + "\n".join(f"- {x};" for x in UNTESTED[:-1])
        + f"\n- {UNTESTED[-1]}.",
    ]
    return "\n\n".join(parts) + "\n"


def _head(config: Mapping[str, Any]) -> str:
    stage, data = config["stage"], config["dataset"]
    teachers = ", ".join(f"`{printable(str(t))}`" for t in config["teachers"])
    taught = f"It learned from the teachers {teachers}." if teachers else "It had no teacher."
    version = config["trained_with"]["kdjax"]
    return f"""# {printable(stage["name"])}

A classifier of {config["classes"]} classes, a `{printable(config["model"])}` of
{config["parameters"]:,} parameters, trained by kdjax {version} in {stage["steps"]} steps on the
data set `{printable(str(data["name"]))}` (version `{printable(str(data["version"]))[:40]}`).
{taught} Numbers of this member: {_listed(config["member"])}.
`config.json` holds all of its settings."""


def _listed(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in numbers.items())


def _inputs(config: Mapping[str, Any]) -> str:
    names = [printable(name) for name in config["class_names"]]
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    sizes = ", ".join(map(str, config["input_shape"]))
    return f"""## Inputs and outputs

Inputs: [batch, {sizes}], {config["input_dtype"]}, raw, as the data set has them: the
StableHLO and the ONNX form scale them themselves.

Outputs: logits [batch, {config["classes"]}], float32.

Classes, in the order of the logits: {", ".join(names[:LISTED])}{more}."""


def _measured(config: Mapping[str, Any]) -> str:
    lines = ["| split | metric | this net | members like it: n | mean | s.d. |"]
    lines.append("| :-- | :-- | --: | --: | --: | --: |")
    for split, metrics in config["metrics"].items():
        for name, form in SHOWN:
            if metrics.get(name) is not None:
                like = config["spread"][split][name]
                spread = "" if like["std"] is None else f"{like['std']:.3g}"
                mean = format(like["mean"], ".1f" if name == "errors" else form)
                cells = [split, name, format(metrics[name], form), str(like["n"]), mean, spread]
                lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    return f"""## Metrics

{table}

Members like it differ from it by their seed alone. Where it was chosen for its errors on the
validation split, its numbers there are better than it is; those of the test split are not chosen,
and the mean is what another training would be expected to give. ECE: 15 bins of equal width.
Agreement: with its teachers."""


def _temperature(config: Mapping[str, Any]) -> str:
    found = config["calibration_temperature"]
    says = "It is not known."
    if found is not None:
        ends = {min(TEMPERATURES): "or less", max(TEMPERATURES): "or more"}
        limit = next((f", {word}" for t, word in ends.items() if abs(found - t) < 1e-9), "")
        says = (
            f"{found:.3g}{limit}: softmax(logits / {found:.3g}) has the least negative "
            "log-likelihood on the validation split, by which it was chosen; it was not tried on "
            "other data."
        )
    return f"""## Calibration temperature

{says} The forms give logits that are not divided by it (arXiv 1706.04599)."""


def _forms(config: Mapping[str, Any]) -> str:
    latency, apart = config["latency_ms"], config["largest_difference"]
    sizes = {name: file["bytes"] for name, file in config["files"].items()}
    rows = ["| form | file | bytes | largest difference | ms, 1 example | ms, 100 examples |"]
    rows.append("| :-- | :-- | --: | --: | --: | --: |")
    names = {"stablehlo": forms.PROGRAM, "onnx": forms.ONNX}
    for form, times in latency.items():
        file = f"`{names[form]}` | {sizes[names[form]]:,}" if form in names else " | "
        off = f"{apart[form]:.1e}" if form in apart else ""
        rows.append(f"| {form} | {file} | {off} | {times['1']:.3g} | {times['100']:.3g} |")
    where = config["exported_with"]
    tried = ", ".join(map(str, forms.TRIED[:-1]))
    onnx = ONNX_CODE if "onnx" in latency else ONNX_ABSENT
    table = "\n".join(rows)
    return f"""## Forms

{table}

Differences are of logits from kdjax's, as a fraction of the largest, on random inputs, {tried} and
{forms.TRIED[-1]} at once. Latencies are medians after warm-up, inputs and logits on the host, on
{where["device"]}, {where["cpus"]} cores. `{forms.PARAMETERS}` holds the parameters alone, in
{sizes[forms.PARAMETERS]:,} bytes.

```python
import kdjax

net = kdjax.open_export("FOLDER")  # checks every file
logits = net.predict(inputs)
```

```python
from pathlib import Path
import jax.export

program = jax.export.deserialize(bytearray(Path("FOLDER/{forms.PROGRAM}").read_bytes()))
logits = program.call(inputs)  # within jax.jit, too
```

{onnx}

```python
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

variables = unflatten_dict(load_file("FOLDER/{forms.PARAMETERS}"), sep="/")
```"""


ONNX_CODE = f"""```python
import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/{forms.ONNX}")
(logits,) = session.run(["logits"], {{"inputs": inputs}})
```"""
ONNX_ABSENT = "There is no ONNX form: it was not asked for, or `kdjax[onnx]` was not installed."
