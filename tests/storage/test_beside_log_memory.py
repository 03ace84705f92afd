"""What stands beside the log, in memory, passes its suites; the suites fail on faulty ones."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from actors.persistence import Appended, AppendRequest, SetTimer, StreamId
from actors.persistence.beside_log.outbox import partition_of
from storage.memory import MemoryEventStore
from storage.testing import DeadLettersSuite, WithAppendSuite, failing_cases
from storage.testing.dead_letters import letter
from storage.testing.kept import Kept, kept_in_memory
from storage.testing.samples import message, new_events, timer


class TestMemoryBesideLog(WithAppendSuite, DeadLettersSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class _ForgetsKeys(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, idempotency=None))


class _ForgetsTheOutbox(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, outbox=()))


class _ClosesTimersTwice(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, timers=()))


@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        (_ForgetsKeys, "test_a_repeated_key_gets_the_first_answer"),
        (_ForgetsTheOutbox, "test_the_outbox_keeps_order_per_key"),
        (_ClosesTimersTwice, "test_timers_fire_or_are_cancelled_never_both"),
    ],
)
async def test_the_suite_finds_a_planted_fault(faulty: type[MemoryEventStore], case: str) -> None:
    # TEST-8
    def make() -> Kept:
        kept = kept_in_memory()
        assert isinstance(kept.events, MemoryEventStore)
        return replace(kept, events=faulty(kept.events.database))

    assert case in await failing_cases(WithAppendSuite, make)


if TYPE_CHECKING:
    from _typeshed import TraceFunction

A = StreamId("order-a")
_P = partition_of("k")


async def _lines_run(work: Callable[[], Awaitable[object]]) -> int:
    """How many lines of Python run meanwhile, each turn of a loop counted: the same in any run."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> "TraceFunction":
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return count


async def _costs(count: int) -> dict[str, int]:
    """What one call more takes when so many rows are there."""
    kept = kept_in_memory()
    letters = kept.dead_letters
    kept.dead_letters = letters = type(letters)(letters.database, rows_max=5000)  # type: ignore[attr-defined, call-arg]
    for number in range(count):
        await letters.add(letter(number))
        await kept.timers.set(timer(name=f"n{number}"))
        await kept.events.append(A, new_events(1), outbox=[message()])
        held = await kept.outbox.lease("r", [_P])
        (entry,) = await kept.outbox.next_batch(_P, held[_P])
        await kept.outbox.mark_sent(_P, held[_P], [entry.id])
    head = (await kept.events.read_all(limit=1)).head
    one: SetTimer = timer()
    works: dict[str, Callable[[], Awaitable[object]]] = {
        "a letter": lambda: letters.add(letter(9000)),
        "a timer": lambda: kept.timers.set(one),
        "a timer's end": lambda: kept.timers.cancel(one.address, one.name),
        "an append": lambda: kept.events.append(A, new_events(1), outbox=[message()]),
        "a batch": lambda: kept.events.append_batch([AppendRequest(A, new_events(1))]),
        "a page": lambda: kept.events.read_all(after=head),
        "a page back": lambda: kept.events.read_backwards(limit=1),
        "a look": lambda: kept.outbox.next_batch(_P, held[_P]),
        "a mark": lambda: kept.outbox.mark_sent(_P, held[_P], [count + 1]),
    }
    return {name: await _lines_run(work) for name, work in works.items()}


async def test_a_call_takes_no_longer_when_much_is_kept() -> None:
    # Tests of programs run on the twins; what reads all there is makes the long ones quadratic.
    few, many = await _costs(20), await _costs(500)
    dearer = {name: (few[name], lines) for name, lines in many.items() if lines > few[name] + 30}
    assert dearer == {}
