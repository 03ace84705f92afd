"""What a site declares of what it calls outside, and a store behind one of them."""

from __future__ import annotations

from functools import partial
from typing import Never

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import StoreUnavailable
from actors.runtime import Secret
from storage.redis import RedisClient, RedisRefused, RedisSettings
from storage.redis.codec import Refusal
from supervision import BreakerChange, Dependency, UnknownDependency
from tests.logged import captured
from web.settings import Bus, MailSender, Settings, Tracing, read_settings
from web.wiring.frame.outside import REDIS, REDIS_POLICY, StoreGuard, outside_of

PROVIDER = {"OAUTH_GITHUB_CLIENT_ID": "site", "OAUTH_GITHUB_CLIENT_SECRET": "canary-of-outside"}


def test_what_is_set_is_declared_and_nothing_else() -> None:
    # RES-9
    assert [one.name for one in outside_of(Settings())] == []
    settings = Settings(
        mail_sender=MailSender.SMTP,
        bus=Bus.KAFKA,
        ses_topic="arn:aws:sns:eu-west-1:123456789012:mail",
        redis_url=Secret("redis://127.0.0.1:1"),
        otlp_endpoint="http://127.0.0.1:4318",
        providers=read_settings(PROVIDER).providers,
    )
    names = [one.name for one in outside_of(settings)]
    assert names == ["mail", "sns", "provider.github", "redis", "bus", "otlp"]
    # With nothing recorded there is nothing to hand over.
    off = Settings(tracing=Tracing.OFF, otlp_endpoint="http://127.0.0.1:4318")
    assert [one.name for one in outside_of(off)] == []
    with pytest.raises(UnknownDependency):
        outside_of(Settings()).dependency("mail")


async def test_a_breaker_that_changes_is_told_and_logged(autojump_clock: MockClock) -> None:
    # RES-3
    told: list[BreakerChange] = []
    outside = outside_of(Settings(redis_url=Secret("redis://127.0.0.1:1")), told.append)
    redis = outside.dependency(REDIS)
    with captured() as lines:
        for _ in range(REDIS_POLICY.breaker.failures):
            with pytest.raises(StoreUnavailable):
                await redis.call(_away)
        redis.reset()
    found = [line for line in lines if line["event"] == "outside.breaker"]
    # That it is well again is no warning.
    assert [(line["dependency"], line["state"]) for line in found] == [("redis", "open")]
    assert [change.state for change in told] == ["open", "closed"]


async def _away() -> Never:
    raise StoreUnavailable("nobody there")


async def _refuses() -> Never:
    raise RedisRefused(Refusal("ERR", "no such command"))


async def test_a_store_left_alone_is_a_store_that_is_away(autojump_clock: MockClock) -> None:
    # RES-9: refused at once, and never let in
    dependency = Dependency(REDIS, REDIS_POLICY)
    guard = StoreGuard(dependency)
    for _ in range(REDIS_POLICY.breaker.failures):
        with pytest.raises(RedisRefused):
            await guard.call(_refuses)
        with pytest.raises(StoreUnavailable):
            await guard.call(_away)
    assert dependency.stats().breaker.state == "closed"
    for _ in range(REDIS_POLICY.breaker.failures):
        with pytest.raises(StoreUnavailable):
            await guard.call(_away)
    with pytest.raises(StoreUnavailable, match="left alone"):
        await guard.call(partial(trio.sleep, 0))


async def test_a_command_of_redis_goes_through_its_guard(autojump_clock: MockClock) -> None:
    # RES-9
    dependency = Dependency(REDIS, REDIS_POLICY)
    client = RedisClient(RedisSettings("127.0.0.1"), guard=StoreGuard(dependency))
    for _ in range(REDIS_POLICY.breaker.failures + 3):
        with pytest.raises(StoreUnavailable):
            await client.call("PING")
    stats = dependency.stats()
    assert (stats.attempts, stats.breaker.rejections) == (REDIS_POLICY.breaker.failures, 3)


async def test_a_store_that_hangs_is_late(autojump_clock: MockClock) -> None:
    # RES-9
    guard = StoreGuard(Dependency(REDIS, REDIS_POLICY))
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await guard.call(trio.sleep_forever)
    assert trio.current_time() == REDIS_POLICY.deadline
