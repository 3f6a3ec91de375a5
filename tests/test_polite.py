"""What kdjax leaves as it is: logs, settings of JAX, hooks, and the private parts of others."""

import ast
import json
import logging
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import kdjax
from kdjax.config import file
from kdjax.data import DatasetSpec, load
from kdjax.host import disk_errors, files, machine
from kdjax.rules import InputError

PACKAGE = Path(kdjax.__file__).parent

IMPORTS = """
import importlib, pkgutil, sys
import kdjax
for module in pkgutil.walk_packages(kdjax.__path__, "kdjax."):
    importlib.import_module(module.name)
"""
OTHERS = f"""{IMPORTS}
import json
print(json.dumps([name for name in sys.modules if name.partition(".")[0] != "kdjax"]))
"""
STATE = f"""
import contextlib, importlib, json, logging, os, signal, sys, warnings
for name in json.load(sys.stdin):
    with contextlib.suppress(Exception):
        importlib.import_module(name)
import jax, matplotlib

def loggers():
    return {{"": logging.root}} | logging.root.manager.loggerDict

def state():
    found = {{name: loggers().get(name) for name in known}}
    kind = logging.Logger
    logs = {{
        n: (l.level, list(l.filters), list(l.handlers), l.propagate, l.disabled)
        for n, l in found.items() if isinstance(l, kind)
    }}
    hooks = sys.unraisablehook, sys.excepthook, sys.displayhook
    signals = [signal.getsignal(n) for n in signal.valid_signals()]
    return dict(
        logs=logs, jax=dict(jax.config.values), hooks=hooks, signals=signals,
        environment=dict(os.environ), filters=list(warnings.filters),
        disabled=logging.root.manager.disable, style=dict(matplotlib.rcParams),
    )

known = list(loggers())
before = state()
assert len(before["logs"]) > 10 and len(before["jax"]) > 100
assert not [name for name in sys.modules if name.partition(".")[0] == "kdjax"]
{IMPORTS}
after = state()
for part, was in before.items():
    if after[part] != was:
        changes = was if not isinstance(was, dict) else {{
            k: (v, after[part].get(k)) for k, v in was.items() if after[part].get(k) != v
        }}
        print(part, changes)
"""


def python(code: str, text: str = "") -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, input=text, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_kdjax_changes_no_log_no_setting_and_no_hook():
    """All that it imports of others is imported before, in a process of its own."""
    others = python(OTHERS)
    assert {"jax", "flax", "orbax.checkpoint"} <= set(json.loads(others))
    assert python(STATE, others) == ""


def imports(tree: ast.AST, function: str = ""):
    """(module, the function that imports it, or "" where the import of the file does)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", function) for alias in node.names)
        else:
            inner = node.name if isinstance(node, ast.FunctionDef) else function
            yield from imports(node, inner)


def test_private_modules_are_imported_only_where_several_processes_start():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for module, function in imports(ast.parse(path.read_text())):
            package, *inner = module.split(".")
            if package != "kdjax" and any(p.startswith("_") and p != "__main__" for p in inner):
                found.append((path.relative_to(PACKAGE).as_posix(), module, function))
    expected = ("host/processes.py", "jax._src.distributed.global_state", "together")
    assert found == [expected]


# Where the disk fails.


def told(heard: list, words: str) -> bool:
    """Whether an exception of these words, in a callback of the garbage collector, is told of."""
    heard.clear()
    sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(words)))
    return bool(heard)


def log(logger: str, path: str, error: Exception | None = None, level: int = logging.WARNING):
    trace = error and (type(error), error, None)
    record = logging.LogRecord(logger, level, path, 1, "a message", (), trace)
    return bool(logging.getLogger(logger).filter(record))


def test_what_orbax_tells_is_quiet_within_a_context_and_only_there(monkeypatch):
    heard = []
    hook = heard.append
    monkeypatch.setattr(sys, "unraisablehook", hook)
    orbax, loop = "/lib/orbax/checkpoint/x.py", "Event loop is closed"
    failed = ValueError("read failed, tensorstore_spec='...'")
    noises = [
        lambda: log("absl", orbax, level=logging.INFO),
        lambda: log("absl", orbax, RuntimeError("of a save")),
        lambda: log("asyncio", "/lib/asyncio/x.py", failed),
        lambda: told(heard, loop),
    ]
    news = [
        lambda: log("absl", orbax),
        lambda: log("absl", "/lib/other/x.py", level=logging.INFO),
        lambda: log("asyncio", "/lib/asyncio/x.py", ValueError("of another")),
        lambda: told(heard, "of another"),
    ]
    assert all(is_told() for is_told in noises + news)
    with disk_errors.quiet():
        with disk_errors.quiet():
            assert not any(is_told() for is_told in noises) and all(is_told() for is_told in news)
        assert not any(is_told() for is_told in noises)
    assert all(is_told() for is_told in noises + news)
    with pytest.raises(OSError, match="No space left"), disk_errors.as_os_error(Path("file")):
        raise ValueError("write failed [os_error_code='28']")
    assert all(is_told() for is_told in noises + news)
    assert sys.unraisablehook is hook


# The machine.


def test_a_user_without_a_home_goes_on_without_a_cache(monkeypatch):
    def no_entry(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    assert files.user_cache() is None
    assert load(DatasetSpec()).arrays("test")[0].shape == (797, 8, 8, 1)
    settings = dict(jax.config.values)
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        machine.use_machine()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", settings["jax_compilation_cache_dir"])
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.user_cache() == Path("/somewhere/kdjax")


def test_the_machine_may_be_asked_for_after_the_devices(tmp_path):
    code = """
import jax
devices = jax.devices()
import kdjax
kdjax.use_machine()
assert jax.devices() == devices and jax.config.jax_compilation_cache_dir
print(jax.numpy.ones(3).sum())
"""
    variables = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=variables | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (run.stdout, run.stderr) == ("3.0\n", "")


def test_devices_that_jax_cannot_open_are_one_sentence(monkeypatch):
    machine.check_devices()

    def fails():
        raise AssertionError

    monkeypatch.setattr(jax, "local_devices", fails)
    with pytest.raises(InputError, match=r"which JAX cannot open \(AssertionError\); it must name"):
        machine.check_devices()


def test_a_path_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand("~/run") == tmp_path / "run" and files.expand(Path("a/~")) == Path("a/~")
    with pytest.raises(InputError, match=f"^{tmp_path}/run does not exist"):
        kdjax.open_stage("~/run")
    inputs = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    labels = np.array([0, 1, 0, 1])
    np.savez(
        tmp_path / "own.npz",
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs,
        test_labels=labels,
    )
    assert load(DatasetSpec(name="~/own.npz")).classes == 2
    load(DatasetSpec(), cache_dir="~/kept")
    assert list((tmp_path / "kept").iterdir())
    (tmp_path / "own.py").write_text("def get_config(): return {'a': 1}")
    assert file.read("~/own.py") == {"a": 1}
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match=f"{tmp_path}/photos"):
        load(DatasetSpec(name="~/photos/"))
