"""Stage directories: what is written comes back bit for bit."""

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stages import (
    IDENTITY,
    MEMBERS,
    assert_restores,
    assert_same,
    make,
    refuses,
    snapshot,
    steps_of,
)

from kdjax.host import checkpoint, files, ownership
from kdjax.host.checkpoint import Checkpoints
from kdjax.optim import OPTIMIZERS


def test_prepare_tells_new_unfinished_and_done(tmp_path):
    directory = tmp_path / "workdir" / "teachers"
    assert checkpoint.prepare(directory, IDENTITY) == "new"
    assert not directory.parent.exists()
    directory.mkdir(parents=True)
    (directory / ".config.json.tmp").write_text('{"sta')  # killed in `start`
    assert checkpoint.prepare(directory, IDENTITY) == "new"
    checkpoint.start(directory, IDENTITY)
    before = snapshot(directory)
    assert checkpoint.prepare(directory, IDENTITY) == "unfinished"
    assert snapshot(directory) == before
    checkpoint.finish(directory, {"metrics": {"nll": [0.5, float("nan")]}, "diverged": []})
    assert checkpoint.prepare(directory, IDENTITY) == "done"
    assert checkpoint.results(directory) == {"metrics": {"nll": [0.5, None]}, "diverged": []}


def test_prepare_takes_tuples_and_nan_as_json_has_them(tmp_path):
    checkpoint.start(tmp_path, {"seeds": (0, 1), "weight": float("nan")})
    assert checkpoint.prepare(tmp_path, {"seeds": (0, 1), "weight": float("nan")}) == "unfinished"


def test_prepare_refuses_another_identity(tmp_path):
    checkpoint.start(tmp_path, IDENTITY)
    checkpoint.finish(tmp_path, {})
    other = {"stage": IDENTITY["stage"] | {"steps": 200, "chunk": 5}, "from": {}}
    with refuses(str(tmp_path), "stage.steps: 100 -> 200", "stage.chunk: None -> 5", "--workdir"):
        checkpoint.prepare(tmp_path, other)


