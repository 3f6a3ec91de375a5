"""The notebooks run from top to bottom, and are committed as they ran."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 400_000  # bytes
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:[\w.-]+/)+[\w.-]+")  # path
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_the_first_runs_in_a_fresh_kernel(tmp_path, monkeypatch):
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):  # they train for long
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    where = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()


@each
def test_is_committed_executed_and_small(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert path.stat().st_size < LARGEST


@each
def test_has_nothing_of_the_machine_or_the_hour(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.metadata for cell in notebook.cells)  # such as times of execution
    texts = [cell.source for cell in notebook.cells]
    for output in (output for cell in code(path) for output in cell.outputs):
        data = {kind: text for kind, text in output.get("data", {}).items() if kind[:5] != "image"}
        texts += [output.get("text", ""), *data.values()]
    assert not [found for text in texts for found in ABSOLUTE.findall(text)]


def test_all_install_kdjax_in_the_same_way():
    assert len(NOTEBOOKS) == 5
    assert len({code(path)[0].source for path in NOTEBOOKS}) == 1
