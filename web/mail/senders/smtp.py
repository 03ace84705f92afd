"""A mail server as the way out: two connections at most, each in a worker thread of its own.

Rule 1: a mail is given up by its code alone, in `answers.py`; errors are about the server.
Rule 2: what runs in a thread ends when its caller is cancelled: the connection is cut under it.
Rule 3: nothing is sent that was not encrypted, unless the settings say so; certificates are always
        verified.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from actors.runtime import Secret
from web.mail.answers import Answer, Asked, judge
from web.mail.message import ascii_domain, wire_address
from web.mail.senders.port import (
    AnswerLost,
    BeforeLeaving,
    LoginRefused,
    MayNotLeave,
    Outgoing,
    ServerAway,
    TlsRefused,
    UnknownHost,
)
from web.mail.words import MailAddress, SmtpSecurity

# MAIL-2: so many threads, and no more connections. Providers take few from one client.
WORKERS = 2
# MAIL-2: a mail soon after another needs no new handshake; a server forgets idle ones in minutes.
KEPT_S = 60.0
# To reach it: who does not answer by then is away. Names of several addresses are tried together.
CONNECT_S_MAX = 10.0
# One answer, and all of one mail. Less than the relay gives a message.
ANSWER_S_MAX = 20.0
MAIL_S_MAX = 45.0

_DOT = re.compile(rb"(?m)^\.")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Which server, how it is reached, and who we are to it."""

    host: str
    port: int
    security: SmtpSecurity
    sender: MailAddress
    user: str = ""
    password: Secret[str] | None = None
    # Of an own authority; else those of the system.
    ca_file: Path | None = None


class SmtpSender:
    """See the top of this file. Made and used in one trio run; `close` lets connections go."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._limiter = trio.CapacityLimiter(WORKERS)
        self._idle: list[_Connection] = []
        self._tls: ssl.SSLContext | None = None

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """See `Sender.send`."""
        async with self._limiter:
            connection = await self._connection()
            is_whole = False
            try:
                answer = await self._run(
                    connection, partial(connection.send, outgoing, before_leaving)
                )
                is_whole = connection.is_open
            finally:
                if is_whole:
                    connection.idle_since = trio.current_time()
                    self._idle.append(connection)
                else:
                    connection.close()
            return answer

    async def close_idle(self) -> None:
        """See `Sender.close_idle`: what was not used for a minute is let go."""
        now = trio.current_time()
        old = [one for one in self._idle if now - one.idle_since >= KEPT_S]
        self._idle = [one for one in self._idle if one not in old]
        for connection in old:
            connection.close()

    async def close(self) -> None:
        """See `Sender.close`."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> _Connection:
        await self.close_idle()
        while self._idle:
            kept = self._idle.pop()
            # A server may have left meanwhile; nothing of a mail was given to it yet.
            if await self._run(kept, kept.is_there):
                return kept
            kept.close()
        try:
            with trio.fail_after(CONNECT_S_MAX):
                raw = await self._reach()
        except trio.TooSlowError:
            raise ServerAway("the mail server cannot be reached in time") from None
        connection = _Connection(self._settings, raw)
        is_ready = False
        try:
            await self._run(connection, partial(connection.open, self._context))
            is_ready = True
        finally:
            if not is_ready:
                connection.close()
        return connection

    async def _reach(self) -> socket.socket:
        settings = self._settings
        try:
            stream = await trio.open_tcp_stream(settings.host, settings.port)
        except (socket.gaierror, UnicodeError):
            raise UnknownHost("the mail server's name has no address; look at SMTP_HOST") from None
        except OSError as error:
            why = error.strerror or "no address answers"
            raise ServerAway(f"the mail server cannot be reached ({why})") from error
        return socket.socket(fileno=stream.socket.detach())

    def _context(self) -> ssl.SSLContext:
        # In a thread: it reads the system's certificates.
        if self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._settings.ca_file)
            except OSError as error:
                raise TlsRefused("SMTP_CA_FILE cannot be read as certificates") from error
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._tls

    async def _run(self, connection: _Connection, work: Callable[[], T]) -> T:
        """Run what blocks in a thread; cut the connection when it is cancelled, or takes long."""
        is_done, results, problems = False, list[T](), list[Exception]()

        async def cut_late() -> None:
            try:
                await trio.sleep(MAIL_S_MAX)
            finally:
                if not is_done:
                    connection.cut()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_late)
            try:
                # Who calls has one of the workers: a thread each.
                results.append(await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1)))
            except Exception as error:  # noqa: BLE001  (raised again, out of the nursery)
                problems.append(error)
            finally:
                is_done = True
                nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()
        if problems:
            raise problems[0]
        return results[0]


