"""The suite of each port finds a fault that was planted in its twin, and none where there is none.

A suite that no fault makes red proves nothing of the engines that pass it. The event store, the
chat log, tags and what an append carries have theirs beside their own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import pytest
import trio

from actors.accounts import HowEnded
from actors.accounts.kept.throttle import Allowed, Limit, Verdict
from actors.accounts.words import SessionId
from actors.persistence import (
    Claim,
    DueTimer,
    Idempotent,
    NewDeadLetter,
    OutboxEntry,
    ProjectionBatch,
    Shard,
    Snapshot,
    StreamId,
)
from actors.persistence.beside_log.outbox import BATCH_MAX
from actors.persistence.beside_log.timers import CLAIM_MAX
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryIdempotency,
    MemoryOutbox,
    MemoryProjections,
    MemoryRateLimiter,
    MemorySessionEnds,
    MemorySnapshots,
    MemorySocketTickets,
    MemoryTimers,
)
from storage.testing import (
    DeadLettersSuite,
    IdempotencySuite,
    InboxSuite,
    OutboxSuite,
    ProjectionCrashSuite,
    ProjectionSuite,
    RateLimiterSuite,
    SessionsSuite,
    SnapshotsSuite,
    TimersSuite,
    failing_cases,
)
from storage.testing.accounts.members import accounts_in_memory
from storage.testing.kept import kept_in_memory
from storage.testing.sessions import sessions_in_memory


class _AcknowledgesEarly(MemoryOutbox):
    """What was read is taken for sent: who dies with it has lost it."""

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        found = await super().next_batch(
            partition, epoch, limit=limit, skipping=skipping, without=without
        )
        await self.mark_sent(partition, epoch, [entry.id for entry in found])
        return found


class _TwoRelays(MemoryOutbox):
    """A part is given to everybody who asks."""

    async def lease(
        self, owner: str, partitions: Sequence[int], *, shard: Shard | None = None
    ) -> Mapping[int, int]:
        return await super().lease("everybody", partitions, shard=shard)


class _NotesNothing(MemoryOutbox):
    async def note(self, consumer: str, message_id: UUID) -> bool:
        await super().note(consumer, message_id)
        return True


class _ForgetsClaims(MemoryTimers):
    """A timer that somebody has in hand is given to the next as well."""

    async def claim_due(
        self,
        worker: str,
        now: datetime,
        *,
        limit: int = CLAIM_MAX,
        busy: Sequence[str] = (),
        shard: Shard | None = None,
    ) -> Sequence[DueTimer]:
        for row in self.database.timers.values():
            row.claimed_until = None
        return await super().claim_due(worker, now, limit=limit, busy=busy, shard=shard)


class _KeepsTheOldest(MemorySnapshots):
    async def save(self, snapshot: Snapshot) -> None:
        if await self.latest(StreamId(snapshot.stream_id)) is None:
            await super().save(snapshot)


class _ForgetsAnswers(MemoryIdempotency):
    """Whoever comes with a key may begin, also while it is in hand."""

    async def begin(self, request: Idempotent) -> Claim | bytes:
        self.database.idempotency.clear()
        return await super().begin(request)


class _CountsNoRepeats(MemoryDeadLetters):
    """The same failure again is another letter."""

    async def add(self, letter: NewDeadLetter) -> int:
        self.database.dead_letters.open_ids.clear()
        return await super().add(letter)


class _WritesInTwoSteps(MemoryProjections):
    """Documents first, and where they lead a moment later."""

    async def commit(self, batch: ProjectionBatch) -> bool:
        self.database.write_documents({batch.checkpoint.collection: batch.documents})
        await trio.lowlevel.checkpoint()
        return await super().commit(batch)


class _WritesFromAnywhere(MemoryProjections):
    """A batch is written wherever its checkpoint stands by now."""

    async def commit(self, batch: ProjectionBatch) -> bool:
        begun = batch.checkpoint
        kept = self.database.checkpoints.get((begun.projection, begun.generation, begun.partition))
        return await super().commit(replace(batch, checkpoint=kept or begun))


class _TicketsStay(MemorySocketTickets):
    async def take(self, digest: bytes) -> SessionId | None:
        row = self.database.socket_tickets.get(digest)
        taken = await super().take(digest)
        if row is not None:
            self.database.socket_tickets[digest] = row
        return taken


class _EndsAreForgotten(MemorySessionEnds):
    async def ended(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, HowEnded]:
        await super().ended(sessions)
        return {}


class _CountsNobody(MemoryRateLimiter):
    async def hit(self, *limits: Limit) -> Verdict:
        await super().hit(*limits)
        return Allowed(1)


def _database(kept: object) -> MemoryDatabase:
    """The tables that all ports of a test share."""
    found = [getattr(port, "database", None) for port in vars(kept).values()]
    return next(one for one in found if isinstance(one, MemoryDatabase))


def _with(
    whole: Callable[[], object], port: str, faulty: Callable[[MemoryDatabase], object]
) -> Callable[[], object]:
    """All ports of one database, of which one is faulty."""

    def make() -> object:
        kept = copy(whole())
        # Also where they are frozen: nobody has seen this one yet.
        object.__setattr__(kept, port, faulty(_database(kept)))
        return kept

    return make


def _beside(port: str, faulty: Callable[[MemoryDatabase], object]) -> Callable[[], object]:
    return _with(kept_in_memory, port, faulty)


def _sessions(port: str, faulty: Callable[[MemoryDatabase], object]) -> Callable[[], object]:
    return _with(sessions_in_memory, port, faulty)


def _accounts(port: str, faulty: Callable[[MemoryDatabase], object]) -> Callable[[], object]:
    return _with(accounts_in_memory, port, faulty)


@dataclass(frozen=True)
class Planted:
    """A fault, and the case of the suite that has to find it."""

    suite: type
    case: str
    faulty: Callable[[], object]
    whole: Callable[[], object] = kept_in_memory


PLANTED = {
    "outbox, early acknowledgement": Planted(
        OutboxSuite,
        "test_the_outbox_keeps_order_per_key",
        _beside("outbox", _AcknowledgesEarly),
    ),
    "outbox, two relays": Planted(
        OutboxSuite,
        "test_a_part_has_one_relay_at_a_time",
        _beside("outbox", _TwoRelays),
    ),
    "inbox": Planted(InboxSuite, "test_a_message_is_handled_once", _beside("inbox", _NotesNothing)),
    "timers": Planted(
        TimersSuite, "test_due_timers_are_claimed_in_order", _beside("timers", _ForgetsClaims)
    ),
    "snapshots": Planted(
        SnapshotsSuite, "test_the_latest_snapshot_is_kept", _beside("snapshots", _KeepsTheOldest)
    ),
    "idempotency": Planted(
        IdempotencySuite,
        "test_a_key_is_held_while_its_request_is_handled",
        _beside("idempotency", _ForgetsAnswers),
    ),
    "dead letters": Planted(
        DeadLettersSuite,
        "test_the_same_failure_again_is_counted",
        _beside("dead_letters", _CountsNoRepeats),
    ),
    "projections": Planted(
        ProjectionSuite,
        "test_a_batch_from_elsewhere_writes_nothing",
        _beside("projections", _WritesFromAnywhere),
    ),
    "projections, out of order": Planted(
        ProjectionCrashSuite,
        "test_batches_in_any_order_and_again_write_what_they_wrote_once",
        _beside("projections", _WritesFromAnywhere),
    ),
    "projections, killed": Planted(
        ProjectionCrashSuite,
        "test_killed_at_any_point_the_rows_are_those_of_the_log",
        _beside("projections", _WritesInTwoSteps),
    ),
    "sessions, a ticket twice": Planted(
        SessionsSuite,
        "test_a_ticket_is_used_once_by_one_of_many",
        _sessions("tickets", _TicketsStay),
        sessions_in_memory,
    ),
    "sessions, an end forgotten": Planted(
        SessionsSuite,
        "test_ends_are_found_and_the_graver_stays",
        _sessions("ends", _EndsAreForgotten),
        sessions_in_memory,
    ),
    "rate limits": Planted(
        RateLimiterSuite,
        "test_of_fifty_at_once_ten_are_made",
        _accounts("limiter", _CountsNobody),
        accounts_in_memory,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
async def test_a_suite_finds_the_planted_fault(name: str) -> None:
    # TEST-8
    planted = PLANTED[name]
    # That case alone: another one may wait for what a faulty engine never gives.
    one_case = type("OneCase", (), {planted.case: getattr(planted.suite, planted.case)})
    assert await failing_cases(one_case, planted.faulty) == {planted.case}
    assert await failing_cases(one_case, planted.whole) == set()


@pytest.mark.parametrize(
    "suite",
    [DeadLettersSuite, IdempotencySuite, InboxSuite, OutboxSuite, SnapshotsSuite, TimersSuite],
)
async def test_by_hand_a_suite_runs_whole_with_all_parameters_of_its_cases(suite: type) -> None:
    # TEST-8
    assert await failing_cases(suite, kept_in_memory) == set()


async def test_by_hand_each_parameter_of_a_case_counts() -> None:
    # TEST-8
    given: list[tuple[str, int, str, str]] = []

    class Suite:
        @pytest.mark.parametrize("kept_for", [1, pytest.param(2, id="long")])
        @pytest.mark.parametrize(("first", "second"), [("a", "b"), pytest.param("c", "d")])
        async def test_it(self, made: str, kept_for: int, first: str, second: str) -> None:
            given.append((made, kept_for, first, second))
            assert (kept_for, first) != (2, "c")

        async def test_plainly(self, made: str) -> None:
            assert made == "made"

    assert await failing_cases(Suite, lambda: "made") == {"test_it"}
    assert sorted(given) == [
        ("made", kept_for, *both) for kept_for in (1, 2) for both in (("a", "b"), ("c", "d"))
    ]
