"""Many dead letters handed back: the pace, when it ends by itself, and how it is stopped."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import MockClock

from actors.persistence import (
    DeadLetterStatus,
    NewDeadLetter,
    OutboxMessage,
    StoreUnavailable,
    StreamId,
)
from actors.persistence.beside_log.outbox import partition_of
from actors.runtime import open_actors
from storage.memory import (
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryProjections,
)
from storage.testing.samples import message, new_events
from web.observability.operating.letters.handing import LetterDesk
from web.observability.operating.letters.retrying import (
    FAILED_IN_A_ROW_MAX,
    Ended,
    Progress,
    Retries,
    RetriesActor,
    RetryRun,
)

_PART = partition_of("k")


class Shop:
    """A store with messages that were given up, each with its letter."""

    def __init__(self) -> None:
        self.events = MemoryEventStore()
        database = self.events.database
        self.letters, self.outbox = MemoryDeadLetters(database), MemoryOutbox(database)
        self.desk = LetterDesk(self.letters, MemoryProjections(database))

    async def give_up(self, count: int) -> Sequence[int]:
        sent: list[OutboxMessage] = [message() for _ in range(count)]
        await self.events.append(StreamId("order-a"), new_events(1), outbox=sent)
        return [await self.fail(id_) for id_ in self.events.database.outbox]

    async def fail(self, message_id: int) -> int:
        row = self.events.database.outbox[message_id]
        row.is_dead = True
        return await self.letters.add(NewDeadLetter("outbox", "t", str(message_id), "boom"))

    def run(self, **more: object) -> RetryRun:
        return RetryRun(self.desk, Progress("ada", None, None), **more)  # type: ignore[arg-type]

    def send(self, error: str = "") -> None:
        """Try once what waits in the outbox, as a relay does."""
        for row in list(self.events.database.outbox.values()):
            if row.is_dead or row.attempts or row.sent_at is not None:
                continue
            if error:
                row.attempts, row.last_error = 1, error
            else:
                self.events.database.mark_sent(row)

    async def relay(self, error: str = "") -> None:
        while True:
            self.send(error)
            await trio.sleep(0.05)

    async def pending(self) -> int:
        return (await self.letters.counts()).by_status[DeadLetterStatus.PENDING]


async def test_all_are_handed_back_ten_a_second(autojump_clock: MockClock) -> None:
    # RES-12
    shop, seen = Shop(), list[int]()
    await shop.give_up(25)
    began = last = trio.current_time()

    def told(now: Progress) -> None:
        nonlocal last
        if now.done > len(seen):
            seen.append(now.done)
            last = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.relay)
        progress = await shop.run(told=told).run()
        nursery.cancel_scope.cancel()
    assert (progress.total, progress.handed_back, progress.refused) == (25, 25, 0)
    assert progress.ended is Ended.DONE
    assert round(last - began, 3) == 2.4
    assert trio.current_time() - last <= 1.0, "all are known to be sent"
    assert seen == [*range(1, 26)]
    assert await shop.pending() == 0
    assert (await shop.outbox.stats()).dead == 0


async def test_what_only_its_program_can_repeat_is_left_and_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    # RES-12: of all kinds, those of programs stand before and between
    shop = Shop()
    for n in range(20):
        await shop.letters.add(NewDeadLetter("effect", "t", str(n), "boom"))
    ids = await shop.give_up(1)
    progress = await shop.run().run()
    assert (progress.total, progress.left) == (1, 20)
    assert (progress.handed_back, progress.refused) == (1, 0)
    assert progress.ended is Ended.DONE
    assert await shop.pending() == 20
    assert (await shop.letters.get(ids[0])).status is DeadLetterStatus.RESOLVED


async def test_what_is_gone_or_settled_by_others_is_no_failure(autojump_clock: MockClock) -> None:
    # RES-12: nothing was tried, so nothing speaks against the next
    shop = Shop()
    ids = await shop.give_up(20)
    for row in list(shop.events.database.outbox.values())[:8]:
        shop.events.database.mark_sent(row)
        row.is_dead = False
    for id_ in ids[8:16]:
        await shop.letters.discard(id_, "eve", "no use")
    progress = await shop.run().run()
    assert (progress.total, progress.handed_back, progress.refused) == (12, 4, 8)
    assert progress.ended is Ended.DONE


async def test_a_failure_is_seen_before_the_relay_has_given_up(autojump_clock: MockClock) -> None:
    # RES-12: ten attempts take minutes, and a mail's a day; one tells that the cause is not mended
    shop = Shop()
    await shop.give_up(60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.relay, "no route")
        progress = await shop.run().run()
        nursery.cancel_scope.cancel()
    assert progress.ended is Ended.FAILING
    assert (progress.handed_back, progress.last_error) == (10, "no route")
    assert await shop.pending() == 50


async def test_a_few_are_watched_until_they_were_tried(autojump_clock: MockClock) -> None:
    # RES-12: all were handed back before the first was tried, by another side that is slow to fail
    shop = Shop()
    await shop.give_up(6)

    async def relay() -> None:
        await trio.sleep(3)
        shop.send("no route")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay)
        progress = await shop.run().run()
    assert (progress.ended, progress.came_back) == (Ended.FAILING, 6)


async def test_five_in_a_row_that_come_back_end_it_and_are_not_taken_again(
    autojump_clock: MockClock,
) -> None:
    # RES-12: a retry that dead-letters again is a new letter, and waits for somebody
    shop = Shop()
    await shop.give_up(60)

    async def fail_all() -> None:
        while True:
            for row in list(shop.events.database.outbox.values()):
                if not row.is_dead:
                    await shop.fail(row.id)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_all)
        progress = await shop.run().run()
        nursery.cancel_scope.cancel()
    assert progress.ended is Ended.FAILING
    assert progress.handed_back == 10, "seen at the first look"
    assert progress.came_back >= FAILED_IN_A_ROW_MAX
    assert progress.last_error == "boom"
    # What came back between is pending again; nothing was lost, nothing was done twice.
    dead = sum(row.is_dead for row in shop.events.database.outbox.values())
    assert await shop.pending() == dead


async def test_it_is_stopped_between_two_and_leaves_none_in_hand(
    autojump_clock: MockClock,
) -> None:
    # RES-12
    shop = Shop()
    await shop.give_up(30)
    run = shop.run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        await trio.sleep(0.55)
        run.stop()
    assert (run.progress.ended, run.progress.handed_back) == (Ended.STOPPED, 6)
    counts = (await shop.letters.counts()).by_status
    assert (counts[DeadLetterStatus.PENDING], counts[DeadLetterStatus.PROCESSING]) == (24, 0)


async def test_a_store_that_goes_away_ends_it(autojump_clock: MockClock) -> None:
    # RES-12
    shop = Shop()
    await shop.give_up(30)
    run = shop.run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        await trio.sleep(0.35)
        shop.letters.fail_next(StoreUnavailable("planted"), times=100)
    assert run.progress.ended is Ended.FAILING
    assert (run.progress.handed_back, run.progress.refused) == (4, FAILED_IN_A_ROW_MAX)


async def test_two_who_settle_the_same_letters_settle_each_once(
    autojump_clock: MockClock,
) -> None:
    # RES-12: two administrators, each with a run of their own
    shop = Shop()
    await shop.give_up(40)
    ours, theirs = shop.run(), shop.run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        nursery.start_soon(theirs.run)
    assert ours.progress.handed_back + theirs.progress.handed_back == 40
    assert ours.progress.ended is theirs.progress.ended is Ended.DONE
    ended = [one.to_status for one in shop.letters.audit]
    assert ended.count(DeadLetterStatus.RESOLVED) == 40


async def test_a_process_has_one_run_and_its_actor_may_come_later(
    autojump_clock: MockClock,
) -> None:
    # RES-12
    shop, wakes = Shop(), list[int]()
    await shop.give_up(3)
    retries = Retries(shop.desk, lambda: wakes.append(1))
    assert not retries.stop()
    assert retries.begin("member 1", None, None)
    assert not retries.begin("member 2", None, None)
    progress = retries.progress
    assert progress is not None
    async with open_actors() as system:
        await system.start(RetriesActor, retries)
        await trio.sleep(0.5)
        shop.send()
        await trio.sleep(1)
        assert (progress.ended, progress.handed_back) == (Ended.DONE, 3)
    assert retries.begin("member 2", None, None)


async def test_a_run_that_is_cut_by_the_end_of_its_actor_says_so(
    autojump_clock: MockClock,
) -> None:
    # RES-12
    shop = Shop()
    await shop.give_up(30)
    retries = Retries(shop.desk, lambda: None)
    retries.begin("member 1", None, None)
    async with open_actors() as system:
        await system.start(RetriesActor, retries)
        await trio.sleep(0.55)
    assert retries.progress is not None
    assert retries.progress.ended is Ended.STOPPED
    counts = (await shop.letters.counts()).by_status
    assert counts[DeadLetterStatus.PROCESSING] == 0
    assert retries.begin("member 2", None, None)
