"""Eight CPU devices, no silent broadcasting, and equal programs compiled once per session."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
from stages import write_stage

from kdjax import loop, report
from kdjax.host.machine import use_machine

CACHE = tempfile.TemporaryDirectory()  # of this process, and gone with it

if "PYTEST_XDIST_WORKER" not in os.environ:  # data sets are decoded once for all workers
    os.environ["XDG_CACHE_HOME"] = CACHE.name
# To compile takes longer than to run, here and in processes that tests start. XLA's older emitters
# compile twice as fast, and cannot fuse several outputs, which `use_machine` asks for. XLA ends at
# a flag that it does not know, so that these are only for versions that were seen to have them.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
if jax.__version_info__ < (0, 11):
    flags = ["--xla_cpu_use_fusion_emitters=false"]
    flags += ["--xla_disable_hlo_passes=cpu_multi_output_fusion"]
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_disable_most_optimizations", True)
use_machine()  # the rest as the command does


def pytest_collection_modifyitems(items):
    """Tests that need MNIST run where $TFDS_DATA_DIR is set, and then it must be there."""
    skip = pytest.mark.skip(reason="TFDS_DATA_DIR is not set")
    for item in items if "TFDS_DATA_DIR" not in os.environ else ():
        if item.get_closest_marker("mnist"):
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Compiled programs hold memory maps, of which a process may not have many thousands."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def undrawn():
    """Runs make their report, and write and draw none, which takes longer than to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write", lambda *_: None)
        yield


@pytest.fixture
def saving(monkeypatch):
    """Every chunk is saved, however short."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_stage(tmp_path_factory.mktemp("workdir") / "teachers")


@pytest.fixture
def stage(written, tmp_path) -> Path:
    """A finished stage with steps 20 and 30, to damage."""
    return shutil.copytree(written, tmp_path / "workdir" / "teachers")