class _Connection:
    """One connection, used by one thread at a time; only `cut` may come from another."""

    def __init__(self, settings: SmtpSettings, raw: socket.socket) -> None:
        self._settings = settings
        raw.settimeout(ANSWER_S_MAX)
        self._raw = raw
        # The end of the same connection that stays ours, whatever is wrapped around the other.
        self._handle = raw.dup()
        self._smtp = _Client(settings.host, ascii_domain(settings.sender.address))
        self.is_open = False
        self.idle_since = 0.0

    def open(self, context: Callable[[], ssl.SSLContext]) -> None:
        """Greet, encrypt, log in; in a thread."""
        settings, smtp = self._settings, self._smtp
        try:
            if settings.security is SmtpSecurity.TLS:
                self._raw = self._encrypted(context())
            code, _ = smtp.greet(self._raw)
            if code != 220:
                raise ServerAway(f"the mail server takes nobody now ({code})")
            smtp.ehlo_or_helo_if_needed()
            if settings.security is SmtpSecurity.STARTTLS:
                self._start_tls(context())
            if settings.user and settings.password is not None:
                self._log_in(settings.password)
        except ssl.SSLCertVerificationError as error:
            raise TlsRefused(
                f"the mail server's certificate is not trusted ({error.verify_message})"
            ) from error
        except ssl.SSLError as error:
            raise TlsRefused("no encryption came about with the mail server") from error
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            raise ServerAway(f"the mail server left the talk ({type(error).__name__})") from error
        self.is_open = True

    def is_there(self) -> bool:
        """Look whether the server is still there; in a thread."""
        try:
            return self._smtp.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """Give one mail, and read what became of it; in a thread that trio knows."""
        smtp, has_left = self._smtp, False
        try:
            answer = self._ask_whether(outgoing)
            if answer is not None:
                return answer
            code, text = smtp.docmd("DATA")
            if code != 354:
                return self._told(Asked.DATA, code, text)
            if not trio.from_thread.run(before_leaving):
                raise MayNotLeave  # the caller cuts the connection: no end of data was sent
            # Whoever takes a part of it has no mail: without its end it is thrown away.
            smtp.send(_DOT.sub(b"..", outgoing.data) + b".\r\n")
            has_left = True
            return self._told(Asked.BODY, *smtp.getreply())
        except (OSError, smtplib.SMTPException) as error:
            self.is_open = False
            if has_left:
                raise AnswerLost from error
            raise ServerAway(f"the mail server left the talk ({type(error).__name__})") from error
        except BaseException:
            self.is_open = False
            raise

    def cut(self) -> None:
        """End the connection under the thread that waits for it; from any other."""
        self.is_open = False
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it at once, while no thread uses it; as often as one likes."""
        self.cut()
        for one in (self._handle, self._raw, self._smtp):
            with suppress(OSError):
                one.close()

    def _encrypted(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        return context.wrap_socket(self._raw, server_hostname=self._settings.host)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        try:
            self._smtp.starttls(context=context)
        except (smtplib.SMTPNotSupportedError, smtplib.SMTPResponseException) as error:
            raise TlsRefused("the mail server offers no encryption (STARTTLS)") from error
        self._smtp.ehlo_or_helo_if_needed()

    def _log_in(self, password: Secret[str]) -> None:
        try:
            self._smtp.login(self._settings.user, password.reveal())
        except smtplib.SMTPAuthenticationError as error:
            if 400 <= error.smtp_code < 500:
                raise ServerAway(
                    f"the mail server takes no login now ({error.smtp_code})"
                ) from None
            raise LoginRefused(
                f"the mail server refuses the login ({error.smtp_code}); look at SMTP_USER and "
                "SMTP_PASSWORD"
            ) from None
        except smtplib.SMTPServerDisconnected:
            raise
        except (smtplib.SMTPException, UnicodeError):
            # Nothing of it is told: it may quote what was sent.
            raise LoginRefused("the mail server takes no login that we can do") from None

    def _ask_whether(self, outgoing: Outgoing) -> Answer | None:
        """Name sender and recipient; an answer when one of them is not taken."""
        smtp, options = self._smtp, ["BODY=8BITMIME"] if self._smtp.has_extn("8bitmime") else []
        if outgoing.needs_utf8:
            if not smtp.has_extn("smtputf8"):
                return Answer(
                    judge(Asked.RECIPIENT, 553).verdict, "553 5.6.7 at RCPT TO, without SMTPUTF8"
                )
            smtp.command_encoding = "utf-8"
            options = [*options, "SMTPUTF8"]
        code, text = smtp.mail(wire_address(self._settings.sender.address), options)
        if code != 250:
            return self._told(Asked.SENDER, code, text)
        code, text = smtp.rcpt(wire_address(outgoing.mail.to))
        smtp.command_encoding = "ascii"
        if code not in (250, 251):
            return self._told(Asked.RECIPIENT, code, text)
        return None

    def _told(self, asked: Asked, code: int, text: bytes) -> Answer:
        answer = judge(asked, code, text)
        # 421: it closes. Of a mail that was not taken its sender is forgotten, for the next one.
        if code in (421, -1):
            self.is_open = False
        elif asked is not Asked.BODY:
            self.is_open = self._smtp.rset()[0] == 250
        return answer


class _Client(smtplib.SMTP):
    """The library's client on a connection that is there already."""

    def __init__(self, host: str, own_name: str) -> None:
        super().__init__(local_hostname=own_name)
        # What a certificate is compared with.
        self._host = host

    def greet(self, connection: socket.socket) -> tuple[int, bytes]:
        """Call this once: reads what the server says first."""
        self.sock = connection
        self.file = None
        return self.getreply()
