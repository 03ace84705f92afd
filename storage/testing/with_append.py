"""What goes with an append or instead of one, as tests. Fixture `kept`, empty.

A suite a port, and one of all of them. An engine for one port is put in the place of its twin:
`dataclasses.replace(kept_in_memory(), snapshots=...)`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from math import inf
from uuid import uuid4

import pytest
import trio

from actors.persistence import (
    ANY,
    EXISTS,
    AlreadyHandled,
    Appended,
    AppendRequest,
    CancelTimer,
    Claim,
    CloseTimer,
    ConcurrencyConflict,
    DuplicateMessageId,
    Fenced,
    IdempotencyInFlight,
    IdempotencyLost,
    IdempotencyMismatch,
    Idempotent,
    Shard,
    Snapshot,
    StreamId,
    TimerGone,
)
from actors.persistence.beside_log.outbox import PARTITIONS, partition_of
from actors.persistence.words import FLEETING
from storage.testing.event_store import read_to_end
from storage.testing.kept import Kept
from storage.testing.samples import NOON, message, new_events, timer

A, B = StreamId("order-a"), StreamId("order-b")
_KEY = Idempotent("orders", "k-1", b"hash")
_P = partition_of("k")
# Longer than anything on a loaded machine.
PATIENCE_S = 30.0


class IdempotencySuite:
    """The conformance suite of `Idempotency`, and of keys that an append takes."""

    async def test_a_repeated_key_gets_the_first_answer(self, kept: Kept) -> None:
        # STORE-55
        first = await kept.events.append(A, new_events(2), idempotency=_KEY)
        again = await kept.events.append(A, new_events(2), expected=0, idempotency=_KEY)
        assert (again.version, again.cursor, again.replayed) == (2, first.cursor, True)
        assert await kept.events.head(A) == 2
        with pytest.raises(IdempotencyMismatch):
            await kept.events.append(
                A, new_events(1), idempotency=Idempotent("orders", "k-1", b"other")
            )
        await kept.pass_time(25 * 3600)
        assert (await kept.events.append(A, new_events(1), idempotency=_KEY)).version == 3

    async def test_a_key_is_held_while_its_request_is_handled(self, kept: Kept) -> None:
        # STORE-55
        keys = kept.idempotency
        held = await keys.begin(_KEY)
        assert isinstance(held, Claim)
        with pytest.raises(IdempotencyInFlight) as caught:
            await keys.begin(_KEY)
        assert caught.value.retry_after_s == 1.0
        with pytest.raises(IdempotencyInFlight):
            await kept.events.append(A, new_events(1), idempotency=_KEY)
        await keys.finish(held, b"answer")
        await keys.finish(held, b"answer")
        assert await keys.begin(_KEY) == b"answer"
        with pytest.raises(IdempotencyMismatch):
            await keys.begin(Idempotent("orders", "k-1", b"other"))
        # It is no append's answer.
        with pytest.raises(IdempotencyMismatch):
            await kept.events.append(A, new_events(1), idempotency=_KEY)
        assert await kept.events.head(A) == 0

    async def test_an_answer_is_looked_for_without_taking_the_key(self, kept: Kept) -> None:
        # STORE-55
        keys = kept.idempotency
        assert await keys.maybe_answer(_KEY) is None
        held = await keys.begin(_KEY)
        assert isinstance(held, Claim)
        assert await keys.maybe_answer(_KEY) is None
        await keys.finish(held, b"answer")
        assert await keys.maybe_answer(_KEY) == b"answer"
        with pytest.raises(IdempotencyMismatch):
            await keys.maybe_answer(Idempotent("orders", "k-1", b"other"))
        await kept.pass_time(25 * 3600)
        assert await keys.maybe_answer(_KEY) is None
        assert await keys.purge() == 1

    async def test_a_dead_requests_key_is_free_again(self, kept: Kept) -> None:
        # STORE-55
        keys = kept.idempotency
        held = await keys.begin(_KEY)
        assert isinstance(held, Claim)
        await keys.abandon(held)
        assert isinstance(await keys.begin(_KEY), Claim)
        await kept.pass_time(61)
        assert isinstance(await keys.begin(_KEY), Claim)
        assert await keys.purge() == 0
        await kept.pass_time(25 * 3600)
        assert await keys.purge() == 1

    async def test_what_a_former_holder_of_a_key_says_has_no_effect(self, kept: Kept) -> None:
        # STORE-55: it took longer than its minute
        keys = kept.idempotency
        first = await keys.begin(_KEY)
        assert isinstance(first, Claim)
        await kept.pass_time(61)
        second = await keys.begin(_KEY)
        assert isinstance(second, Claim)
        await keys.abandon(first)
        with pytest.raises(IdempotencyInFlight):
            await keys.begin(_KEY)
        with pytest.raises(IdempotencyLost):
            await keys.finish(first, b"first")
        await keys.finish(second, b"second")
        with pytest.raises(IdempotencyLost):
            await keys.finish(first, b"first")
        await keys.abandon(second)
        assert await keys.begin(_KEY) == b"second"
        await kept.pass_time(25 * 3600)
        await keys.purge()
        third = await keys.begin(_KEY)
        assert isinstance(third, Claim)
        with pytest.raises(IdempotencyLost):
            await keys.finish(second, b"second")

    async def test_a_kept_answer_is_that_of_its_own_stream(self, kept: Kept) -> None:
        # STORE-55: a repeat may name another stream, whose id it has just made
        await kept.events.append(B, new_events(5))
        first = await kept.events.append(A, new_events(2), idempotency=_KEY)
        again = await kept.events.append(B, new_events(1), idempotency=_KEY)
        assert again == Appended(2, 1, first.cursor, replayed=True)


class InboxSuite:
    """The conformance suite of `Inbox`."""

    async def test_a_message_is_handled_once(self, kept: Kept) -> None:
        # STORE-53
        request = AppendRequest(A, new_events(1), inbox=("orders", uuid4()))
        await kept.events.append_request(request)
        again = AppendRequest(A, new_events(1), inbox=request.inbox)
        with pytest.raises(AlreadyHandled):
            await kept.events.append_request(again)
        assert await kept.events.head(A) == 1
        assert request.inbox is not None
        assert not await kept.inbox.note(*request.inbox)
        assert await kept.inbox.note("others", request.inbox[1])


class TimersSuite:
    """The conformance suite of `DurableTimers`."""

    async def test_timers_fire_or_are_cancelled_never_both(self, kept: Kept) -> None:
        # STORE-51
        one, two = timer(name="a"), timer(name="b")
        await kept.events.append(A, new_events(1), timers=[one, two])
        await kept.events.append(A, new_events(1), timers=[CloseTimer(one.timer_id)])
        await kept.events.append(A, new_events(1), timers=[CancelTimer(two.address, "b")])
        for gone in (one, two):
            with pytest.raises(TimerGone):
                await kept.events.append(A, new_events(1), timers=[CloseTimer(gone.timer_id)])
        assert await kept.timers.cancel(one.address, "a") == 0
        assert not await kept.timers.close(two.timer_id)
        assert (await kept.events.head(A), await kept.timers.pending()) == (3, 0)

    async def test_due_timers_are_claimed_in_order(self, kept: Kept) -> None:
        # STORE-50
        for due_s in (30, 10, 20, 99):
            await kept.timers.set(timer(due_s))
        at = NOON + timedelta(seconds=60)
        assert await kept.timers.next_due() == NOON + timedelta(seconds=10)
        due = await kept.timers.claim_due("w-1", at)
        assert [(one.due_at - NOON).total_seconds() for one in due] == [10, 20, 30]
        assert (due[0].payload, due[0].metadata, due[0].attempts) == (
            b"payload",
            {"correlation_id": "c"},
            1,
        )
        assert await kept.timers.claim_due("w-2", at) == []
        assert await kept.timers.close(due[0].timer_id)
        again = await kept.timers.claim_due("w-2", at + timedelta(seconds=31), limit=1)
        assert [(one.timer_id, one.attempts) for one in again] == [(due[1].timer_id, 2)]

    async def test_a_failed_delivery_holds_up_its_own_timer(self, kept: Kept) -> None:
        # STORE-50
        bad, good, busy = timer(1), timer(2), timer(3, address="saga/busy")
        for one in (bad, good, busy):
            await kept.timers.set(one)
        at = NOON + timedelta(seconds=10)
        claimed = await kept.timers.claim_due("w-1", at, busy=["saga/busy"])
        assert [one.timer_id for one in claimed] == [bad.timer_id, good.timer_id]
        # The claim is kept while its handler runs, and only by who has it.
        assert await kept.timers.renew("w-2", [bad.timer_id], at) == 0
        later = at + timedelta(seconds=25)
        assert await kept.timers.renew("w-1", [bad.timer_id, good.timer_id], later) == 2
        ids = [one.timer_id for one in await kept.timers.claim_due("w-2", at + timedelta(40))]
        assert ids == [bad.timer_id, good.timer_id, busy.timer_id]
        assert not await kept.timers.failed("w-1", bad.timer_id, "no", later)
        retry_at = at + timedelta(days=50)
        assert await kept.timers.failed("w-2", bad.timer_id, "a\x00\ud800", retry_at)
        assert await kept.timers.release("w-2") == 2
        assert await kept.timers.next_due() == good.due_at
        again = await kept.timers.claim_due("w-2", at + timedelta(41))
        assert [one.timer_id for one in again] == [good.timer_id, busy.timer_id]
        (retried,) = await kept.timers.claim_due("w-3", retry_at, busy=["saga/busy"], limit=1)
        assert (retried.timer_id, retried.failures, retried.attempts) == (bad.timer_id, 1, 3)
        assert await kept.timers.failed("w-3", bad.timer_id, "no", None)
        # Given up: neither due nor pending, neither fired nor cancelled, until it is revived.
        assert await kept.timers.pending() == 2
        assert not await kept.timers.close(bad.timer_id)
        assert await kept.timers.revive(bad.timer_id)
        assert not await kept.timers.revive(bad.timer_id)
        assert await kept.timers.pending() == 3
        assert await kept.timers.next_due() == bad.due_at

    async def test_timers_outlive_a_clock_that_is_set_back(self, kept: Kept) -> None:
        # REL-88, STORE-50: what the dead hold ends in a minute, and nothing comes early
        held, tried = timer(1), timer(2, name="b")
        for one in (held, tried):
            await kept.timers.set(one)
        before = NOON + timedelta(hours=1)
        assert len(await kept.timers.claim_due("w-1", before)) == 2
        assert await kept.timers.failed("w-1", tried.timer_id, "no", before + timedelta(seconds=60))
        back = NOON + timedelta(seconds=10)
        assert await kept.timers.claim_due("w-2", back) == []
        # Who lives renews what it has in hand; it does so no more.
        assert await kept.timers.renew("w-1", [held.timer_id], back + timedelta(seconds=10)) == 1
        assert await kept.timers.claim_due("w-2", back + timedelta(seconds=39)) == []
        due = await kept.timers.claim_due("w-2", back + timedelta(seconds=59))
        assert [one.timer_id for one in due] == [held.timer_id]
        due = await kept.timers.claim_due("w-3", back + timedelta(seconds=60))
        assert [one.timer_id for one in due] == [tried.timer_id]

    async def test_timers_that_are_over_are_removed_in_time(self, kept: Kept) -> None:
        # STORE-54
        fired, cancelled, given_up, still = (timer(name=name) for name in "abcd")
        for one in (fired, cancelled, given_up, still):
            await kept.timers.set(one)
        await kept.timers.claim_due("w", NOON)
        assert await kept.timers.close(fired.timer_id)
        assert await kept.timers.cancel(cancelled.address, "b") == 1
        assert await kept.timers.failed("w", given_up.timer_id, "no", None)
        await kept.pass_time(13 * 86400)
        assert await kept.timers.purge() == 0
        await kept.pass_time(2 * 86400)
        assert await kept.timers.purge(limit=2) == 2
        assert await kept.timers.purge() == 1
        assert await kept.timers.pending() == 1

    async def test_a_timer_is_set_once_per_token(self, kept: Kept) -> None:
        # STORE-50
        await kept.timers.set(timer(5, token="same"))  # noqa: S106  (no password)
        await kept.timers.set(timer(9, token="same"))  # noqa: S106  (no password)
        assert await kept.timers.pending() == 1
        assert await kept.timers.next_due() == NOON + timedelta(seconds=5)
        assert await kept.timers.cancel("saga/1", "step") == 1
        assert await kept.timers.next_due() is None


class OutboxSuite:
    """The conformance suite of `Outbox`."""

    async def test_the_outbox_keeps_order_per_key(self, kept: Kept) -> None:
        # STORE-52
        first, second, other = message(), message(), message(key=_other_key())
        stored = await kept.events.append(A, new_events(1), expected=0, outbox=[first, second])
        await kept.events.append(B, new_events(1), outbox=[other])
        held = await kept.outbox.lease("r-1", range(PARTITIONS))
        assert set(held) == set(range(PARTITIONS))
        batch = await kept.outbox.next_batch(_P, held[_P])
        assert [one.message_id for one in batch] == [m.message_id for m in (first, second, other)]
        assert stored.outbox in ((), (batch[0].id, batch[1].id))
        assert (batch[0].payload, dict(batch[0].headers)) == (b"x", {"h": "1"})
        await kept.outbox.mark_failed(_P, held[_P], batch[0].id, "no", timedelta(seconds=9))
        # The second waits behind the first of its key, the other key goes on.
        assert [one.key for one in await kept.outbox.next_batch(_P, held[_P])] == [other.key]
        await kept.pass_time(10)
        held = await kept.outbox.lease("r-1", [_P])
        again = await kept.outbox.next_batch(_P, held[_P])
        assert [one.message_id for one in again][:2] == [first.message_id, second.message_id]
        assert again[0].attempts == 1
        assert await kept.outbox.mark_sent(_P, held[_P], [one.id for one in again]) == 3
        assert (await kept.outbox.stats()).pending == 0

    async def test_what_the_caller_has_is_passed_over_and_not_lost(self, kept: Kept) -> None:
        # STORE-52: a relay marks what it has sent a little later, and looks on meanwhile
        await kept.events.append(A, new_events(1), outbox=[message() for _ in range(3)])
        held = await kept.outbox.lease("r-1", [_P])
        first, second, third = await kept.outbox.next_batch(_P, held[_P])
        had = [first.id, second.id]
        (behind,) = await kept.outbox.next_batch(_P, held[_P], without=had, limit=1)
        assert behind.id == third.id
        assert await kept.outbox.next_batch(_P, held[_P], without=[*had, third.id]) == []
        await kept.outbox.mark_sent(_P, held[_P], [first.id, third.id])
        assert [one.id for one in await kept.outbox.next_batch(_P, held[_P])] == [second.id]
        # What failed and is due again may be had as well.
        await kept.outbox.mark_failed(_P, held[_P], second.id, "no", timedelta(0))
        assert await kept.outbox.next_batch(_P, held[_P], without=[second.id]) == []
        assert len(await kept.outbox.next_batch(_P, held[_P])) == 1

    async def test_a_message_id_is_taken_once(self, kept: Kept) -> None:
        # STORE-10: the events of a refused append are not stored either
        one = message()
        events = new_events(1)
        await kept.events.append(A, events, outbox=[one])
        with pytest.raises(DuplicateMessageId) as caught:
            await kept.events.append(B, new_events(1), outbox=[message(), one])
        assert caught.value.stream_id == B
        assert (await kept.events.append(A, events, outbox=[one])).replayed
        assert (await kept.events.head(A), await kept.events.head(B)) == (1, 0)
        assert (await kept.outbox.stats()).pending == 1

    async def test_a_message_can_go_without_an_append(self, kept: Kept) -> None:
        # MAIL-5: who asks twice by one id writes one row
        first, second = message(), message()
        assert await kept.outbox.add([first, second]) == 2
        assert await kept.outbox.add([second, message(), second]) == 1
        assert await kept.outbox.add([]) == 0
        held = await kept.outbox.lease("r-1", [_P])
        batch = await kept.outbox.next_batch(_P, held[_P])
        assert len(batch) == 3
        assert {one.message_id for one in batch} > {first.message_id, second.message_id}
        with pytest.raises(DuplicateMessageId):
            await kept.events.append(A, new_events(1), outbox=[first])

    async def test_what_is_nobodys_later_is_erased_when_it_was_sent(self, kept: Kept) -> None:
        # MAIL-6: a link that signs in is kept for no longer than it waits
        fleeting = [replace(message(), headers={FLEETING: "1"}) for _ in range(2)]
        await kept.outbox.add([*fleeting, message()])
        held = await kept.outbox.lease("r-1", [_P])
        sent, dropped, plain = await kept.outbox.next_batch(_P, held[_P])
        ids = {one.message_id: one.id for one in (sent, dropped, plain)}
        first, second = (ids.pop(one.message_id) for one in fleeting)
        (third,) = ids.values()
        await kept.outbox.mark_sent(_P, held[_P], [first, third])
        await kept.outbox.mark_failed(_P, held[_P], second, "no", None)
        assert await kept.payload_of(second) == b"x"
        assert await kept.outbox.drop(second)
        payloads = [await kept.payload_of(id_) for id_ in (first, second, third)]
        assert payloads == [b"", b"", b"x"]

    async def test_a_given_up_message_holds_or_is_passed(self, kept: Kept) -> None:
        # STORE-52
        await kept.events.append(A, new_events(1), outbox=[message(), message()])
        held = await kept.outbox.lease("r-1", [_P])
        first, second = await kept.outbox.next_batch(_P, held[_P])
        await kept.outbox.mark_failed(_P, held[_P], first.id, "no", None)
        assert (await kept.outbox.stats()).dead == 1
        assert await kept.outbox.next_batch(_P, held[_P]) == []
        passed = await kept.outbox.next_batch(_P, held[_P], skipping=["t"])
        assert [one.id for one in passed] == [second.id]
        assert await kept.outbox.revive(first.id)
        assert not await kept.outbox.revive(first.id)
        assert len(await kept.outbox.next_batch(_P, held[_P])) == 2
        await kept.outbox.mark_failed(_P, held[_P], first.id, "no", None)
        assert await kept.outbox.drop(first.id)
        assert [one.id for one in await kept.outbox.next_batch(_P, held[_P])] == [second.id]

    async def test_a_part_has_one_relay_at_a_time(self, kept: Kept) -> None:
        # STORE-52: what a former holder says has no effect
        await kept.events.append(A, new_events(1), outbox=[message()])
        first = await kept.outbox.lease("r-1", [_P])
        assert await kept.outbox.lease("r-2", [_P]) == {}
        assert await kept.outbox.lease("r-1", [_P]) == first
        batch = await kept.outbox.next_batch(_P, first[_P])
        await kept.pass_time(16)
        second = await kept.outbox.lease("r-2", [_P])
        assert second[_P] == first[_P] + 1
        assert await kept.outbox.mark_sent(_P, first[_P], [batch[0].id]) == 0
        assert await kept.outbox.next_batch(_P, first[_P]) == []
        await kept.outbox.release("r-2")
        third = await kept.outbox.lease("r-1", [_P])
        assert third[_P] == second[_P] + 1
        assert len(await kept.outbox.next_batch(_P, third[_P])) == 1

    async def test_a_part_outlives_a_clock_that_is_set_back(self, kept: Kept) -> None:
        # REL-88, STORE-52: a dead relay does not hold it for as long as that
        await kept.events.append(A, new_events(1), outbox=[message()])
        dead = (_P + 1) % PARTITIONS
        await kept.outbox.lease("r-0", [dead])
        first = await kept.outbox.lease("r-1", [_P])
        (entry,) = await kept.outbox.next_batch(_P, first[_P])
        await kept.pass_time(-3600)
        assert await kept.outbox.lease("r-2", [_P, dead]) == {}
        # Who lives renews it as before.
        assert await kept.outbox.lease("r-1", [_P]) == first
        await kept.pass_time(8)
        assert await kept.outbox.lease("r-2", [_P, dead]) == {}
        await kept.pass_time(8)
        second = await kept.outbox.lease("r-2", [_P, dead])
        assert second == {_P: first[_P] + 1, dead: 2}
        assert await kept.outbox.mark_sent(_P, first[_P], [entry.id]) == 0
        (again,) = await kept.outbox.next_batch(_P, second[_P])
        assert again.id == entry.id

    async def test_a_wait_in_the_outbox_is_as_much_longer_as_a_clock_is_set_back(
        self, kept: Kept
    ) -> None:
        # REL-88: a message may be told to wait for an hour, so this is no sign of anything
        await kept.events.append(A, new_events(1), outbox=[message()])
        held = await kept.outbox.lease("r", [_P])
        (entry,) = await kept.outbox.next_batch(_P, held[_P])
        wait = timedelta(seconds=60)
        assert await kept.outbox.mark_failed(_P, held[_P], entry.id, "no", wait)
        await kept.pass_time(-3600)
        held = await kept.outbox.lease("r", [_P])
        assert await kept.outbox.next_batch(_P, held[_P]) == []
        assert 3600 < (await kept.outbox.due_in([_P]))[_P] <= 3660
        await kept.pass_time(3661)
        held = await kept.outbox.lease("r", [_P])
        assert [one.id for one in await kept.outbox.next_batch(_P, held[_P])] == [entry.id]

    async def test_marks_count_until_another_takes_the_part(self, kept: Kept) -> None:
        # STORE-52: the epoch is the fence, not the clock
        await kept.events.append(A, new_events(1), outbox=[message(), message(), message()])
        held = await kept.outbox.lease("r-1", [_P])
        first, second, third = await kept.outbox.next_batch(_P, held[_P])
        await kept.pass_time(16)
        # Late, but nobody else came: what it did counts, and nothing new is begun.
        assert await kept.outbox.mark_sent(_P, held[_P], [first.id]) == 1
        assert await kept.outbox.mark_failed(_P, held[_P], second.id, "no", timedelta(0))
        assert await kept.outbox.next_batch(_P, held[_P]) == []
        assert await kept.outbox.lease("r-1", [_P]) == held
        again = await kept.outbox.next_batch(_P, held[_P])
        assert [(one.id, one.attempts) for one in again] == [(second.id, 1), (third.id, 0)]
        await kept.pass_time(16)
        assert await kept.outbox.lease("r-2", [_P]) == {_P: held[_P] + 1}
        assert await kept.outbox.mark_sent(_P, held[_P], [second.id]) == 0
        assert not await kept.outbox.mark_failed(_P, held[_P], third.id, "no", None)
        stats = await kept.outbox.stats()
        assert (stats.pending, stats.dead) == (2, 0)

    async def test_what_is_due_is_told_by_part(self, kept: Kept) -> None:
        # STORE-52: one look at all parts
        parts = range(PARTITIONS)
        assert await kept.outbox.due_in(parts) == {}
        await kept.events.append(A, new_events(1), outbox=[message()])
        assert await kept.outbox.due_in(parts) == {_P: 0.0}
        assert await kept.outbox.due_in([n for n in parts if n != _P]) == {}
        held = await kept.outbox.lease("r-1", [_P])
        (one,) = await kept.outbox.next_batch(_P, held[_P])
        await kept.outbox.mark_failed(_P, held[_P], one.id, "no", timedelta(seconds=9))
        assert 0 < (await kept.outbox.due_in(parts))[_P] <= 9
        await kept.pass_time(10)
        assert await kept.outbox.due_in(parts) == {_P: 0.0}
        await kept.outbox.mark_failed(_P, held[_P], one.id, "no", None)
        assert await kept.outbox.due_in(parts) == {}  # given up: it waits for nobody
        await kept.outbox.revive(one.id)
        assert await kept.outbox.due_in(parts) == {_P: 0.0}
        await kept.outbox.mark_sent(_P, held[_P], [one.id])
        assert await kept.outbox.due_in(parts) == {}

    async def test_what_comes_to_be_sent_is_heard_of(self, kept: Kept) -> None:
        # STORE-52: a message of an append, and one that is revived or let rest
        async def heard_of(change: Callable[[], Awaitable[object]]) -> None:
            with kept.outbox.heard() as listen:
                wait = listen()
                await change()
                with trio.fail_after(PATIENCE_S):
                    await wait(inf)

        request = AppendRequest(A, new_events(1), outbox=[message(), message()])
        await heard_of(partial(kept.events.append_request, request))
        held = await kept.outbox.lease("r-1", [_P])
        first, second = await kept.outbox.next_batch(_P, held[_P])
        for one, settle in ((first, kept.outbox.revive), (second, kept.outbox.drop)):
            await kept.outbox.mark_failed(_P, held[_P], one.id, "no", None)
            await heard_of(partial(settle, one.id))

    async def test_any_error_text_can_be_noted(self, kept: Kept) -> None:
        # STORE-52: a target's words may hold what no database takes
        await kept.events.append(A, new_events(1), outbox=[message()])
        held = await kept.outbox.lease("r-1", [_P])
        (one,) = await kept.outbox.next_batch(_P, held[_P])
        assert await kept.outbox.mark_failed(_P, held[_P], one.id, "a\x00\ud800", None)

    async def test_what_was_sent_is_removed_in_time(self, kept: Kept) -> None:
        # STORE-54
        await kept.events.append_request(
            AppendRequest(A, new_events(1), outbox=[message()], inbox=("c", uuid4()))
        )
        held = await kept.outbox.lease("r", [_P])
        batch = await kept.outbox.next_batch(_P, held[_P])
        await kept.outbox.mark_sent(_P, held[_P], [batch[0].id])
        assert await kept.outbox.purge() == 0
        await kept.pass_time(8 * 86400)
        assert await kept.outbox.purge() == 1
        await kept.pass_time(7 * 86400)
        assert await kept.outbox.purge() == 1


class SnapshotsSuite:
    """The conformance suite of `Snapshots`."""

    async def test_the_latest_snapshot_is_kept(self, kept: Kept) -> None:
        # STORE-40
        assert await kept.snapshots.latest(A) is None
        for version, schema, data in ((5, "s", b"5"), (3, "s", b"3"), (4, "t", b"4")):
            await kept.snapshots.save(Snapshot(A, version, schema, data))
        # A lower version of the same schema is old, of another schema it is the new code's.
        assert await kept.snapshots.latest(A) == Snapshot(A, 4, "t", b"4")
        await kept.snapshots.discard(A)
        assert await kept.snapshots.latest(A) is None


class WithAppendSuite(IdempotencySuite, InboxSuite, TimersSuite, OutboxSuite, SnapshotsSuite):
    """The conformance suites of all that shares an append's transaction, and of it together."""

    async def test_all_of_an_append_is_stored_or_nothing(self, kept: Kept) -> None:
        # STORE-10
        with pytest.raises(ConcurrencyConflict):
            await kept.events.append(
                A, new_events(1), expected=7, outbox=[message()], timers=[timer()], idempotency=_KEY
            )
        assert (await kept.outbox.stats()).pending == 0
        assert await kept.timers.pending() == 0
        done = await kept.events.append(
            A, new_events(1), expected=0, outbox=[message()], timers=[timer()], idempotency=_KEY
        )
        assert (done.version, done.replayed) == (1, False)
        assert (await kept.outbox.stats()).pending == 1
        assert await kept.timers.pending() == 1

    async def test_versions_ascend_along_the_order_whatever_goes_with_them(
        self, kept: Kept
    ) -> None:
        # STORE-20, STORE-52: and so do messages of one key
        async def write(number: int) -> None:
            for round_ in range(15):
                extras = (number + round_) % 4
                request = AppendRequest(
                    A,
                    new_events(1 + round_ % 2),
                    EXISTS if extras == 3 else ANY,
                    outbox=[message()] if extras == 2 else (),
                    idempotency=Idempotent("s", str(uuid4()), b"h") if extras == 1 else None,
                    inbox=("c", uuid4()) if extras == 2 else None,
                )
                await kept.events.append_request(request)

        await kept.events.append(A, new_events(1))
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(write, number)
        pages = await read_to_end(kept.events, limit=50)
        assert sum(len(page.events) for page in pages) == await kept.events.head(A)

    async def test_a_wrong_owner_is_fenced(self, kept: Kept) -> None:
        # STORE-16
        with pytest.raises(Fenced) as caught:
            await kept.events.append(A, new_events(1), shard=Shard(4, "node-a", 2))
        assert (caught.value.held, caught.value.current) == (2, None)
        assert await kept.events.head(A) == 0


def _other_key() -> str:
    """Another key of the same part."""
    return next(key for n in range(1000) if partition_of(key := f"o{n}") == _P)
