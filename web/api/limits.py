"""How often a client program may ask, told with each answer (AUTH-40).

The header RateLimit-Policy says what the limit is and RateLimit what is left of it, as the draft
httpapi-ratelimit-headers-10 of the IETF writes them; beside them Retry-After where none is.
"""

from dataclasses import replace
from math import ceil
from typing import Protocol

from actors.accounts import Allowed, Limit, Verdict
from web.server import Answer, ErrorAnswer, RequestState

HeaderList = list[tuple[bytes, bytes]]


class Counts(Protocol):
    """What counts tries: a `RateLimiter`, or one that lets through while its store is away."""

    async def hit(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.hit`."""
        ...


async def keep_within(limiter: Counts, name: str, *limits: Limit) -> HeaderList:
    """Call this at the head of a route; gives the headers for its answer.

    `name` is what clients know the limit by: letters, digits and `-`. What is told is the first of
    the limits, and of what is left the least. Raises `ErrorAnswer` 429, with the headers; what
    the limiter raises passes.
    """
    verdict = await limiter.hit(*limits)
    headers = rate_limit_headers(name, limits[0], verdict)
    if isinstance(verdict, Allowed):
        return headers
    wait = max(1, ceil(verdict.retry_after))
    row = replace(Answer.RATE_LIMITED.value, retry_after_s=wait, headers=tuple(headers))
    raise ErrorAnswer(row)


async def count(limiter: Counts, state: RequestState, name: str, *limits: Limit) -> Verdict:
    """Call this where pages and programs come the same way: as `hit`, and noted for the answer.

    Programs are told as by `keep_within`, whatever they are answered. A good try may be given back
    later: then more is left than was told.
    """
    verdict = await limiter.hit(*limits)
    state.rate_limits += rate_limit_headers(name, limits[0], verdict)
    return verdict


def rate_limit_headers(name: str, limit: Limit, verdict: Verdict) -> HeaderList:
    """Call this for the two headers; whole seconds, of a wait rounded up.

    ValueError for a name that is no word.
    """
    if not (name.isascii() and name.replace("-", "").isalnum()):
        raise ValueError(f"the name of a limit is of letters, digits and -, not {name!r}")
    window = max(1, ceil(limit.period.total_seconds()))
    policy = f'"{name}";q={limit.tries_max};w={window}'
    if isinstance(verdict, Allowed):
        # When more is left nobody can say of a window that slides.
        left = f'"{name}";r={verdict.remaining}'
    else:
        left = f'"{name}";r=0;t={max(1, ceil(verdict.retry_after))}'
    return [(b"ratelimit-policy", policy.encode("ascii")), (b"ratelimit", left.encode("ascii"))]
