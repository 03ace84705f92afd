"""Both engines against a model that is a list of lists: any sequence of calls, same answers."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import outcome
import pytest
import trio
from hypothesis.stateful import run_state_machine_as_test

from storage.memory import MemoryEventStore
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    PostgresEventStore,
    open_database,
)
from storage.testing.machines import Call, StoreMachine
from storage.testing.samples import PATIENCE_S
from tests.machines import machine_settings


def test_the_memory_engine_agrees_with_the_model() -> None:
    # REL-103, TEST-9
    class Machine(StoreMachine):
        def begin(self) -> None:
            self.store = MemoryEventStore()

    run_state_machine_as_test(Machine, settings=machine_settings(25))


@contextmanager
def _served(url: str) -> Iterator[tuple[Database, Callable[[Call], object]]]:
    """A trio run in a thread of its own that carries out one call after the other."""
    calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[outcome.Outcome[object]] = queue.SimpleQueue()

    async def serve() -> None:
        settings_ = PoolSettings(connections_min=1, connections_max=2)
        async with open_database(url, settings=settings_) as database:
            opened.put(database)
            while (work := await trio.to_thread.run_sync(calls.get)) is not None:
                answers.put(await outcome.acapture(work))

    opened: queue.SimpleQueue[Database] = queue.SimpleQueue()
    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()

    def call(work: Call) -> object:
        calls.put(work)
        return answers.get(timeout=PATIENCE_S).unwrap()

    try:
        yield opened.get(timeout=PATIENCE_S), call
    finally:
        calls.put(None)
        thread.join()


@pytest.mark.slow
def test_postgres_agrees_with_the_model(database_url: str) -> None:
    # REL-103, TEST-9
    with _served(database_url) as (database, call):

        async def empty() -> None:
            async def work(connection: Connection) -> None:
                await connection.execute(
                    "ALTER TABLE events DISABLE TRIGGER USER;"
                    "DELETE FROM events;"
                    "ALTER TABLE events ENABLE TRIGGER USER"
                )

            await database.run(work)

        class Machine(StoreMachine):
            def begin(self) -> None:
                self.store = PostgresEventStore(database)
                self.call(empty)

            def call(self, work: Call) -> object:
                return call(work)

        run_state_machine_as_test(Machine, settings=machine_settings(25))
