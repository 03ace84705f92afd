"""Counted tries in Redis; the twin of `storage/memory/accounts/kept/rate_limits.py` (AUTH-40).

Times are the server's. Each method is one script, so it is one step among all processes: a window
is a sorted set of moments, a bucket the moment at which it is full again, both in microseconds
(exact in a script's numbers until the year 2255). What is over is forgotten by the server itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from actors.accounts.kept.throttle import (
    DELAY_FIRST,
    DELAY_MAX,
    Allowed,
    Limit,
    Limited,
    Shape,
    Verdict,
    check_key,
    check_limits,
)
from actors.persistence.event_store import check_limit
from storage.redis.client import RedisClient
from storage.redis.codec import Part
from storage.redis.words import Script

PREFIX = "greenroom:limit:"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# As `actors.accounts.kept.throttle.judge` and `counted` do. A number is written by `text`: the
# language's own way rounds it.
_HIT = Script("""
local function text(number) return string.format('%.0f', number) end
local now = tonumber(ARGV[2])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local wait, remaining, full_at = 0, nil, {}
for i, key in ipairs(KEYS) do
    local at = 4 + (i - 1) * 5
    local shape, most, period = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local step, kept = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local here, free = 0, 0
    if shape == 'bucket' then
        local full = tonumber(redis.call('GET', key) or '')
        if not full or full <= now or full > now + most * step then full = now end
        here = full - (most - 1) * step - now
        free = math.floor((now + most * step - full) / step)
        full_at[i] = full
    else
        local since = '(' .. text(now - period)
        local n = math.min(redis.call('ZCOUNT', key, since, text(now)), kept)
        free = most - n
        if free <= 0 then
            local ahead = redis.call('ZCOUNT', key, '(' .. text(now), '+inf')
            if shape == 'window' then ahead = ahead + most - 1 end
            local last = tonumber(redis.call('ZREVRANGE', key, ahead, ahead, 'WITHSCORES')[2])
            if shape == 'window' then
                here = last + period - now
            else
                local doubled = tonumber(ARGV[3]) * 2 ^ (n - most)
                here = last + math.min(tonumber(ARGV[4]), doubled) - now
            end
        end
    end
    wait = math.max(wait, here)
    local left = math.max(0, free - 1)
    remaining = math.min(remaining or left, left)
end
if ARGV[1] == '1' and wait <= 0 then
    for i, key in ipairs(KEYS) do
        local at = 4 + (i - 1) * 5
        local period, kept = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 5])
        local lives = text(math.ceil(period / 1000))
        if ARGV[at + 1] == 'bucket' then
            redis.call('SET', key, text(full_at[i] + ARGV[at + 4]), 'PX', lives)
        else
            -- First what a full server refuses: behind any other write it would let it pass.
            local same, number = redis.call('ZREVRANGEBYSCORE', key, text(now), text(now),
                'LIMIT', 0, 1)[1], 0
            if same then number = tonumber(string.match(same, '%d+$')) + 1 end
            redis.call('ZADD', key, text(now), string.format('%.0f-%09d', now, number))
            redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - period))
            redis.call('ZREMRANGEBYSCORE', key, '(' .. text(now), '+inf')
            redis.call('ZREMRANGEBYRANK', key, 0, -(kept + 1))
            redis.call('PEXPIRE', key, lives)
        end
    end
end
return {text(wait), remaining}
""")

_GIVE_BACK = Script("""
for i, key in ipairs(KEYS) do
    if ARGV[i * 2 - 1] == 'bucket' then
        local full = tonumber(redis.call('GET', key) or '')
        if full then
            redis.call('SET', key, string.format('%.0f', full - ARGV[i * 2]), 'KEEPTTL')
        end
    else
        redis.call('ZPOPMAX', key)
    end
end
return 0
""")


class RedisRateLimiter:
    """The port `RateLimiter` on a `RedisClient`; `now` replaces the server's clock in tests.

    Keys of different shapes are different: a limit that becomes a bucket begins anew.
    """

    def __init__(
        self, client: RedisClient, now: Callable[[], datetime | None] = lambda: None
    ) -> None:
        self._client, self._now = client, now

    async def hit(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.hit`."""
        return await self._judge(check_limits(limits), is_counted=True)

    async def peek(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.peek`."""
        return await self._judge(check_limits(limits), is_counted=False)

    async def give_back(self, *limits: Limit) -> None:
        """See `RateLimiter.give_back`."""
        given = check_limits(limits)
        told = [part for one in given for part in (one.shape.value, _microseconds(one.step))]
        await self._client.run(_GIVE_BACK, tuple(map(_key, given)), *told)

    async def clear(self, key: str) -> None:
        """See `RateLimiter.clear`."""
        known = check_key(key)
        await self._client.call("DEL", *(f"{PREFIX}{shape}:{known}" for shape in Shape))

    async def purge(self, limit: int = 1000) -> int:
        """See `RateLimiter.purge`; the server has done it, so there is never any."""
        check_limit(limit)
        return 0

    async def _judge(self, limits: list[Limit], *, is_counted: bool) -> Verdict:
        now = self._now()
        told: list[Part] = [
            int(is_counted),
            "" if now is None else _microseconds(now - _EPOCH),
            _microseconds(DELAY_FIRST),
            _microseconds(DELAY_MAX),
        ]
        for one in limits:
            period, step = _microseconds(one.period), _microseconds(one.step)
            told += [one.shape.value, one.tries_max, period, step, one.kept_max]
        match await self._client.run(_HIT, tuple(map(_key, limits)), *told):
            case [bytes(wait), int(remaining)]:
                return Allowed(remaining) if wait == b"0" else Limited(int(wait) / 1_000_000)
            case other:
                raise AssertionError(f"the script answers two numbers, not {other!r}")


def _key(limit: Limit) -> str:
    return f"{PREFIX}{limit.shape}:{limit.key}"


def _microseconds(time: timedelta) -> int:
    return time // _MICROSECOND
