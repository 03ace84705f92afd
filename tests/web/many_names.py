"""A program that makes up names, as many as it is told, and prints what the maps keep of them.

One map at a time, by the calls that a request makes: a line each with its name, and the MiB by
which this process has grown since. `test_many_names.py` reads them.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import trio

from actors.timeline import Timeline
from web.lab.panels.bucket import Buckets
from web.realtime.socket.commands import CommandKey, CommandMemory, Done
from web.routing import decided
from web.routing.quota import Quota
from web.server.edge.turns import Turns

_PAGE_BYTES = 4096


def resident_mib() -> float:
    """Give what this process holds of the memory, without what it has freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def addresses_in_turn(turns: Turns, number: int) -> None:
    place = turns.maybe_place(f"address {number}")
    assert place is not None
    place.leave()


def addresses_under_quota(quota: Quota, number: int) -> None:
    quota.take(UUID(int=number), f"address {number}")


def addresses_that_burst(buckets: Buckets, number: int) -> None:
    buckets.take(UUID(int=number), f"address {number}")


def commands_of_clients(memory: CommandMemory, number: int) -> None:
    key = CommandKey(f"user {number}", f"client {number}", f"c{number}")
    fate, is_new = memory.claim(key, b"post", f"address {number}")
    assert is_new
    memory.settle(key, fate, Done())


def actions_of_tabs(memory: decided.Decided, number: int) -> None:
    key = decided.CommandKey(UUID(int=number), f"tab {number}", f"action {number}")
    assert memory.get(key) is None
    memory.put(key, "done")


def requests_by_id(timeline: Timeline, number: int) -> None:
    request, session = f"request {number}", str(UUID(int=number))
    timeline.begin(request, session, "GET", f"/lab?room={number}", is_new=False)
    timeline.tell_tab(request, f"tab {number}")
    timeline.end(request, 200, 0.001, is_member=False)


async def main(count: int) -> None:
    """Fill one map after the other."""
    timeline = Timeline(trio.current_time)
    steps: tuple[Callable[[int], None], ...] = (
        partial(addresses_in_turn, Turns(8)),
        partial(
            addresses_under_quota,
            Quota(trio.current_time, "many", per_session_max=6, per_address_max=20, period_s=60),
        ),
        partial(addresses_that_burst, Buckets(trio.current_time)),
        partial(commands_of_clients, CommandMemory()),
        partial(actions_of_tabs, decided.Decided(trio.current_time)),
        partial(requests_by_id, timeline),
    )
    # Once, for what is made at the first call only.
    for step in steps:
        step(-1 % 2**128)
    before = resident_mib()
    for step in steps:
        for number in range(count):
            step(number)
        assert isinstance(step, partial)
        print(step.func.__name__, round(resident_mib() - before, 1), flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
