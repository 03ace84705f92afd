"""What mails say: typed, escaped, in the reader's language, and never more than one mail."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, message_from_string
from email.policy import default
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from actors.persistence.words import FLEETING
from storage.memory import MemoryDatabase, MemoryOutbox
from web.mail.mails import Mails, message_id_of
from web.mail.message import bytes_of, wire_address
from web.mail.senders.console import boxed
from web.mail.templates import (
    ALERTS,
    FOLDER,
    MAGIC_LINK,
    ORDER,
    SECURITY_ALERT,
    TEMPLATES,
    TICKET,
    AlertKind,
    MailTemplates,
    Order,
    OrderLine,
    SecurityAlert,
    Template,
)
from web.mail.words import (
    PICTURE_BYTES_MAX,
    PICTURES_MAX,
    BadMail,
    Mail,
    MailAddress,
    Picture,
    parse_address,
    parse_sender,
)
from web.views import picture_of, svg_of

_AT = datetime(2025, 3, 1, 12, 30, tzinfo=UTC)
_FROM = MailAddress("greenroom@example.org", "Greenroom")
_HOSTILE = "<script>alert(1)</script>&\"'{{ 7 * 7 }}{% raw %}"
_BREAKS = ("\n", "\r", "\r\n", "\x00", "\x0b", "\x85", "\u2028", "\u202e", "\x1b[2J")


def _mail(**changes: str) -> Mail:
    given = {"to": "ada@example.org", "template": "mail_test", "language": "en", **changes}
    return Mail(**{"subject": "A test", "text": "Hello.", "html": "<p>Hello.</p>", **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.name)
def test_each_template_is_whole_and_asks_nothing_of_another_host(
    template: Template[SecurityAlert],
) -> None:
    # MAIL-4, MAIL-9: a text and an HTML part that say the same, and nothing to be fetched
    said = MailTemplates().render(template, template.sample)
    assert said.language == "en"
    assert "\n" not in said.subject
    link = getattr(template.sample, "link", None)
    for body in (said.text, said.html):
        assert template.sample.username in body if hasattr(template.sample, "username") else True
        assert "{{" not in body
        links = re.findall(r"https?://[^\s\"<]+", body)
        known = {
            getattr(template.sample, name, None) for name in ("origin", "not_me", "stop", "finish")
        }
        assert set(links) <= {link} | known
    assert not re.search(r"src=|url\(|<link|<style|<script|@import|background=", said.html)


def test_what_people_wrote_is_text_in_html() -> None:
    # MAIL-4, SEC-122
    templates = MailTemplates()
    alert = SecurityAlert(_HOSTILE, AlertKind.PASSWORD_CHANGED, _AT, _HOSTILE)
    order = Order(_HOSTILE, "1", [OrderLine(_HOSTILE, 1, _HOSTILE)], _HOSTILE)
    for said in (templates.render(SECURITY_ALERT, alert), templates.render(ORDER, order)):
        assert "<script>" not in said.html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said.html
        assert "49" not in said.html
        assert _HOSTILE in said.text


@pytest.mark.parametrize("sign", _BREAKS, ids=repr)
def test_a_line_break_begins_no_header(sign: str) -> None:
    # MAIL-4, SEC-122: in every value that a header is made of
    bad = f"x{sign}Bcc: eve@example.org"
    ticket = replace(TICKET.sample, event=bad)
    with pytest.raises(BadMail, match="nothing was sent"):
        MailTemplates().render(TICKET, ticket)
    for call in (
        lambda: parse_address(f"ada@example.org{sign}eve@example.org"),
        lambda: parse_sender(f"{bad} <ada@example.org>"),
        lambda: message_id_of(bad),
        lambda: bytes_of(_mail(subject=bad), UUID(int=1), _FROM, _AT),
        lambda: bytes_of(_mail(to=f"ada@example.org{sign}"), UUID(int=1), _FROM, _AT),
    ):
        with pytest.raises(BadMail):
            call()


@pytest.mark.parametrize(
    "text",
    [
        "", "ada", "@x.org", "ada@", "ada@localhost", "a@b@c.org", "a b@example.org",
        "<ada@example.org>", "ada@example.org,eve@example.org", "ada@example.org>",
        "a" * 65 + "@b.org",
        '"ada"@example.org', ".ada@example.org", "ada.@example.org", "a..b@example.org",
        "ada@[127.0.0.1]", "ada@" + "x" * 64 + ".org", "ada@example.org;x", "demo@example.com",
    ],
)  # fmt: skip
def test_an_address_names_one_mailbox(text: str) -> None:
    # MAIL-5, SITE-31
    with pytest.raises(BadMail) as caught:
        parse_address(text)
    assert len(text) < 10 or text not in str(caught.value)


def test_a_sender_may_have_a_name() -> None:
    # MAIL-4
    assert parse_sender(" Ada L <Ada@Example.org> ") == MailAddress("ada@example.org", "Ada L")
    assert parse_sender("ada@example.org") == MailAddress("ada@example.org")
    for bad in ("Ada <ada@example.org", "Ada <ada@example.org> x", "A:b <ada@example.org>", "Ada"):
        with pytest.raises(BadMail, match="from"):
            parse_sender(bad)


def test_a_template_takes_its_own_context_only() -> None:
    # MAIL-9
    with pytest.raises(BadMail, match="security_alert takes SecurityAlert, got Ticket"):
        MailTemplates().render(SECURITY_ALERT, TICKET.sample)  # type: ignore[misc]
    naive = SecurityAlert("ada", AlertKind.NEW_DEVICE, datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(BadMail, match="time with its zone"):
        MailTemplates().render(SECURITY_ALERT, naive)
    with pytest.raises(BadMail, match="2001 characters"):
        MailTemplates().render(TICKET, replace(TICKET.sample, place="x" * 2001))
    for link in ("javascript:alert(1)", "https://a b", "ftp://example.org"):
        with pytest.raises(BadMail, match="link"):
            MailTemplates().render(MAGIC_LINK, replace(MAGIC_LINK.sample, link=link))


def test_a_name_that_a_template_asks_for_and_does_not_get_is_an_error(tmp_path: Path) -> None:
    # MAIL-9: and its words quote nothing
    folder = tmp_path / "en"
    folder.mkdir()
    for part in ("subject.txt", "txt", "html"):
        (folder / f"ticket.{part}").write_text("{{ mail.nothing }}")
    with pytest.raises(BadMail, match=r"en/ticket\.subject\.txt cannot be filled"):
        MailTemplates(tmp_path).render(TICKET, TICKET.sample)


def test_a_mail_is_in_the_readers_language_or_wholly_in_english(tmp_path: Path) -> None:
    # MAIL-9
    for language, parts in (
        ("en", ("subject.txt", "txt", "html")),
        ("de", ("subject.txt", "txt", "html")),
        ("fr", ("subject.txt",)),
    ):
        (tmp_path / language).mkdir()
        for part in parts:
            (tmp_path / language / f"ticket.{part}").write_text(f"{language} {part}")
    templates = MailTemplates(tmp_path)

    def said(language: str) -> tuple[str, str]:
        found = templates.render(TICKET, TICKET.sample, language)
        return found.language, found.subject

    assert said("de") == said("de-AT") == ("de", "de subject.txt")
    for other in ("fr", "it", "", "../en", "de/../../etc", "\x00"):
        assert said(other) == ("en", "en subject.txt")


async def test_the_same_key_is_the_same_mail() -> None:
    # MAIL-5: one row, and one Message-ID
    outbox = MemoryOutbox(MemoryDatabase())
    mails = Mails(outbox)
    given = ("Ada@example.org", SECURITY_ALERT, SECURITY_ALERT.sample)
    assert [await mails.send(*given, key) for key in ("k1", "k1", "k2")] == [True, False, True]
    assert (await outbox.stats()).pending == 2
    first, again = (mails.messages(*given, "k1")[0] for _ in range(2))
    assert first == again
    assert first.message_id == message_id_of("k1") != message_id_of("k2")


async def test_without_mail_nothing_is_written_and_what_is_wrong_is_still_told() -> None:
    # MAIL-3
    mails = Mails(None)
    assert not mails.is_on
    assert mails.messages("ada@example.org", TICKET, TICKET.sample, "k") == ()
    assert not await mails.send("ada@example.org", TICKET, TICKET.sample, "k")
    with pytest.raises(BadMail):
        mails.messages("nobody", TICKET, TICKET.sample, "k")


def test_a_security_mail_has_no_link_and_a_changed_address_tells_both() -> None:
    # SEC-73
    mails = Mails(MemoryOutbox(MemoryDatabase()))
    for kind in ALERTS:
        said = MailTemplates().render(SECURITY_ALERT, SecurityAlert("ada", kind, _AT))
        assert ALERTS[kind] in said.text
        assert "http" not in said.text + said.html
    told = mails.address_changed("old@example.org", "new@example.org", "ada", _AT, "k")
    texts = [message.payload.decode() for message in told]
    assert '"to":"old@example.org"' in texts[0]
    assert "changed to another one" in texts[0]
    assert "new@" not in texts[0]  # who had the address need not learn the next one
    assert '"to":"new@example.org"' in texts[1]


def test_an_optional_mail_says_how_to_end_it() -> None:
    # MAIL-4
    mails = Mails(MemoryOutbox(MemoryDatabase()))
    end = "https://example.org/unsubscribe?u=1"
    (message,) = mails.messages("a@example.org", TICKET, TICKET.sample, "k", unsubscribe=end)
    assert end in message.payload.decode()
    read = message_from_bytes(
        bytes_of(_mail(unsubscribe=end), UUID(int=1), _FROM, _AT), policy=default
    )
    assert read["List-Unsubscribe"] == f"<{end}>"
    assert read["X-Correlation-ID"] is None
    for bad in ("http://example.org", "https://a>b", "https://a\nb", "mailto:x@example.org"):
        with pytest.raises(BadMail, match="unsubscribe"):
            mails.messages("a@example.org", TICKET, TICKET.sample, "k", unsubscribe=bad)


@pytest.mark.parametrize(
    ("given", "written"),
    [(str(UUID(int=7)), str(UUID(int=7))), ("nightly:1", "nightly:1"), ("", None), ("a b", None),
     ("a\r\nBcc: eve@example.org", None), ("x" * 101, None), ("ünique", None)],
)  # fmt: skip
def test_a_mail_is_found_by_the_request_that_led_to_it(given: str, written: str | None) -> None:
    # MAIL-4, EX-47: what is no plain word adds no header of its own, and keeps no mail back
    data = bytes_of(_mail(), UUID(int=1), _FROM, _AT, correlation_id=given)
    read = message_from_bytes(data, policy=default)
    assert (read["X-Correlation-ID"], read["Bcc"]) == (written, None)


_SUBJECTS = ("Hi", "Zoë’s links", "word " * 40 + "end", "x" * 200, "a  b", "=?x?=")


@pytest.mark.parametrize("name", ["", "The Desk", 'A "B" <c>', "Zoë", "d" * 90])
@pytest.mark.parametrize(
    "to", ["ada@example.org", "o'neil@example.org", "ada@" + "sub." * 40 + "org", "zoë@exämple.org"]
)
def test_what_a_mail_says_is_read_as_it_was_written(name: str, to: str) -> None:
    # MAIL-4: whatever is written by hand, and whatever the library folds and encodes
    text = "Hello\n.\n..\nFrom here\n =3D = \t\n\tZoë \U0001f600\x00\x7f" + "long " * 300 + "\n"
    for subject in _SUBJECTS:
        mail = _mail(to=to, subject=subject, text=text, html=f"<pre>{text}</pre>")
        data = bytes_of(mail, UUID(int=1), MailAddress("desk@example.org", name), _AT)
        lines = data.split(b"\r\n")
        assert max(map(len, lines)) <= 998
        assert b"\n" not in b"".join(lines)
        assert data.isascii() or not to.isascii()
        read = message_from_string(data.decode(), policy=default)
        assert not any(part.defects for part in read.walk())
        assert str(read["Subject"]) == subject
        (sender,), (reader,) = read["From"].addresses, read["To"].addresses
        assert (sender.display_name, sender.addr_spec) == (name, "desk@example.org")
        assert reader.addr_spec == wire_address(to)
        assert read["Content-Language"] == "en"
        plain, html = read.iter_parts()
        assert plain.get_content_type() == "text/plain"
        assert plain.get_content().replace("\r\n", "\n") == text
        assert html.get_content().replace("\r\n", "\n") == f"<pre>{text}</pre>\n"


def test_a_picture_is_a_file_behind_what_the_mail_says() -> None:
    # EX-50: a ticket comes with its code as a picture, which nobody has to load
    svg = svg_of(picture_of("T-7421"))
    mails = Mails(MemoryOutbox(MemoryDatabase()))
    picture = Picture("ticket-A1", svg)
    (message,) = mails.ticket("a@example.org", TICKET.sample, "k", [picture])
    assert message.headers[FLEETING] == "1", "who reads the outbox later finds no code"
    mail = msgspec.json.decode(message.payload, type=Mail)
    data = bytes_of(mail, UUID(int=1), _FROM, _AT)
    assert max(map(len, data.split(b"\r\n"))) <= 998
    read = message_from_bytes(data, policy=default)
    assert not any(part.defects for part in read.walk())
    texts, file = read.iter_parts()
    assert [part.get_content_type() for part in texts.iter_parts()] == ["text/plain", "text/html"]
    assert "/tickets/7421" in next(texts.iter_parts()).get_content()
    assert (file.get_content_type(), file.get_filename()) == ("image/svg+xml", "ticket-A1.svg")
    assert file.get_content().decode() == svg
    large = "<svg " + "x" * PICTURE_BYTES_MAX
    for wrong in (Picture('a"b', svg), Picture("a", "<html>"), Picture("a", large)):
        with pytest.raises(BadMail, match="picture"):
            mails.ticket("a@example.org", TICKET.sample, "k", [wrong])
    with pytest.raises(BadMail, match="pictures"):
        mails.ticket("a@example.org", TICKET.sample, "k", [picture] * (PICTURES_MAX + 1))


def test_a_mail_that_no_server_could_take_is_told() -> None:
    # MAIL-4
    for wrong in ({"text": "\ud800"}, {"to": "b,o\ud800@example.org"}):
        with pytest.raises(BadMail):
            bytes_of(_mail(**wrong), UUID(int=1), _FROM, _AT)


def test_a_printed_mail_steers_no_terminal_and_keeps_its_link_whole() -> None:
    # MAIL-3
    link = "https://example.org/" + "x" * 200
    shown = boxed(_mail(text=f"Hello \x1b[2Jthere\n{link}\n"))
    assert "\x1b" not in shown
    assert f" {link}\n" in shown


def test_every_file_belongs_to_a_template() -> None:
    # MAIL-9
    wanted = {f"{one.name}.{part}" for one in TEMPLATES for part in ("subject.txt", "txt", "html")}
    for folder in FOLDER.iterdir():
        assert {path.name for path in folder.iterdir()} <= wanted | {"frame.html"}
    assert {path.name for path in (FOLDER / "en").iterdir()} == wanted | {"frame.html"}
