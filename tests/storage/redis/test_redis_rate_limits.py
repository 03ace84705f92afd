"""Counted tries in Redis: the suite of every engine, and what only a server can show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import trio

from actors.accounts import Allowed, Limit, Limited, Shape
from actors.testing import FixedClock
from storage.errors import StoreUnavailable
from storage.memory import MemoryDatabase, MemoryRateLimiter
from storage.redis import RedisClient, RedisRateLimiter, open_redis
from storage.testing import RateLimiterSuite
from storage.testing.accounts.members import KeptAccounts, accounts_in_memory, hit_at_once
from tests.redis_server import RedisServer

MINUTE = timedelta(minutes=1)


class TestRedisRateLimiter(RateLimiterSuite):
    # AUTH-40
    @pytest.fixture
    def kept(self, redis: RedisClient) -> KeptAccounts:
        passed, stopped = [timedelta(0)], list[datetime]()

        def now() -> datetime | None:
            # Until time is told to pass it is the server's own.
            if not stopped and not passed[0]:
                return None
            return (stopped[0] if stopped else datetime.now(UTC)) + passed[0]

        async def pass_time(so_long: timedelta) -> None:
            passed[0] += so_long

        return replace(
            accounts_in_memory(),
            limiter=RedisRateLimiter(redis, now),
            pass_time=pass_time,
            stop_time=lambda: stopped.append(datetime.now(UTC)),
            forgets_by_itself=True,
        )


async def test_what_is_over_is_forgotten_by_the_server(redis: RedisClient) -> None:
    # AUTH-40: nothing of who tried stays for longer than it counts
    limiter = RedisRateLimiter(redis)
    await limiter.hit(Limit("a", 3, MINUTE), Limit("b", 3, MINUTE, Shape.BUCKET))
    await limiter.give_back(Limit("b", 3, MINUTE, Shape.BUCKET))
    keys = await redis.call("KEYS", "*")
    assert isinstance(keys, list)
    assert sorted(map(str, keys)) == [
        "b'greenroom:limit:bucket:b'",
        "b'greenroom:limit:window:a'",
    ]
    for key in keys:
        assert isinstance(key, bytes)
        left_ms = await redis.call("PTTL", key)
        assert isinstance(left_ms, int)
        assert 0 < left_ms <= 60_000
    await limiter.clear("a")
    await limiter.clear("b")
    assert await redis.call("DBSIZE") == 0


async def test_several_processes_count_together(shared_server: RedisServer) -> None:
    # AUTH-40, CLU-33: fifty tries by four connections count fifty
    limit = Limit("together", 20, MINUTE)
    told: list[Allowed | Limited] = []

    async def process() -> None:
        async with open_redis(shared_server.settings) as client:
            told.extend(await hit_at_once(RedisRateLimiter(client), 25, limit))

    async with open_redis(shared_server.settings) as client:
        await client.call("FLUSHALL")
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(process)
    left = sorted(one.remaining for one in told if isinstance(one, Allowed))
    assert left == list(range(20))
    assert sum(isinstance(one, Limited) for one in told) == 80


async def test_a_server_that_forgot_its_scripts_is_told_them_again(redis: RedisClient) -> None:
    limiter, limit = RedisRateLimiter(redis), Limit("key", 2, MINUTE)
    assert await limiter.hit(limit) == Allowed(1)
    await redis.call("SCRIPT", "FLUSH")
    assert await limiter.hit(limit) == Allowed(0)


async def test_a_full_server_counts_nothing_and_says_so(redis: RedisClient) -> None:
    # AUTH-40: who lets people in refuses then
    limiter = RedisRateLimiter(redis)
    await redis.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            await limiter.hit(Limit("key", 2, MINUTE))
    finally:
        await redis.call("CONFIG", "SET", "maxmemory", "0")
    assert await limiter.hit(Limit("key", 2, MINUTE)) == Allowed(1)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_tried_it_says_what_the_specification_says(
    redis: RedisClient, seed: int
) -> None:
    # AUTH-40: the twin in memory, side by side, also while the clock goes back
    random, clock = Random(seed), FixedClock()
    twin = MemoryRateLimiter(MemoryDatabase(now=clock.now))
    limiter = RedisRateLimiter(redis, clock.now)
    limits = [
        # So long that the server, whose own clock goes on, forgets none of them meanwhile.
        Limit(f"k{number}", random.choice([1, 2, 3, 7]), period, random.choice(list(Shape)))
        for number, period in enumerate(random.choices([MINUTE, 7 * MINUTE, 60 * MINUTE], k=4))
    ]
    steps = [timedelta(microseconds=1), timedelta(milliseconds=1), timedelta(seconds=20)]
    steps += [10 * MINUTE, -timedelta(seconds=2), -10 * MINUTE]
    for number in range(150):
        some = random.sample(limits, random.randint(1, 3))
        match random.choices(["hit", "peek", "give_back", "clear", "wait"], [6, 1, 1, 0.3, 1.5])[0]:
            case "hit":
                told = await twin.hit(*some), await limiter.hit(*some)
            case "peek":
                told = await twin.peek(*some), await limiter.peek(*some)
            case "give_back":
                await twin.give_back(*some)
                await limiter.give_back(*some)
                continue
            case "clear":
                await twin.clear(some[0].key)
                await limiter.clear(some[0].key)
                continue
            case _:
                clock.advance(random.choice(steps))
                continue
        assert told[0] == told[1], (number, told, some)
