"""Prints how fast kdjax is.

python -m benchmarks [--only NAME ...] [--json FILE] [--figures DIR] [--repeats N]
                     [--against CHECKOUT]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import data_sets, figures, peers, results, suite
from benchmarks.session import Session
from benchmarks.timing import LEAST, REPEATS, Row, tell
from kdjax import tables
from kdjax.host import versions
from kdjax.host.machine import use_machine
from kdjax.main import quiet
from kdjax.rules import InputError

HOW = (
    f"Ratios: more is better. Each is the median, and in brackets the least and the greatest, of "
    f"n repeats of {LEAST} s or more, in which the codes compared take turns. What is done once, "
    f"above all compilation, is not timed but stands in a column of its own. Load is the average "
    f"over the minute before the row."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks. After each it prints its table and writes JSON and figures, so that an
    interruption loses the benchmark that runs, and no other."""
    flags = read_flags(arguments)
    environment, rows = describe(), []
    if flags.json:
        try:
            rows, environment = results.read(flags.json, environment)
        except InputError as error:
            sys.exit(f"error: {error}")
    print(json.dumps(environment, indent=1), HOW, sep="\n", flush=True)
    if peers.missing():
        print(peers.missing(), flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        against = flags.against and flags.against.resolve()
        session = Session(flags.repeats, Path(directory), against)
        for name in flags.only:
            tell(f"{name} ...")
            began, drawn = time.monotonic(), len(session.curves)
            found = suite.BENCHMARKS[name](session)
            tell(f"{name}: {time.monotonic() - began:.0f} s")
            print(f"\n{name}\n\n{as_table(found)}", flush=True)
            rows = results.merged(rows, found)
            used = [read.name for read in data_sets.DATASETS.values()]
            environment["data"] = list(dict.fromkeys([*environment["data"], *used]))
            if flags.json:
                results.write(flags.json, rows, environment)
            if flags.figures and session.curves[drawn:]:
                path = figures.write(session.curves[drawn:], flags.figures / f"{name}.png")
                print(f"\nfigure: {path}", flush=True)
    print(f"\nheadlines\n\n{as_table([row for row in rows if row.of])}")
    print(f"\nData: {', '.join(environment['data']) or 'none'}.")


def read_flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    every = list(suite.BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=HOW)
    long = " and ".join(suite.LONG)
    asked = f"of {', '.join(every)}; left out, all but {long}; without a name, none"
    parser.add_argument("--only", nargs="*", default=suite.DEFAULT, metavar="NAME", help=asked)
    added = "which is added to; the rows that are measured again are replaced"
    parser.add_argument("--json", type=Path, metavar="FILE", help=added)
    parser.add_argument("--figures", type=Path, metavar="DIR", help="of growth, memory, grid")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N")
    other = "another checkout of kdjax, which default_job is compared with"
    parser.add_argument("--against", type=Path, metavar="DIR", help=other)
    flags = parser.parse_args(arguments)
    for name in flags.only:
        if name not in every:
            parser.error(f"--only has {name!r}; it must be {asked}")
    if flags.repeats < 1:
        parser.error(f"--repeats is {flags.repeats}; it must be at least 1")
    if flags.against and not (flags.against / "kdjax").is_dir():
        parser.error(f"--against is {flags.against}; it must be a checkout, with the folder kdjax")
    return flags


def describe() -> dict[str, Any]:
    """The machine, and what is run."""
    environment = versions.environment()
    environment["versions"]["torch"] = peers.version()
    environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY")  # of PyTorch's threads
    return environment | {"commands": [environment.pop("command")], "data": []}


def as_table(rows: Sequence[Row]) -> str:
    columns = {
        "name": lambda r: f"{r.name} ({r.of})" if r.of else r.name,
        "ratio": lambda r: f"{r.ratio:.3g}",
        "[least, greatest]": lambda r: "[{:.3g}, {:.3g}]".format(*r.spread),
        "n": lambda r: str(r.n),
        "value": lambda r: f"{r.value:.4g}",
        "unit": lambda r: r.unit,
        "once s": lambda r: f"{r.compile_seconds:.1f}",
        "load": lambda r: f"{r.load:.1f}",
    }
    return tables.markdown([(name, [text(r) for r in rows]) for name, text in columns.items()])


if __name__ == "__main__":
    quiet()
    use_machine()
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are of compiling
    main()
