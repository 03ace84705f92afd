"""How calls go that fail, hang, or come back; green when both policies are right."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from gateway import PAYMENTS, RATES
from trio.testing import MockClock

from supervision import CircuitOpen, Dependencies, Dependency, DependencyTimeout, NotRetried

Walk = Callable[[Dependency], Awaitable[None]]


def walked(name: str, walk: Walk) -> float:
    async def main() -> float:
        outside = Dependencies({"rates": RATES, "payments": PAYMENTS})
        before = trio.current_time()
        await walk(outside.dependency(name))
        return trio.current_time() - before

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_rates_are_asked_three_times() -> None:
    calls: list[int] = []

    async def walk(rates: Dependency) -> None:
        async def fail() -> None:
            calls.append(1)
            raise ConnectionError

        with pytest.raises(NotRetried):
            await rates.call(fail)

    assert walked("rates", walk) < 3
    assert len(calls) == 3


def test_an_attempt_that_hangs_is_given_up() -> None:
    async def walk(rates: Dependency) -> None:
        with pytest.raises(NotRetried) as given_up:
            await rates.call(trio.sleep_forever)
        assert isinstance(given_up.value.__cause__, DependencyTimeout)

    assert 1.5 <= walked("rates", walk) <= 3


def test_money_is_taken_once() -> None:
    calls: list[int] = []

    async def walk(payments: Dependency) -> None:
        async def fail() -> None:
            calls.append(1)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await payments.call(fail)

    walked("payments", walk)
    assert len(calls) == 1


def test_what_hangs_three_times_is_left_alone_for_half_a_minute() -> None:
    async def walk(payments: Dependency) -> None:
        for _ in range(3):
            with pytest.raises(DependencyTimeout):
                await payments.call(trio.sleep_forever)
        with pytest.raises(CircuitOpen):
            await payments.call(trio.lowlevel.checkpoint)
        await trio.sleep(31)
        await payments.call(trio.lowlevel.checkpoint)

    assert 36 < walked("payments", walk) < 38
