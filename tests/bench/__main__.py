"""`make bench`: run the benchmarks, print one table, write build/bench.json.

`python -m tests.bench fanout` runs `bench_fanout.py` only.
"""

import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rows import Benchmark, Row

HERE = Path(__file__).parent
OUTPUT = HERE.parents[1] / "build" / "bench.json"


def load_benchmarks(only: str | None) -> list[tuple[str, Benchmark]]:
    """Find the benchmarks of all files, or of one; unknown names end the program."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if only is not None and only not in names:
        raise SystemExit(f"there is no benchmark {only!r}; there are: {', '.join(names)}")
    found: list[tuple[str, Benchmark]] = []
    for name in names if only is None else [only]:
        module = importlib.import_module(f"tests.bench.bench_{name}")
        found += [(name, benchmark) for benchmark in module.benchmarks]
    return found


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out for a terminal."""
    lines = [f"{'benchmark':<48} {'median':>12} {'min':>12} {'max':>12} {'unit':<12} against peers"]
    for one in rows:
        peers = ", ".join(
            f"{name} {'not run (not installed)' if value is None else f'{value:,.6g}'}"
            for name, value in one.peers.items()
        )
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}x; "
        lines.append(
            f"{one.name:<48} {one.value:>12,.6g} {one.minimum:>12,.6g} {one.maximum:>12,.6g} "
            f"{one.unit:<12} {ratio}{peers}{f'  [{one.target}]' if one.target else ''}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; returns the exit code."""
    rows: list[Row] = []
    for name, benchmark in load_benchmarks(arguments[0] if arguments else None):
        began = time.monotonic()
        rows += benchmark()
        took = time.monotonic() - began
        print(f"{name}: {benchmark.__name__} took {took:.1f} s", file=sys.stderr)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([one.to_json() for one in rows], indent=2) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
