"""python -m benchmarks [--only NAME ...] [--json FILE] [--figures DIR] [--repeats N]"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from benchmarks import data_sets, figures, peers, suite
from benchmarks.session import Session
from benchmarks.timing import LEAST, REPEATS, Row
from kdjax import table, versions
from kdjax.machine import use_machine
from kdjax.main import quiet

HOW = (
    f"Ratios: more is better. Each is the median, and in brackets the least and the greatest, of "
    f"n repeats of {LEAST} s or more, in which the codes compared take turns. What is done once, "
    f"above all compilation, is not timed but stands in a column of its own."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks, prints a table of each as it ends, and writes JSON and figures."""
    flags = read_flags(arguments)
    environment = describe()
    print(json.dumps(environment, indent=1), HOW, sep="\n", flush=True)
    if peers.missing():
        print(peers.missing(), flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        session = Session(flags.repeats, Path(directory))
        for name in flags.only:
            found = suite.BENCHMARKS[name](session)
            print(f"\n{name}\n\n{as_table(found)}", flush=True)
            rows += found
    environment["data"] = [read.name for read in data_sets.DATASETS.values()]
    print(f"\nData: {', '.join(environment['data']) or 'none'}.")
    if flags.json:
        content = {"rows": [asdict(row) for row in rows], "environment": environment}
        flags.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    if flags.figures:
        for path in figures.write(session.curves, flags.figures):
            print(f"figure: {path}")


def read_flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    every = list(suite.BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=HOW)
    asked = f"of {', '.join(every)}; left out, all but grid"
    parser.add_argument(
        "--only", nargs="+", choices=every, default=suite.DEFAULT, metavar="NAME", help=asked
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="of growth, memory, grid")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N")
    flags = parser.parse_args(arguments)
    if flags.repeats < 1:
        parser.error(f"--repeats is {flags.repeats}; it must be at least 1")
    return flags


def describe() -> dict[str, Any]:
    """The machine, and how busy it was at the start."""
    environment = versions.environment()
    environment["versions"]["torch"] = peers.version()
    environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY")  # of PyTorch's threads
    return environment | {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}


def as_table(rows: Sequence[Row]) -> str:
    columns = {
        "name": lambda r: r.name,
        "ratio": lambda r: f"{r.ratio:.3g}",
        "[least, greatest]": lambda r: "[{:.3g}, {:.3g}]".format(*r.spread),
        "n": lambda r: str(r.n),
        "value": lambda r: f"{r.value:.4g}",
        "unit": lambda r: r.unit,
        "once s": lambda r: f"{r.compile_seconds:.1f}",
    }
    return table.markdown([(name, [text(r) for r in rows]) for name, text in columns.items()])


if __name__ == "__main__":
    quiet()
    use_machine()
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are of compiling
    main()
