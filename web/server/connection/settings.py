"""How long and how much the server waits for: every limit of a connection, with its reason.

Plain data, used by `transport.py` (writes, reads), `http/` (requests) and `serving.py` (drain).
What a connection waits for is its `Phase`; `transport.py` moves it from one to the next (REL-14).
Nothing here reads the environment; the composition root builds these from its own settings.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from web.server.reading.heads import HEADER_BYTES_MAX, URL_BYTES_MAX, HeadLimits

Headers = Sequence[tuple[bytes, bytes]]

# The parser holds an unfinished head no longer than a full URL and full headers together.
HEAD_BYTES_MAX = URL_BYTES_MAX + HEADER_BYTES_MAX + 1024
# A chat message is 1,000 characters; 64 KiB leaves room for every form of the site.
MESSAGE_BYTES_MAX = 64 * 1024
# Where an application finds, in the `state` of a scope, that its connection is one too many: it may
# answer a probe, and says to all others that they should come again (REL-70).
SURPLUS_KEY = "greenroom.surplus"
# A message cut finer than this is an attack on the bookkeeping, not a slow client (SEC-45).
FRAGMENTS_MAX = 4096


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Holds the whole answer to a request that never became one: status, headers, body."""

    status: int
    headers: Headers
    body: bytes


def bare_error(status: int, rule: str, is_tls: bool, peer: str) -> ErrorResponse:
    """Call this to get the plainest answer for `status`: no body, nothing to leak."""
    return ErrorResponse(status, [(b"content-length", b"0")], b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Holds the limits of one connection. Seconds are float, sizes are bytes."""

    # REL-11: a healthy client's kernel takes at least one byte in this time.
    write_stall_s: float = 10.0
    # REL-11: while draining, a reader that does not read has a second to change its mind.
    write_stall_draining_s: float = 1.0
    # REL-11: a reader of one byte a second makes progress, and still must not live for ever.
    frame_s: float = 60.0
    # REL-14: a head is one or two packets.
    head_s: float = 5.0
    # REL-14: bodies are 64 KiB at most; a phone on a bad line sends that in 10 s.
    body_s: float = 10.0
    # REL-21: what is not here yet is no command in hand, and is sent again elsewhere; one that is
    # on its way takes a second at most.
    body_draining_s: float = 1.0
    # REL-53: long enough for a page's next request, short enough to free the descriptor.
    keep_alive_s: float = 5.0
    # REL-53: who asks more than this begins anew, so that no connection is for ever.
    requests_max: int = 1000
    # RFC 9112 9.6: time for a client to read an answer sent while it was still writing.
    linger_s: float = 1.0
    # REL-30: what a handler may still do after its client left; with the time until that is known
    # it is a second.
    gone_grace_s: float = 0.8
    # REL-43: a peer that does not answer our close frame is reset after this.
    close_reply_s: float = 5.0
    # SEC-49: TLS handshakes are two round trips.
    handshake_s: float = 10.0
    # REL-32: the kernel gives up on unacknowledged bytes after this.
    tcp_user_timeout_s: float = 30.0
    url_bytes_max: int = URL_BYTES_MAX
    header_bytes_max: int = HEADER_BYTES_MAX
    message_bytes_max: int = MESSAGE_BYTES_MAX
    fragments_max: int = FRAGMENTS_MAX
    # permessage-deflate on sockets whose client offers it. Not for strangers (SEC-45): what comes
    # in one read may swell a thousandfold before it is counted. On for the conformance program.
    agrees_to_deflate: bool = False
    # All requests of HTTP/1.1 by hypercorn and h11 instead of our own few lines, at a third of the
    # speed: to compare the two, or to rule one out when something is wrong. Not WebSockets. There
    # a body announced with `Expect: 100-continue` is asked for at once, wanted or not.
    uses_library: bool = False
    # Whether connections are encrypted here; `serve` says so.
    is_tls: bool = False
    # Given the status, the rule that was broken, a fixed text, `is_tls`, and the peer's address.
    error_response: Callable[[int, str, bool, str], ErrorResponse] = field(default=bare_error)

    @property
    def head_limits(self) -> HeadLimits:
        """Tell how large a request's head may be."""
        return HeadLimits(self.url_bytes_max, self.header_bytes_max)


class Phase(enum.Enum):
    """Says what the connection is waiting for; each value has its own read deadline."""

    IDLE = "idle"  # the next request, after one was answered
    HEAD = "head"  # the rest of a head; a fresh connection starts here
    BODY = "body"  # the rest of a body
    ANSWERING = "answering"  # nothing: a request is being answered, or a WebSocket is open
    LINGERING = "lingering"  # the client's end, after our own


def allowed_s(phase: Phase, settings: TransportSettings) -> float:
    """Call this to get the seconds a client has in `phase`."""
    match phase:
        case Phase.IDLE:
            return settings.keep_alive_s
        case Phase.HEAD:
            return settings.head_s
        case Phase.BODY:
            return settings.body_s
        case Phase.LINGERING:
            return settings.linger_s
        case Phase.ANSWERING:
            return inf
