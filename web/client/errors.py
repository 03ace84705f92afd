"""What can go wrong for a client program, one class per thing its caller can do."""


class ClientError(Exception):
    """Base of everything a client raises."""


class CommandRefused(ClientError):
    """Raised when the server refused a command; nothing was done.

    `code` is the server's (`TOO_MANY_REQUESTS`, `VALIDATION_ERROR`, ...), `retry_after_s` the
    seconds it asks for, if any.
    """

    def __init__(self, message: str, code: str, retry_after_s: int | None = None) -> None:
        super().__init__(message, code, retry_after_s)
        self.message, self.code, self.retry_after_s = message, code, retry_after_s

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class CommandOverdue(ClientError):
    """Raised when no answer came in time; the command may still succeed."""

    def __str__(self) -> str:
        return "no answer in time; the command may still succeed"


class QueueFull(ClientError):
    """Raised at once when too many commands wait for a connection; nothing was sent."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"{self.most} commands wait for a connection already; nothing was sent"


class ClientClosed(ClientError):
    """Raised when the server ended the connection for good, or the client was left.

    `code` is the close code: 1008 misuse, 4401 the session ended, 4403 banned; 1000 when left.
    What was under way may or may not have been done.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"the connection was closed for good ({self.code}): {self.reason or 'no reason'}"
