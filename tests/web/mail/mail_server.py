"""A mail server in the test's process, on a thread of its own, that does what the test tells it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

# As an answer of `at_data`: end the connection, or say nothing, with all of the mail here.
CUT, SILENT = "cut", "silent"
USER, PASSWORD = "postmaster", "a-password-of-the-server"


@dataclass
class MailServer:
    """What a test says it should answer, and what it has got. An empty queue takes all."""

    port: int = 0
    at_sender: deque[str] = field(default_factory=deque)
    at_recipient: deque[str] = field(default_factory=deque)
    at_data: deque[str] = field(default_factory=deque)
    got: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    connections: int = 0
    is_greylisting: bool = False
    silent: threading.Event = field(default_factory=threading.Event)
    seen: set[str] = field(default_factory=set)

    def mails(self) -> list[EmailMessage[str, str]]:
        """Call this for what arrived, read by the library."""
        return [message_from_bytes(one, policy=default) for one in self.got]

    # What the library calls.

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_sender:
            return self.at_sender.popleft()
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.is_greylisting and address not in self.seen:
            self.seen.add(address)
            return "451 4.7.1 come again in a minute"
        if self.at_recipient:
            return self.at_recipient.popleft()
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.at_data.popleft() if self.at_data else "250 2.0.0 taken"
        if (answer[:1] in "24" and not answer.startswith("4")) or answer in (CUT, SILENT):
            self.got.append(cast(bytes, envelope.content))
            self.recipients += envelope.rcpt_tos
        if answer == CUT:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        if answer == SILENT:
            self.silent.set()
            await asyncio.sleep(3600)
        return answer


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and (
        data.login == USER.encode() and data.password == PASSWORD.encode()
    )
    # Not handled: the library answers 535 itself; handled, it would say nothing.
    return AuthResult(success=is_right, handled=is_right)


@contextmanager
def mail_server(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    needs_login: bool = False,
    takes_utf8: bool = True,
) -> Iterator[MailServer]:
    """Run a server as long as the block."""
    box, loop, ready = MailServer(), asyncio.new_event_loop(), threading.Event()

    def protocol() -> SMTP:
        box.connections += 1
        with warnings.catch_warnings():
            # It warns of a login without STARTTLS, as with TLS from the start.
            warnings.simplefilter("ignore")
            return server_of()

    def server_of() -> SMTP:
        return SMTP(
            box,
            hostname="mail.test",
            enable_SMTPUTF8=takes_utf8,
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=needs_login,
            auth_require_tls=starttls is not None,
            authenticator=_authenticate,
            loop=loop,
        )

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0, ssl=tls))
        box.port = server.sockets[0].getsockname()[1]
        ready.set()
        loop.run_forever()
        server.close()
        for task in (tasks := asyncio.all_tasks(loop)):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
