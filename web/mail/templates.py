"""What mails say: for each template a typed context, three files a language, and a sample.

A subject, a text and an HTML part stand in a folder a language below `templates/`; a
language that lacks one of them falls back to `en` for the whole mail. Values are escaped in HTML
by Jinja2; in the text and the subject they stand as they are, and a subject is one line.

Rule: nothing of another host is in a mail: no picture, no style, no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from jinja2.exceptions import TemplateNotFound

from web.mail.words import BODY_BYTES_MAX, SUBJECT_CHARS_MAX, BadMail, check_line

FOLDER = Path(__file__).with_name("templates")
FALLBACK = "en"
# Longer values of people make no better mail, and a page of them is no name.
VALUE_CHARS_MAX = 2000
LINES_MAX = 200


class Context(Protocol):
    """What a template shows: a frozen dataclass of texts, times and lines."""

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        ...


C = TypeVar("C", bound=Context)


def _check_texts(**texts: str) -> None:
    for name, text in texts.items():
        if len(text) > VALUE_CHARS_MAX:
            raise BadMail(name, f"has {len(text)} characters, the limit is {VALUE_CHARS_MAX}")
        check_line(name, text)


def _check_link(link: str) -> None:
    _check_texts(link=link)
    if not link.startswith(("https://", "http://")) or any(sign.isspace() for sign in link):
        raise BadMail("link", "must be an https:// address")


def _check_times(**times: datetime) -> None:
    for name, at in times.items():
        if at.tzinfo is None:
            raise BadMail(name, "must be a time with its zone")


@dataclass(frozen=True, slots=True)
class Template(Generic[C]):
    """A kind of mail: its name, the class of its context, and one to be shown.

    `is_asked_for`: its reader asks for each by hand. `is_fleeting`: it has what signs in, or what
    disavows a change, and is erased once it was sent.
    """

    name: str
    context: type[C]
    sample: C
    is_asked_for: bool = False
    is_fleeting: bool = False


@dataclass(frozen=True, slots=True)
class _Link:
    username: str
    link: str
    expires_at: datetime

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username)
        _check_link(self.link)
        _check_times(expires_at=self.expires_at)


@dataclass(frozen=True, slots=True)
class MagicLink(_Link):
    """A link that signs in where it was asked for; `username` may be an address of nobody yet.

    One that is not bound signs in wherever it is opened.
    """

    is_bound: bool = True


@dataclass(frozen=True, slots=True)
class Verification(_Link):
    """A link that shows that an address is read by who gave it."""


@dataclass(frozen=True, slots=True)
class PasswordReset(_Link):
    """A link that leads to a new password."""


class AlertKind(StrEnum):
    """What of an account has changed."""

    PASSWORD_CHANGED = "password_changed"  # noqa: S105  (the name of an act)
    ADDRESS_ASKED = "address_asked"
    ADDRESS_CHANGED = "address_changed"
    ADDRESS_TAKEN = "address_taken"
    ADDRESS_BACK = "address_back"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    COUNTER_FELL = "counter_fell"
    NEW_DEVICE = "new_device"
    UNUSUAL_SIGN_IN = "unusual_sign_in"
    ACCOUNT_DELETED = "account_deleted"
    DISAVOWED = "disavowed"
    RECOVERY_STOPPED = "recovery_stopped"
    RECOVERED = "recovered"
    CODE_USED = "code_used"
    TOKEN_MADE = "token_made"  # noqa: S105  (the name of an act)


# What happened, for the reader, who may be the former owner of an address.
ALERTS = {
    AlertKind.PASSWORD_CHANGED: "The password was changed.",
    AlertKind.ADDRESS_ASKED: "Somebody who is signed in wishes for another address of the account.",
    AlertKind.ADDRESS_CHANGED: "The address of the account was changed to another one.",
    AlertKind.ADDRESS_TAKEN: "This address is now that of the account.",
    AlertKind.ADDRESS_BACK: (
        'Somebody who had a mail to this address said "this was not me": it is that of the account '
        "again, and all sign-ins have ended."
    ),
    AlertKind.FACTOR_ADDED: "A way to sign in was added.",
    AlertKind.FACTOR_REMOVED: "A way to sign in was removed.",
    AlertKind.RECOVERY_CODES_MADE: "New recovery codes were made; the former ones are void.",
    AlertKind.COUNTER_FELL: (
        "A passkey was refused: what it told was from before, so there may be a copy of it. "
        "If you do not know why, remove it."
    ),
    AlertKind.NEW_DEVICE: (
        "The account was used from a device it was not used from before. For a day nothing of the "
        "account can be changed there."
    ),
    AlertKind.UNUSUAL_SIGN_IN: (
        "Somebody signed in otherwise than is usual for the account. For a day nothing of the "
        "account can be changed there."
    ),
    AlertKind.ACCOUNT_DELETED: "The account was deleted.",
    AlertKind.DISAVOWED: (
        'Somebody who had one of these mails said "this was not me": all sign-ins have ended.'
    ),
    AlertKind.RECOVERY_STOPPED: (
        "The recovery of the account was stopped; it has changed nothing. If you need one, begin "
        "it again."
    ),
    AlertKind.RECOVERED: (
        "The account was recovered: its password, second factors, passkeys and providers are void, "
        "and all sign-ins have ended. It opens by a link to its address; for a day nothing "
        "can be changed that opens it."
    ),
    AlertKind.TOKEN_MADE: (
        "An API token was made: a program that has it uses the account, for 90 days."
    ),
    AlertKind.CODE_USED: "A recovery code was used to prove who you are.",
}


@dataclass(frozen=True, slots=True)
class SecurityAlert:
    """Somebody changed what an account is opened by. It has no link that signs in (SEC-73).

    `not_me` is the link of "this was not me" (AUTH-16), empty where there is none.
    """

    username: str
    kind: AlertKind
    at: datetime
    browser: str = ""
    not_me: str = ""

    @property
    def what(self) -> str:
        """Call this for the sentence that says what happened."""
        return ALERTS[self.kind]

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username, browser=self.browser)
        _check_times(at=self.at)
        if self.not_me:
            _check_link(self.not_me)
        if self.kind not in ALERTS:
            raise BadMail("kind", "is none of the acts that are told")


class RecoveryStep(StrEnum):
    """Where a recovery is of which all addresses are told."""

    STARTED = "started"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class RecoveryNotice:
    """Somebody recovers an account; `stop` stops that, and `finish`, where given, carries it out.

    `at` is when it can be carried out, and once it can, until when.
    """

    username: str
    step: RecoveryStep
    at: datetime
    stop: str
    finish: str = ""

    @property
    def is_ready(self) -> bool:
        """Call this for whether its day is over."""
        return self.step is RecoveryStep.READY

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username)
        _check_times(at=self.at)
        _check_link(self.stop)
        if self.finish:
            _check_link(self.finish)


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """Somebody proved to be the owner of an account, from where its owner is never.

    `link` allows one more attempt, and signs nobody in; `not_me` is as in an alert.
    """

    username: str
    link: str
    expires_at: datetime
    at: datetime
    browser: str = ""
    not_me: str = ""

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username, browser=self.browser)
        _check_times(at=self.at, expires_at=self.expires_at)
        _check_link(self.link)
        if self.not_me:
            _check_link(self.not_me)


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of an order; the price as it is read."""

    name: str
    count: int
    price: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was taken."""

    username: str
    number: str
    lines: Sequence[OrderLine]
    total: str

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username, number=self.number, total=self.total)
        if len(self.lines) > LINES_MAX:
            raise BadMail("lines", f"are {len(self.lines)}, the limit is {LINES_MAX}")
        for line in self.lines:
            _check_texts(name=line.name, price=line.price)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A seat that somebody has. `link` is the page that shows it, empty where there is none."""

    username: str
    event: str
    place: str
    at: datetime
    code: str
    link: str = ""

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(username=self.username, event=self.event, place=self.place, code=self.code)
        _check_times(at=self.at)
        if self.link:
            _check_link(self.link)


