"""What stands beside the log, in memory, passes its suites; the suites fail on faulty ones."""

from dataclasses import replace

import pytest

from actors.persistence import Appended, AppendRequest
from storage.memory import MemoryEventStore
from storage.testing import DeadLettersSuite, WithAppendSuite, failing_cases
from storage.testing.kept import Kept, kept_in_memory


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
