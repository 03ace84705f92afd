"""Retry, breaker and bulkhead: the pure parts as tables, the guards in virtual time."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields
from functools import partial
from math import nan

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from supervision import Backoff
from supervision.guards.breaker import (
    SEEN_MAX,
    Breaker,
    BreakerChange,
    BreakerPolicy,
    BreakerState,
    CircuitOpen,
)
from supervision.guards.bucket import BucketPolicy
from supervision.guards.bulkhead import Bulkhead, BulkheadFull, BulkheadPolicy
from supervision.guards.dependency import DependencyPolicy
from supervision.guards.fallback import cached_fallback
from supervision.guards.retry import NotRetried, RetryPolicy, is_transient, retry


class Refused(Exception):
    """A refusal of the other side with its status."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status, self.retry_after = status, retry_after


class StoreUnavailable(Exception):
    """Named as the store's own."""


class Deadlock(Exception):
    sqlstate = "40P01"


class Conflict(Exception):
    sqlstate = "23505"


# RES-2
@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TimeoutError(), True),
        (trio.TooSlowError(), True),
        (ConnectionResetError(), True),
        (ConnectionRefusedError(), True),
        (Refused(429), True),
        (Refused(503), True),
        (Deadlock(), True),
        (StoreUnavailable(), True),
        (Refused(404), False),
        (Refused(400), False),
        (Conflict(), False),
        (ValueError(), False),
        (PermissionError(), False),
    ],
)
def test_what_is_worth_trying_again(error: Exception, transient: bool) -> None:
    assert is_transient(error) == transient


# RES-2
@pytest.mark.parametrize(
    ("attempt", "error", "wait"),
    [
        (1, TimeoutError(), 0.1),
        (2, TimeoutError(), 0.2),
        (3, TimeoutError(), None),
        (1, ValueError(), None),
        (1, Refused(503, 7.0), 7.0),
        (1, Refused(503, 61.0), None),
    ],
)
def test_how_long_a_retry_waits(attempt: int, error: Exception, wait: float | None) -> None:
    assert RetryPolicy().wait(attempt, error, 0.0) == wait


