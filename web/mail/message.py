"""The bytes of a mail: its headers, a text part and an HTML part, in lines that any server takes.

Pictures stand behind both as files of their own: few readers of mail draw what lies in its HTML.

Pure: the same mail and time give the same bytes. `Message-ID` comes from the message's id, so a
second copy has the same one; `Date` is that of the sending.
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

from web.mail.words import BadMail, Mail, MailAddress, check_line


def message_id_header(message_id: UUID, sender: MailAddress) -> str:
    """Call this for the `Message-ID` of a mail: the same for each copy of it."""
    return f"<{message_id}@{ascii_domain(sender.address)}>"


def ascii_domain(address: str) -> str:
    """Call this for the domain of an address as it goes over the wire."""
    domain = address.partition("@")[2]
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")


def wire_address(address: str) -> str:
    """Call this for an address as it goes over the wire: its domain in ASCII."""
    return f"{address.partition('@')[0]}@{ascii_domain(address)}"


def needs_utf8(mail: Mail, sender: MailAddress) -> bool:
    """Call this to learn whether only a server that takes any letters in addresses takes it."""
    return not (wire_address(mail.to) + wire_address(sender.address)).isascii()


def bytes_of(
    mail: Mail,
    message_id: UUID,
    sender: MailAddress,
    now: datetime,
    *,
    correlation_id: str = "",
) -> bytes:
    """Call this for what a server is given, lines ended by CR LF; raises `BadMail`.

    By `correlation_id` whoever has the mail, or a server's log of it, finds the request that led
    to it. One that is no plain word is left out: no mail stays behind for it.
    """
    for field, text in (("to", mail.to), ("subject", mail.subject), ("from", sender.address)):
        check_line(field, text)
    boundary = f"=_{message_id.hex}"  # no text has it: it is no quoted-printable
    try:
        lines = [
            _address_line("From", sender.address, sender.name),
            _address_line("To", mail.to),
            _line("Subject", mail.subject),
            _line("Date", format_datetime(now)),
            _line("Message-ID", message_id_header(message_id, sender)),
            b"Auto-Submitted: auto-generated",
            b"X-Auto-Response-Suppress: All",
            _line("Content-Language", mail.language),
        ]
        if mail.unsubscribe:
            lines.append(_line("List-Unsubscribe", f"<{mail.unsubscribe}>"))
            lines.append(b"List-Unsubscribe-Post: List-Unsubscribe=One-Click")
        if _CORRELATION_ID.fullmatch(correlation_id):
            lines.append(_line("X-Correlation-ID", correlation_id))
        lines += [
            b"MIME-Version: 1.0",
            *(_with_pictures(boundary, mail) if mail.pictures else _texts(boundary, mail)),
            b"",
        ]
    except (ValueError, IndexError, UnicodeError) as error:
        # Whatever the library makes of it, its words may quote the mail.
        raise BadMail("message", f"cannot be written ({type(error).__name__})") from error
    return b"\r\n".join(lines)


# RFC 5322: a line is better no longer, and never longer than 998.
_LINE_MAX, _UNBROKEN_MAX = 78, 998
# What needs no quotes and has one meaning.
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
# Ours are UUIDs; a program of one's own may name what it does otherwise.
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_PLAIN_NAME = re.compile(r"([A-Za-z0-9]+( [A-Za-z0-9]+)*)?")


def _line(name: str, value: str) -> bytes:
    """A header. The library encodes and folds what needs it, which is ten times the work."""
    line = f"{name}: {value}"
    is_whole = len(line) <= _LINE_MAX or (" " not in value and len(line) <= _UNBROKEN_MAX)
    if is_whole and value == value.strip() and value.isascii() and value.isprintable():
        return line.encode("ascii")
    return _folded(name, value)


def _address_line(header: str, address: str, name: str = "") -> bytes:
    wire = wire_address(address)
    line = f"{header}: {name} <{wire}>" if name else f"{header}: {wire}"
    is_plain = _PLAIN_ADDRESS.fullmatch(wire) and _PLAIN_NAME.fullmatch(name)
    if is_plain and len(line) <= _LINE_MAX:
        return line.encode("ascii")
    whole = Address(name, address.partition("@")[0], ascii_domain(address))
    # What cannot be encoded goes by a server that takes it as it is (`needs_utf8`).
    return _folded(header, whole, is_utf8=not wire.isascii())


def _folded(name: str, value: str | Address, *, is_utf8: bool = False) -> bytes:
    policy = SMTP.clone(utf8=is_utf8)
    _, header = policy.header_store_parse(name, value)
    return policy.fold_binary(name, header).removesuffix(b"\r\n")


def _texts(boundary: str, mail: Mail) -> Sequence[bytes]:
    """What it says, as text and as HTML, of which a reader shows one."""
    return (
        f'Content-Type: multipart/alternative; boundary="{boundary}"'.encode("ascii"),
        b"",
        *_part(boundary, "plain", mail.text),
        *_part(boundary, "html", mail.html),
        f"--{boundary}--".encode("ascii"),
    )


def _with_pictures(boundary: str, mail: Mail) -> Sequence[bytes]:
    lines = [
        f'Content-Type: multipart/mixed; boundary="{boundary}"'.encode("ascii"),
        b"",
        f"--{boundary}".encode("ascii"),
        *_texts(f"{boundary}_texts", mail),
    ]
    for picture in mail.pictures:
        lines += [
            f"--{boundary}".encode("ascii"),
            f'Content-Type: image/svg+xml; name="{picture.name}.svg"'.encode("ascii"),
            b"Content-Transfer-Encoding: base64",
            f'Content-Disposition: attachment; filename="{picture.name}.svg"'.encode("ascii"),
            b"",
            *encodebytes(picture.svg.encode()).splitlines(),
        ]
    return [*lines, f"--{boundary}--".encode("ascii")]


def _part(boundary: str, subtype: str, text: str) -> Sequence[bytes]:
    return (
        f"--{boundary}".encode("ascii"),
        f'Content-Type: text/{subtype}; charset="utf-8"'.encode("ascii"),
        b"Content-Transfer-Encoding: quoted-printable",
        b"",
        # Lines as servers want them first: by them it breaks those that are too long.
        b2a_qp(b"\r\n".join([*text.encode().splitlines(), b""])),
    )