def test_prepare_refuses_foreign_content(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with refuses(str(tmp_path), "no config.json", "thesis.tex", "--workdir"):
        checkpoint.prepare(tmp_path, IDENTITY)
    with refuses("thesis.tex is a file", "--workdir"):
        checkpoint.prepare(tmp_path / "thesis.tex", IDENTITY)


@pytest.mark.parametrize("content", [b'{"stage": {', b"", b"[1, 2]", b"3", b"\xff\xfe\x00"])
def test_a_garbled_file_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    (tmp_path / "DONE").write_bytes(content)
    with refuses(str(tmp_path / "config.json"), "cannot be read", "delete"):
        checkpoint.prepare(tmp_path, IDENTITY)
    with refuses(str(tmp_path / "DONE"), "cannot be read", "delete"):
        checkpoint.results(tmp_path)


def test_results_of_an_unfinished_stage_are_refused(tmp_path):
    with refuses(str(tmp_path / "DONE"), "No such file"):
        checkpoint.results(tmp_path)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, step):
    checkpoint.start(tmp_path, IDENTITY)

    def killed(*_, **__):
        raise KeyboardInterrupt

    if step == "write":
        monkeypatch.setattr(checkpoint.json, "dumps", killed)
    else:
        monkeypatch.setattr(files.os, step, killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.start(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        checkpoint.finish(tmp_path, {})
    monkeypatch.undo()
    assert checkpoint.prepare(tmp_path, IDENTITY) == "unfinished"


def test_check_writable_creates_the_directory_and_leaves_no_trace(tmp_path):
    ownership.check_writable(tmp_path / "a" / "b")
    ownership.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_check_writable_refuses(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/kdjax")):
        with refuses(f"{path} cannot be written", "--workdir"):
            ownership.check_writable(path)

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.os, "open", read_only)
    with refuses(str(tmp_path), "Read-only file system", "--workdir"):
        ownership.check_writable(tmp_path)


# Checkpoints.


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("template", ["arrays", "shapes"])
def test_restores_bit_for_bit(tmp_path, optimizer, template):
    saved = make(1, optimizer)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(5, **saved)
        checkpoints.wait()
        assert steps_of(tmp_path) == ["5"]
    zeros = jax.tree.map(np.zeros_like, saved["opt"])
    shapes = jax.eval_shape(lambda: zeros)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 5
        restored = checkpoints.restore(5, shapes if template == "shapes" else zeros)
        meta = restored[3]
        digests = {name: checkpoint.digest(saved[name]) for name in ("variables", "opt", "hparams")}
        assert meta.pop("digests") == digests
        assert meta == saved["meta"] | {"accuracy": None}
        assert_same(restored[:3], (saved["variables"], saved["opt"], saved["hparams"]))


def test_other_trees_restore(tmp_path):
    """Optimizer states without arrays, batch statistics, a single number per member."""
    saved = make(1)
    saved["variables"]["model_state"] = {"batch_stats": {"mean": np.ones((MEMBERS, 4), np.float32)}}
    state = (optax.EmptyState(), {}, (), None, optax.MaskedNode(), [np.arange(MEMBERS)])
    saved["opt"] = {"opt_state": state, "step": np.zeros((), np.int32)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, **saved)
    with Checkpoints(tmp_path) as checkpoints:
        assert_restores(checkpoints, 1, saved)


def test_what_happens_to_the_arrays_after_save_is_not_saved(tmp_path):
    saved = make(1)
    saved["variables"]["params"]["wide"] = np.ones((MEMBERS, 1000, 1000), np.float32)
    passed = jax.tree.map(np.array, saved)
    passed["meta"] = dict(saved["meta"])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, **passed)
        for array in jax.tree.leaves([passed[k] for k in ("variables", "opt", "hparams")]):
            array.fill(0)
    with Checkpoints(tmp_path) as checkpoints:
        assert_restores(checkpoints, 1, saved)


def test_keeps_the_newest_two(stage):
    assert steps_of(stage) == ["20", "30"]
    with Checkpoints(stage) as checkpoints:
        checkpoints.save(40, **make(40))
    assert steps_of(stage) == ["30", "40"]


def test_save_takes_later_steps_and_host_arrays_only(stage):
    with Checkpoints(stage) as checkpoints:
        for step in (5, 20, 30):
            with pytest.raises(ValueError, match=f"step {step} is not above 30"):
                checkpoints.save(step, **make(step))
        device = make(40) | {"hparams": {"seed": jnp.zeros(MEMBERS)}}
        with pytest.raises(TypeError, match=re.escape("np.ndarray")):
            checkpoints.save(40, **device)
    assert steps_of(stage) == ["20", "30"]


def test_restore_refuses_another_structure(stage):
    saved = make(30)
    wider = jax.tree.map(lambda x: np.zeros((MEMBERS + 1, *x.shape[1:]), x.dtype), saved["opt"])
    with Checkpoints(stage) as checkpoints:
        for opt in (make(30, "sgd")["opt"], wider):
            with refuses(f"{stage}/checkpoints/30 cannot be read", "delete"):
                checkpoints.restore(30, opt)
        assert_restores(checkpoints, 30, saved)


def test_open_variables_needs_no_template_and_writes_nothing(stage):
    before = snapshot(stage)
    (variables, meta), hparams = checkpoint.open_variables(stage), checkpoint.open_hparams(stage)
    assert snapshot(stage) == before
    assert_same((variables, hparams), (make(30)["variables"], make(30)["hparams"]))
    assert meta["step"] == 30 and meta["digests"]["variables"] == checkpoint.digest(variables)


def test_open_variables_by_a_relative_path_and_without_the_optimizer(stage, monkeypatch):
    shutil.rmtree(stage / "checkpoints" / "30" / "opt")
    monkeypatch.chdir(stage.parent)
    variables, _ = checkpoint.open_variables(Path("teachers"))
    assert_same(variables, make(30)["variables"])


def test_open_variables_refuses_what_is_no_finished_stage(stage, tmp_path):
    with refuses(f"{tmp_path}/none does not exist", "finished stage"):
        checkpoint.open_variables(tmp_path / "none")
    with refuses(f"{tmp_path} has no config.json", "finished stage"):
        checkpoint.open_variables(tmp_path)
    with refuses(f"{stage.parent} has no config.json", f"stage, such as '{stage.name}' within it"):
        checkpoint.open_variables(stage.parent)
    (stage / "DONE").unlink()
    with refuses(f"{stage} is not finished", "finished stage"):
        checkpoint.open_variables(stage)
    checkpoint.finish(stage, {})
    shutil.rmtree(stage / "checkpoints")
    with refuses(f"{stage}/checkpoints cannot be read", "delete"):
        checkpoint.open_variables(stage)
    assert not (stage / "checkpoints").exists()


def test_opening_is_quiet(stage, caplog):
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "absl"):
            checkpoint.open_variables(stage)
            with Checkpoints(stage) as checkpoints:
                checkpoints.save(40, **make(40))
            logging.getLogger("absl").info("of another library")
    finally:
        logger.removeHandler(caplog.handler)
    told = {record.getMessage() for record in caplog.records if "orbax" in record.pathname}
    assert not told
    assert "of another library" in caplog.messages