class Flaky:
    """Fails so often, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[float] = []

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.calls.append(trio.current_time())
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_retry_waits_and_succeeds(autojump_clock: MockClock) -> None:
    # RES-2
    flaky = Flaky(TimeoutError(), ConnectionResetError())
    assert await retry(flaky, random=lambda: 0.5) == "done"
    assert flaky.calls == pytest.approx([0.0, 0.1, 0.3])


async def test_retry_gives_up_with_the_cause(autojump_clock: MockClock) -> None:
    # RES-2
    with pytest.raises(NotRetried) as caught:
        await retry(Flaky(*[TimeoutError()] * 9))
    assert caught.value.attempts == 3
    assert isinstance(caught.value.cause, TimeoutError)
    with pytest.raises(ValueError, match="bad"):
        await retry(Flaky(ValueError("bad")))


async def test_retry_never_passes_the_deadline(autojump_clock: MockClock) -> None:
    # RES-2
    flaky = Flaky(*[TimeoutError()] * 9)
    with pytest.raises(NotRetried):
        await retry(flaky, RetryPolicy(attempts=99), deadline=trio.current_time() + 1.0)
    assert flaky.calls[-1] < 1.0
    with trio.move_on_after(1.0) as scope, pytest.raises(NotRetried):
        await retry(Flaky(*[TimeoutError()] * 9), RetryPolicy(attempts=99))
    assert not scope.cancelled_caught


def state_of(machine: BreakerState) -> str:
    return machine.state


def test_a_breaker_opens_probes_and_closes() -> None:
    # RES-3
    machine = BreakerState("gateway", BreakerPolicy())
    for now in range(5):
        assert machine.admit(float(now)) is None
        machine.failed(float(now))
    assert state_of(machine) == "open"
    assert machine.admit(10.0) == pytest.approx(54.0)
    assert machine.admit(64.0) is None
    assert state_of(machine) == "half_open"
    assert machine.admit(64.0) is not None  # one probe at a time
    machine.succeeded(64.5, machine.probe)
    assert machine.admit(65.0) is None
    machine.succeeded(65.0, machine.probe)
    assert state_of(machine) == "closed"
    stats = machine.stats(65.0)
    assert (stats.calls, stats.successes, stats.failures, stats.rejections) == (7, 2, 5, 2)


@pytest.mark.parametrize("end", ["succeeded", "refused", "cancelled"])
async def test_a_call_of_before_is_not_the_probe_that_is_waited_for(
    end: str, autojump_clock: MockClock
) -> None:
    # RES-3: one probe at a time, whoever else comes back meanwhile
    breaker = Breaker(
        "gateway",
        BreakerPolicy(failures=1, successes=1),
        counts=lambda error: None if isinstance(error, ValueError) else True,
    )
    slow, probe, scope = trio.Event(), trio.Event(), trio.CancelScope()

    async def begun_before() -> None:
        await slow.wait()
        if end == "refused":
            raise ValueError

    async def call_it() -> None:
        with scope, suppress(ValueError):
            await breaker.call(begun_before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_it)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError):  # noqa: PT011  the call's own error
            await breaker.call(Flaky(OSError()))
        await trio.sleep(60.0)
        nursery.start_soon(breaker.call, probe.wait)
        await trio.testing.wait_all_tasks_blocked()
        (scope.cancel if end == "cancelled" else slow.set)()
        await trio.testing.wait_all_tasks_blocked()
        assert breaker.state == "half_open"
        with pytest.raises(CircuitOpen):
            await breaker.call(Flaky())
        probe.set()
    assert breaker.stats().state == "closed"


def test_a_failed_probe_opens_again() -> None:
    # RES-3
    machine = BreakerState("gateway", BreakerPolicy(failures=1))
    machine.admit(0.0)
    machine.failed(0.0)
    assert machine.admit(60.0) is None
    machine.failed(60.0)
    assert machine.admit(119.0) == pytest.approx(1.0)


# RES-3
@pytest.mark.parametrize(
    ("outcomes", "state"),
    [("sfsfsfsfs", "closed"), ("sfsfsfsfsf", "open"), ("ssssssffff", "closed"), ("fffff", "open")],
)
def test_a_breaker_opens_by_rate_too(outcomes: str, state: str) -> None:
    machine = BreakerState("gateway", BreakerPolicy())
    for now, outcome in enumerate(outcomes):
        machine.admit(float(now))
        (machine.succeeded if outcome == "s" else machine.failed)(float(now))
    assert machine.state == state


def test_a_breaker_keeps_so_many_calls_of_a_window_and_no_more() -> None:
    # REL-71
    machine = BreakerState("gateway", BreakerPolicy(failures=10**6))
    for _ in range(3):
        for _ in range(SEEN_MAX // 2):
            machine.admit(0.0)
            machine.succeeded(0.0)
    for _ in range(SEEN_MAX // 2 - 1):
        machine.admit(0.0)
        machine.failed(0.0)
    assert machine.state == "closed"
    # Of the newest thousand this makes a half.
    machine.admit(0.0)
    machine.failed(0.0)
    assert (state_of(machine), machine.stats(0.0).failure_rate) == ("open", 0.5)
    with pytest.raises(ValueError, match="least is at most 1000"):
        BreakerPolicy(least=SEEN_MAX + 1)


async def test_a_breaker_guards_calls(autojump_clock: MockClock) -> None:
    # RES-3
    changes: list[BreakerChange] = []
    breaker = Breaker("gateway", on_change=changes.append)
    flaky = Flaky(*[OSError()] * 5)
    for _ in range(5):
        with pytest.raises(OSError):  # noqa: PT011  the call's own error
            await breaker.call(flaky)
    with pytest.raises(CircuitOpen) as caught:
        await breaker.call(flaky)
    assert caught.value.name == "gateway"
    assert caught.value.retry_in == pytest.approx(60.0)
    assert len(flaky.calls) == 5
    await trio.sleep(60.0)
    for _ in range(2):
        assert await breaker.call(flaky) == "done"
    assert [change.state for change in changes] == ["open", "half_open", "closed"]


async def test_cancellation_says_nothing_to_a_breaker(autojump_clock: MockClock) -> None:
    # RES-3
    breaker = Breaker("gateway", BreakerPolicy(failures=1))
    with trio.move_on_after(1.0):
        await breaker.call(trio.sleep_forever)
    stats = breaker.stats()
    assert (stats.calls, stats.successes, stats.failures) == (0, 0, 0)


async def test_a_bulkhead_lets_so_many_in(autojump_clock: MockClock) -> None:
    # RES-4
    bulkhead = Bulkhead("gateway", BulkheadPolicy(concurrent=2, wait=5.0, queue=2))
    done: list[tuple[int, float]] = []

    async def work(number: int) -> None:
        await bulkhead.call(partial(trio.sleep, 2.0))
        done.append((number, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(work, number)
        await trio.testing.wait_all_tasks_blocked()
        assert (bulkhead.stats().running, bulkhead.stats().waiting) == (2, 2)
        with pytest.raises(BulkheadFull) as caught:
            await bulkhead.call(partial(trio.sleep, 0.0))
        assert caught.value.waiting == 2
    assert sorted(at for _, at in done) == [2.0, 2.0, 4.0, 4.0]
    assert bulkhead.stats().running == 0


async def test_a_waiter_gives_up_and_leaves_the_queue(autojump_clock: MockClock) -> None:
    # RES-4
    bulkhead = Bulkhead("gateway", BulkheadPolicy(concurrent=1, wait=5.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, partial(trio.sleep, 100.0))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1.0) as scope:
            await bulkhead.call(partial(trio.sleep, 0.0))
        assert scope.cancelled_caught
        assert bulkhead.stats().waiting == 0
        with pytest.raises(BulkheadFull):
            await bulkhead.call(partial(trio.sleep, 0.0))
        assert trio.current_time() == 6.0
        assert bulkhead.stats().waiting == 0
        nursery.cancel_scope.cancel()


async def test_a_place_handed_to_a_waiter_that_is_cancelled_goes_to_the_next(
    autojump_clock: MockClock,
) -> None:
    # RES-4: the cancellation and the free place come in one turn of the loop
    bulkhead = Bulkhead("gateway", BulkheadPolicy(concurrent=1, wait=5.0))
    done: list[str] = []

    async def wait(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with bulkhead.place():
                done.append(name)

    first = trio.CancelScope()
    async with trio.open_nursery() as nursery, bulkhead.place():
        nursery.start_soon(wait, "first", first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "second", trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
    assert done == ["second"]
    assert (bulkhead.stats().running, bulkhead.stats().waiting) == (0, 0)


async def test_an_open_breaker_is_not_retried(autojump_clock: MockClock) -> None:
    # RES-5: deadline > bulkhead > breaker > retry > call
    bulkhead, breaker = Bulkhead("gateway"), Breaker("gateway", BreakerPolicy(failures=1))
    flaky = Flaky(*[TimeoutError()] * 9)

    async def guarded(call: Callable[[], Awaitable[str]]) -> str:
        return await bulkhead.call(lambda: breaker.call(lambda: retry(call)))

    with pytest.raises(NotRetried):
        await guarded(flaky)
    assert len(flaky.calls) == 3
    for _ in range(5):
        with pytest.raises(CircuitOpen):
            await guarded(flaky)
    assert len(flaky.calls) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(jitter=2),
        lambda: RetryPolicy(least=-1),
        lambda: BreakerPolicy(failures=0),
        lambda: BreakerPolicy(least=SEEN_MAX + 1),
        lambda: BreakerPolicy(rate=0),
        lambda: cached_fallback("prices", max_age=nan),
        lambda: BulkheadPolicy(concurrent=0),
        lambda: BucketPolicy(rate=0),
        lambda: DependencyPolicy(deadline=0),
        lambda: Backoff(first=-1),
    ],
)
def test_nonsense_in_a_policy_is_refused_where_it_is_made(make: Callable[[], object]) -> None:
    # RES-2, RES-3, RES-4: with file and line
    with pytest.raises(ValueError, match=r"\((.*/)?test_guards\.py:\d+ in <lambda>\)(;|$)"):
        make()


@pytest.mark.parametrize(
    "policy", [RetryPolicy, BreakerPolicy, BulkheadPolicy, BucketPolicy, DependencyPolicy]
)
def test_what_is_no_number_is_nonsense_in_each_field(policy: type) -> None:
    # RES-2, RES-3, RES-4: every comparison with it is false, and so nobody was ever let in again
    tried = [one.name for one in fields(policy) if isinstance(one.default, int | float)]
    assert tried
    for name in tried:
        for nonsense in (nan, -1):
            with pytest.raises(ValueError, match=r"must be|>= |above 0|at least|<= "):
                policy(**{name: nonsense})
