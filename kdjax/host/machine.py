"""What JAX must be told before it computes: devices, how to compile, where programs are cached."""

import contextlib
import ctypes
import math
import os
import sys
from pathlib import Path
from typing import Any

import jax

from kdjax.host.files import user_cache
from kdjax.rules import InputError

XLA_CPU = (  # results change by rounding
    "--xla_cpu_copy_insertion_use_region_analysis=true",  # else every step copies the state
    "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion",  # the optimizer: one pass
)
DEVICES = "xla_force_host_platform_device_count"
QUOTA = "/sys/fs/cgroup/cpu.max"  # of a container: microseconds of all cores, of a period
# glibc's malloc.h: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
MALLOC = {-8: 1, -3: 2**30, -1: 2**30}
TRIED = (0, 13)  # XLA ends the process at a flag that it does not know: JAX below this knows all


def use_machine() -> None:
    """A CPU device per core, programs compiled for speed and cached for the next run, and memory
    that is kept from step to step, unless set.

    Where JAX has its devices already, as after `jax.devices()`, it goes on with those.
    """
    keep_memory()
    given = os.environ.get("XLA_FLAGS", "")
    if jax.__version_info__ < TRIED:
        os.environ["XLA_FLAGS"] = " ".join([*XLA_CPU, given]).strip()  # the last decides
    if _setting("jax_num_cpu_devices") < 1 and DEVICES not in given:
        with contextlib.suppress(RuntimeError):  # JAX has its devices
            jax.config.update("jax_num_cpu_devices", cores())
    cache = user_cache()
    if _setting("jax_compilation_cache_dir") is None and cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def keep_memory() -> None:
    """Makes glibc's malloc keep what a step frees for the next step, unless the environment says
    how it shall allocate.

    On a CPU, XLA allocates the arrays of each step anew. If glibc asks the system for them each
    time, the pages can cost half of a convolutional step on a virtual machine.
    """
    set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform == "linux" and not set_by_user:
        with contextlib.suppress(AttributeError):  # another C library
            for option, value in MALLOC.items():
                ctypes.CDLL(None).mallopt(option, value)


def check_devices() -> None:
    """An InputError where JAX cannot open the platforms that it is told to."""
    try:
        jax.local_devices()
    except Exception as error:  # RuntimeError, AssertionError, ...
        why = " ".join(str(error).split())[:200] or type(error).__name__
        asked = _setting("jax_platforms")
        raise InputError(
            f"JAX_PLATFORMS is {asked!r}, which JAX cannot open ({why}); it "
            "must name platforms of this machine, such as cpu, or be unset"
        ) from error


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def cores() -> int:
    """How many cores this process, or the container that it runs in, may use."""
    own = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        own = len(os.sched_getaffinity(0))
    try:
        quota, period = Path(QUOTA).read_text().split()
        return max(1, min(own, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # there is none, or it says "max"
        return own
