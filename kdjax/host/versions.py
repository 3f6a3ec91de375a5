"""What results may depend on beside the config: versions of packages, devices, the command."""

import importlib.metadata
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any

import jax

from kdjax.host.machine import cores

PACKAGES = ("kdjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict[str, Any]:
    """Plain data of this process: versions, devices, the command."""
    devices = jax.devices()
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpus": cores(),
        "command": _command(),
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that results may depend on; None: not installed."""
    return {"python": platform.python_version()} | installed(PACKAGES)


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """The version of each; None: not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _command() -> str:
    """What started this process, to be pasted into a shell in the same directory: paths below it
    are relative, others as they were given, and the interpreter has its name alone."""
    program, *arguments = sys.orig_argv
    return shlex.join([os.path.basename(program), *map(_local, arguments)])


def _local(argument: str) -> str:
    def local(match: re.Match) -> str:
        path, given = os.path.relpath(match.group()), match.group()
        return given if path.startswith("..") else path + "/" * given.endswith("/")

    return re.sub(r"(?<![\w.~/-])/[^,:=()'\"]*", local, argument)
