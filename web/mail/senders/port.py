"""What a way out does with a mail, and what can be wrong with it as a whole."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from web.mail.answers import Answer
from web.mail.words import Mail

# Awaited before the last byte may leave; False: it must not.
BeforeLeaving = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A mail that is to leave now, and its bytes."""

    message_id: UUID
    mail: Mail
    data: bytes = field(repr=False)
    needs_utf8: bool = False


class SenderTrouble(Exception):
    """Raised when a way out does not work, whatever the mail: it is tried again later.

    The text is for an operator: no address, no password, no words of the server.
    """

    code = "mail_trouble"


class ServerAway(SenderTrouble):
    """Raised when the server cannot be reached, does not answer in time, or takes nobody now."""

    code = "mail_server_away"


class UnknownHost(SenderTrouble):
    """Raised when the server's name has no address; look at SMTP_HOST."""

    code = "mail_host_unknown"


class TlsRefused(SenderTrouble):
    """Raised when no encryption comes about: none offered, or a certificate that is not trusted."""

    code = "mail_tls_refused"


class LoginRefused(SenderTrouble):
    """Raised when the server does not take SMTP_USER and SMTP_PASSWORD."""

    code = "mail_login_refused"


class AnswerLost(Exception):
    """Raised when all of a mail has left and no answer came: it may have been taken."""


class MayNotLeave(Exception):
    """Raised when `BeforeLeaving` said no; nothing of the mail was given away."""


class Sender(Protocol):
    """A way out."""

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """Call this to send a mail; what it gives is the answer of who took it.

        Raises `SenderTrouble`, `AnswerLost`, `MayNotLeave`. Cancelled, the mail has left if
        `before_leaving` was called and not otherwise.
        """
        ...

    async def close_idle(self) -> None:
        """Call this now and then, so that nothing stays open that nobody uses."""
        ...

    async def close(self) -> None:
        """Call this to let go of what is kept open; a later `send` opens it again."""
        ...
