"""Cases of a projection: events, and the rows that they make, without a store or a runner.

    ProjectionTest(OrderList()).given(OrderPlaced("ann"), stream="order-1").then_row(
        "order-1", customer="ann", status="placed"
    ).then_count(1)

Rule: everything is done at once. An `apply` that waits for something else than its documents is
told so: it could not be built anew from the log either.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Final, Self, TypeVar

from actors.persistence import Cursor, Document, Projection, ProjectionTx, StoredEvent
from actors.testing.cases.differing import difference
from actors.testing.cases.fixed import FixedIds, test_clock
from actors.testing.cases.telling import Unfinished

T = TypeVar("T")

# As many orders as find a projection that minds a repeat in any of a dozen events, nearly always.
ROUNDS: Final = 20
STREAM: Final = "case-1"


class ProjectionTest:
    """A case of a projection; each `then...` raises AssertionError unless it is as expected.

    Documents are as a store would give them back: texts, numbers, lists and mappings.
    """

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._wanted = frozenset(projection.types.stored_as(*projection.handles))
        self._case = Unfinished(f"ProjectionTest({projection.name}) has no then")
        self._ids, self._clock = FixedIds(), test_clock()
        self._log: list[StoredEvent] = []
        self._rows: dict[str, Document] = {}

    def given(self, *events: object, stream: str = STREAM) -> Self:
        """Call this with what has happened next, in one stream; again for another stream.

        Raises what `apply` raises, and TypeError for an event with private fields: what those
        become is the keys' matter, so it needs a store.
        """
        for event in events:
            stored = self._stored(event, stream)
            self._log.append(stored)
            self._apply(self._rows, [stored])
        return self

    def then_row(self, key: str, **fields: object) -> Self:
        """Call this with a document that must be there, and what these fields of it must be."""
        self._case.finish()
        row = self._rows.get(key)
        if row is None:
            raise AssertionError(f"there is no row {key!r}, only {sorted(self._rows)}")
        got = {name: row[name] for name in fields if name in row}
        if got != fields:
            wrong = [name for name in fields if name not in row or row[name] != fields[name]]
            lines = [
                difference(fields[name], row[name], f"{key}.{name}")
                if name in row
                else f"{key}.{name}: expected {fields[name]!r}, got no such field"
                for name in wrong
            ]
            raise AssertionError("\n".join(lines))
        return self

    def then_no_row(self, key: str) -> Self:
        """Call this with the key of a document that must not be there."""
        self._case.finish()
        if key in self._rows:
            raise AssertionError(f"there is a row {key!r}: {self._rows[key]!r}")
        return self

    def then_count(self, count: int) -> Self:
        """Call this with how many documents there must be."""
        self._case.finish()
        if len(self._rows) != count:
            raise AssertionError(f"expected {count} rows, got {len(self._rows)}: {self._rows!r}")
        return self

    def shuffle_duplicates(self, *, rounds: int = ROUNDS, seed: int = 0) -> Self:
        """Call this for a projection that is fed at least once: it must not mind.

        Each round delivers the events in batches of chance, streams mixed, each in its own order;
        now and then it goes back and delivers again from there, as after a crash before the
        place was kept. The rows must be those of a quiet delivery. A projection that its runner
        or an append fills gets each event once, and may count. ValueError without events, or
        rounds.
        """
        self._case.finish()
        if rounds < 1:
            raise ValueError(f"rounds is {rounds!r}; a shuffle has one or more")
        if not self._log:
            raise ValueError("a shuffle needs events: call given(...) before")
        for number in range(rounds):
            order = _shuffled(self._log, Random(f"{seed}/{number}"))
            rows: dict[str, Document] = {}
            for batch in order:
                self._apply(rows, batch)
            if rows != self._rows:
                told = [f"{one.stream_id}@{one.version}" for batch in order for one in batch]
                raise AssertionError(
                    f"round {number} of seed {seed} made other rows; it delivered "
                    f"{' '.join(told)}\n{_differing(self._rows, rows)}"
                )
        return self

    def _stored(self, event: object, stream: str) -> StoredEvent:
        types = self._projection.types
        if types.is_private(type(event)):
            raise TypeError(
                f"{type(event).__name__} has private fields; test what becomes of it on a store"
            )
        self._clock.advance(timedelta(seconds=1))
        new = types.encode(event, event_id=self._ids.new_id())
        before = sum(one.stream_id == stream for one in self._log)
        at = len(self._log) + 1
        return StoredEvent(
            stream_id=stream,
            version=before + 1,
            cursor=Cursor(at, at),
            event_id=new.event_id,
            type=new.type,
            schema_version=new.schema_version,
            codec=new.codec,
            data=new.data,
            metadata=dict(new.metadata),
            tenant=None,
            recorded_at=self._clock.now(),
            tags=tuple(new.tags),
        )

    def _apply(self, rows: dict[str, Document], events: Sequence[StoredEvent]) -> None:
        async def read(key: str) -> Document | None:
            return rows.get(key)

        tx, projection = ProjectionTx(read), self._projection
        for event in events:
            if event.type not in self._wanted:
                continue
            for part in projection.types.parts(event, projection.handles):
                _now(projection.apply(part, tx))
            tx.keep()
        for key, document in tx.documents.items():
            if document is None:
                rows.pop(key, None)
            else:
                rows[key] = document


def _now(work: Coroutine[object, object, T]) -> T:
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise TypeError("apply waits for something else than its documents")


def _shuffled(log: Sequence[StoredEvent], chance: Random) -> list[Sequence[StoredEvent]]:
    """Batches that deliver each event at least once, each stream in its order."""
    left: dict[str, list[StoredEvent]] = {}
    for event in log:
        left.setdefault(event.stream_id, []).append(event)
    # Each stream is drawn as often as it has events.
    draws = [event.stream_id for event in log]
    chance.shuffle(draws)
    mixed = [left[stream].pop(0) for stream in draws]
    batches: list[Sequence[StoredEvent]] = []
    at = 0
    while at < len(mixed):
        size = chance.randint(1, len(mixed) - at)
        batches.append(mixed[at : at + size])
        at += size
        # Half of the times it goes back, and so often at most that it comes to an end.
        if len(batches) <= 2 * len(mixed) and chance.random() < 0.5:
            at = chance.randint(0, at)
    return batches


def _differing(wanted: Mapping[str, Document], got: Mapping[str, Document]) -> str:
    return "\n".join(
        f"{key}: expected {wanted.get(key)!r}, got {got.get(key)!r}"
        for key in sorted({*wanted, *got})
        if wanted.get(key) != got.get(key)
    )
