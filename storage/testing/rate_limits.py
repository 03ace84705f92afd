"""Counted tries, as tests. Fixture `kept` of `storage.testing.accounts`, empty."""

from datetime import timedelta

import pytest
import trio

from actors.accounts import Allowed, Limit, Limited, RateLimiter, Shape, Verdict, login_limits
from storage.errors import InvalidField
from storage.testing.accounts import KeptAccounts

MINUTE, MS = timedelta(minutes=1), timedelta(milliseconds=1)


async def hit_at_once(limiter: RateLimiter, count: int, *limits: Limit) -> list[Verdict]:
    """Call this for the verdicts of so many tries in parallel, in the order of their answers."""
    told: list[Verdict] = []

    async def hit() -> None:
        told.append(await limiter.hit(*limits))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(hit)
    return told


class RateLimiterSuite:
    """Tries are counted whatever becomes of them, and by all processes together."""

    async def test_of_fifty_at_once_ten_are_made(self, kept: KeptAccounts) -> None:
        # AUTH-40, SITE-48, SEC-76, SEC-115
        waits: list[float] = []

        async def try_it(number: int) -> None:
            match await kept.limiter.hit(*login_limits("address", f"account {number}")):
                case Limited(wait):
                    waits.append(wait)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(try_it, number)
        assert len(waits) == 40
        assert all(890 < wait <= 900 for wait in waits)
        await kept.pass_time(timedelta(minutes=15))
        assert isinstance(await kept.limiter.hit(*login_limits("address", "account")), Allowed)

    @pytest.mark.parametrize("shape", [Shape.WINDOW, Shape.BUCKET])
    async def test_a_hundred_at_once_are_counted_one_by_one(
        self, kept: KeptAccounts, shape: Shape
    ) -> None:
        # AUTH-40: none is counted twice, and none with another
        limit = Limit("key", 60, timedelta(hours=10), shape)
        told = await hit_at_once(kept.limiter, 100, limit)
        left = sorted(one.remaining for one in told if isinstance(one, Allowed))
        assert left == list(range(60))
        assert sum(isinstance(one, Limited) for one in told) == 40

    async def test_a_window_slides_to_the_millisecond(self, kept: KeptAccounts) -> None:
        # AUTH-40
        limit = Limit("key", 3, timedelta(hours=1))
        for left in (2, 1, 0):
            assert await kept.limiter.hit(limit) == Allowed(left)
            await kept.pass_time(10 * MINUTE)
        verdict = await kept.limiter.peek(limit)
        assert isinstance(verdict, Limited)
        # The first of them leaves after an hour, half an hour of which is over.
        assert 1790 < verdict.retry_after <= 1800
        for _ in range(20):  # who tries while limited does not wait longer
            await kept.limiter.hit(limit)
        kept.stop_time()
        verdict = await kept.limiter.peek(limit)
        assert isinstance(verdict, Limited)
        await kept.pass_time(timedelta(seconds=verdict.retry_after) - MS)
        verdict = await kept.limiter.hit(limit)
        assert verdict == Limited(0.001)
        await kept.pass_time(MS)
        assert await kept.limiter.hit(limit) == Allowed(0)
        assert isinstance(await kept.limiter.hit(limit), Limited)

    async def test_a_bucket_gets_one_back_at_a_time(self, kept: KeptAccounts) -> None:
        # AUTH-40
        kept.stop_time()
        limit = Limit("key", 6, MINUTE, Shape.BUCKET)
        told = [await kept.limiter.hit(limit) for _ in range(7)]
        assert told == [*map(Allowed, (5, 4, 3, 2, 1, 0)), Limited(10.0)]
        await kept.pass_time(timedelta(seconds=10) - MS)
        assert await kept.limiter.hit(limit) == Limited(0.001)
        await kept.pass_time(MS)
        assert await kept.limiter.hit(limit) == Allowed(0)
        await kept.limiter.give_back(limit)
        assert await kept.limiter.hit(limit) == Allowed(0)
        await kept.pass_time(timedelta(seconds=25))
        assert [await kept.limiter.hit(limit) for _ in range(2)] == [Allowed(1), Allowed(0)]
        await kept.pass_time(10 * MINUTE)
        assert await kept.limiter.peek(limit) == Allowed(5), "it holds no more than six"

    async def test_an_account_becomes_slow_and_never_locked(self, kept: KeptAccounts) -> None:
        # SITE-48, SEC-76: from one address after another
        told: list[float] = []
        for number in range(15):
            limits = login_limits(f"address {number}", "ada")
            match await kept.limiter.hit(*limits):
                case Limited(wait):
                    told.append(round(wait))
                    await kept.pass_time(timedelta(seconds=wait))
                    assert isinstance(await kept.limiter.hit(*limits), Allowed)
                case Allowed():
                    told.append(0)
        assert told == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
        await kept.limiter.clear("account:ada")
        assert isinstance(await kept.limiter.hit(*login_limits("another", "ada")), Allowed)

    async def test_a_good_try_is_given_back(self, kept: KeptAccounts) -> None:
        limit, unknown = Limit("key", 2, MINUTE), Limit("unknown", 2, MINUTE)
        for _ in range(6):
            assert isinstance(await kept.limiter.hit(limit), Allowed)
            await kept.limiter.give_back(limit, unknown)
        told = [isinstance(await kept.limiter.hit(limit), Allowed) for _ in range(3)]
        assert told == [True, True, False]

    async def test_a_refused_try_counts_under_no_key(self, kept: KeptAccounts) -> None:
        full, other = (Limit(key, 1, MINUTE) for key in ("full", "other"))
        assert await kept.limiter.hit(full) == Allowed(0)
        assert isinstance(await kept.limiter.hit(other, full), Limited)
        assert await kept.limiter.hit(other) == Allowed(0)

    async def test_of_several_limits_the_least_is_told(self, kept: KeptAccounts) -> None:
        # AUTH-40
        wide, narrow = Limit("wide", 9, MINUTE), Limit("narrow", 2, timedelta(hours=1))
        assert await kept.limiter.peek(wide, narrow) == Allowed(1)
        assert await kept.limiter.peek(wide, narrow) == Allowed(1), "looking counts nothing"
        assert await kept.limiter.hit(wide, narrow) == Allowed(1)
        assert await kept.limiter.hit(wide, narrow) == Allowed(0)
        verdict = await kept.limiter.hit(wide, narrow)
        assert isinstance(verdict, Limited)
        assert 3590 < verdict.retry_after <= 3600
        assert await kept.limiter.peek(wide) == Allowed(6)

    async def test_a_clock_that_went_wrong_locks_nobody_out(self, kept: KeptAccounts) -> None:
        # AUTH-40: what was counted while it was a day ahead
        limits = [Limit(shape, 1, MINUTE, shape) for shape in Shape]
        for limit in limits:
            assert isinstance(await kept.limiter.hit(limit), Allowed)
        await kept.pass_time(-timedelta(days=1))
        for limit in limits:
            assert isinstance(await kept.limiter.hit(limit), Allowed)
            assert isinstance(await kept.limiter.hit(limit), Limited)

    async def test_what_is_over_is_removed(self, kept: KeptAccounts) -> None:
        # AUTH-40
        await kept.limiter.hit(Limit("short", 1, timedelta(minutes=5)))
        await kept.limiter.hit(Limit("bucket", 1, timedelta(minutes=5), Shape.BUCKET))
        await kept.limiter.hit(Limit("long", 1, timedelta(minutes=50)))
        await kept.pass_time(timedelta(minutes=10))
        assert [await kept.limiter.purge(1) for _ in range(3)] == [1, 1, 0]
        verdict = await kept.limiter.hit(Limit("long", 1, timedelta(minutes=50)))
        assert isinstance(verdict, Limited)

    async def test_nonsense_is_refused_before_anything_is_counted(self, kept: KeptAccounts) -> None:
        # AUTH-40
        good = Limit("key", 1, MINUTE)
        for nonsense in ([], [good, good], ["key"], [good] * 17):
            with pytest.raises(InvalidField):
                await kept.limiter.hit(*nonsense)
        for key in ("", "a\0", None, "k" * 1025):
            with pytest.raises(InvalidField):
                await kept.limiter.clear(key)  # type: ignore[arg-type]
        for tries_max in (0, -1, 10_001, 1.5, True, None):
            with pytest.raises(InvalidField):
                Limit("key", tries_max, MINUTE)  # type: ignore[arg-type]
        for period in (timedelta(0), -MINUTE, timedelta(days=400), 60, None):
            with pytest.raises(InvalidField):
                Limit("key", 1, period)  # type: ignore[arg-type]
        with pytest.raises(InvalidField):
            Limit("key", 1, MINUTE, "window")  # type: ignore[arg-type]
        assert await kept.limiter.hit(good) == Allowed(0)
