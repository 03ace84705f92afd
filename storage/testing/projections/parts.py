"""What a projection in several parts must do, as tests. Fixture `kept`, empty."""

from zlib import crc32

import pytest
import trio

from actors.persistence import (
    Projection,
    ProjectionRunner,
    ProjectionTimeout,
    ProjectionTx,
    StoredEvent,
    StreamId,
    wait_until,
)
from actors.runtime import StartError, open_actors
from storage.testing.kept import Kept
from storage.testing.projections.filling import TYPES, Paid, paid
from storage.testing.samples import PATIENCE_S

PARTS = 3
_STREAMS = [StreamId(f"till-{number}") for number in range(12)]


class Receipts(Projection):
    """What was paid at each till, in its order; filled in three parts."""

    name = "receipts"
    handles = (Paid,)
    types = TYPES
    partitions = PARTS

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        receipt = self.types.decode(event)
        assert isinstance(receipt, Paid)
        kept = await tx.get(event.stream_id) or {}
        before = kept.get("amounts", [])
        assert isinstance(before, list)
        tx.put(event.stream_id, {"amounts": [*before, receipt.amount]})


class InTwo(Receipts):
    partitions = 2


def part_of(stream_id: str) -> int:
    """Call this for the part in which a stream's events are applied."""
    return crc32(stream_id.encode()) % PARTS


def _runner(kept: Kept, partition: int, projection: Projection | None = None) -> ProjectionRunner:
    return ProjectionRunner(
        projection or Receipts(),
        kept.events,
        kept.projections,
        partition=partition,
    )


async def _amounts(kept: Kept) -> dict[str, object]:
    found = await kept.projections.query("receipts__g1")
    return {key: document["amounts"] for key, document in found}


class ProjectionPartsSuite:
    """The conformance suite of partitioned projections."""

    async def test_parts_share_the_streams_and_keep_their_order(self, kept: Kept) -> None:
        # PROJ-4
        assert {part_of(one) for one in _STREAMS} == set(range(PARTS))
        async with open_actors() as system:
            for partition in range(PARTS):
                await system.start(_runner, kept, partition)

            async def pay(stream_id: StreamId) -> None:
                for amount in range(6):
                    await kept.events.append(stream_id, paid(amount))

            async with trio.open_nursery() as nursery:
                for stream_id in _STREAMS:
                    nursery.start_soon(pay, stream_id)
            last = await kept.events.append(_STREAMS[0], paid(6))
            await wait_until(kept.projections, "receipts", last.cursor, timeout_s=PATIENCE_S)
        wanted = {str(one): list(range(6)) for one in _STREAMS}
        wanted[_STREAMS[0]].append(6)
        assert await _amounts(kept) == wanted
        known = await kept.projections.checkpoints("receipts")
        assert [one.partition for one in known] == list(range(PARTS))
        assert all(one.cursor >= last.cursor for one in known)

    async def test_a_part_that_rests_holds_up_nobody_and_is_waited_for(self, kept: Kept) -> None:
        # PROJ-4, PROJ-6: each part has a checkpoint of its own; the slowest counts
        async with open_actors() as system:
            runners = [await system.start(_runner, kept, number) for number in range(PARTS)]
            first = await kept.events.append(_STREAMS[0], paid(0))
            await wait_until(kept.projections, "receipts", first.cursor, timeout_s=PATIENCE_S)
            resting = part_of(_STREAMS[0])
            await runners[resting].stop()
            appended = [await kept.events.append(one, paid(1)) for one in _STREAMS]
            last = appended[-1]
            with trio.fail_after(PATIENCE_S):
                others: set[bool] = set()
                while others != {True}:
                    known = await kept.projections.checkpoints("receipts")
                    others = {
                        one.cursor >= last.cursor for one in known if one.partition != resting
                    }
                    await kept.projections.changed(0.01)
            with pytest.raises(ProjectionTimeout) as caught:
                await wait_until(kept.projections, "receipts", last.cursor, timeout_s=0.02)
            assert caught.value.reached < last.cursor
            seen = await _amounts(kept)
            assert seen[_STREAMS[0]] == [0]
            assert {key for key, amounts in seen.items() if amounts == [1]} == {
                one for one in _STREAMS if part_of(one) != resting
            }
            await system.start(_runner, kept, resting)
            await wait_until(kept.projections, "receipts", last.cursor, timeout_s=PATIENCE_S)
        assert await _amounts(kept) == {
            one: [0, 1] if one == _STREAMS[0] else [1] for one in _STREAMS
        }

    async def test_one_part_is_not_taken_for_the_whole(self, kept: Kept) -> None:
        # PROJ-4, PROJ-6: those not started yet are waited for as well
        last = await kept.events.append(_STREAMS[0], paid(1))
        async with open_actors() as system:
            await system.start(_runner, kept, (part_of(_STREAMS[0]) + 1) % PARTS)
            with pytest.raises(ProjectionTimeout):
                await wait_until(kept.projections, "receipts", last.cursor, timeout_s=0.1)

    async def test_another_number_of_parts_is_refused(self, kept: Kept) -> None:
        # PROJ-4: or streams that change their part would be applied twice, or not at all
        async with open_actors() as system:
            await system.start(_runner, kept, 0)
            with pytest.raises(StartError) as caught:
                await system.start(_runner, kept, 0, InTwo())
            assert "raise its version" in str(caught.value.cause)
        with pytest.raises(ValueError, match="no 3"):
            _runner(kept, PARTS)
