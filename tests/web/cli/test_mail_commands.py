"""`greenroom mail`: a test goes at once, and each of its faults is told by its own sentence."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from actors.persistence import MailRef, MailState
from storage.postgres import Database, PostgresMailStates
from tests.web.cli.commanding import Commands, on
from tests.web.mail.mail_server import MailServer, mail_server
from web.cli.commands import main
from web.mail.words import address_digest

_NAMES = ("MAIL_SENDER", "SMTP_HOST", "SMTP_SECURITY", "SMTP_USER", "SMTP_PASSWORD")


@pytest.fixture
def box() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def _set(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    plain = {"SMTP_HOST": "127.0.0.1", "SMTP_SECURITY": "none", "MAIL_FROM": "g@example.org"}
    for name, value in {**plain, **names}.items():
        monkeypatch.setenv(name, value)


def test_a_test_mail_arrives(
    box: MailServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # MAIL-6
    _set(monkeypatch, SMTP_PORT=str(box.port))
    assert main(["mail", "test", "ada@example.org"]) == 0
    assert "sent" in capsys.readouterr().out
    (mail,) = box.mails()
    assert mail["Subject"] == "A test of mail"
    box.at_recipient.append("550 5.1.1 nobody")
    assert main(["mail", "test", "ada@example.org", "--json"]) == 4
    assert '"550 5.1.1 at RCPT TO"' in capsys.readouterr().out


def test_a_mail_that_is_printed_is_no_part_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    monkeypatch.setenv("MAIL_SENDER", "console")
    assert main(["mail", "test", "ada@example.org", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"verdict": "sent", "reason": "printed"}
    assert "To: ada@example.org" in told.err


def test_each_fault_has_its_sentence_in_the_page(
    box: MailServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # MAIL-2, MAIL-6: what the page of troubles names is what is said
    page = (Path(__file__).parents[3] / "docs" / "how_to" / "mail.md").read_text()
    port = str(box.port)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        silent = str(bound.getsockname()[1])
        for words, code, names in (
            ("the mail server's name has no address", 5, {"SMTP_HOST": "x.invalid",
                "SMTP_SECURITY": "starttls", "SMTP_PORT": port}),
            ("the mail server cannot be reached", 5, {"SMTP_PORT": silent}),
            ("the mail server offers no encryption (STARTTLS)", 5, {"SMTP_PORT": port,
                "SMTP_SECURITY": "starttls"}),
            ("mail is switched off", 4, {"MAIL_SENDER": "off"}),
        ):  # fmt: skip
            _set(monkeypatch, **names)
            assert main(["mail", "test", "ada@example.org"]) == code
            assert words in capsys.readouterr().err
            assert words in page
    _set(monkeypatch, SMTP_PORT=port)
    assert main(["mail", "test", "ada@example.org,eve@example.org"]) == 2
    assert box.got == []


def test_what_became_of_mails_is_listed_and_an_address_let_go(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # MAIL-6, MAIL-7
    digest = address_digest("ada@example.org")

    async def send(database: Database) -> None:
        states = PostgresMailStates(database)
        await states.settle(MailRef(UUID(int=1), digest, "ticket"), MailState.REFUSED, "550")
        await states.suppress(digest, "550")

    on(database_url, send)
    commands = Commands(database_url, capsys)
    row = commands.one("mail", "list")
    assert (row["recipient"], row["template"]) == (digest.hex()[:12], "ticket")
    assert (row["state"], row["reason"]) == ("refused", "550")
    assert "ada" not in commands.out
    assert commands("mail", "allow", "Ada@example.org", "--yes") == 0
    assert commands("mail", "allow", "ada@example.org", "--yes") == 3
