"""What every `DeadLetters` must do, as tests. Fixture `kept`; its table holds 20 rows."""

import pytest

from actors.persistence import (
    DeadLettersFull,
    DeadLetterStatus,
    InvalidTransition,
    NewDeadLetter,
    UnknownDeadLetter,
)
from storage.testing.kept import Kept
from storage.testing.samples import numbered

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
        # STORE-62
        ids = [await kept.dead_letters.add(letter(n)) for n in range(20)]
        assert (await kept.dead_letters.counts()).health == "degraded"
        with pytest.raises(DeadLettersFull):
            await kept.dead_letters.add(letter(99))
        await kept.dead_letters.discard(ids[7], "ada", "x")
        await kept.dead_letters.add(letter(99))
        with pytest.raises(UnknownDeadLetter):
            await kept.dead_letters.get(ids[7])
