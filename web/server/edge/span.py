"""What is told of one request: it has come in, and its answer is on its way (SITE-121)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from web.server.edge.request_state import RequestState

# Told of a client's program; longer names are cut.
USER_AGENT_MAX = 1000


class RequestSpan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request from its head to the head of its answer; streams go on behind that.

    `path` is without its query and as it came, `route` the pattern that took it, if one did.
    `status` is None for a client that left before there was one. `address` is whole: whoever shows
    it masks it. `rule` is what a request broke that never came so far as to be one.
    """

    method: str
    path: str
    status: int | None
    latency_s: float
    request_id: str
    address: str = ""
    route: str | None = None
    client_request_id: str | None = None
    correlation_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    user_agent: str | None = None
    rule: str | None = None
    # By the clock of the loop; the request's own span, and the one above it, where it has one.
    began: float = 0.0
    traceparent: str | None = None
    above: str | None = None


# Called once a request, in its task: returns at once, and does nothing that the request waits for.
TellSpan: TypeAlias = Callable[[RequestSpan], None]
# Called with method and path, without its query, before anything is judged; the same holds for it.
TellBegin: TypeAlias = Callable[[str, str, RequestState], None]


def user_agent_of(given: str | None) -> str | None:
    """Call this to get what a client says it is: printable ASCII, of a bounded length."""
    if not given:
        return None
    if given.isascii() and given.isprintable():
        return given[:USER_AGENT_MAX]
    return "".join(c for c in given if " " <= c <= "~")[:USER_AGENT_MAX] or None
