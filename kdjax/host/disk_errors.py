"""What Orbax and TensorStore print and raise where the disk fails, put in order.

One failed array of many ends in tracebacks of several threads and an error without a type; what is
left of it here is one exception.
"""

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOGGERS = ("absl", "asyncio")  # of Orbax, and of what runs its reads and writes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what Orbax and TensorStore say of their work, and of the arrays that fail beside the
    first, from the logs and from stderr; both are as they were at the end."""
    wanted = lambda record: _is_wanted(record)  # of this context only, for they may be nested
    loggers, before = [logging.getLogger(name) for name in LOGGERS], sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # Where one array fails, the others' reads or writes end later, and find their loop closed.
        if "loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    for logger in loggers:
        logger.addFilter(wanted)
    sys.unraisablehook = hook
    try:
        yield
    except Exception:
        time.sleep(0.5)  # for those others to end, on a busy machine as well
        raise
    finally:
        sys.unraisablehook = before
        for logger in loggers:
            logger.removeFilter(wanted)


@contextlib.contextmanager
def as_os_error(path: Path) -> Iterator[None]:
    """Turns TensorStore's ValueError into the system's error, whose number it names."""
    try:
        with quiet():
            yield
    except ValueError as error:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        if not found:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def _is_wanted(record: logging.LogRecord) -> bool:
    """Not what Orbax tells of its work and of what it raises, nor what asyncio tells of a failed
    read."""
    if f"{os.sep}orbax{os.sep}" in record.pathname:
        return record.levelno >= logging.WARNING and not record.exc_info
    return not record.exc_info or "tensorstore_spec" not in str(record.exc_info[1])