@dataclass(frozen=True, slots=True)
class MailTest:
    """What an operator sends to see whether mail arrives."""

    origin: str
    at: datetime

    def check(self) -> None:
        """Call this before it is rendered; raises `BadMail`."""
        _check_texts(origin=self.origin)
        _check_times(at=self.at)


_AT = datetime(2025, 3, 1, 12, 30, tzinfo=UTC)
_NOT_ME = "https://greenroom.example/account/not-me?token=SAMPLE"
_ALLOW = "https://greenroom.example/account/allow?token=SAMPLE"
_STOP = "https://greenroom.example/login/recovery/stop?token=SAMPLE"
_FINISH = "https://greenroom.example/login/recovery/finish?token=SAMPLE"
_LINK = "https://greenroom.example/sign-in/link?token=SAMPLE"

MAGIC_LINK = Template(
    "magic_link",
    MagicLink,
    MagicLink("ada", _LINK, _AT),
    is_asked_for=True,
    is_fleeting=True,
)
VERIFICATION = Template(
    "verification", Verification, Verification("ada", _LINK, _AT), is_fleeting=True
)
PASSWORD_RESET = Template(
    "password_reset",
    PasswordReset,
    PasswordReset("ada", _LINK, _AT),
    is_asked_for=True,
    is_fleeting=True,
)
SECURITY_ALERT = Template(
    "security_alert",
    SecurityAlert,
    SecurityAlert("ada", AlertKind.PASSWORD_CHANGED, _AT, "Firefox on Linux", _NOT_ME),
    is_fleeting=True,
)
SIGN_IN_ATTEMPT = Template(
    "sign_in_attempt",
    SignInAttempt,
    SignInAttempt("ada", _ALLOW, _AT, _AT, "Firefox on Linux", _NOT_ME),
    is_fleeting=True,
)
RECOVERY = Template(
    "recovery",
    RecoveryNotice,
    RecoveryNotice("ada", RecoveryStep.READY, _AT, _STOP, _FINISH),
    is_fleeting=True,
)
ORDER = Template(
    "order",
    Order,
    Order("ada", "7421", (OrderLine("Tea", 2, "9.00 EUR"),), "18.00 EUR"),
)
# Its code lets in whoever shows it.
TICKET = Template(
    "ticket",
    Ticket,
    Ticket(
        "ada",
        "An evening",
        "Row 4, seat 12",
        _AT,
        "T-7421",
        "https://greenroom.example/tickets/7421",
    ),
    is_fleeting=True,
)
MAIL_TEST = Template("mail_test", MailTest, MailTest("http://127.0.0.1:3000", _AT))

