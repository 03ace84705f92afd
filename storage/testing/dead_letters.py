"""What every `DeadLetters` must do, as tests. Fixture `kept`; its table holds 20 rows."""

from datetime import timedelta
from functools import partial

import pytest

from actors.persistence import (
    DeadLettersFull,
    DeadLetterStatus,
    InvalidTransition,
    LetterChanged,
    NewDeadLetter,
    NotEdited,
    NotHandedBack,
    StreamId,
    UnknownDeadLetter,
)
from actors.persistence.beside_log.dead_letters import HANDED_BACK, TIMERS
from actors.persistence.beside_log.outbox import partition_of
from storage.testing.kept import Kept
from storage.testing.samples import NOON, message, new_events, numbered, timer

_PENDING, _PROCESSING, _RESOLVED, _DISCARDED = DeadLetterStatus


def letter(number: int = 1, kind: str = "event", error: str = "boom") -> NewDeadLetter:
    """Call this for a failure of a numbered message."""
    return NewDeadLetter(
        kind=kind,
        source="orders",
        message_id=f"m-{number}",
        error_message=error,
        payload=b"payload",
        metadata={"correlation_id": "c"},
        stream_id="order-1",
        event_id=numbered(number),
        event_type="Made",
        event_version=1,
    )


class DeadLettersSuite:
    """The conformance suite of `DeadLetters`."""

    async def test_a_failure_is_kept_whole(self, kept: Kept) -> None:
        # STORE-60
        id_ = await kept.dead_letters.add(letter())
        stored = await kept.dead_letters.get(id_)
        assert stored.letter == letter()
        assert (stored.status, stored.retry_count) == (_PENDING, 0)
        with pytest.raises(UnknownDeadLetter):
            await kept.dead_letters.get(id_ + 99)

    async def test_the_same_failure_again_is_counted(self, kept: Kept) -> None:
        # STORE-60
        id_ = await kept.dead_letters.add(letter())
        assert await kept.dead_letters.add(letter(error="again")) == id_
        stored = await kept.dead_letters.get(id_)
        assert (stored.retry_count, stored.letter.error_message) == (1, "again")
        assert await kept.dead_letters.add(letter(2)) != id_

    @pytest.mark.parametrize("final", [_RESOLVED, _DISCARDED])
    async def test_a_settled_letter_stays_and_a_new_failure_is_a_new_one(
        self, kept: Kept, final: DeadLetterStatus
    ) -> None:
        # STORE-60: the table of transitions has no way out of a final status
        letters = kept.dead_letters
        id_ = await letters.add(letter())
        if final is _RESOLVED:
            await letters.retry(id_)
            await letters.resolve(id_, "ada", "fixed")
        else:
            await letters.discard(id_, "ada", "fixed")
        settled = await letters.get(id_)
        new = await letters.add(letter(error="again"))
        assert new != id_
        assert await letters.get(id_) == settled
        assert settled.status is final
        stored = await letters.get(new)
        assert (stored.status, stored.retry_count, stored.resolved_by) == (_PENDING, 0, None)
        assert await letters.add(letter(error="and again")) == new

    async def test_a_failure_of_one_in_hand_is_that_of_who_has_it(self, kept: Kept) -> None:
        # STORE-60
        id_ = await kept.dead_letters.add(letter())
        await kept.dead_letters.retry(id_, by="w-1")
        assert await kept.dead_letters.add(letter(error="again")) == id_
        stored = await kept.dead_letters.get(id_)
        assert (stored.status, stored.retry_count) == (_PENDING, 1)
        assert stored.letter.error_message == "again"
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.resolve(id_, "w-1")

    async def test_any_words_are_kept(self, kept: Kept) -> None:
        # STORE-60: a failure is not lost for the text of its error
        id_ = await kept.dead_letters.add(letter(error="a\x00b\ud800"))
        assert (await kept.dead_letters.get(id_)).letter.error_message == "a\ufffdb?"

    @pytest.mark.parametrize("is_resolved", [True, False])
    async def test_those_behind_a_message_go_on_when_its_letter_is_settled(
        self, kept: Kept, is_resolved: bool
    ) -> None:
        # STORE-52
        one, two = message(), message()
        await kept.events.append(StreamId("order-a"), new_events(1), outbox=[one, two])
        part = partition_of("k")
        held = await kept.outbox.lease("r", [part])
        first, second = await kept.outbox.next_batch(part, held[part])
        id_ = await kept.dead_letters.add(NewDeadLetter("outbox", "t", str(first.id), "boom"))
        await kept.outbox.mark_failed(part, held[part], first.id, "boom", None)
        assert await kept.outbox.next_batch(part, held[part]) == []
        if is_resolved:
            await kept.dead_letters.retry(id_)
            await kept.dead_letters.resolve(id_, "ada")
        else:
            await kept.dead_letters.discard(id_, "ada", "no such customer")
        waiting = await kept.outbox.next_batch(part, held[part])
        assert [entry.id for entry in waiting] == [second.id]
        assert (await kept.outbox.stats()).dead == 0

    async def test_the_audit_is_kept_for_a_year(self, kept: Kept) -> None:
        # STORE-61
        id_ = await kept.dead_letters.add(letter())
        await kept.dead_letters.discard(id_, "ada", "x")
        await kept.pass_time(364 * 86400)
        assert await kept.dead_letters.purge() == 0
        await kept.pass_time(2 * 86400)
        assert await kept.dead_letters.purge() == 1
        assert (await kept.dead_letters.get(id_)).status is _DISCARDED

    async def test_a_retry_replays_and_ends(self, kept: Kept) -> None:
        # STORE-61
        id_ = await kept.dead_letters.add(letter())
        taken = await kept.dead_letters.retry(id_, by="ada")
        assert taken.letter.payload == b"payload"
        assert taken.letter.metadata == {"correlation_id": "c", "retry_of": "m-1"}
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.retry(id_)
        await kept.dead_letters.failed_again(id_, "still")
        assert (await kept.dead_letters.get(id_)).retry_count == 1
        await kept.dead_letters.retry(id_)
        await kept.dead_letters.resolve(id_, "ada", "fixed")
        stored = await kept.dead_letters.get(id_)
        assert (stored.status, stored.resolved_by, stored.resolution_notes) == (
            _RESOLVED,
            "ada",
            "fixed",
        )
        for call in (
            kept.dead_letters.retry(id_),
            kept.dead_letters.discard(id_, "ada", "no"),
            kept.dead_letters.resolve(id_, "ada"),
        ):
            with pytest.raises(InvalidTransition):
                await call

    async def test_an_edit_reaches_what_is_tried_again_and_stands_in_the_audit(
        self, kept: Kept
    ) -> None:
        # RES-12: a message of the outbox, a timer, and a letter of a program
        letters = kept.dead_letters
        await kept.events.append(StreamId("order-a"), new_events(1), outbox=[message()])
        part = partition_of("k")
        held = await kept.outbox.lease("r", [part])
        (sent,) = await kept.outbox.next_batch(part, held[part])
        first = await letters.add(NewDeadLetter("outbox", "t", str(sent.id), "boom", payload=b"{}"))
        with pytest.raises(NotHandedBack, match="not waiting any more"):
            await letters.edit(first, seen=b"{}", payload=b"[]", by="ada", notes="n")
        await kept.outbox.mark_failed(part, held[part], sent.id, "boom", None)
        await letters.edit(first, seen=b"{}", payload=b'{"n":1}', by="ada", notes="n: 0 -> 1")
        await letters.hand_back(first, "ada")
        (again,) = await kept.outbox.next_batch(part, held[part])
        assert (again.id, again.payload) == (sent.id, b'{"n":1}')
        own = await letters.add(NewDeadLetter("effect", "t", "1", "boom", payload=b"a"))
        await letters.edit(own, seen=b"a", payload=b"b", by="ada", notes="a -> b")
        assert (await letters.retry(own)).letter.payload == b"b"
        told = [(one.by, one.from_status, one.to_status, one.notes) for one in
                await letters.changes(first)]  # fmt: skip
        assert told == [
            ("ada", _PROCESSING, _RESOLVED, HANDED_BACK),
            ("ada", _PENDING, _PROCESSING, ""),
            ("ada", _PENDING, _PENDING, "edited: n: 0 -> 1"),
        ]
        assert len(await letters.changes(first, 1)) == 1
        with pytest.raises(UnknownDeadLetter):
            await letters.changes(first + 99)

    async def test_an_edited_timer_tells_what_it_was_made_to(self, kept: Kept) -> None:
        # RES-12
        late, letters = timer(), kept.dead_letters
        await kept.timers.set(late)
        key = str(late.timer_id)
        id_ = await letters.add(NewDeadLetter("message", TIMERS, key, "boom", payload=late.payload))
        edit = partial(letters.edit, id_, seen=late.payload, payload=b"other", by="ada", notes="")
        with pytest.raises(NotHandedBack):
            await edit()
        await kept.timers.claim_due("w", NOON)
        assert await kept.timers.failed("w", late.timer_id, "boom", None)
        await edit()
        await letters.hand_back(id_, "ada")
        (due,) = await kept.timers.claim_due("w", NOON)
        assert (due.timer_id, due.payload) == (late.timer_id, b"other")

    async def test_what_was_handed_back_is_told_as_failed_at_its_first_failure(
        self, kept: Kept
    ) -> None:
        # RES-12: a message, a timer, and what nothing is known of
        letters, late = kept.dead_letters, timer()
        await kept.events.append(
            StreamId("order-a"), new_events(1), outbox=[message(), message(), message()]
        )
        await kept.timers.set(late)
        part = partition_of("k")
        held = await kept.outbox.lease("r", [part])
        sent = await kept.outbox.next_batch(part, held[part])
        one, two, three = [
            await letters.add(NewDeadLetter("outbox", "t", str(entry.id), "boom")) for entry in sent
        ]
        for entry in sent:
            await kept.outbox.mark_failed(part, held[part], entry.id, "boom", None)
        await kept.timers.claim_due("w", NOON)
        await kept.timers.failed("w", late.timer_id, "boom", None)
        rung = await letters.add(NewDeadLetter("message", TIMERS, str(late.timer_id), "boom"))
        own = await letters.add(NewDeadLetter("effect", "t", "1", "boom"))
        ids = [one, two, three, rung, own, own + 99]
        for id_ in (one, two, three, rung):
            await letters.hand_back(id_, "ada")
        assert await letters.outcomes(ids) == {}
        await kept.outbox.mark_failed(part, held[part], sent[0].id, "again", timedelta(minutes=1))
        await kept.outbox.mark_sent(part, held[part], [sent[1].id])
        (due,) = await kept.timers.claim_due("w", NOON)
        await kept.timers.failed("w", due.timer_id, "late again", NOON)
        found = await letters.outcomes(ids)
        assert found == {one: "again", two: "", rung: "late again"}
        await kept.outbox.mark_failed(part, held[part], sent[0].id, "for good", None)
        assert (await letters.outcomes([one, three])) == {one: "for good"}
        assert await letters.outcomes([]) == {}

    async def test_of_two_who_edit_the_second_is_told_and_events_never_change(
        self, kept: Kept
    ) -> None:
        # RES-12
        letters = kept.dead_letters
        id_ = await letters.add(NewDeadLetter("effect", "t", "1", "boom", payload=b"a"))
        await letters.edit(id_, seen=b"a", payload=b"b", by="ada", notes="")
        with pytest.raises(LetterChanged):
            await letters.edit(id_, seen=b"a", payload=b"c", by="eve", notes="")
        assert (await letters.get(id_)).letter.payload == b"b"
        await letters.retry(id_, "eve")
        with pytest.raises(InvalidTransition):
            await letters.edit(id_, seen=b"b", payload=b"c", by="ada", notes="")
        of_event = await letters.add(letter())
        bare = await letters.add(NewDeadLetter("effect", "t", "2", "boom"))
        for other in (of_event, bare):
            with pytest.raises(NotEdited):
                await letters.edit(other, seen=b"payload", payload=b"c", by="ada", notes="")
        assert await letters.changes(bare) == []
        with pytest.raises(UnknownDeadLetter):
            await letters.edit(of_event + 99, seen=b"a", payload=b"c", by="ada", notes="")

    async def test_only_pending_ones_are_discarded_or_resolved_in_hand(self, kept: Kept) -> None:
        # STORE-61
        id_ = await kept.dead_letters.add(letter())
        with pytest.raises(InvalidTransition):
            await kept.dead_letters.resolve(id_, "ada")
        await kept.dead_letters.discard(id_, "ada", "a test order")
        assert (await kept.dead_letters.get(id_)).status is _DISCARDED

    async def test_a_dead_workers_claim_ends(self, kept: Kept) -> None:
        # STORE-61
        id_ = await kept.dead_letters.add(letter())
        await kept.dead_letters.retry(id_, by="w-1")
        assert await kept.dead_letters.retry_all() == []
        await kept.pass_time(61)
        taken = await kept.dead_letters.retry_all(by="w-2")
        assert [one.id for one in taken] == [id_]

    async def test_lists_and_counts(self, kept: Kept) -> None:
        # STORE-61
        ids = [await kept.dead_letters.add(letter(n)) for n in range(4)]
        mail = await kept.dead_letters.add(letter(9, kind="mail"))
        await kept.dead_letters.discard(ids[0], "ada", "x")
        listed = kept.dead_letters.list
        assert [one.id for one in await listed(status=_PENDING)] == [*ids[1:], mail]
        assert [one.id for one in await listed(kind="mail")] == [mail]
        assert [one.id for one in await listed(after=ids[1], limit=2)] == ids[2:4]
        assert await listed(source="nobody") == []
        taken = await kept.dead_letters.retry_all(kind="event", limit=2)
        assert [one.id for one in taken] == ids[1:3]
        counts = await kept.dead_letters.counts()
        assert counts.by_status == {_PENDING: 2, _PROCESSING: 2, _RESOLVED: 0, _DISCARDED: 1}
        assert counts.fullness == pytest.approx(0.25)

    async def test_final_rows_make_room_pending_ones_never(self, kept: Kept) -> None:
        # DOC-4, STORE-62, RES-40
        found = []
        for n in range(20):
            await kept.dead_letters.add(letter(n))
            found.append((await kept.dead_letters.counts()).health)
        assert found == ["healthy"] * 10 + ["degraded"] * 9 + ["unhealthy"]
        ids = [one.id for one in await kept.dead_letters.list()]
        await kept.dead_letters.retry(ids[0])  # in hand, it makes no room either
        assert (await kept.dead_letters.counts()).health == "unhealthy"
        await kept.dead_letters.failed_again(ids[0], "x")
        with pytest.raises(DeadLettersFull):
            await kept.dead_letters.add(letter(99))
        assert await kept.dead_letters.add(letter(3)) == ids[3]  # a known one needs no room
        await kept.dead_letters.discard(ids[7], "ada", "x")
        assert await kept.dead_letters.add(letter(4)) == ids[4]  # and takes none
        assert (await kept.dead_letters.get(ids[7])).status is _DISCARDED
        await kept.dead_letters.add(letter(99))
        with pytest.raises(UnknownDeadLetter):
            await kept.dead_letters.get(ids[7])
