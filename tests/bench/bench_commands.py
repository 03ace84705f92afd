"""Commands at an even pace, each stored before it is answered: how long each takes.

PERF-35 and PERF-55, on an embedded server of its own with fsync on. A thousand aggregates, each an
actor; whoever asks is in the same process, and a command's time counts from when it was due.
`SECONDS=600` is the long run of PERF-55: one, in three parts without a pause between them, whose
memory is held against that before the first.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from array import array
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
# From here on one run is enough, and its parts are the three.
_IS_LONG = _SECONDS >= 300
_PART_S = _SECONDS / _RUNS if _IS_LONG else _SECONDS
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
    """What came of the commands; times in milliseconds.

    There is room for all of them from the beginning, so that noting them is no growth.
    """

    def __init__(self, bank: _Bank, seconds: float) -> None:
        self._bank, self._seconds = bank, seconds
        self._took = array("d", bytes(8 * int(seconds * _A_SECOND)))
        self.failed = self._count = 0

    @property
    def took(self) -> list[float]:
        return self._took[: self._count].tolist()

    async def run(self) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(int(self._seconds * _A_SECOND)):
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
        self._took[self._count] = (trio.current_time() - due) * 1e3
        self._count += 1


def _at(times: list[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _measure(database: Database) -> list[Row]:
    p50, p95, failed, spent, grown = [], [], [], [], []
    async with open_system(_Bank, PostgresEventStore(database)) as bank:
        await _Load(bank, _WARM_S).run()
        spare_what_stays()  # as a site does
        loads = [_Load(bank, _PART_S) for _ in range(_RUNS)]
        held = _resident()
        for load in loads:
            before = time.process_time()
            if not _IS_LONG:
                held = _resident()
            await load.run()
            spent.append((time.process_time() - before) / (_PART_S * _A_SECOND) * 1e6)
            grown.append((_resident() / held - 1) * 100)
            failed.append(float(load.failed))
        for load in loads:
            p50.append(_at(load.took, 0.5))
            p95.append(_at(load.took, 0.95))
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
