"""What a long run says while it goes on, and what it leaves for who wants to know why it failed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.nodes.crowd import Crowd
from tests.nodes.kit import Nodes

# How often a line is said; never, unless told.
PROGRESS_S = float(os.environ.get("PROGRESS_S", "0"))
# What `make soak` passes on at once, of all that a run prints.
MARK = "> "
# Of what is wrong so much is printed; all of it is left in a file.
SHOWN = 10
_LEFT: Mapping[str, str] = {
    "messages": "SELECT * FROM chat_messages ORDER BY 1",
    "streams": "SELECT stream_id, count(*), min(version), max(version) FROM events GROUP BY 1",
    "rooms": "SELECT stream_id, version, event_type, convert_from(event_data, 'UTF8') AS data "
    "FROM events WHERE stream_id LIKE '%room%' ORDER BY 1, 2",
    "nodes": "SELECT * FROM nodes",
    "shards": "SELECT * FROM shards ORDER BY id",
    "outbox": "SELECT * FROM outbox WHERE sent_at IS NULL",
    "backends": "SELECT pid, state, wait_event_type, wait_event, query FROM pg_stat_activity",
}


@contextmanager
def telling(line: Callable[[], str], every_s: float = PROGRESS_S) -> Iterator[None]:
    """Say `line` every so often, with the seconds since and the load, until the block is left."""
    is_over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not is_over.wait(every_s):
            load = os.getloadavg()[0]
            print(f"{MARK}{time.monotonic() - began:.0f} s, load {load:.1f}: {line()}", flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    if every_s:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if every_s:
            thread.join()


def verdict(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Print of each invariant whether it held; gives the lines of those that did not."""
    broken = []
    for name, wrong in found.items():
        if wrong:
            more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            broken.append(f"BROKEN: {name}: {len(wrong)}: {'; '.join(wrong[:SHOWN])}{more}")
        print(f"{MARK}{broken[-1] if wrong else f'held: {name}'}", flush=True)
    return broken


@contextmanager
def leaving(nodes: Nodes, faults: Sequence[str], crowds: Sequence[Crowd]) -> Iterator[None]:
    """Where the block fails: leave what is known in files, in the folder that `LEFT` names.

    By default that is `left` in the folder of the nodes.
    """
    try:
        yield
    except BaseException:
        folder = Path(os.environ.get("LEFT") or nodes.folder / "left")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            leave(nodes, faults, crowds, folder)
        finally:
            print(f"{MARK}what is known is left in {folder}", flush=True)
        raise


def leave(nodes: Nodes, faults: Sequence[str], crowds: Sequence[Crowd], folder: Path) -> None:
    """Write what was done, what each life of each node said, what was seen, and what is stored."""
    (folder / "faults.txt").write_text("\n".join(faults))
    for at, (name, site) in enumerate(nodes.lives):
        (folder / f"said-{at:03}-{name}.txt").write_text("\n".join(site.lines))
    if nodes.balancer is not None:
        (folder / "balancer.txt").write_text(nodes.balancer.said())
    for crowd in crowds:
        seen = {
            "said": sorted(crowd.said),
            "accepted": crowd.figures.accepted,
            "places": [one.places for one in crowd.programs],
            "deaf": crowd.deaf(),
        }
        (folder / "crowd.json").write_text(json.dumps(seen))
    for name, statement in _LEFT.items():
        rows = [dict(row) for row in nodes.rows(statement)]
        (folder / f"{name}.json").write_text(
            "\n".join(json.dumps(row, default=str) for row in rows)
        )
