"""Machines that make up tests: any calls in any order, against something that is plainly right.

Each is a state machine of hypothesis, which must be installed for them (the suites do without it).
A failing example is printed as a program of the calls that lead to it, as short as was found:
`state = MyStoreMachine()`, then a line a call. It runs as it stands, where the class is imported.
Values that are drawn are written out there, so rules take texts and numbers, never objects.

`StoreMachine` is an event store against a list of lists; `projection_machine` makes one that holds
a projection, filled bit by bit, against a rebuild. That of a saga is
`actors.testing.cases.any_order.SagaMachine`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.persistence import (
    Appended,
    AppendRequest,
    ConcurrencyConflict,
    Cursor,
    EventStore,
    ExpectedVersion,
    NewEvent,
    Projection,
    ProjectionRunner,
    StoreError,
    StreamId,
    begin_rebuild,
    fits,
    live_collection,
    wait_until,
)
from actors.persistence.words import Expected
from actors.runtime import open_actors
from storage.testing.kept import Kept, kept_in_memory
from storage.testing.samples import PATIENCE_S, new_event, new_events

# Few, so that calls meet.
_STREAMS = st.sampled_from(["a-1", "a-2", "b-1"])
_EXPECTED = st.one_of(st.integers(0, 6), st.sampled_from(["any", "exists"]))

Call = Callable[[], Awaitable[object]]


def _request(stream: str, count: int, expected: int | str) -> AppendRequest:
    meant: ExpectedVersion = Expected(expected) if isinstance(expected, str) else expected
    return AppendRequest(StreamId(stream), new_events(count), meant)


class StoreMachine(RuleBasedStateMachine):
    """Any calls of an `EventStore`, each answer compared with that of a list of lists.

    ```python
    class MyStoreMachine(StoreMachine):
        def begin(self) -> None:
            self.store = MyStore()  # empty


    TestMyStore = MyStoreMachine.TestCase
    ```

    An engine that lives on between calls says in `call` how they reach it.
    """

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
        """Give `store` an empty engine."""

    def call(self, work: Call) -> object:
        """Run an async call to its end."""
        return trio.run(work)

    @rule(stream=_STREAMS, count=st.integers(1, 3), expected=_EXPECTED)
    def append(self, stream: str, count: int, expected: int | str) -> None:
        """Append to one stream."""
        request = _request(stream, count, expected)

        async def work() -> Appended | StoreError:
            try:
                return await self.store.append(
                    request.stream_id, request.events, expected=request.expected
                )
            except StoreError as error:
                return error

        self._judge(request, self.call(work))

    @rule(
        parts=st.lists(st.tuples(_STREAMS, st.integers(1, 2), _EXPECTED), max_size=4),
        atomic=st.booleans(),
    )
    def append_batch(self, parts: list[tuple[str, int, int | str]], atomic: bool) -> None:
        """Append several times in one call."""
        requests = [_request(*part) for part in parts]

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
            self._judge(request, result)

    def _judge(self, request: AppendRequest, result: object) -> None:
        kept = self.model.setdefault(request.stream_id, [])
        if fits(request.expected, len(kept)):
            assert isinstance(result, Appended), result
            assert (result.first_version, result.replayed) == (len(kept) + 1, False)
            ids = [event.event_id for event in request.events]
            kept += ids
            self.log += ids
            assert result.version == len(kept)
            self.appends.append((request.stream_id, list(request.events), result))
        else:
            assert isinstance(result, ConcurrencyConflict), result
            assert result.actual == len(kept)

    @rule(which=st.integers(0, 99), expected=_EXPECTED)
    def append_again(self, which: int, expected: int | str) -> None:
        """Repeat one of the appends that were done."""
        if not self.appends:
            return
        stream, events, first = self.appends[which % len(self.appends)]
        meant = _request(stream, 1, expected).expected

        async def work() -> Appended | StoreError:
            try:
                return await self.store.append(stream, events, expected=meant)
            except StoreError as error:
                return error

        again = Appended(first.version, first.first_version, first.cursor, replayed=True)
        assert self.call(work) == again

    @rule(limit=st.integers(1, 5))
    def read_on(self, limit: int) -> None:
        """Read the next page of the global order."""

        async def work() -> object:
            page = await self.store.read_all(after=self.read_at, limit=limit)
            self.read_at = page.next
            return [event.event_id for event in page.events]

        found = self.call(work)
        assert isinstance(found, list)
        self.read += found
        assert self.read == self.log[: len(self.read)]

    @rule(stream=_STREAMS, bounds=st.tuples(st.integers(1, 6), st.integers(0, 6)))
    def load(self, stream: str, bounds: tuple[int, int]) -> None:
        """Load a part of a stream."""

        async def work() -> object:
            found = self.store.load(StreamId(stream), from_version=bounds[0], to_version=bounds[1])
            return [(event.event_id, event.version) async for event in found]

        known = self.model.get(stream, [])[bounds[0] - 1 : bounds[1]]
        assert self.call(work) == [
            (id_, version) for version, id_ in enumerate(known, start=bounds[0])
        ]

    @invariant()
    def heads_agree(self) -> None:
        """Each stream is as long as it should be."""

        async def work() -> object:
            return {name: await self.store.head(StreamId(name)) for name in self.model}

        assert self.call(work) == {name: len(ids) for name, ids in self.model.items()}


def projection_machine(
    make: Callable[[], Projection],
    events: st.SearchStrategy[tuple[str, str]],
    open_kept: Callable[[], Kept] = kept_in_memory,
) -> type[RuleBasedStateMachine]:
    """Call this for a machine that fills a projection in any pieces, and rebuilds it at any time.

    `events` gives the type of an event and its data as JSON. Whatever was appended in between, how
    often the runner stopped, and which generation it was filled in: once all is read, its rows are
    those that a rebuild makes of the same events. Beside the store of `open_kept`, on which all of
    it happens, nothing is kept between calls.

    ```python
    paid = st.integers(1, 9).map(lambda n: ("Paid", f'{"amount": {n}}'))
    TestTotals = projection_machine(Totals, paid).TestCase
    ```
    """

    class ProjectionMachine(RuleBasedStateMachine):
        """Appends, stops and rebuilds, in any order."""

        def __init__(self) -> None:
            super().__init__()
            self.kept = open_kept()
            self.last: Cursor | None = None

        @rule(stream=_STREAMS, new=st.lists(events, min_size=1, max_size=4))
        def append(self, stream: str, new: list[tuple[str, str]]) -> None:
            """Append some events to a stream."""
            made = [new_event(data.encode(), type=name) for name, data in new]

            async def work() -> None:
                self.last = (await self.kept.events.append(StreamId(stream), made)).cursor

            trio.run(work)

        @rule()
        def fill(self) -> None:
            """Run it until it has read all there is, and stop it."""
            if self.last is not None:
                trio.run(_filled, make(), self.kept, self.last)

        @rule()
        def rebuild(self) -> None:
            """Make all rows anew beside those that are served, and serve them from then on."""
            if self.last is not None:
                trio.run(self._rebuilt)

        async def _rebuilt(self) -> None:
            assert self.last is not None
            before = await _filled(make(), self.kept, self.last)
            after = await _rebuilt(make(), self.kept)
            assert after == before, f"a rebuild makes {after}, filled bit by bit it is {before}"

        def teardown(self) -> None:
            """At the end they agree, whatever was done before."""
            self.rebuild()

    return ProjectionMachine


Rows = dict[str, object]


async def _filled(projection: Projection, kept: Kept, last: Cursor) -> Rows:
    """Its rows, once the last event is in them."""
    async with open_actors() as system:
        runner = await system.start(
            lambda: ProjectionRunner(projection, kept.events, kept.projections)
        )
        await wait_until(kept.projections, projection.name, last, timeout_s=PATIENCE_S)
        await runner.stop()
    return await _rows(projection, kept)


async def _rebuilt(projection: Projection, kept: Kept) -> Rows:
    generation = await begin_rebuild(kept.projections, projection)
    wanted = f"{projection.name}__g{generation}"
    async with open_actors() as system:
        builder = await system.start(
            lambda: ProjectionRunner(projection, kept.events, kept.projections, rebuild=True)
        )
        with trio.fail_after(PATIENCE_S):
            while await live_collection(kept.projections, projection.name) != wanted:
                await kept.projections.changed(0.05)
        await builder.stop()
    return await _rows(projection, kept)


async def _rows(projection: Projection, kept: Kept) -> Rows:
    collection = await live_collection(kept.projections, projection.name)
    assert collection is not None
    found: Rows = {}
    after: str | None = None
    while page := await kept.projections.query(collection, after=after, limit=100):
        found.update({key: dict(document) for key, document in page})
        after = page[-1][0]
    return found
