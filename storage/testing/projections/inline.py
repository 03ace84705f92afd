"""What inline projections must do on every engine, as tests. Fixture `kept`, with `INLINE`."""

from dataclasses import dataclass

import pytest
import trio

from actors.persistence import (
    AppendRequest,
    ConcurrencyConflict,
    EventTypes,
    Idempotent,
    InlineProjectionFailed,
    NewEvent,
    Projection,
    ProjectionTx,
    StoredEvent,
    StreamId,
    inline_collection,
)
from storage.testing.kept import Kept
from storage.testing.samples import message, new_event, new_events, timer

TYPES = EventTypes()
A, B = StreamId("user-a"), StreamId("user-b")
_KEY = Idempotent("users", "k-1", b"hash")


@TYPES.event()
@dataclass(frozen=True)
class NameTaken:
    name: str


@TYPES.event()
@dataclass(frozen=True)
class NameGiven:
    name: str


class NotFree(Exception):
    """Raised by the projection when a name has another owner."""


class Names(Projection):
    """Who has which name, and how often it was taken; nobody has another's."""

    name = "names"
    handles = (NameTaken, NameGiven)
    types = TYPES
    inline = True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        match self.types.decode(event):
            case NameTaken("slowly"):
                await trio.lowlevel.checkpoint()
            case NameTaken(name):
                kept = await tx.get(name) or {"owner": event.stream_id, "count": 0}
                if kept["owner"] != event.stream_id:
                    raise NotFree(name)
                count = kept["count"]
                assert isinstance(count, int)
                tx.put(name, {"owner": event.stream_id, "count": count + 1})
            case NameGiven(name):
                tx.delete(name)


NAMES = Names()
INLINE = [NAMES]


def _request(stream_id: StreamId, event: NewEvent) -> AppendRequest:
    return AppendRequest(stream_id, [event])


def taken(name: str) -> NewEvent:
    """Call this for an event that takes a name."""
    return new_event(b'{"name": "%s"}' % name.encode(), type="NameTaken")


def given(name: str) -> NewEvent:
    """Call this for an event that gives a name back."""
    return new_event(b'{"name": "%s"}' % name.encode(), type="NameGiven")


async def _owners(kept: Kept) -> dict[str, tuple[object, object]]:
    found = await kept.projections.query(inline_collection(NAMES))
    return {key: (document["owner"], document["count"]) for key, document in found}


class InlineProjectionsSuite:
    """The conformance suite of inline projections."""

    async def test_what_is_appended_is_there_at_once(self, kept: Kept) -> None:
        # PROJ-9
        await kept.events.append(A, [taken("ann"), *new_events(1), taken("eve")])
        assert await _owners(kept) == {"ann": (A, 1), "eve": (A, 1)}
        await kept.events.append(A, [given("ann"), taken("eve")], expected=3)
        assert await _owners(kept) == {"eve": (A, 2)}
        await kept.events.append(B, new_events(2))
        assert await kept.events.head(B) == 2

    async def test_a_failure_refuses_the_whole_append(self, kept: Kept) -> None:
        # PROJ-9, STORE-10
        await kept.events.append(A, [taken("ann")])
        events = [taken("bob"), taken("ann")]
        with pytest.raises(InlineProjectionFailed, match="NotFree: ann") as caught:
            await kept.events.append(
                B, events, outbox=[message()], timers=[timer()], idempotency=_KEY
            )
        failed = caught.value
        assert (failed.name, failed.stream_id, type(failed.error)) == ("names", B, NotFree)
        assert not failed.is_transient
        assert await kept.events.head(B) == 0
        assert await _owners(kept) == {"ann": (A, 1)}
        assert (await kept.outbox.stats()).pending == 0
        assert await kept.timers.pending() == 0
        # Nothing is left of it: the same ids and the same key may come again.
        await kept.events.append(A, [given("ann")])
        done = await kept.events.append(B, events, idempotency=_KEY)
        assert (done.version, done.replayed) == (2, False)
        assert await _owners(kept) == {"ann": (B, 1), "bob": (B, 1)}
        page = await kept.events.read_all()
        assert [event.cursor for event in page.events] == sorted(
            event.cursor for event in page.events
        )

    async def test_of_many_that_want_one_name_one_gets_it(self, kept: Kept) -> None:
        # PROJ-9: a name nobody has yet is guarded as well
        outcomes: list[str] = []

        async def take(number: int) -> None:
            try:
                await kept.events.append(StreamId(f"user-{number}"), [taken("ann")])
            except InlineProjectionFailed as failed:
                outcomes.append(type(failed.error).__name__)
            else:
                outcomes.append("stored")

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(take, number)
        assert sorted(outcomes) == ["NotFree"] * 19 + ["stored"]
        assert len((await kept.events.read_all()).events) == 1
        assert len(await _owners(kept)) == 1

    async def test_a_repeat_and_a_conflict_apply_nothing(self, kept: Kept) -> None:
        # PROJ-9, STORE-11, STORE-12
        events = [taken("ann")]
        await kept.events.append(A, events, expected=0)
        assert (await kept.events.append(A, events, expected=0)).replayed
        await kept.events.append(A, [taken("ann")], idempotency=_KEY)
        assert (await kept.events.append(A, [taken("ann")], idempotency=_KEY)).replayed
        with pytest.raises(ConcurrencyConflict):
            await kept.events.append(A, [taken("ann")], expected=0)
        assert await _owners(kept) == {"ann": (A, 2)}

    async def test_a_batch_leaves_them_to_single_appends(self, kept: Kept) -> None:
        # PROJ-9, STORE-15
        plain = [_request(A, new_event()), _request(B, new_event())]
        assert len(await kept.events.append_batch(plain)) == 2
        with pytest.raises(ValueError, match="inline projection names"):
            await kept.events.append_batch([*plain, _request(B, taken("ann"))])
        assert await kept.events.head(B) == 1

    async def test_one_that_waits_for_something_else_refuses(self, kept: Kept) -> None:
        # PROJ-9: a transaction is open while it waits
        with pytest.raises(InlineProjectionFailed):
            await kept.events.append(A, [taken("slowly")])
        assert await kept.events.head(A) == 0
        await kept.events.append(A, [taken("ann")])
        assert await _owners(kept) == {"ann": (A, 1)}
