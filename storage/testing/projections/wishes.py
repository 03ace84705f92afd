"""What an operator wishes of projections and dead letters, as tests. Fixture `kept`, empty.

Wishes are rows: whoever runs a projection, in whatever process, sees them.
"""

from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from actors.persistence import (
    CancelTimer,
    DeadLetterStatus,
    GenerationState,
    InvalidTransition,
    NewDeadLetter,
    NotHandedBack,
    NotRetired,
    ProjectionHalted,
    ProjectionRunner,
    StreamId,
    UnknownDeadLetter,
    UnknownProjection,
    live_collection,
    rebuild_by_name,
    swap_back,
    wait_until,
)
from actors.persistence.beside_log.outbox import partition_of
from actors.persistence.projections import filling, runner
from actors.runtime import open_actors
from storage.testing.kept import Kept
from storage.testing.projections.filling import paid
from storage.testing.projections.parts import PARTS, Receipts
from storage.testing.projections.poison import (
    A,
    B,
    Seen,
    SeenHalting,
    SeenSkipping,
    reach,
    seen,
    start,
    versions,
)
from storage.testing.samples import NOON, PATIENCE_S, message, new_events, timer

_PENDING, _, _RESOLVED, _DISCARDED = DeadLetterStatus


async def _until_live(kept: Kept, collection: str, name: str = "seen") -> None:
    with trio.fail_after(PATIENCE_S):
        while await live_collection(kept.projections, name) != collection:
            await kept.projections.changed(0.02)


async def _until_seen(kept: Kept, wanted: dict[str, object], collection: str = "seen__g1") -> None:
    with trio.fail_after(PATIENCE_S):
        while await seen(kept, collection) != wanted:
            await kept.projections.changed(0.02)


