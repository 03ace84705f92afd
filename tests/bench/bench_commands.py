"""Commands at an even pace, each stored before it is answered: how long each takes.

PERF-35 and PERF-55, on an embedded server of its own with fsync on. A thousand aggregates, each an
actor; whoever asks is in the same process, and a command's time counts from when it was due.
`SECONDS=600` is the long run of PERF-55, whose memory is told as well.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from pathlib import Path

import trio

from actors.persistence import AggregateActor, Done, StoreError, execute
from actors.reducers import Environment
from actors.runtime import AskError
from storage.postgres import Database, PostgresEventStore, migrate, open_database
from storage.postgres.embedded.server import start
from supervision import Supervisor, dynamic_method, open_system
from tests.actors.persistence.accounts import (
    Account,
    Balance,
    Command,
    Deposit,
    Deposited,
    Withdrawn,
)
from tests.bench.rows import Row, row
from web.app import spare_what_stays
from web.wiring.environment import SystemClock, SystemIds

_RUNS = 3
_A_SECOND, _ACCOUNTS = 1000, 1000
_SECONDS = float(os.environ.get("SECONDS", "20"))
_WARM_S = 3.0
# Longer than this is failed, not slow.
_ANSWER_S = 10.0


class _Bank(Supervisor):
    def __init__(self, store: PostgresEventStore) -> None:
        self._store, self._env = store, Environment(SystemClock(), SystemIds())

    @dynamic_method(key="number", restart="transient", max_children=_ACCOUNTS)
    def accounts(self, number: str) -> AggregateActor[Balance, Command, Deposited | Withdrawn]:
        return AggregateActor(Account(), number, self._store, self._env)


class _Load:
    """What came of the commands; times in milliseconds."""

    def __init__(self, bank: _Bank) -> None:
        self._bank = bank
        self.took: list[float] = []
        self.failed = 0

    async def run(self, seconds: float) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(int(seconds * _A_SECOND)):
                due = began + number / _A_SECOND
                await trio.sleep_until(due)
                nursery.start_soon(self._one, number % _ACCOUNTS, due)

    async def _one(self, number: int, due: float) -> None:
        account = self._bank.accounts[str(number)]
        try:
            done = await execute(account, Deposit(1), timeout=_ANSWER_S)
        except (AskError, StoreError):
            self.failed += 1
            return
        self.failed += not isinstance(done, Done)
        self.took.append((trio.current_time() - due) * 1e3)


def _at(times: list[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _measure(database: Database) -> list[Row]:
    p50, p95, failed, spent, grown = [], [], [], [], []
    async with open_system(_Bank, PostgresEventStore(database)) as bank:
        await _Load(bank).run(_WARM_S)
        spare_what_stays()  # as a site does
        for _ in range(_RUNS):
            load, before, held = _Load(bank), time.process_time(), _resident()
            await load.run(_SECONDS)
            spent.append((time.process_time() - before) / (_SECONDS * _A_SECOND) * 1e6)
            grown.append((_resident() / held - 1) * 100)
            p50.append(_at(load.took, 0.5))
            p95.append(_at(load.took, 0.95))
            failed.append(float(load.failed))
    name = f"{_A_SECOND} commands/s for {_SECONDS:g} s"
    target = "< 100 ms (PERF-35, PERF-55)"
    return [
        row(f"{name}: p50", "ms", p50, is_lower_better=True),
        row(f"{name}: p95", "ms", p95, target=target, is_lower_better=True),
        row(f"{name}: failed", "commands", failed, target="0", is_lower_better=True),
        row(f"{name}: processor time of a command", "us", spent, is_lower_better=True),
        row(f"{name}: memory beyond that before", "%", grown, target="<= 10 % (PERF-55)"),
    ]


async def _on(url: str) -> list[Row]:
    async with open_database(url) as database:
        await migrate(database)
        return await _measure(database)


def commands() -> list[Row]:
    """PERF-35, PERF-55: see the top of this file."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            return trio.run(_on, server.url)
        finally:
            server.stop()


benchmarks = [commands]
