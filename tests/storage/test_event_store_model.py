"""Both engines against a model that is a list of lists: any sequence of calls, same answers."""

import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import outcome
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from actors.persistence import (
    ANY,
    EXISTS,
    Appended,
    AppendRequest,
    ConcurrencyConflict,
    Cursor,
    EventStore,
    ExpectedVersion,
    NewEvent,
    StoreError,
    StreamId,
    fits,
)
from storage.memory import MemoryEventStore
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    PostgresEventStore,
    open_database,
)
from storage.testing.samples import PATIENCE_S, new_events

_STREAMS = st.sampled_from([StreamId("a-1"), StreamId("a-2"), StreamId("b-1")])
_EXPECTED = st.one_of(st.integers(0, 6), st.just(ANY), st.just(EXISTS))

Call = Callable[[], Awaitable[object]]


class _Machine(RuleBasedStateMachine):
    """The rules; a subclass says how calls reach its engine."""

    store: EventStore

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, list[UUID]] = {}
        self.log: list[UUID] = []
        self.appends: list[tuple[StreamId, list[NewEvent], Appended]] = []
        self.read_at: Cursor | None = None
        self.read: list[UUID] = []
        self.begin()

    def begin(self) -> None:
        """Empty the engine."""

    def call(self, work: Call) -> object:
        """Run an async call to its end."""
        return trio.run(work)

    @rule(stream=_STREAMS, count=st.integers(1, 3), expected=_EXPECTED)
    def append(self, stream: StreamId, count: int, expected: ExpectedVersion) -> None:
        events = new_events(count)

        async def work() -> Appended | StoreError:
            try:
                return await self.store.append(stream, events, expected=expected)
            except StoreError as error:
                return error

        self.judge(AppendRequest(stream, events, expected), self.call(work))

    @rule(
        parts=st.lists(st.tuples(_STREAMS, st.integers(1, 2), _EXPECTED), max_size=4),
        atomic=st.booleans(),
    )
    def append_batch(
        self, parts: list[tuple[StreamId, int, ExpectedVersion]], atomic: bool
    ) -> None:
        requests = [AppendRequest(s, new_events(count), expected) for s, count, expected in parts]

        async def work() -> list[Appended | StoreError] | StoreError:
            try:
                return await self.store.append_batch(requests, atomic=atomic)
            except StoreError as error:
                return error

        results = self.call(work)
        if isinstance(results, StoreError):
            heads = {name: len(ids) for name, ids in self.model.items()}
            bad = []
            for request in requests:
                actual = heads.get(request.stream_id, 0)
                if fits(request.expected, actual):
                    heads[request.stream_id] = actual + len(request.events)
                else:
                    bad.append(request)
            assert atomic
            assert bad
            return
        assert isinstance(results, list)
        for request, result in zip(requests, results, strict=True):
            self.judge(request, result)

    def judge(self, request: AppendRequest, result: object) -> None:
        kept = self.model.setdefault(request.stream_id, [])
        if fits(request.expected, len(kept)):
            assert isinstance(result, Appended)
            assert (result.first_version, result.replayed) == (len(kept) + 1, False)
            ids = [event.event_id for event in request.events]
            kept += ids
            self.log += ids
            assert result.version == len(kept)
            self.appends.append((request.stream_id, list(request.events), result))
        else:
            assert isinstance(result, ConcurrencyConflict)
            assert result.actual == len(kept)

    @rule(data=st.data(), expected=_EXPECTED)
    def append_again(self, data: st.DataObject, expected: ExpectedVersion) -> None:
        if not self.appends:
            return
        stream, events, first = data.draw(st.sampled_from(self.appends))

        async def work() -> Appended:
            return await self.store.append(stream, events, expected=expected)

        again = Appended(first.version, first.first_version, first.cursor, replayed=True)
        assert self.call(work) == again

    @rule(limit=st.integers(1, 5))
    def read_on(self, limit: int) -> None:
        async def work() -> object:
            page = await self.store.read_all(after=self.read_at, limit=limit)
            self.read_at = page.next
            return [event.event_id for event in page.events]

        found = self.call(work)
        assert isinstance(found, list)
        self.read += found
        assert self.read == self.log[: len(self.read)]

    @rule(stream=_STREAMS, bounds=st.tuples(st.integers(1, 6), st.integers(0, 6)))
    def load(self, stream: StreamId, bounds: tuple[int, int]) -> None:
        async def work() -> object:
            found = self.store.load(stream, from_version=bounds[0], to_version=bounds[1])
            return [event.event_id async for event in found]

        assert self.call(work) == self.model.get(stream, [])[bounds[0] - 1 : bounds[1]]

    @invariant()
    def heads_agree(self) -> None:
        async def work() -> object:
            return {name: await self.store.head(StreamId(name)) for name in self.model}

        assert self.call(work) == {name: len(ids) for name, ids in self.model.items()}


_QUICK = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_memory_engine_agrees_with_the_model() -> None:
    # REL-103, TEST-9
    class Machine(_Machine):
        def begin(self) -> None:
            self.store = MemoryEventStore()

    run_state_machine_as_test(Machine, settings=_QUICK)


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

        class Machine(_Machine):
            def begin(self) -> None:
                self.store = PostgresEventStore(database)
                self.call(empty)

            def call(self, work: Call) -> object:
                return call(work)

        run_state_machine_as_test(Machine, settings=_QUICK)
