"""What Orbax and TensorStore print and raise where the disk fails, put in order.

One failed array of many ends in tracebacks of several threads and an error without a type; what is
left of it here is one exception. Importing this filters the logs of absl and asyncio.
"""

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def deaf_to_closed_loops() -> Iterator[None]:
    """Where one array fails, the others' reads or writes end later, and find their loop closed."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda e: None if "loop is closed" in str(e.exc_value) else hook(e)
    try:
        yield
    except Exception:
        time.sleep(0.5)  # for those others to end, on a busy machine as well
        raise
    finally:
        sys.unraisablehook = hook


@contextlib.contextmanager
def as_os_error(path: Path) -> Iterator[None]:
    """Turns TensorStore's ValueError into the system's error, whose number it names."""
    try:
        with deaf_to_closed_loops():
            yield
    except ValueError as error:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        if not found:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def _wanted(record: logging.LogRecord) -> bool:
    """Leaves out what Orbax tells of its work and of what it raises, and what asyncio tells of a
    failed read."""
    if f"{os.sep}orbax{os.sep}" in record.pathname:
        return record.levelno >= logging.WARNING and not record.exc_info
    return not record.exc_info or "tensorstore_spec" not in str(record.exc_info[1])


logging.getLogger("absl").addFilter(_wanted)
logging.getLogger("asyncio").addFilter(_wanted)
