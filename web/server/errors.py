"""What can go wrong in the server itself, by who must act.

Errors of requests (status, kind, text) are rows of `edge/answers.py`.
"""

from __future__ import annotations


class ServerError(Exception):
    """Base of every error raised by `web.server`."""


class PortBusy(ServerError):
    """Raised when another process listens on the port; nothing was opened. Pick another port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is in use by another process; nothing was started. "
            "Stop that process, or choose another PORT (0 takes any free one)."
        )
        self.host, self.port = host, port


class PortForbidden(ServerError):
    """Raised when this process may not use the port; ports below 1024 belong to root."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"this process may not listen on port {port} of {host}; nothing was started. "
            "Choose a PORT above 1023."
        )
        self.host, self.port = host, port


class CookieTooLong(ServerError):
    """Raised before a cookie is set whose name and value exceed what browsers keep."""

    def __init__(self, name: str, size: int, limit: int) -> None:
        super().__init__(
            f"cookie {name} would take {size} bytes, browsers keep {limit}; it was not set. "
            "Store the data on the server and set a reference."
        )
        self.name, self.size, self.limit = name, size, limit


class SecretTooShort(ServerError):
    """Raised when keys would be derived from too little; nothing was signed."""

    def __init__(self, size: int, minimum: int) -> None:
        super().__init__(f"the secret has {size} bytes, at least {minimum} are needed.")
        self.size, self.minimum = size, minimum
