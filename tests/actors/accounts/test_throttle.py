"""Counting tries, as pure functions and while the store is away; see `RateLimiterSuite` too."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.accounts import Allowed, LenientLimiter, Limit, Limited, Shape
from actors.accounts.kept.throttle import counted, judge, login_limits, ticket_limits
from actors.testing import FixedClock
from storage.errors import InvalidField
from storage.memory import MemoryDatabase, MemoryRateLimiter
from tests.logged import captured

ADA = UUID(int=7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    st.integers(1, 20),
    st.integers(1, 100_000),
    st.sampled_from([Shape.WINDOW, Shape.BUCKET]),
    st.lists(st.integers(0, 30_000), max_size=60),
)
def test_no_period_holds_more_than_its_share(
    tries_max: int, period_ms: int, shape: Shape, gaps_ms: list[int]
) -> None:
    # AUTH-40: against a list of all tries that were made; a bucket, twice that at its worst
    limit = Limit("key", tries_max, timedelta(milliseconds=period_ms), shape)
    kept: list[datetime] = []
    made: list[datetime] = []
    at = NOW
    for gap in gaps_ms:
        at += timedelta(milliseconds=gap)
        verdict = judge(limit, kept, at)
        within = [one for one in made if at - one < limit.period]
        if shape is Shape.WINDOW:
            assert isinstance(verdict, Allowed) == (len(within) < tries_max)
        match verdict:
            case Allowed():
                kept = counted(limit, kept, at)
                made.append(at)
            case Limited(wait):
                assert 0 < wait <= period_ms / 1000
                # To wait so long is enough, and no less is.
                then = at + timedelta(seconds=wait)
                assert isinstance(judge(limit, kept, then), Allowed)
                early = then - timedelta(microseconds=1)
                assert isinstance(judge(limit, kept, early), Limited)
        assert len([one for one in made if at - one < limit.period]) <= 2 * tries_max


def test_a_member_is_counted_as_such_and_a_guest_by_address_too() -> None:
    # AUTH-40
    (of_member,) = ticket_limits("session", "digest", ADA)
    assert str(ADA) in of_member.key
    assert of_member == ticket_limits("another", "elsewhere", ADA)[0]
    by_session, by_address = ticket_limits("session", "digest", None)
    assert ("session" in by_session.key, "digest" in by_address.key) == (True, True)


async def test_who_opens_nothing_passes_while_the_store_is_away_and_is_counted() -> None:
    # AUTH-40, SEC-3
    limiter = MemoryRateLimiter(MemoryDatabase(now=FixedClock().now))
    lenient, limit = LenientLimiter(limiter), Limit("key", 2, timedelta(minutes=1))
    assert await lenient.hit(limit) == Allowed(1)
    with captured() as lines:
        for _ in range(3):
            limiter.fail_next()
            assert await lenient.hit(limit) == Allowed(1)
    assert [one["event"] for one in lines] == ["rate_limits.away"], "one line an outage"
    assert lenient.let_through == 3
    assert await lenient.hit(limit) == Allowed(0)
    assert isinstance(await lenient.hit(limit), Limited)
    with pytest.raises(InvalidField):
        await lenient.hit()


def test_limits_of_a_sign_in_name_nobody() -> None:
    # SEC-132: what stands in their rows is digests
    by_address, by_account = login_limits("a1b2", "c3d4")
    assert (by_address.key, by_account.key) == ("login:a1b2", "account:c3d4")