TEMPLATES: Sequence[Template[MagicLink] | Template[Verification] | Template[PasswordReset]
    | Template[SecurityAlert] | Template[SignInAttempt] | Template[RecoveryNotice]
    | Template[Order] | Template[Ticket] | Template[MailTest]] = (
    MAGIC_LINK, VERIFICATION, PASSWORD_RESET, SECURITY_ALERT, SIGN_IN_ATTEMPT, RECOVERY, ORDER,
    TICKET, MAIL_TEST,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template filled: one line of subject, a text, and the same as HTML."""

    language: str
    subject: str
    text: str
    html: str


class MailTemplates:
    """The files of all templates, read once each."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=lambda name: bool(name) and str(name).endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters["moment"] = moment

    def render(self, template: Template[C], context: C, language: str = FALLBACK) -> Rendered:
        """Call this for the mail of a context; raises `BadMail` when it cannot be one."""
        if type(context) is not template.context:
            wanted, given = template.context.__name__, type(context).__name__
            raise BadMail("context", f"{template.name} takes {wanted}, got {given}")
        context.check()
        found = self._language(template.name, language)
        subject, text, html = (
            self._fill(f"{found}/{template.name}.{part}", context)
            for part in ("subject.txt", "txt", "html")
        )
        subject = subject.strip()
        check_line("subject", subject)
        if not 1 <= len(subject) <= SUBJECT_CHARS_MAX:
            raise BadMail("subject", f"must have 1 to {SUBJECT_CHARS_MAX} characters")
        if len(text.encode()) + len(html.encode()) > BODY_BYTES_MAX:
            raise BadMail("body", f"has over {BODY_BYTES_MAX} bytes")
        return Rendered(found, subject, text, html)

    def languages(self, name: str) -> Sequence[str]:
        """Call this for the languages in which there is all of a template, English first."""
        found = {path.partition("/")[0] for path in self._environment.list_templates()}
        whole = sorted(one for one in found if self._language(name, one) == one)
        return sorted(whole, key=lambda one: one != FALLBACK)

    def _language(self, name: str, language: str) -> str:
        """Give the language in which there is all of a template: `de` for `de-AT`, else `en`."""
        parts = ("subject.txt", "txt", "html")
        for candidate in (language, language.partition("-")[0]):
            if not (candidate.isascii() and candidate.replace("-", "").isalnum()):
                continue
            try:
                for part in parts:
                    self._environment.get_template(f"{candidate}/{name}.{part}")
            except TemplateNotFound:
                continue
            return candidate
        return FALLBACK

    def _fill(self, path: str, context: Context) -> str:
        try:
            return self._environment.get_template(path).render(mail=context)
        except (TemplateError, TypeError, ValueError, AttributeError) as error:
            # Its text may quote what was given.
            raise BadMail("context", f"{path} cannot be filled ({type(error).__name__})") from error


def moment(at: datetime) -> str:
    """Call this for a time as a mail tells it: to the minute, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
