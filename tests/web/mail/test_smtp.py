"""A real mail server, and all that one may do to a mail."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import trio

from actors.runtime import Secret
from tests.web.mail.mail_server import CUT, PASSWORD, SILENT, USER, MailServer, mail_server
from tests.web.server.certificate import make_context
from web.mail.answers import Verdict
from web.mail.message import bytes_of, needs_utf8
from web.mail.senders.port import (
    AnswerLost,
    LoginRefused,
    MayNotLeave,
    Outgoing,
    SenderTrouble,
    ServerAway,
    TlsRefused,
    UnknownHost,
)
from web.mail.senders.smtp import WORKERS, SmtpSender, SmtpSettings
from web.mail.templates import MAIL_TEST
from web.mail.words import Mail, MailAddress, SmtpSecurity

FROM = MailAddress("greenroom@example.org", "Greenroom")


@pytest.fixture
def box() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificate")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> ssl.SSLContext:
    context = make_context(folder)
    # What it offers otherwise is for HTTP.
    context.set_alpn_protocols([])
    return context


def outgoing(to: str = "ada@example.org", number: int = 1, text: str = "Hello.\n") -> Outgoing:
    mail = Mail(to, MAIL_TEST.name, "en", "A test", text, "<p>Hello.</p>")
    at = MAIL_TEST.sample.at
    data = bytes_of(mail, UUID(int=number), FROM, at)
    return Outgoing(UUID(int=number), mail, data, needs_utf8(mail, FROM))


async def may() -> bool:
    return True


async def may_not() -> bool:
    return False


@asynccontextmanager
async def sending(port: int, **changes: object) -> AsyncIterator[SmtpSender]:
    given: dict[str, object] = {
        "host": "127.0.0.1",
        "security": SmtpSecurity.NONE,
        "sender": FROM,
        **changes,
    }
    sender = SmtpSender(SmtpSettings(port=port, **given))  # type: ignore[arg-type]
    try:
        yield sender
    finally:
        await sender.close()


async def test_a_mail_arrives_as_it_was_written(box: MailServer) -> None:
    # MAIL-4, MAIL-2: and the next one by the same connection
    text = "A line.\n.\n..\n.one that begins with a dot\n\u2603 " + "long " * 400 + "\n"
    async with sending(box.port) as sender:
        answers = [await sender.send(outgoing(number=n, text=text), may) for n in (1, 2, 3)]
    assert [answer.verdict for answer in answers] == [Verdict.SENT] * 3
    assert box.connections == 1
    mail, *_ = box.mails()
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == text
    assert mail["Message-ID"] == f"<{UUID(int=1)}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert str(mail["Date"]) == "Sat, 01 Mar 2025 12:30:00 +0000"
    assert mail["From"] == "Greenroom <greenroom@example.org>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("kind", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
async def test_a_mail_goes_encrypted_and_with_a_login(
    certificate: ssl.SSLContext, folder: Path, kind: SmtpSecurity
) -> None:
    # MAIL-2, MAIL-10
    given = {"starttls" if kind is SmtpSecurity.STARTTLS else "tls": certificate}
    with mail_server(**given, needs_login=True) as box:  # type: ignore[arg-type]
        async with sending(
            box.port,
            host="localhost",
            security=kind,
            user=USER,
            password=Secret(PASSWORD),
            ca_file=folder / "cert",
        ) as sender:
            assert (await sender.send(outgoing(), may)).verdict is Verdict.SENT
    assert box.recipients == ["ada@example.org"]


def is_told(error: TlsRefused) -> bool:
    """Whether the page of troubles has a row for it; what the system adds stands in brackets."""
    page = Path(__file__).parents[3] / "docs" / "how_to" / "mail.md"
    return f"| {str(error).split(' (')[0]}" in page.read_text()


@pytest.mark.parametrize("kind", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
async def test_a_certificate_that_is_not_the_servers_is_refused(
    certificate: ssl.SSLContext, folder: Path, kind: SmtpSecurity
) -> None:
    # DOC-4, MAIL-2, MAIL-10: of nobody that is known, and of another name
    given = {"starttls" if kind is SmtpSecurity.STARTTLS else "tls": certificate}
    with mail_server(**given) as box:  # type: ignore[arg-type]
        for changes in (
            {"host": "localhost"},
            {"host": "127.0.0.1", "ca_file": folder / "cert"},
        ):
            async with sending(box.port, security=kind, **changes) as sender:
                with pytest.raises(TlsRefused, match="not trusted") as caught:
                    await sender.send(outgoing(), may)
                assert is_told(caught.value)
    assert box.got == []


async def test_a_server_without_encryption_gets_nothing(box: MailServer) -> None:
    # MAIL-2
    async with sending(box.port, security=SmtpSecurity.STARTTLS) as sender:
        with pytest.raises(TlsRefused, match="offers no encryption") as caught:
            await sender.send(outgoing(), may)
    assert is_told(caught.value)
    assert box.got == []


async def test_a_login_that_is_refused_says_so_and_not_what_it_was(
    certificate: ssl.SSLContext, folder: Path
) -> None:
    # MAIL-2, SEC-131
    with mail_server(starttls=certificate, needs_login=True) as box:
        async with sending(
            box.port,
            host="localhost",
            security=SmtpSecurity.STARTTLS,
            user=USER,
            password=Secret("another-password"),
            ca_file=folder / "cert",
        ) as sender:
            with pytest.raises(LoginRefused, match=r"535.*SMTP_USER") as caught:
                await sender.send(outgoing(), may)
    assert "another-password" not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_a_name_without_address_and_a_port_where_nobody_listens_differ() -> None:
    # MAIL-2
    async with sending(25, host="no-such-host.invalid") as sender:
        with pytest.raises(UnknownHost, match="SMTP_HOST"):
            await sender.send(outgoing(), may)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with sending(bound.getsockname()[1]) as sender:
            with pytest.raises(ServerAway, match="cannot be reached"):
                await sender.send(outgoing(), may)


@pytest.mark.parametrize(
    ("place", "answer", "verdict"),
    [
        ("at_sender", "451 4.3.0 later", Verdict.DEFERRED),
        ("at_sender", "550 5.7.1 not you", Verdict.REFUSED),
        ("at_recipient", "452 4.2.2 full", Verdict.DEFERRED),
        ("at_recipient", "550 5.1.1 <ada@example.org> nobody", Verdict.REFUSED),
        ("at_data", "452 4.3.1 no room", Verdict.DEFERRED),
        ("at_data", "554 5.6.0 no", Verdict.REFUSED),
    ],
)
async def test_an_answer_is_judged_where_it_comes(
    box: MailServer, place: str, answer: str, verdict: Verdict
) -> None:
    # MAIL-7, MAIL-10: and the connection goes on with the next mail
    getattr(box, place).append(answer)
    async with sending(box.port) as sender:
        told = await sender.send(outgoing(), may)
        assert told.verdict is verdict
        assert told.reason.startswith(" ".join(answer.split()[:2]))
        assert "ada" not in told.reason
        assert (await sender.send(outgoing(number=2), may)).verdict is Verdict.SENT
    assert box.connections == 1


async def test_who_closes_with_421_is_asked_anew(box: MailServer) -> None:
    # MAIL-7
    box.at_data.append("421 4.3.2 closing")
    async with sending(box.port) as sender:
        assert (await sender.send(outgoing(), may)).verdict is Verdict.DEFERRED
        assert (await sender.send(outgoing(), may)).verdict is Verdict.SENT
    assert box.connections == 2


async def test_a_cut_behind_the_end_of_the_data_is_no_refusal(box: MailServer) -> None:
    # MAIL-5, REL-86
    box.at_data.append(CUT)
    async with sending(box.port) as sender:
        with pytest.raises(AnswerLost):
            await sender.send(outgoing(), may)
        assert (await sender.send(outgoing(), may)).verdict is Verdict.SENT
    first, second = box.mails()
    assert first["Message-ID"] == second["Message-ID"]


async def test_what_may_not_leave_leaves_nothing(box: MailServer) -> None:
    # MAIL-5
    async with sending(box.port) as sender:
        with pytest.raises(MayNotLeave):
            await sender.send(outgoing(), may_not)
        assert (await sender.send(outgoing(number=2), may)).verdict is Verdict.SENT
    (mail,) = box.mails()
    assert mail["Message-ID"] == f"<{UUID(int=2)}@example.org>"


async def test_a_cancelled_mail_lets_its_thread_go(box: MailServer) -> None:
    # MAIL-1: a server that never answers holds up no stop
    box.at_data.append(SILENT)
    async with sending(box.port) as sender, trio.open_nursery() as nursery:
        nursery.start_soon(sender.send, outgoing(), may)
        await trio.to_thread.run_sync(box.silent.wait)
        nursery.cancel_scope.cancel()
    async with sending(box.port) as sender:
        assert (await sender.send(outgoing(), may)).verdict is Verdict.SENT


async def test_who_says_nothing_at_all_can_be_left(nursery: trio.Nursery) -> None:
    # REL-86: it takes the connection and never greets
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with sending(silent.getsockname()[1]) as sender:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_when_reached, silent, scope)
                await sender.send(outgoing(), may)
            assert scope.cancelled_caught


async def _cancel_when_reached(silent: socket.socket, scope: trio.CancelScope) -> None:
    connection, _ = await trio.to_thread.run_sync(silent.accept)
    with connection:
        scope.cancel()


async def test_two_connections_at_most(box: MailServer) -> None:
    # MAIL-2
    async with sending(box.port) as sender, trio.open_nursery() as nursery:
        for number in range(1, 41):
            nursery.start_soon(sender.send, outgoing(number=number), may)
    assert len({mail["Message-ID"] for mail in box.mails()}) == 40
    assert box.connections <= WORKERS


async def test_letters_of_other_scripts_go_where_they_are_taken() -> None:
    # MAIL-2: the domain in its other form, the rest only to a server that says so
    with mail_server(takes_utf8=False) as old:
        async with sending(old.port) as sender:
            told = await sender.send(outgoing("ada@bücher.example"), may)
            assert told.verdict is Verdict.SENT
            told = await sender.send(outgoing("čech@bücher.example", 2), may)
            assert (told.verdict, told.is_nobody) == (Verdict.REFUSED, False)
    assert old.recipients == ["ada@xn--bcher-kva.example"]
    with mail_server() as new:
        async with sending(new.port) as sender:
            told = await sender.send(outgoing("čech@bücher.example"), may)
            assert told.verdict is Verdict.SENT
    assert new.recipients == ["čech@xn--bcher-kva.example"]


async def test_troubles_are_told_without_a_word_of_the_server() -> None:
    # SEC-131
    for kind in (ServerAway, UnknownHost, TlsRefused, LoginRefused):
        assert issubclass(kind, SenderTrouble)
        assert kind.code.startswith("mail_")
