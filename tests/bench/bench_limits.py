"""What a limit and a look at a sign-in cost: what stands before most answers (AUTH-40).

An embedded server of its own with fsync on, one caller at a time, as a request of an idle site
waits for it; and eight that hit one key at once, as a guesser does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import trio

from actors.accounts import Limit, NewAccount, NewSignIn, Origin, SessionId, Shape
from storage.postgres import PostgresAccounts, PostgresRateLimiter, migrate, open_database
from storage.postgres.embedded.server import start
from storage.redis import RedisRateLimiter, open_redis
from tests.bench.rows import RUNS_MIN, Row, row
from tests.redis_server import RedisServer, missing

EACH, AT_ONCE = 400, 8


async def _took(work: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    """How many milliseconds each of them took."""
    took = list[float]()
    for number in range(count):
        began = time.perf_counter()
        await work(number)
        took.append((time.perf_counter() - began) * 1000)
    return took


async def _measure_redis(server: RedisServer) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"window": [], "one key": []}
    async with open_redis(server.settings) as client:
        limiter, minute = RedisRateLimiter(client), timedelta(minutes=1)

        async def window(number: int) -> None:
            await limiter.hit(
                Limit(f"a:{number % 50}", 20, minute), Limit(f"b:{number % 50}", 60, minute)
            )

        async def guess(number: int) -> None:
            await limiter.hit(Limit("guessed", 10_000, minute, Shape.BUCKET))

        for _ in range(RUNS_MIN):
            found["window"].append(statistics.median(await _took(window, EACH)))
            at_once = list[float]()

            async def several(at_once: list[float] = at_once) -> None:
                at_once += await _took(guess, EACH // AT_ONCE)

            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(several)
            found["one key"].append(statistics.median(at_once))
    return found


async def _measure(url: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"window": [], "bucket": [], "one key": [], "who": []}
    async with open_database(url) as database:
        await migrate(database)
        limiter, accounts = PostgresRateLimiter(database), PostgresAccounts(database)
        digest = os.urandom(32)
        account = NewAccount(uuid4(), "ada", "ada@example.org", "$x")
        sign_in = NewSignIn(uuid4(), digest, SessionId(str(uuid4())), "Firefox on Linux")
        assert await accounts.register(account, sign_in, Origin()) is None
        minute = timedelta(minutes=1)

        async def window(number: int) -> None:
            await limiter.hit(
                Limit(f"a:{number % 50}", 20, minute), Limit(f"b:{number % 50}", 60, minute)
            )

        async def bucket(number: int) -> None:
            await limiter.hit(Limit(f"c:{number % 50}", 20, minute, Shape.BUCKET))

        async def who(_: int) -> None:
            assert await accounts.who(digest) is not None

        async def guess(number: int) -> None:
            await limiter.hit(Limit("guessed", 10_000, minute, Shape.BUCKET))

        for _ in range(RUNS_MIN):
            found["window"].append(statistics.median(await _took(window, EACH)))
            found["bucket"].append(statistics.median(await _took(bucket, EACH)))
            found["who"].append(statistics.quantiles(await _took(who, EACH), n=20)[18])
            at_once = list[float]()

            async def several(at_once: list[float] = at_once) -> None:
                at_once += await _took(guess, EACH // AT_ONCE)

            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(several)
            found["one key"].append(statistics.median(at_once))
    return found


def limits() -> Sequence[Row]:
    """Call this for what a try at a limit takes, and what it takes to know who is signed in."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            found = trio.run(_measure, server.url)
        finally:
            server.stop()
    told = (
        ("a try at two windows, p50", "window", "<= 2"),
        ("a try at a bucket, p50", "bucket", "<= 2"),
        (f"a try at one key, {AT_ONCE} at once, p50", "one key", ""),
        ("who is signed in, p95", "who", "< 5"),
    )
    return [
        row(name, "ms", found[key], target=target, is_lower_better=True)
        for name, key, target in told
    ]


def limits_in_redis() -> Sequence[Row]:
    """Call this for what a try takes where Redis counts; nothing where there is no server."""
    if missing():
        return []
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        found = trio.run(_measure_redis, server)
    told = (
        ("a try at two windows in Redis, p50", "window", "<= 2"),
        (f"a try at one key in Redis, {AT_ONCE} at once, p50", "one key", ""),
    )
    return [
        row(name, "ms", found[key], target=target, is_lower_better=True)
        for name, key, target in told
    ]


benchmarks = [limits, limits_in_redis]