# Damage.


def test_metrics_round_trip(tmp_path):
    assert checkpoint.read_metrics(tmp_path) == []
    checkpoint.append_metrics(tmp_path, {"step": 1, "loss": [0.1, float("nan"), float("-inf")]})
    row = {"step": np.int32(2), "loss": np.float32([0.5, np.nan]), "bad": np.array([True])}
    checkpoint.append_metrics(tmp_path, row | {"rate": np.float32(0.25)})
    rows = checkpoint.read_metrics(tmp_path)
    assert rows[0] == {"step": 1, "loss": [0.1, None, None]}
    assert rows[1] == {"step": 2, "loss": [0.5, None], "bad": [True], "rate": 0.25}
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_truncate_metrics_drops_later_rows_and_a_torn_line(tmp_path):
    checkpoint.truncate_metrics(tmp_path, 0)
    for step in (10, 20, 30):
        checkpoint.append_metrics(tmp_path, {"step": step})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    for cut in range(1, len('{"step": 30}\n') + 1):
        path.write_text(whole[:-cut])
        expected = [{"step": 10}, {"step": 20}] + [{"step": 30}] * (cut == 1)
        assert checkpoint.read_metrics(tmp_path) == expected
        checkpoint.truncate_metrics(tmp_path, 30)
        checkpoint.append_metrics(tmp_path, {"step": 40})
        assert checkpoint.read_metrics(tmp_path) == [*expected, {"step": 40}]
        assert path.read_text().endswith("}\n")
    checkpoint.truncate_metrics(tmp_path, 10)
    assert path.read_text() == '{"step": 10}\n'


def test_a_damaged_line_of_metrics_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with refuses(str(tmp_path / "metrics.jsonl"), "line 2", "delete"):
        checkpoint.read_metrics(tmp_path)


# The digest.


def test_digest_is_of_paths_dtypes_shapes_and_bytes():
    def of(**arrays):
        return checkpoint.digest({"params": arrays})

    array = np.arange(6, dtype=np.float32)
    known = of(a=array, b=array)
    assert re.fullmatch("[0-9a-f]{64}", known)
    assert known == of(b=jnp.array(array), a=array[::-1].copy()[::-1])
    others = [
        of(a=array),
        of(a=array, c=array),
        of(a=array, b=array + 1),
        of(a=array, b=array.view(np.int32)),
        of(a=array, b=array.reshape(2, 3)),
        of(a=array.astype(jnp.bfloat16), b=array),
        of(a=np.bool_(True), b=array),
    ]
    assert len({known, *others}) == len(others) + 1


def test_digest_is_what_it_was():
    """Identities of stages name it: a change of the digest makes every old directory foreign."""
    variables = {"params": {"kernel": np.arange(4, dtype=np.float32).reshape(1, 2, 2)}}
    text = b"params/kernel float32 (1, 2, 2)\n"
    array = np.arange(4, dtype="<f4").tobytes()
    assert checkpoint.digest(variables) == hashlib.sha256(text + array).hexdigest()


def test_config_is_readable_json(written):
    assert json.loads((written / "config.json").read_text()) == IDENTITY
