"""What tenants of one store must be to each other, as tests. Fixture `kept`, empty.

Beside it `settle`: a store that is full of others' events under the same names, in whose midst a
tenant's view must pass every other suite of its port.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import cast
from uuid import UUID, uuid4

import pytest
import trio

from actors.persistence import (
    EXISTS,
    START,
    AlreadyHandled,
    Appended,
    AppendRequest,
    CancelTimer,
    CloseTimer,
    Condition,
    ConditionFailed,
    Counted,
    DeadLetterStatus,
    DuplicateEventId,
    EventStore,
    ForeignTenant,
    IdempotencyMismatch,
    Idempotent,
    InlineProjectionFailed,
    InvalidField,
    InvalidTenant,
    NewDeadLetter,
    NewEvent,
    NotHandedBack,
    ProjectionRunner,
    ReplayParked,
    Snapshot,
    StoredEvent,
    StreamArchived,
    StreamGone,
    StreamId,
    Tagged,
    UnknownDeadLetter,
    inline_collection,
    live_collection,
    owned_name,
    split_name,
    wait_until,
)
from actors.runtime import open_actors
from storage.testing.event_store import following, read_to_end, versions
from storage.testing.kept import Kept
from storage.testing.projections.filling import Totals, paid
from storage.testing.projections.inline import NAMES, taken
from storage.testing.samples import NOON, PATIENCE_S, message, new_event, new_events, timer

A, B = StreamId("order-a"), StreamId("order-b")
USER, TILL = StreamId("user-a"), StreamId("till-a")
# Names that begin as another's do, and what sorts before and behind the slash.
NEIGHBOURS = ("acm", "acme-2", "acme.b", "acme0", "acmee", "ACME")


async def settle(kept: Kept, tenant: str = "acme") -> Kept:
    """Call this for the same ports with the view of a tenant among neighbours.

    Whatever a suite does with the view's streams, tags and keys, theirs have the same names.
    """
    taken_names = [A, B, USER, *(StreamId(f"order-{n}") for n in range(4))]
    for other in (None, "globex", *NEIGHBOURS[:2]):
        store = kept.events if other is None else kept.events.for_tenant(other)
        for name in taken_names:
            await store.append(name, [new_event(tags=("course-1",)), *new_events(2)])
    kept.events = kept.events.for_tenant(tenant)
    kept.snapshots = kept.snapshots.for_tenant(tenant)
    kept.dead_letters = kept.dead_letters.for_tenant(tenant)
    return kept


async def _all(store: EventStore) -> list[StoredEvent]:
    return [event for page in await read_to_end(store) for event in page.events]


async def _back(store: EventStore) -> list[StoredEvent]:
    """The order from its end, by small pages."""
    page = await store.read_backwards(limit=2)
    found = [*page.events]
    while not page.is_last:
        page = await store.read_backwards(before=page.next, limit=2)
        found += page.events
    return found[::-1]


def _ids(events: Sequence[StoredEvent | NewEvent]) -> list[UUID]:
    return [event.event_id for event in events]


class TenantsSuite:
    """The conformance suite of `for_tenant`: of the events, snapshots and dead letters."""

    async def test_streams_of_one_name_are_each_tenants_own(self, kept: Kept) -> None:
        # STORE-9
        free, acme = kept.events, kept.events.for_tenant("acme")
        globex = free.for_tenant("globex")
        assert (free.tenant, acme.tenant, globex.tenant) == (None, "acme", "globex")
        for store, count in ((free, 1), (acme, 2), (globex, 3)):
            done = await store.append(A, new_events(count), expected=0)
            assert (done.first_version, done.version) == (1, count)
            await store.append(A, new_events(1), expected=EXISTS)
        for store, count in ((free, 2), (acme, 3), (globex, 4)):
            assert await store.head(A) == count
            loaded = [event async for event in store.load(A)]
            assert [event.version for event in loaded] == list(range(1, count + 1))
            assert {(event.stream_id, event.tenant) for event in loaded} == {(A, store.tenant)}
            back = [event async for event in store.load_backwards(A, limit=2)]
            assert _ids(back) == _ids(loaded[:-3:-1])
            assert {event.stream_key for event in loaded} == {owned_name(store.tenant, A)}
        assert [await store.head(B) for store in (free, acme, globex)] == [0, 0, 0]
        # A view costs nothing, and another of the same tenant is no other.
        again = acme.for_tenant("acme")
        assert await versions(again, A) == [1, 2, 3]

    async def test_a_repeat_is_known_by_its_tenant(self, kept: Kept) -> None:
        # STORE-12: event ids are those of all together
        acme, globex = (kept.events.for_tenant(one) for one in ("acme", "globex"))
        events = new_events(2)
        done = await acme.append(A, events, expected=0)
        assert await acme.append(A, events) == Appended(2, 1, done.cursor, replayed=True)
        for other in (globex, kept.events):
            for request in (AppendRequest(A, events), AppendRequest(A, events[:1], 0)):
                with pytest.raises(DuplicateEventId) as caught:
                    await other.append_request(request)
                assert "acme" not in str(caught.value)
                with pytest.raises(DuplicateEventId):
                    await other.append_batch([request], atomic=True)
            assert await other.head(A) == 0

    async def test_a_key_is_each_tenants_own(self, kept: Kept) -> None:
        # STORE-55
        acme, globex = (kept.events.for_tenant(one) for one in ("acme", "globex"))
        key, other = Idempotent("s", "k", b"1"), Idempotent("s", "k", b"2")
        for store, hashed in ((acme, key), (globex, other), (kept.events, key)):
            assert not (await store.append(A, new_events(2), idempotency=hashed)).replayed
        for store, hashed in ((acme, key), (globex, other), (kept.events, key)):
            (_, last) = [event async for event in store.load(A)]
            again = await store.append(A, new_events(1), idempotency=hashed)
            assert again == Appended(2, 1, last.cursor, replayed=True)
        with pytest.raises(IdempotencyMismatch):
            await acme.append(A, new_events(1), idempotency=other)
        assert await acme.head(A) == 2

    async def test_a_view_reads_the_order_of_its_tenant(self, kept: Kept) -> None:
        # STORE-20, STORE-23, STORE-27
        free, acme = kept.events, kept.events.for_tenant("acme")
        for _ in range(3):
            await free.append(A, new_events(1))
            for other in NEIGHBOURS:
                await free.for_tenant(other).append(A, new_events(2))
            await acme.append(A, new_events(1, type="Made"))
            await acme.append(USER, new_events(1))
        own = [event for event in await _all(free) if event.tenant == "acme"]
        assert [event.stream_id for event in own] == [A, USER] * 3
        assert [event.cursor for event in own] == sorted(event.cursor for event in own)
        assert _ids(await _all(acme)) == _ids(await _back(acme)) == _ids(own)
        page = await acme.read_all(limit=4)
        assert (_ids(page.events), page.is_last) == (_ids(own[:4]), False)
        page = await acme.read_all(after=page.next, limit=4)
        assert (_ids(page.events), page.is_last, page.next) == (_ids(own[4:]), True, own[5].cursor)
        assert (await acme.read_all(after=page.next)).events == []
        # Filters.
        for filtered in (
            await acme.read_all(types=["Made"]),
            await acme.read_all(categories=["order"]),
            await acme.read_all(types=["Made", "Counted"], categories=["order"], limit=3),
        ):
            assert _ids(filtered.events) == _ids(own[::2])
        users = await acme.read_backwards(categories=["user"], limit=2)
        assert _ids(users.events) == _ids(own[:-5:-2])
        assert (await acme.read_all(categories=["acme", "@acme/order"])).events == []
        # Of no tenant: of all, by their categories too.
        orders = [event for event in await _all(free) if event.stream_id == A]
        assert len(orders) == 3 * (2 + 2 * len(NEIGHBOURS))
        assert _ids((await free.read_all(categories=["order"])).events) == _ids(orders)
        assert _ids((await free.read_backwards(categories=["order"])).events) == _ids(orders[::-1])
        # How far behind.
        assert (await acme.lag(None)).events == 6
        assert (await acme.lag(own[1].cursor)).events == 4
        assert (await acme.lag(own[-1].cursor)).events == 0
        assert (await free.lag(START)).events == len(await _all(free))

    async def test_a_follower_of_a_tenant_meets_no_others(self, kept: Kept) -> None:
        # STORE-22
        acme, seen = kept.events.for_tenant("acme"), list[UUID]()
        events = new_events(4)
        await acme.append(A, events[:2])
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    async with following(acme) as pages:
                        async for page in pages:
                            assert all(event.tenant == "acme" for event in page.events)
                            seen.extend(_ids(page.events))
                            if len(seen) == 4:
                                return

                nursery.start_soon(follow)
                for event in events[2:]:
                    await kept.events.append(A, new_events(1))
                    await kept.events.for_tenant("globex").append(A, new_events(3))
                    await acme.append(A, [event])
        assert seen == _ids(events)

    async def test_counts_and_lists_are_a_tenants_own(self, kept: Kept) -> None:
        # STORE-9, STORE-27
        free, acme = kept.events, kept.events.for_tenant("acme")
        for store in (free, *(free.for_tenant(one) for one in NEIGHBOURS)):
            for name in (A, USER, StreamId("zoo-1")):
                await store.append(name, new_events(2))
        await acme.append(A, [*new_events(2), new_event(type="Made")])
        await acme.append(B, new_events(1))
        await acme.append(USER, new_events(1))
        others = 6 * (1 + len(NEIGHBOURS))
        for store, wanted in ((acme, [5, 1, 3, 4, 1]), (free, [5 + others, 1, 2, 2, 0])):
            found = [
                await store.count(),
                await store.count(types=["Made"]),
                await store.count(stream_id=A),
                await store.count(category="order"),
                await store.count(category="order", types=["Made"]),
            ]
            assert [one.events for one in found] == wanted
            assert all(one.is_whole for one in found)
        assert await acme.count(up_to=3) == Counted(3, is_whole=False)
        assert (await acme.count(stream_id=StreamId("zoo-1"))).events == 0

        async def names(store: EventStore, **asked: str) -> list[str]:
            return [one.stream_id for one in await store.list_streams(**asked)]  # type: ignore[arg-type]

        assert await names(acme) == [A, B, USER]
        assert await names(acme, after=A) == [B, USER]
        assert await names(acme, category="order") == [A, B]
        assert await names(acme, prefix="order-b") == [B]
        assert await names(acme, prefix="@globex/") == await names(acme, after="zz") == []
        assert [one.version for one in await acme.list_streams(limit=1)] == [3]
        assert await names(free) == await names(free, after="") == [A, USER, "zoo-1"]
        assert await names(free, prefix="@acme/") == await names(free, category="@acme/order") == []
        assert await names(free, after="@acme/order-a") == [A, USER, "zoo-1"]
        assert await names(free.for_tenant("nobody")) == []

    async def test_tags_and_conditions_are_a_tenants_own(self, kept: Kept) -> None:
        # STORE-7, STORE-8
        free, acme = kept.events, kept.events.for_tenant("acme")
        query = [Tagged(("course-1",))]
        # A text as any other, where there is no tenant.
        await free.append(A, [new_event(tags=("course-1", "@acme/course-1"))])
        await free.for_tenant("globex").append(A, [new_event(tags=("course-1",))])
        page = await acme.read_tagged(query)
        assert (page.events, page.is_last) == ([], True)
        assert (await acme.read_tagged([Tagged(("@acme/course-1",))])).events == []
        event = new_event(tags=("course-1", "student-7"))
        await acme.append(A, [event], condition=Condition(query, page.next))
        (found,) = (await acme.read_tagged(query)).events
        assert (found.event_id, found.tags) == (event.event_id, ("course-1", "student-7"))
        with pytest.raises(ConditionFailed) as caught:
            await acme.append(B, new_events(1), condition=Condition(query, page.next))
        assert caught.value.stream_id == B
        for store in (free, free.for_tenant("globex")):
            page = await store.read_tagged(query)
            assert [one.tenant for one in page.events] == [store.tenant]
            asked = Condition([Tagged(("student-7",))])
            await store.append(B, [new_event(tags=("course-1",))], condition=asked)
        literal = (await free.read_tagged([Tagged(("@acme/course-1",))])).events
        assert [one.stream_key for one in literal] == [A]

    async def test_what_is_closed_is_a_tenants_own(self, kept: Kept) -> None:
        # STORE-28, STORE-29
        stores = [kept.events, *map(kept.events.for_tenant, ("acme", "globex"))]
        for store in stores:
            await store.append(A, new_events(2))
            await store.append(B, new_events(2))
        free, acme, globex = stores
        await acme.archive(A)
        with pytest.raises(StreamArchived) as archived:
            await acme.append(A, new_events(1))
        assert archived.value.stream_id == A
        assert [one.stream_id for one in await acme.list_streams()] == [B]
        last = (await acme.read_backwards(limit=1)).events[0]
        assert (last.type, last.tenant, last.stream_id) == ("$archived", "acme", A)
        await acme.tombstone(B)
        with pytest.raises(StreamGone):
            await acme.append(B, new_events(1), expected=2)
        assert (await acme.append_batch([AppendRequest(B, new_events(1))]))[0].__class__ is (
            StreamGone
        )
        assert await versions(acme, B) == []
        assert (await acme.read_all()).events[-1].type == "$tombstoned"
        for store in (free, globex):
            assert (await store.append(A, new_events(1), expected=2)).version == 3
            assert (await store.append(B, new_events(1), expected=2)).version == 3
        await kept.remove_tombstoned()
        assert [await store.head(B) for store in stores] == [3, 3, 3]
        assert await versions(globex, B) == [1, 2, 3]
        await acme.reopen(A)
        assert (await acme.append(A, new_events(1))).version == 5

    async def test_a_batch_is_a_tenants_own(self, kept: Kept) -> None:
        # STORE-16
        acme = kept.events.for_tenant("acme")
        for store in (kept.events, kept.events.for_tenant("globex")):
            await store.append(A, new_events(3))
        requests = [
            AppendRequest(A, new_events(2), 0),
            AppendRequest(A, new_events(1), 2),
            AppendRequest(B, new_events(1), 3),
        ]
        results = await acme.append_batch(requests)
        assert [getattr(one, "version", None) for one in results[:2]] == [2, 3]
        assert type(results[2]).__name__ == "ConcurrencyConflict"
        assert "acme" not in str(results[2])
        assert [event.tenant async for event in acme.load(A)] == ["acme"] * 3
        assert await kept.events.head(A) == 3

    async def test_states_are_a_tenants_own(self, kept: Kept) -> None:
        # STORE-40
        free, acme = kept.snapshots, kept.snapshots.for_tenant("acme")
        globex = free.for_tenant("globex")
        for states, data in ((free, b"free"), (acme, b"acme"), (globex, b"globex")):
            await states.save(Snapshot(A, 1, "s", data))
        found = [await states.latest(A) for states in (free, acme, globex)]
        assert [one and one.data for one in found] == [b"free", b"acme", b"globex"]
        assert {one and one.stream_id for one in found} == {A}
        await acme.discard(A)
        view = kept.events.for_tenant("globex")
        await view.append(A, new_events(1))
        await view.tombstone(A)
        assert [await states.latest(A) is None for states in (free, acme, globex)] == [
            False,
            True,
            True,
        ]

    async def test_an_inline_projection_is_applied_to_each_tenants_own(self, kept: Kept) -> None:
        # PROJ-9
        free, acme = kept.events, kept.events.for_tenant("acme")
        for store in (free, acme, free.for_tenant("globex")):
            await store.append(A, [taken("ann")])
            with pytest.raises(InlineProjectionFailed, match="NotFree: ann"):
                await store.append(B, [taken("ann")])
        await acme.append(A, [taken("eve")])
        for tenant, names in ((None, ["ann"]), ("acme", ["ann", "eve"]), ("globex", ["ann"])):
            collection = inline_collection(NAMES, tenant=tenant)
            assert [key for key, _ in await kept.projections.query(collection)] == names
        free_one = inline_collection(NAMES)
        found = await kept.projections.tenants(free_one)
        assert sorted(found) == ["acme", "globex"]
        first, second = found
        assert await kept.projections.tenants(free_one, limit=1) == [first]
        assert await kept.projections.tenants(free_one, after=first) == [second]
        assert await kept.projections.tenants(free_one, after=second) == []
        assert await kept.projections.tenants(free_one[1:]) == []

    async def test_a_projection_of_all_tenants_tells_them_apart(self, kept: Kept) -> None:
        # PROJ-7: what is parked of one tenant's stream holds nobody else's back
        free, acme = kept.events, kept.events.for_tenant("acme")
        globex, totals = free.for_tenant("globex"), Totals()
        await acme.append(TILL, paid(1, -2))
        for store in (free, acme, globex):
            await store.append(TILL, paid(5))
        async with open_actors() as system:
            runner = await system.start(lambda: ProjectionRunner(totals, free, kept.projections))
            end = (await globex.append(TILL, paid(6))).cursor
            with trio.fail_after(PATIENCE_S):
                await wait_until(kept.projections, "totals", end, timeout_s=PATIENCE_S)
            collection = "totals__g1"
            assert await kept.projections.query(collection) == [
                ("@acme/till-a", {"sum": 1}),
                ("@globex/till-a", {"sum": 11}),
                (TILL, {"sum": 5}),
            ]
            assert await kept.projections.parked_streams(collection) == {"@acme/till-a"}
            letters = await kept.dead_letters.list(kind="projection")
            assert [(one.letter.tenant, one.letter.stream_id) for one in letters] == [
                ("acme", TILL)
            ] * 2
            totals.is_strict = False
            assert await runner.ask(ReplayParked(TILL), timeout=PATIENCE_S) == 0
            assert await runner.ask(ReplayParked("@acme/till-a"), timeout=PATIENCE_S) == 2
        assert await kept.projections.get(collection, "@acme/till-a") == {"sum": 4}

    async def test_a_projection_of_a_view_is_named_after_its_tenant(self, kept: Kept) -> None:
        # PROJ-6, STORE-60
        acme, globex = (kept.events.for_tenant(one) for one in ("acme", "globex"))
        projections, totals = kept.projections, Totals()
        async with open_actors() as system:
            for store in (acme, globex):
                await store.append(TILL, paid(1))
                await system.start(partial(ProjectionRunner, totals, store, projections))
            ends = [(await store.append(TILL, paid(2, -1))).cursor for store in (acme, globex)]
            with trio.fail_after(PATIENCE_S):
                for tenant, end in zip(("acme", "globex"), ends, strict=True):
                    name = owned_name(tenant, "totals")
                    await wait_until(projections, name, end, timeout_s=PATIENCE_S)
                    assert await live_collection(projections, name) == f"{name}__g1"
                    assert await projections.query(f"{name}__g1") == [
                        (owned_name(tenant, TILL), {"sum": 3})
                    ]
            totals.is_strict = False
            (letter,) = await kept.dead_letters.list(source="@acme/totals__g1")
            await kept.dead_letters.hand_back(letter.id, "ada")
            with trio.fail_after(PATIENCE_S):
                while await projections.parked_streams("@acme/totals__g1"):
                    await projections.changed(1.0)
        assert await projections.get("@acme/totals__g1", "@acme/till-a") == {"sum": 2}
        assert await projections.parked_streams("@globex/totals__g1") == {"@globex/till-a"}
        assert await projections.checkpoints("totals") == []

    async def test_letters_are_a_tenants_own(self, kept: Kept) -> None:
        # STORE-9, STORE-61
        free, acme = kept.dead_letters, kept.dead_letters.for_tenant("acme")
        globex = free.for_tenant("globex")
        one = NewDeadLetter("mail", "source", "m-1", "boom", stream_id=A)
        mine = await acme.add(one)
        theirs, common = await globex.add(one), await free.add(replace(one, stream_id=None))
        assert len({mine, theirs, common}) == 3
        assert await acme.add(replace(one, error_message="again")) == mine
        (found,) = await acme.list()
        assert (found.id, found.retry_count, found.letter.tenant) == (mine, 1, "acme")
        assert (found.letter.stream_id, found.letter.message_id) == (A, "m-1")
        assert [letter.id for letter in await free.list()] == [mine, theirs, common]
        assert [letter.letter.tenant for letter in await free.list()] == ["acme", "globex", None]
        assert (await acme.counts()).by_status[DeadLetterStatus.PENDING] == 1
        assert (await free.counts()).by_status[DeadLetterStatus.PENDING] == 3
        for other in (theirs, common):
            for call in (
                acme.get(other),
                acme.retry(other),
                acme.hand_back(other, "eve"),
                acme.failed_again(other, "e"),
                acme.resolve(other, "eve"),
                acme.discard(other, "eve", "r"),
            ):
                with pytest.raises(UnknownDeadLetter):
                    await call
            assert (await free.get(other)).status is DeadLetterStatus.PENDING
        assert [letter.id for letter in await acme.retry_all()] == [mine]
        await acme.resolve(mine, "ada")
        with pytest.raises(ForeignTenant):
            await acme.add(replace(one, tenant="globex"))
        # One that speaks of a message or a timer of the whole program is no tenant's to hand back.
        await kept.events.append(A, new_events(1), outbox=[message()])
        forged = await acme.add(NewDeadLetter("outbox", "source", "1", "boom"))
        with pytest.raises(NotHandedBack):
            await acme.hand_back(forged, "eve")
        await acme.discard(forged, "eve", "r")
        assert (await kept.outbox.stats()).pending == 1
        assert (await acme.list())[-1].letter.stream_id is None
        assert await acme.purge() == 0

    async def test_a_letter_may_speak_of_what_only_looks_like_a_tenants(self, kept: Kept) -> None:
        # STORE-9, STORE-61: programs of before kept such letters, and one must not hide the rest
        free = kept.dead_letters
        names = ["@a b/c", "@/c", "@\u00fc/c", f"@{'x' * 65}/c", "@acme"]
        for number, name in enumerate(names):
            await free.add(NewDeadLetter("mail", "source", f"m-{number}", "boom", stream_id=name))
        found = [kept_one.letter for kept_one in await free.list()]
        assert [(letter.tenant, letter.stream_id) for letter in found] == [
            (None, name) for name in names
        ]
        assert len(await free.retry_all()) == len(names)
        assert await free.for_tenant("acme").list() == []
        with pytest.raises(InvalidField):
            NewDeadLetter("mail", "source", "m", "boom", stream_id="@acme/c")

    async def test_what_goes_with_an_append_is_named_after_its_tenant(self, kept: Kept) -> None:
        # STORE-9, CORE-31: whose it is, is told to who sends and who delivers
        free, acme = kept.events, kept.events.for_tenant("acme")
        handled = ("billing", uuid4())
        for store in (free, acme, free.for_tenant("globex")):
            await store.append_request(
                AppendRequest(
                    A,
                    new_events(1),
                    outbox=[message("k")],
                    timers=[timer(address="saga/1")],
                    inbox=handled,
                )
            )
            with pytest.raises(AlreadyHandled):
                await store.append_request(AppendRequest(A, new_events(1), inbox=handled))
        await acme.append(A, new_events(1), timers=[CancelTimer("saga/1", "step")])
        due = await kept.timers.claim_due("w", NOON + timedelta(hours=1))
        assert {split_name(one.address) for one in due} == {(None, "saga/1"), ("globex", "saga/1")}
        keys = list[str]()
        for part in range(8):
            held = await kept.outbox.lease("relay", [part])
            keys += [one.key for one in await kept.outbox.next_batch(part, held[part])]
        assert sorted(keys) == ["@acme/k", "@globex/k", "k"]
        # By its id a timer is closed, whoever was given it.
        await acme.append(A, new_events(1), timers=[CloseTimer(due[0].timer_id)])
        with pytest.raises(InvalidField):
            await acme.append(A, new_events(1), outbox=[message("k" * 1024)])

    async def test_nobody_names_what_is_anothers(self, kept: Kept) -> None:
        # STORE-9
        free, acme = kept.events, kept.events.for_tenant("acme")
        await free.for_tenant("globex").append(A, new_events(1))
        theirs = new_event(tenant="globex")
        key = Idempotent("s", "k", b"h", tenant="globex")
        for store in (acme, free):
            for request in (
                AppendRequest(A, [theirs]),
                AppendRequest(A, [new_event(), theirs]),
                AppendRequest(A, new_events(1), idempotency=key),
                AppendRequest(A, new_events(1), tenant="globex"),
            ):
                with pytest.raises(ForeignTenant) as caught:
                    await store.append_request(request)
                assert (caught.value.own, caught.value.given) == (store.tenant, "globex")
                with pytest.raises((ForeignTenant, ValueError)):
                    await store.append_batch([AppendRequest(B, new_events(1)), request])
            assert await store.head(A) == await store.head(B) == 0
        letters = kept.dead_letters
        for view in (acme, kept.snapshots.for_tenant("acme"), letters.for_tenant("acme")):
            with pytest.raises(ForeignTenant):
                view.for_tenant("globex")
        for name in ("", "a/b", "@acme", "acme\n", "ä", "x" * 65, "a\x00"):
            for port in (free, acme, kept.snapshots, letters):
                with pytest.raises(InvalidTenant):
                    port.for_tenant(name)
        # A raw text in the place of a name is refused as ever.
        for call in (acme.head, free.head, free.archive, kept.snapshots.latest):
            with pytest.raises(ValueError, match="is not a stream id"):
                await call(cast(StreamId, "@globex/order-a"))
        # The longest names there are.
        longest = free.for_tenant("x" * 64)
        name = StreamId(f"order-{'y' * 249}")
        await longest.append(name, [new_event(tags=("t" * 255,))])
        assert [one.stream_id for one in await longest.list_streams()] == [name]
        assert len((await longest.read_tagged([Tagged(("t" * 255,))])).events) == 1

    async def test_an_event_of_a_view_names_its_tenant(self, kept: Kept) -> None:
        # CORE-31
        acme = kept.events.for_tenant("acme")
        event = new_event(tenant="acme")
        await acme.append(A, [event, new_event()])
        async with aclosing(acme.load(A)) as events:  # type: ignore[type-var]
            assert [one.tenant async for one in events] == ["acme", "acme"]
        assert (await acme.append(A, [event])).replayed is True
