"""The nouns of mail: an address, a mail as it waits in the outbox, and what is wrong with one."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

import msgspec

from actors.accounts import BadField, parse_email

# RFC 5322 folds longer lines, and no reader shows more of a subject.
SUBJECT_CHARS_MAX = 200
# A mail of ours is a page of text. Many a server takes 10 MiB; some clip what is over 100 KiB.
BODY_BYTES_MAX = 100 * 1024
# The code of a ticket, as a camera reads it, has 5 to 20 KiB.
PICTURE_BYTES_MAX = 50 * 1024
PICTURES_MAX = 4
_PICTURE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# What names an act for which a mail is sent once.
KEY_BYTES_MAX = 200
SENDER_NAME_CHARS_MAX = 64
# Control, format (bidi and zero-width too), surrogate, private, unassigned; and line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# What has a meaning of its own in a header or in a command of SMTP.
_SIGNS = re.compile(r'[<>()\[\]\\,;:"]')


class BadMail(ValueError):
    """Raised for a mail that cannot be: an address, a header or a context; nothing is sent.

    `field` names what is wrong. The text quotes nothing that was given.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}; nothing was sent")
        self.field, self.problem = field, problem


class SmtpSecurity(StrEnum):
    """How a talk with a mail server is encrypted: after a first word, from the start, or not."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class MailAddress:
    """Who a mail comes from: an address in its one form, and a name that may be empty."""

    address: str
    name: str = ""


class Picture(msgspec.Struct, frozen=True):
    """A drawing that goes with a mail, as a file that its reader can open and print: SVG.

    `name` is that of the file, without its ending. It loads nothing, as the mail does not.
    """

    name: str
    svg: str

    def check(self) -> None:
        """Call this before it goes anywhere; raises `BadMail`."""
        if _PICTURE_NAME.fullmatch(self.name) is None:
            raise BadMail("picture", "has a name of 1 to 64 letters, digits, - and _")
        if not self.svg.startswith("<svg ") or len(self.svg.encode()) > PICTURE_BYTES_MAX:
            raise BadMail("picture", f"is an SVG of at most {PICTURE_BYTES_MAX} bytes")


class Mail(msgspec.Struct, frozen=True):
    """A mail as it waits in the outbox. All that it says, but for its date.

    `expires_at`: later it is of no use, and is not sent. `is_asked_for`: its reader asked for it
    by hand just now, so it may go to an address that takes no other mail. `unsubscribe` is an
    https address for `List-Unsubscribe`, where a reader may do without such mails. `pictures` are
    attached to it.
    """

    to: str
    template: str
    language: str
    subject: str
    text: str
    html: str
    expires_at: datetime | None = None
    is_asked_for: bool = False
    unsubscribe: str = ""
    pictures: tuple[Picture, ...] = ()


def parse_address(text: str) -> str:
    """Call this for the one form of an address a mail can go to (SITE-31); raises `BadMail`.

    Besides, it has none of the signs that divide a header: it names one mailbox and no more.
    """
    check_line("to", text)
    try:
        address = parse_email(text)
    except BadField as error:
        raise BadMail("to", "is no whole address, such as ada@example.org") from error
    local, _, domain = address.partition("@")
    if _SIGNS.search(address) or local[:1] == "." or local[-1:] == "." or ".." in local:
        raise BadMail("to", "is no address that a mail can go to")
    try:
        domain.encode("idna")  # which asks for parts of 1 to 63 characters
    except UnicodeError:
        raise BadMail("to", "has a domain that no mail can go to") from None
    return address


def parse_sender(text: str) -> MailAddress:
    """Call this with `address` or `Name <address>`; raises `BadMail`."""
    check_line("from", text)
    name, bracket, rest = text.strip().partition("<")
    address, close, behind = rest.partition(">")
    if not bracket:
        name, address = "", text
    elif not close or behind.strip():
        raise BadMail("from", "must be an address, or a name and an address in < and >")
    name = name.strip().strip('"')
    if len(name) > SENDER_NAME_CHARS_MAX or _SIGNS.search(name):
        raise BadMail("from", f"has a name with signs, or over {SENDER_NAME_CHARS_MAX} characters")
    try:
        return MailAddress(parse_address(address), name)
    except BadMail as error:
        raise BadMail("from", error.problem) from error


def check_line(field: str, text: str) -> None:
    """Call this with what becomes a header: one line without hidden signs; raises `BadMail`.

    A line break would begin a header, or a mail, of somebody else's making.
    """
    if any(unicodedata.category(sign) in _HIDDEN for sign in text):
        raise BadMail(field, "has a line break or another sign that cannot be seen")


def address_digest(address: str) -> bytes:
    """Call this for what stands for an address where addresses are not kept."""
    return sha256(address.encode()).digest()
