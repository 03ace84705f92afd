"""Messages between two nodes over a real server: asks, tells, a hand-over, and who is not there.

Both nodes and the server are processes of this machine, with an embedded database; the library's
own request and reply, and a plain TCP connection, run in the same minutes, for comparison. Without
a server there are no rows.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.bench.node_ground import grounds
from tests.bench.rows import Row, row
from tests.nats_server import missing
from tests.processes.ports import free_ports

_RUNS = 3
_ENDS_S_MAX = 300.0
_KINDS = (
    ("a remote ask alone, p50", "ms", "alone_p50_ms", "PERF-70: <= 1.5", True),
    ("a remote ask alone, p99", "ms", "alone_p99_ms", "PERF-70: <= 5", True),
    ("remote asks of 64 askers", "/s", "asks_per_s", "PERF-70: >= 15,000", False),
    ("remote tells of 200 B", "/s", "tells_per_s", "PERF-71: >= 100,000", False),
    (
        "pause of a moved actor, p99",
        "ms",
        "hand_over_p99_ms",
        "PERF-72: <= 300",
        True,
    ),
    ("a tell to an actor of the same node", "us", "local_us", "PERF-74: <= 1 more", True),
    ("an ask that nobody can answer, p99", "ms", "no_owner_p99_ms", "PERF-77: <= 10", True),
    ("asks beside 200 tells of 60 kB a second, p99", "ms", "beside_p99_ms", "PERF-78: <= 15", True),
)


def _asked(module: str, *given: str) -> Mapping[str, float]:
    """One run: a process that serves, one that asks; gives what the latter has measured."""
    command = [sys.executable, "-m", f"tests.bench.{module}"]
    serving = subprocess.Popen([*command, "serving", *given], stdout=subprocess.PIPE)
    try:
        if module != "peer_node":
            assert serving.stdout is not None
            serving.stdout.readline()
        done = subprocess.run(
            [*command, "asking", *given],
            stdout=subprocess.PIPE, check=True, timeout=_ENDS_S_MAX,
        )  # fmt: skip
    finally:
        serving.terminate()
        serving.wait(timeout=_ENDS_S_MAX)
    figures: Mapping[str, float] = json.loads(done.stdout)
    return figures


def run() -> Sequence[Row]:
    """Call this for the rows of messages between nodes."""
    if missing():
        return []
    ours: dict[str, list[float]] = defaultdict(list)
    library: dict[str, list[float]] = defaultdict(list)
    plain: dict[str, list[float]] = defaultdict(list)
    for ground in grounds(_RUNS):
        given = (ground.nats, ground.user, ground.password)
        for figure, value in _asked("peer_node", ground.database, *given).items():
            ours[figure].append(value)
        for figure, value in _asked("nats_peer", *given).items():
            library[figure].append(value)
        for figure, value in _asked("tcp_peer", str(free_ports(1)[0])).items():
            plain[figure].append(value)
    others = {"nats-py's request": library, "plain TCP": plain}
    return [
        row(
            f"peers: {words}", unit, ours[figure],
            peers=_peers(figure, ours, others), target=target, is_lower_better=is_lower,
        )
        for words, unit, figure, target, is_lower in _KINDS
    ]  # fmt: skip


def _peers(
    figure: str,
    ours: Mapping[str, list[float]],
    others: Mapping[str, Mapping[str, list[float]]],
) -> Mapping[str, float | None]:
    if figure == "local_us":
        return {"its own ref": statistics.median(ours["local_plain_us"])}
    return {
        name: statistics.median(found[figure]) for name, found in others.items() if figure in found
    }


benchmarks = [run]
