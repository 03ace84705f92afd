"""What a connection waits for, and how long it may (REL-14).

Pure data; `transport.py` moves from phase to phase.
"""

from __future__ import annotations

import enum
from math import inf

from web.server.settings import TransportSettings


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