class ProjectionWishesSuite:
    """The conformance suite of wishes about projections."""

    @pytest.fixture(autouse=True)
    def _looks_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "LOOK_S", 0.02)
        monkeypatch.setattr(filling, "HALTED_LOOK_S", 0.02)

    async def test_a_rebuild_and_the_way_back_need_no_other_runner(self, kept: Kept) -> None:
        # PROJ-8
        store = kept.projections
        await kept.events.append(A, paid(1, 2))
        async with open_actors() as system:
            await start(system, kept, Seen())
            await reach(kept, 7)
            assert await store.names() == ["seen"]
            with pytest.raises(NotRetired):
                await swap_back(store, "seen")
            assert await rebuild_by_name(store, "seen") == 2
            await _until_live(kept, "seen__g2")
            assert await rebuild_by_name(store, "seen") == 3
            await _until_live(kept, "seen__g3")
            await reach(kept, 8)
            assert await seen(kept, "seen__g3") == {A: [1, 2], B: [7, 8]}
            # Back, forth again, and back to what was told; each time it is filled from where it
            # was left.
            assert await swap_back(store, "seen") == 2
            await reach(kept, 9)
            assert (await seen(kept, "seen__g2"))[B] == [7, 8, 9]
            assert await swap_back(store, "seen") == 3
            assert await swap_back(store, "seen", 1) == 1
            await reach(kept, 10)
            assert (await seen(kept, "seen__g1"))[B] == [7, 8, 9, 10]
        states = [one.state for one in await store.checkpoints("seen")]
        assert states == [
            GenerationState.LIVE,
            GenerationState.RETIRED,
            GenerationState.RETIRED,
        ]

    @pytest.mark.slow
    async def test_a_rebuild_that_was_half_begun_is_completed(self, kept: Kept) -> None:
        # PROJ-8: who wished it was killed between two parts; one of other parts is nobody's
        store = kept.projections
        for part in range(PARTS):
            await store.open("receipts", 1, 1, GenerationState.LIVE, part)
        for part in range(PARTS + 1):
            await store.open("receipts", 2, 1, GenerationState.BUILDING, part)
        await store.open("receipts", 3, 1, GenerationState.BUILDING, 1)
        await kept.events.append(A, paid(1))
        async with open_actors() as system:
            for part in range(PARTS):
                make = partial(ProjectionRunner, partition=part)
                await system.start(make, Receipts(), kept.events, store)
            await _until_live(kept, "receipts__g3", "receipts")
            last = await kept.events.append(A, paid(2))
            await wait_until(store, "receipts", last.cursor, timeout_s=PATIENCE_S)
        assert await store.get("receipts__g3", A) == {"amounts": [1, 2]}

    async def test_what_is_not_there_is_not_steered(self, kept: Kept) -> None:
        # PROJ-8: least of all is the one that serves taken away for it
        store = kept.projections
        assert await store.names() == []
        for nothing in (rebuild_by_name(store, "seen"), swap_back(store, "seen")):
            with pytest.raises(UnknownProjection):
                await nothing
        await store.open("seen", 1, 1, GenerationState.LIVE)
        await store.open("seen", 2, 1, GenerationState.BUILDING)
        # One that is built serves nobody yet, and there is no seventh.
        with pytest.raises(UnknownProjection, match="no generation 2"):
            await swap_back(store, "seen", 2)
        with pytest.raises(UnknownProjection, match="no generation 7"):
            await store.swap("seen", 7)
        assert await live_collection(store, "seen") == "seen__g1"
        assert not await store.resume("seen", 1)
        assert await store.leave_out("seen", 1) is None
        assert await store.wished_replays("seen__g1") == frozenset()

    @pytest.mark.slow
    async def test_a_halted_one_goes_on_when_the_row_says_so(self, kept: Kept) -> None:
        # PROJ-7
        projection = SeenHalting()
        await kept.events.append(A, paid(1, -2))
        last = await kept.events.append(A, paid(3))
        async with open_actors() as system:
            await start(system, kept, projection)
            with pytest.raises(ProjectionHalted):
                await wait_until(kept.projections, "seen", last.cursor, timeout_s=PATIENCE_S)
            # Not mended: it halts again, at the same event.
            assert await kept.projections.resume("seen", 1)
            with trio.fail_after(PATIENCE_S):
                while (await kept.projections.checkpoints("seen"))[0].poison is None:
                    await kept.projections.changed(0.02)
            projection.is_strict = False
            assert await kept.projections.resume("seen", 1)
            await _until_seen(kept, {A: [1, -2, 3]})
        assert not await kept.projections.resume("seen", 1)
        assert await versions(kept) == []

    @pytest.mark.slow
    async def test_the_event_that_halts_is_left_out_alone(self, kept: Kept) -> None:
        # PROJ-7: what halts after it halts again
        poisons: list[UUID] = []
        await kept.events.append(A, paid(1, -2, 3))
        last = await kept.events.append(B, paid(-4, 5))
        stored = (await kept.events.read_all()).events
        async with open_actors() as system:
            await start(system, kept, SeenHalting())
            for _ in range(2):
                with trio.fail_after(PATIENCE_S):
                    while True:
                        (at,) = await kept.projections.checkpoints("seen")
                        if at.poison is not None and at.poison not in poisons:
                            break
                        await kept.projections.changed(0.02)
                assert at.is_halted
                poisons.append(at.poison)
                assert await kept.projections.leave_out("seen", 1) == at.poison
                assert await kept.projections.leave_out("seen", 1) is None
            await wait_until(kept.projections, "seen", last.cursor, timeout_s=PATIENCE_S)
        assert poisons == [stored[1].event_id, stored[3].event_id]
        assert await seen(kept) == {A: [1, 3], B: [5]}
        letters = await kept.dead_letters.list(kind="projection")
        assert [one.letter.event_id for one in letters] == poisons
        assert "left out by hand" in letters[0].letter.error_message
        # Nothing waits behind it.
        with pytest.raises(NotHandedBack, match="left out"):
            await kept.dead_letters.hand_back(letters[0].id, "ada")

    @pytest.mark.slow
    async def test_a_parked_stream_is_replayed_when_a_letter_is_handed_back(
        self, kept: Kept
    ) -> None:
        # PROJ-7, STORE-61
        projection, letters = Seen(), kept.dead_letters
        await kept.events.append(A, paid(1, -2, 3, 4))
        async with open_actors() as system:
            await start(system, kept, projection)
            await reach(kept, 7)
            first, second, third = await letters.list(kind="projection")
            # Any of them asks for all: a stream is replayed from its first.
            back = await letters.hand_back(third.id, "ada")
            assert back.status is _PENDING
            with trio.fail_after(PATIENCE_S):
                while (await letters.get(first.id)).retry_count == 0:
                    await kept.projections.changed(0.02)
            # It failed again, and is not tried for ever.
            assert await kept.projections.wished_replays("seen__g1") == frozenset()
            assert (await letters.get(first.id)).retry_count == 1
            projection.is_strict = False
            await letters.hand_back(second.id, "ada")
            await _until_seen(kept, {A: [1, -2, 3, 4], B: [7]})
        assert await versions(kept, _RESOLVED) == [2, 3, 4]
        with pytest.raises(InvalidTransition):
            await letters.hand_back(first.id, "ada")

    async def test_what_is_to_be_tried_again_says_since_when(self, kept: Kept) -> None:
        # STORE-60: at the first of its stream, until somebody has done it
        letters = kept.dead_letters
        ids = [
            await letters.add(
                NewDeadLetter(
                    "projection", "seen__g1", str(at), "no", stream_id="till-1", stream_version=at
                )
            )
            for at in (3, 4)
        ]
        assert [(await letters.get(id_)).next_retry_at for id_ in ids] == [None, None]
        await letters.hand_back(ids[1], "ada")
        first, second = [await letters.get(id_) for id_ in ids]
        assert first.next_retry_at is not None
        assert first.next_retry_at >= first.last_failed_at
        assert second.next_retry_at is None
        await letters.discard(ids[0], "ada", "not wanted")
        assert (await letters.get(ids[0])).next_retry_at is None

    async def test_a_letter_of_an_event_that_is_gone_ends_nobody(self, kept: Kept) -> None:
        # PROJ-7: a wish stays in the rows, and would end whoever comes after it too
        async with open_actors() as system:
            await start(system, kept, Seen())
            await reach(kept, 7)
            letter = NewDeadLetter(
                "projection", "seen__g1", "e", "no", stream_id="till-gone", stream_version=3
            )
            id_ = await kept.dead_letters.add(letter)
            await kept.dead_letters.hand_back(id_, "ada")
            with trio.fail_after(PATIENCE_S):
                while (await kept.dead_letters.get(id_)).retry_count == 0:
                    await kept.projections.changed(0.02)
            await reach(kept, 8)
        assert "not stored" in (await kept.dead_letters.get(id_)).letter.error_message

    async def test_what_is_built_of_a_newer_version_is_the_rebuild(self, kept: Kept) -> None:
        # PROJ-8: nobody would fill one of the version before
        await kept.projections.open("seen", 1, 1, GenerationState.LIVE)
        await kept.projections.open("seen", 2, 2, GenerationState.BUILDING)
        assert await rebuild_by_name(kept.projections, "seen") == 2

    @pytest.mark.slow
    async def test_what_was_skipped_cannot_be_replayed(self, kept: Kept) -> None:
        # PROJ-7
        await kept.events.append(A, paid(-1))
        async with open_actors() as system:
            await start(system, kept, SeenSkipping())
            await reach(kept, 7)
        (letter,) = await kept.dead_letters.list()
        with pytest.raises(NotHandedBack):
            await kept.dead_letters.hand_back(letter.id, "ada")


