"""What can go wrong in streams and sockets, by who must act.

Attributes carry the facts; nobody parses the texts. Rows of the error table for these are added
where the application is composed.
"""

from __future__ import annotations


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


class NotACommandClass(RealtimeError):
    """Raised at start-up when an endpoint lists a class that may not come from a client."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be a command: {reason}")
        self.name, self.reason = name, reason


class ProtocolViolation(RealtimeError):
    """Raised by the decoders when a message is not one of the protocol's; says what and where."""
