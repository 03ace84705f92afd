"""All guards around one thing outside, in virtual time; the token bucket against its definition."""

from collections.abc import Awaitable, Callable
from functools import partial
from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from supervision import (
    EFFECT_RETRY,
    LIGHT_RETRY,
    ONCE,
    BreakerChange,
    BreakerPolicy,
    BucketPolicy,
    BulkheadFull,
    BulkheadPolicy,
    CircuitOpen,
    Dependencies,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    NotRetried,
    RateExceeded,
    RetryPolicy,
    TokenBucket,
    UnknownDependency,
)
from supervision.guards.bucket import BucketState


class Refused(Exception):
    """A refusal of the other side with its status."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status, self.retry_after = status, retry_after


class Outside:
    """Answers by a list, then well; None hangs."""

    def __init__(self, *answers: Exception | None, takes: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes = takes
        self.calls: list[float] = []

    async def ask(self) -> str:
        self.calls.append(trio.current_time())
        answer = self.answers.pop(0) if self.answers else "well"
        if answer is None:
            await trio.sleep_forever()
        await trio.sleep(self.takes)
        if isinstance(answer, Exception):
            raise answer
        return "well"


QUICK = RetryPolicy(attempts=3, first=0.1, jitter=0.0)


async def _failed(dependency: Dependency, outside: Outside, error: type[Exception]) -> Exception:
    with pytest.raises(error) as caught:
        await dependency.call(outside.ask)
    return caught.value


async def test_a_call_is_tried_again_and_counts_once_for_the_breaker(
    autojump_clock: MockClock,
) -> None:
    # RES-5: the retry is within the breaker
    outside = Outside(ConnectionError("gone"), ConnectionError("gone"))
    gateway = Dependency("gateway", DependencyPolicy(retry=QUICK))
    assert await gateway.call(outside.ask) == "well"
    stats = gateway.stats()
    assert (stats.attempts, stats.exhausted) == (3, 0)
    assert (stats.breaker.calls, stats.breaker.successes, stats.breaker.failures) == (1, 1, 0)


async def test_an_open_breaker_calls_nothing_and_takes_no_token(autojump_clock: MockClock) -> None:
    # RES-3, RES-5: not retried before `retry_in`, and again by itself behind it
    changes: list[BreakerChange] = []
    outside = Outside(*[ConnectionError("gone")] * 6)
    policy = DependencyPolicy(retry=QUICK, breaker=BreakerPolicy(failures=2, successes=1))
    gateway = Dependency("gateway", policy, on_change=changes.append)
    for _ in range(2):
        assert isinstance(await _failed(gateway, outside, NotRetried), NotRetried)
    tokens, calls = gateway.stats().bucket.tokens, len(outside.calls)
    await _failed(gateway, outside, CircuitOpen)
    assert len(outside.calls) == calls == 6
    assert gateway.stats().bucket.tokens == tokens
    await trio.sleep(60.0)
    assert await gateway.call(outside.ask) == "well"
    assert [one.state for one in changes] == ["open", "half_open", "closed"]
    assert gateway.stats().exhausted == 2


async def test_a_reset_by_hand_is_tried_at_once(autojump_clock: MockClock) -> None:
    outside = Outside(ConnectionError("gone"))
    gateway = Dependency("gateway", DependencyPolicy(retry=ONCE, breaker=BreakerPolicy(failures=1)))
    await _failed(gateway, outside, ConnectionError)
    await _failed(gateway, outside, CircuitOpen)
    gateway.reset()
    assert await gateway.call(outside.ask) == "well"


async def test_one_that_hangs_opens_its_breaker(autojump_clock: MockClock) -> None:
    # RES-5: a deadline around all of it that only cancelled would tell the breaker nothing
    outside = Outside(*[None] * 10)
    policy = DependencyPolicy(
        deadline=5.0, attempt=2.0, retry=ONCE, breaker=BreakerPolicy(failures=3)
    )
    gateway = Dependency("gateway", policy)
    for _ in range(3):
        error = await _failed(gateway, outside, DependencyTimeout)
        assert isinstance(error, TimeoutError)
    assert trio.current_time() == pytest.approx(6.0)
    await _failed(gateway, outside, CircuitOpen)
    assert gateway.stats().timed_out == 3


async def test_all_attempts_and_waits_end_by_the_deadline(autojump_clock: MockClock) -> None:
    # RES-2, RES-5
    outside = Outside(*[None] * 10)
    policy = DependencyPolicy(
        deadline=5.0, attempt=2.0, retry=RetryPolicy(attempts=9, first=0.5, jitter=0.0)
    )
    await _failed(Dependency("gateway", policy), outside, NotRetried)
    assert trio.current_time() <= 5.0
    assert len(outside.calls) == 2


@pytest.mark.parametrize("policy", [ONCE, QUICK])
async def test_a_caller_without_time_says_nothing_of_it(
    policy: RetryPolicy, autojump_clock: MockClock
) -> None:
    # RES-3
    outside = Outside(*[None] * 10)
    gateway = Dependency("gateway", DependencyPolicy(retry=policy))
    with pytest.raises((DependencyTimeout, NotRetried)):
        await gateway.call(outside.ask, deadline=trio.current_time() + 0.5)
    assert trio.current_time() == pytest.approx(0.5)
    with trio.move_on_after(0.5):
        await gateway.call(outside.ask)
    stats = gateway.stats().breaker
    assert (stats.calls, stats.failures, stats.successes, stats.state) == (0, 0, 0, "closed")
    assert gateway.stats().bulkhead.running == 0


async def test_a_refusal_passes_and_is_no_failure(autojump_clock: MockClock) -> None:
    # RES-2
    outside = Outside(Refused(404), Refused(500), Refused(429))
    gateway = Dependency("gateway", DependencyPolicy(retry=ONCE))
    for _ in range(3):
        await _failed(gateway, outside, Refused)
    assert gateway.stats().breaker.failures == 2
    assert len(outside.calls) == 3


async def test_the_error_of_the_only_attempt_keeps_its_cause(autojump_clock: MockClock) -> None:
    cause = OSError("cable")

    async def ask() -> None:
        raise ConnectionError("gone") from cause

    with pytest.raises(ConnectionError) as caught:
        await Dependency("gateway", DependencyPolicy(retry=ONCE)).call(ask)
    assert caught.value.__cause__ is cause


async def test_who_waits_for_a_place_waits_no_longer_than_its_deadline(
    autojump_clock: MockClock,
) -> None:
    # RES-4
    outside = Outside(takes=3.0)
    policy = DependencyPolicy(bulkhead=BulkheadPolicy(concurrent=1, wait=5.0), retry=ONCE)
    gateway = Dependency("gateway", policy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.call, outside.ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull):
            await gateway.call(outside.ask, deadline=trio.current_time() + 1.0)
        assert trio.current_time() == pytest.approx(1.0)
    assert len(outside.calls) == 1
    assert gateway.stats().breaker.calls == 1


async def test_calls_go_at_their_rate(autojump_clock: MockClock) -> None:
    # RES-7
    outside = Outside()
    policy = DependencyPolicy(bucket=BucketPolicy(rate=2.0, burst=3))
    gateway = Dependency("gateway", policy)
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(gateway.call, outside.ask)
    assert outside.calls == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5, 2.0])


async def test_nobody_waits_for_a_token_that_comes_too_late(autojump_clock: MockClock) -> None:
    # RES-7: and it is no failure of the dependency
    outside = Outside()
    policy = DependencyPolicy(bucket=BucketPolicy(rate=0.1, burst=1), breaker=BreakerPolicy(1))
    gateway = Dependency("gateway", policy)
    await gateway.call(outside.ask)
    with pytest.raises(RateExceeded) as caught:
        await gateway.call(outside.ask, deadline=trio.current_time() + 5.0)
    assert caught.value.retry_in == pytest.approx(10.0)
    assert trio.current_time() == 0.0
    assert gateway.stats().breaker.state == "closed"
    assert gateway.stats().breaker.calls == 1


@pytest.mark.parametrize(("asked", "until"), [(7.0, 7.0), (3600.0, 60.0)])
async def test_a_dependency_that_asks_for_a_rest_gets_it(
    asked: float, until: float, autojump_clock: MockClock
) -> None:
    # RES-7: also from those who did not hear it
    outside = Outside(Refused(429, asked))
    gateway = Dependency("gateway", DependencyPolicy(deadline=100.0, attempt=100.0, retry=ONCE))
    await _failed(gateway, outside, Refused)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(gateway.call, outside.ask)
    assert outside.calls == pytest.approx([0.0, until, until + 0.1])


async def test_a_cancelled_waiter_gives_its_token_back(autojump_clock: MockClock) -> None:
    # RES-7
    bucket = TokenBucket("gateway", BucketPolicy(rate=1.0, burst=1))
    await bucket.take()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bucket.take)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    await bucket.take()
    assert trio.current_time() == pytest.approx(1.0)


@given(
    rate=st.floats(0.1, 100.0),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0.0, 3.0), max_size=60),
)
def test_a_bucket_never_gives_more_than_it_has(rate: float, burst: int, gaps: list[float]) -> None:
    # RES-7: between any two moments at most the burst and what flowed in meanwhile
    state, now, went = BucketState(BucketPolicy(rate, burst), 0.0), 0.0, list[float]()
    for gap in gaps:
        now += gap
        wait = state.take(now, inf)
        assert wait is not None
        went.append(now + wait)
    assert went == sorted(went)
    for i, first in enumerate(went):
        for j in range(i, len(went)):
            assert j - i + 1 <= burst + (went[j] - first) * rate + 1e-6


@pytest.mark.parametrize(
    ("policy", "u", "wait"),
    [
        (LIGHT_RETRY, -1.0, 0.0),
        (LIGHT_RETRY, 1.0, 0.1),
        (EFFECT_RETRY, -1.0, 0.5),
        (EFFECT_RETRY, 1.0, 1.0),
    ],
)
def test_how_waits_are_spread(policy: RetryPolicy, u: float, wait: float) -> None:
    # RES-2: full jitter, and between half and all of it
    assert policy.wait(1, ConnectionError(), u) == pytest.approx(wait)


@pytest.mark.parametrize(
    "make",
    [
        partial(DependencyPolicy, deadline=0.0),
        partial(DependencyPolicy, deadline=inf),
        partial(DependencyPolicy, deadline=5.0, attempt=6.0),
        partial(DependencyPolicy, attempt=-1.0),
        partial(BucketPolicy, rate=0.0),
        partial(BucketPolicy, rate=inf),
        partial(BucketPolicy, burst=0),
        partial(RetryPolicy, least=1.5),
        partial(RetryPolicy, attempts=0),
        partial(RetryPolicy, first=-1.0),
        partial(Dependency, ""),
        partial(Dependency, "Gate way"),
        partial(Dependency, "a" * 65),
    ],
)
def test_nonsense_is_refused_when_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"above 0|at least|>= 1|in \[0, 1\]|deadline|name"):
        make()


def test_an_unknown_name_tells_those_there_are() -> None:
    outside = Dependencies({"mail": DependencyPolicy(), "gateway": DependencyPolicy()})
    assert [one.name for one in outside] == ["mail", "gateway"]
    with pytest.raises(UnknownDependency, match="mail, gateway"):
        outside.dependency("gatway")
    with pytest.raises(UnknownDependency, match="none"):
        Dependencies({}).dependency("mail")


async def test_figures_of_all_are_told_in_their_order(autojump_clock: MockClock) -> None:
    outside = Dependencies({"mail": DependencyPolicy(), "gateway": DependencyPolicy()})
    ask: Callable[[], Awaitable[str]] = Outside().ask
    await outside.dependency("gateway").call(ask)
    assert [(one.name, one.breaker.calls) for one in outside.stats()] == [
        ("mail", 0),
        ("gateway", 1),
    ]
