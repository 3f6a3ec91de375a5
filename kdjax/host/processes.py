"""Several processes as one program: each runs the same code, and computes on its own devices.

Process 0 alone writes files and prints; every process reads the same data and the same working
directory. What crosses processes is free where there is only one.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdjax.rules import Diverged, InputError, Preempted

HEARTBEAT = 60  # seconds after which a process that does not answer is given up
GRACE = 5  # seconds to end by itself, and to finish a save, when another process ends
LEAVING = 15_000  # milliseconds that a process which ends waits for the others
FOREVER = 2**31 - 1  # milliseconds
UNSEEN = 90  # seconds for which a network file system may hide a new file
END = "kdjax/end"  # the key that holds the exit code of all


def is_primary() -> bool:
    """Whether this is process 0, which writes and prints."""
    return jax.process_index() == 0


def primary_only(function: Callable) -> Callable:
    """`function` in process 0; in the others nothing, and None."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named) if is_primary() else None

    return wrapped


def broadcast(array: np.ndarray | np.generic) -> np.ndarray:
    """The array of process 0, in every process."""
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def broadcast_int(value: int) -> int:
    """The value of process 0, below 2^31, in every process."""
    return int(broadcast(np.int32(value)))


def check_equal(content: str) -> None:
    """An InputError, in all processes, unless the content is the same in all."""
    number = int.from_bytes(hashlib.sha256(content.encode()).digest()[:4]) >> 1
    found = multihost_utils.process_allgather(np.int32(number)).ravel()
    other = np.flatnonzero(found != found[0])
    if other.size:
        raise InputError(
            f"process {other[0]} has another config, data set, workdir or version of a package "
            "than process 0; every process must run the same command on the same data"
        )


def any_process(flag: bool) -> bool:
    """Whether the flag is true in any process; in every process the same."""
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def wait_for(path: Path, seconds: float = UNSEEN) -> None:
    """Waits until process 0 is here too, and every process sees the file that it wrote.

    Raises:
      InputError: a process does not see it; in every process.
    """
    if jax.process_count() == 1:
        return
    broadcast_int(0)
    given_up = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < given_up:
        time.sleep(0.02)
    seen = multihost_utils.process_allgather(np.array(path.exists()))
    if not seen.all():
        raise InputError(
            f"--workdir of process {seen.argmin()} is not that of process 0; it must be on a file "
            "system that all processes share"
        )


def check_shared(directory: Path) -> None:
    """An InputError unless all processes see the same directory."""
    if jax.process_count() == 1:
        return
    token = directory / f".shared-{broadcast_int(secrets.randbits(31))}"
    primary_only(token.touch)()
    try:
        wait_for(token, seconds=10)
    finally:
        primary_only(token.unlink)()


def sigterm() -> Callable[[], bool]:
    """From here on SIGTERM does not kill; the function tells whether there was one, in any
    process, and must be called by all."""
    received = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: received.set())
    return lambda: any_process(received.is_set())


def sigint() -> Callable[[], None]:
    """From here on Ctrl-C raises KeyboardInterrupt where it finds the program, and, if that was in
    code that lets nothing out (a callback of the garbage collector), so does the function. Where
    SIGINT is ignored, as in the background of a script, it stays so."""
    received = threading.Event()

    def interrupt(*_: Any) -> None:
        received.set()
        raise KeyboardInterrupt

    def again() -> None:
        if received.is_set():
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    return again


def check_flags(
    distributed: bool, address: str | None, count: int | None, index: int | None
) -> None:
    """An InputError unless the flags say where all processes are, or none is given."""
    given = {"coordinator_address": address, "num_processes": count, "process_id": index}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if distributed and len(missing) < len(given):
        raise InputError(
            "--distributed finds out what --coordinator_address, --num_processes and --process_id "
            "say; give it alone, or those three"
        )
    if 0 < len(missing) < len(given):
        raise InputError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            "--coordinator_address, --num_processes and --process_id go together"
        )
    if address is not None and count is not None and index is not None:
        _check_values(address, count, index)


def _check_values(address: str, count: int, index: int) -> None:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            f"--coordinator_address is {address!r}; it must be HOST:PORT of process 0, with a "
            "port from 1 to 65535"
        )
    if count < 1:
        raise InputError(f"--num_processes is {count}; it must be at least 1")
    if not 0 <= index < count:
        raise InputError(
            f"--process_id is {index}; it must be from 0 to {count - 1}, a different one in each "
            f"of the {count} processes"
        )


@contextlib.contextmanager
def together(
    distributed: bool,
    address: str | None,
    count: int | None,
    index: int | None,
    verdict: Callable[[BaseException], tuple[str, int]],
) -> Iterator[None]:
    """Joins the other processes, where the flags, as `check_flags` takes them, say that there are.

    What is raised within ends all processes with one exit code, also those that wait for a
    collective, and is told once, by the process that had it first.

    Args:
      verdict: exception -> what to tell the user, and the exit code.
    """
    if not distributed and address is None:
        yield
        return
    from jax._src.distributed import global_state  # its client reaches processes that compute

    _join(address, count, index)
    client: Any = global_state.client
    ending, arrived = threading.Event(), threading.Event()

    def watch() -> None:
        try:
            code = int(client.blocking_key_value_get(END, FOREVER))
        except jax.errors.JaxRuntimeError:
            return  # all have left, or process 0 is gone
        ending.set()
        arrived.wait(GRACE)
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a process is gone
            client.wait_at_barrier(END, LEAVING)
            jax.distributed.shutdown()
        _exit(code)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:
        if isinstance(error, Diverged | Preempted):  # all raise it, process 0 when it has saved
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # a process is gone
                any_process(True)
        message, code = verdict(error)
        told = ending.is_set()
        try:
            client.key_value_set(END, str(code))
        except jax.errors.JaxRuntimeError as failure:
            told = told or "ALREADY_EXISTS" in str(failure)
        if not told:
            print(message, file=sys.stderr)
        arrived.set()
        watcher.join()
        _exit(code)
    jax.distributed.shutdown()
    watcher.join()


def _join(address: str | None, count: int | None, index: int | None) -> None:
    """Starts jax.distributed; InputError where it cannot start."""
    if index == 0 and address is not None:
        _check_port(int(address.rpartition(":")[2]))
        print(f"waiting for {count} processes at {address}, at most 5 minutes", flush=True)
    jax.config.update("jax_enable_preemption_service", False)  # `sigterm` is in its place
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            cluster_detection_method="deactivate" if address else None,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        if "coordinator_address" in why:
            why = (
                "found no TPU slice, Slurm, Open MPI or Kubernetes; give --coordinator_address, "
                "--num_processes and --process_id"
            )
        raise InputError(f"--distributed: {why}") from None
    # Gloo, which connects CPUs, prints to this descriptor.
    sys.stdout.flush()
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout = open(os.dup(1), "w", 1, encoding, errors)  # noqa: SIM115
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise InputError(
                f"--coordinator_address has port {port}, which process 0 cannot open ({error}); "
                "choose another"
            ) from error


def _exit(code: int) -> NoReturn:
    """Ends the process, also while its main thread waits for a collective."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