class HandingBackSuite:
    """The conformance suite of handing dead letters back, and of looking at what waits."""

    async def test_a_message_goes_back_into_its_outbox(self, kept: Kept) -> None:
        # STORE-52, STORE-61
        part = partition_of("k")
        await kept.events.append(
            StreamId("order-a"), new_events(1), outbox=[message(), message(), message("other")]
        )
        epoch = (await kept.outbox.lease("relay", range(8)))[part]
        (first, second) = await kept.outbox.next_batch(part, epoch)
        await kept.outbox.mark_failed(part, epoch, first.id, "no", None)
        letter = NewDeadLetter("outbox", "t", str(first.id), "no", payload=b"x")
        id_ = await kept.dead_letters.add(letter)
        waiting = await kept.outbox.waiting()
        assert [(one.id, one.is_dead) for one in waiting[:2]] == [
            (first.id, True),
            (second.id, False),
        ]
        assert (waiting[0].last_error, waiting[0].attempts, len(waiting)) == ("no", 1, 3)
        assert len(await kept.outbox.waiting(limit=1, after=first.id)) == 1
        (held,) = await kept.outbox.held_keys()
        assert (held.key, held.dead_id, held.target, held.waiting) == ("k", first.id, "t", 1)
        back = await kept.dead_letters.hand_back(id_, "ada")
        assert (back.status, back.resolved_by) == (_RESOLVED, "ada")
        assert await kept.outbox.held_keys() == []
        batch = await kept.outbox.next_batch(part, epoch)
        assert [one.id for one in batch] == [first.id, second.id]
        assert batch[0].attempts == 0
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.hand_back(id_, "ada")
        # A failure after it is a new letter; one whose message was sent is not handed back.
        again = await kept.dead_letters.add(letter)
        assert again != id_
        with pytest.raises(NotHandedBack, match="not waiting"):
            await kept.dead_letters.hand_back(again, "ada")
        assert (await kept.dead_letters.get(again)).status is _PENDING

    async def test_a_timer_goes_back_to_its_service(self, kept: Kept) -> None:
        # STORE-50, STORE-61
        due, later = timer(), timer(60.0, name="other")
        for one in (later, due):
            await kept.timers.set(one)
        found = await kept.timers.open_timers()
        assert [one.timer_id for one in found] == [due.timer_id, later.timer_id]
        assert [one.name for one in await kept.timers.open_timers(due_by=NOON)] == ["step"]
        assert await kept.timers.open_timers(address="nobody") == []
        assert len(await kept.timers.open_timers(address="saga/1", limit=1)) == 1
        await kept.timers.claim_due("service", NOON)
        await kept.timers.failed("service", due.timer_id, "no", None)
        assert [one.name for one in await kept.timers.open_timers()] == ["other"]
        letter = NewDeadLetter("message", "timers", str(due.timer_id), "no")
        id_ = await kept.dead_letters.add(letter)
        assert (await kept.dead_letters.hand_back(id_, "ada")).status is _RESOLVED
        (mine, _) = await kept.timers.open_timers()
        assert (mine.timer_id, mine.failures, mine.claimed_by) == (due.timer_id, 0, None)
        assert [one.timer_id for one in await kept.timers.claim_due("service", NOON)] == [
            due.timer_id
        ]
        await kept.events.append(
            StreamId("order-a"), new_events(1), timers=[CancelTimer("saga/1", "other")]
        )
        assert len(await kept.timers.open_timers()) == 1

    async def test_what_only_a_program_can_repeat_stays_pending(self, kept: Kept) -> None:
        # STORE-61
        letters = kept.dead_letters
        for kind, source, message_id in (
            ("mail", "smtp", "1"),
            ("message", "orders", str(uuid4())),
            ("message", "timers", "no id of a timer"),
            ("message", "timers", str(uuid4())),
            ("outbox", "t", "no number"),
            ("outbox", "t", "99999"),
        ):
            id_ = await letters.add(NewDeadLetter(kind, source, message_id, "no"))
            with pytest.raises(NotHandedBack):
                await letters.hand_back(id_, "ada")
            assert (await letters.get(id_)).status is _PENDING
        with pytest.raises(UnknownDeadLetter):
            await letters.hand_back(10**6, "ada")

    async def test_a_letter_in_hand_is_handed_back_when_its_claim_is_over(self, kept: Kept) -> None:
        # STORE-61
        await kept.timers.set(due := timer())
        await kept.timers.claim_due("service", NOON)
        await kept.timers.failed("service", due.timer_id, "no", None)
        letter = NewDeadLetter("message", "timers", str(due.timer_id), "no")
        id_ = await kept.dead_letters.add(letter)
        await kept.dead_letters.retry(id_, "somebody")
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.hand_back(id_, "ada")
        assert await kept.timers.open_timers() == []
        await kept.pass_time(61)
        assert (await kept.dead_letters.hand_back(id_, "ada")).status is _RESOLVED
        other = await kept.dead_letters.add(letter)
        await kept.dead_letters.discard(other, "ada", "no need")
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.hand_back(other, "ada")
        assert (await kept.dead_letters.get(other)).status is _DISCARDED
