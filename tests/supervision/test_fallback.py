"""Answers for when a dependency does not give one."""

import pytest
import trio
from trio.testing import MockClock

from supervision.guards.breaker import CircuitOpen
from supervision.guards.bucket import RateExceeded
from supervision.guards.bulkhead import BulkheadFull
from supervision.guards.fallback import (
    Fallback,
    FallbackStats,
    cached_fallback,
    queue_fallback,
    value_fallback,
)
from supervision.specs.errors import NotCalled


class Source:
    """Answers, or raises what it was told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.value = 1

    async def __call__(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return self.value


@pytest.mark.parametrize(
    "refused",
    [CircuitOpen("gateway", 3.0), BulkheadFull("gateway", 2), RateExceeded("gateway", 3.0)],
)
async def test_a_call_that_a_guard_did_not_make_is_answered(
    refused: NotCalled, autojump_clock: MockClock
) -> None:
    # RES-6: whichever guard it was
    source, fallback = Source(), value_fallback("gateway", 7)
    source.error = refused
    assert await fallback.call(source) == 7


async def test_a_fixed_value(autojump_clock: MockClock) -> None:
    # RES-6
    source, fallback = Source(), value_fallback("gateway", 7)
    assert await fallback.call(source) == 1
    assert fallback.stats() == FallbackStats("gateway", 1, 0, is_degraded=False)
    for error in (TimeoutError(), CircuitOpen("gateway", 3.0)):
        source.error = error
        assert await fallback.call(source) == 7
    assert fallback.stats() == FallbackStats("gateway", 3, 2, is_degraded=True)
    await trio.sleep(60.0)
    assert not fallback.stats().is_degraded
    source.error = ValueError("a bad request is no outage")
    with pytest.raises(ValueError, match="bad request"):
        await fallback.call(source)


async def test_the_last_good_answer(autojump_clock: MockClock) -> None:
    # RES-6
    source = Source()
    fallback: Fallback[int] = cached_fallback("gateway", max_age=10.0)
    source.error = TimeoutError()
    with pytest.raises(TimeoutError):
        await fallback.call(source)
    source.error = None
    assert await fallback.call(source) == 1
    source.error = TimeoutError()
    await trio.sleep(10.0)
    assert await fallback.call(source) == 1
    await trio.sleep(0.1)
    with pytest.raises(TimeoutError):
        await fallback.call(source)
    assert fallback.stats().uses == 1


async def test_work_put_aside(autojump_clock: MockClock) -> None:
    # RES-6
    source, aside = Source(), list[str]()

    def put_aside() -> int:
        aside.append("later")
        return len(aside)

    fallback = queue_fallback("gateway", put_aside)
    source.error = ConnectionResetError()
    assert [await fallback.call(source) for _ in range(2)] == [1, 2]
    assert aside == ["later", "later"]
