"""What can go wrong in streams and sockets, by who must act.

Attributes carry the facts; nobody parses the texts. Rows of the error table for these are added
where the application is composed.
"""

from __future__ import annotations

import enum


class RealtimeError(Exception):
    """Base of every error raised by `web.realtime`."""


class UnsafeField(RealtimeError):
    """Raised when an id, event name or selector holds CR, LF or NUL; nothing was encoded."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"the {field} holds a line end or NUL and could forge another field; "
            "nothing was encoded. Pass only values made by the program."
        )
        self.field = field


class TooManyStreams(RealtimeError):
    """Raised when a session or address has as many streams as it may; none was opened (429)."""

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"this {whose} has {limit} open streams already; none was opened.")
        self.whose, self.limit = whose, limit
        # A tab that closes frees its place within a second; ten avoid a tight loop.
        self.retry_after = 10


class StreamsFull(RealtimeError):
    """Raised when the process has as many streams as it may, or drains (503)."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"all {limit} streams are in use; none was opened. Try again later.")
        self.limit = limit
        self.retry_after = 5


class BadTabId(RealtimeError):
    """Raised when a tab id is not 1-64 letters, digits and hyphens (400)."""

    def __init__(self) -> None:
        super().__init__("a tab id is 1-64 letters, digits, hyphens or underscores.")


class BadClientId(RealtimeError):
    """Raised when a client's id for itself is no UUID; the socket is not opened (400)."""

    def __init__(self) -> None:
        super().__init__("client is given once, and is a UUID; the socket was not opened.")


class CallerUnknown(RealtimeError):
    """Raised when a program shows who it is by something that is not taken (401)."""

    def __init__(self) -> None:
        super().__init__("who you are cannot be told by that; nothing was opened.")


class TopicRefused(RealtimeError):
    """Raised for a topic that may not be heard, and for one there is none of alike (403)."""

    def __init__(self) -> None:
        super().__init__("there is no topic of that name for you; nothing was opened.")


class NotACommandClass(RealtimeError):
    """Raised at start-up when an endpoint lists a class that may not come from a client."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be a command: {reason}")
        self.name, self.reason = name, reason


class SocketCode(enum.StrEnum):
    """What an `error` on a socket is about, for programs (WEB-43)."""

    BAD_JSON = "BAD_JSON"
    BAD_MESSAGE = "BAD_MESSAGE"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNKNOWN_ACTION = "UNKNOWN_ACTION"
    NOT_A_COMMAND = "NOT_A_COMMAND"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    REFUSED = "REFUSED"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    TOO_MANY_TOPICS = "TOO_MANY_TOPICS"
    CONFLICT = "CONFLICT"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    TIMEOUT = "TIMEOUT"
    LAGGED = "LAGGED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL_SERVER_ERROR"


class ProtocolViolation(RealtimeError):
    """Raised by the decoders when a message is not one of the protocol's; says what and where."""

    def __init__(self, text: str, code: SocketCode = SocketCode.BAD_MESSAGE) -> None:
        super().__init__(text)
        self.code = code
