"""What the pages of accounts show: the forms that sign in and register, and what members see.

View models only, one for a template of the same name. What somebody typed comes back in the `value`
of its field, which is escaped text in quotes like any other; a password never does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import groupby

import segno

from web.views.pages import Shell
from web.views.words import (
    CsrfToken,
    ElementId,
    FormTicket,
    ImpossibleView,
    LocalPath,
    OtpauthLink,
    RpId,
    SvgPath,
    check_text,
    check_utc,
    csrf_token,
    element_id,
    form_ticket,
    local_path,
    otpauth_link,
    rp_id,
    svg_path,
)

# Of the largest that there is, with its margin.
PICTURE_SIDE_MAX = 185
# ISO 18004: what a camera needs around it, in squares; and the pattern, a chequerboard.
PICTURE_MARGIN = 4
PICTURE_MASK = 0


def _check_rp_id(domain: str | None) -> None:
    if domain is not None:
        rp_id(domain)


@dataclass(frozen=True, slots=True)
class ProviderLink:
    """The way to a provider that signs in, or that is linked."""

    label: str
    path: LocalPath

    def __post_init__(self) -> None:
        check_text("label", self.label)
        local_path(self.path)


@dataclass(frozen=True, slots=True)
class LinkedView:
    """A provider that is linked to an account; `unlink` takes it away.

    `renewal` leads there once more, where it takes no more what it gave to be asked with.
    """

    label: str
    linked_at: datetime
    used_at: datetime | None
    unlink: LocalPath
    renewal: LocalPath | None = None

    def __post_init__(self) -> None:
        check_text("label", self.label)
        check_utc("linked_at", self.linked_at)
        if self.used_at is not None:
            check_utc("used_at", self.used_at)
        local_path(self.unlink)
        if self.renewal is not None:
            local_path(self.renewal)


@dataclass(frozen=True, slots=True)
class ProvidersView:
    """Of an account: the providers that are linked, and those that can be."""

    linked: tuple[LinkedView, ...] = ()
    offered: tuple[ProviderLink, ...] = ()


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The form that signs in. `problems` are by field; that of the whole form is ""."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    register: LocalPath
    email: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    # The way to a link by mail, where there is one.
    by_link: LocalPath | None = None
    # The domain that passkeys are of, where there are any; here and below.
    rp_id: RpId | None = None
    providers: tuple[ProviderLink, ...] = ()

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.register)
        if self.by_link is not None:
            local_path(self.by_link)
        _check_rp_id(self.rp_id)


@dataclass(frozen=True, slots=True)
class LinkPage:
    """The form that asks for a link by mail."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    sign_in: LocalPath
    email: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.sign_in)


@dataclass(frozen=True, slots=True)
class LinkSentPage:
    """What is told who asked for a link: nothing of the address. `code` is for other browsers."""

    shell: Shell
    code: str
    again: LocalPath

    def __post_init__(self) -> None:
        local_path(self.again)


@dataclass(frozen=True, slots=True)
class OpenLinkPage:
    """The button that opens a link; `needs_code` where this browser did not ask for it."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    token: str
    needs_code: bool
    again: LocalPath
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.again)


@dataclass(frozen=True, slots=True)
class NotMePage:
    """The button that disavows a change, and what is told behind it.

    `by_link`: the next sign-in is by a link; `sign_in` leads to where it begins.
    """

    shell: Shell
    csrf: CsrfToken
    token: str
    is_done: bool
    by_link: bool
    sign_in: LocalPath
    problems: Mapping[str, str] = field(default_factory=dict)
    # It takes a former address back with it.
    of_address: bool = False

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.sign_in)


@dataclass(frozen=True, slots=True)
class LeftPage:
    """What is told who signed out and came by a provider; `go` leads there, to sign out too."""

    shell: Shell
    provider: str
    go: LocalPath

    def __post_init__(self) -> None:
        check_text("provider", self.provider)
        local_path(self.go)


@dataclass(frozen=True, slots=True)
class AllowPage:
    """The button that allows one more attempt to sign in, and what is told behind it."""

    shell: Shell
    csrf: CsrfToken
    token: str
    is_done: bool
    sign_in: LocalPath
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.sign_in)


@dataclass(frozen=True, slots=True)
class ConfirmAddressPage:
    """The button that confirms a new address, and what is told behind it."""

    shell: Shell
    csrf: CsrfToken
    token: str
    is_done: bool
    account: LocalPath
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.account)


@dataclass(frozen=True, slots=True)
class SecondPage:
    """The form that asks for a second factor. `ticket` says that the first one was given."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    ticket: FormTicket
    problems: Mapping[str, str] = field(default_factory=dict)
    rp_id: RpId | None = None
    # A recovery code is taken, too.
    has_codes: bool = True
    # Who has lost it may begin a recovery from here; who cannot is led to a link first.
    can_recover: bool = False
    by_link: LocalPath | None = None

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        form_ticket(self.ticket)
        _check_rp_id(self.rp_id)
        if self.by_link is not None:
            local_path(self.by_link)


class RecoveryForm(StrEnum):
    """Which step of a recovery its page shows."""

    STARTED = "started"
    STOP = "stop"
    STOPPED = "stopped"
    FINISH = "finish"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class RecoveryPage:
    """A button that stops or finishes a recovery, or what is told behind one."""

    shell: Shell
    csrf: CsrfToken
    form: RecoveryForm
    token: str
    by_link: LocalPath
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.by_link)


@dataclass(frozen=True, slots=True)
class PictureView:
    """A square picture of squares for a camera: `side` of them, with the margin it needs."""

    side: int
    path: SvgPath

    def __post_init__(self) -> None:
        svg_path(self.path)
        if not 1 <= self.side <= PICTURE_SIDE_MAX:
            raise ImpossibleView("side", self.side, f"1 to {PICTURE_SIDE_MAX}")


def picture_of(text: str) -> PictureView:
    """Call this for the picture of a text that a camera reads: a QR code.

    With one pattern laid over it, not the fittest of eight: a screen shows any of them clearly, and
    it is a fifth of the work.
    """
    squares = segno.make_qr(text, error="m", mask=PICTURE_MASK, boost_error=False).matrix
    rows = []
    for top, row in enumerate(squares, PICTURE_MARGIN):
        left = PICTURE_MARGIN
        for is_dark, run in groupby(row):
            count = len(list(run))
            if is_dark:
                rows.append(f"M{left} {top}h{count}v1h-{count}z")
            left += count
    return PictureView(len(squares) + 2 * PICTURE_MARGIN, svg_path("".join(rows)))


def svg_of(picture: PictureView) -> str:
    """Call this for a picture as a file: black on white, whatever is around it."""
    side = picture.side
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" '
        f'width="{side * 8}" height="{side * 8}" shape-rendering="crispEdges">'
        f'<path fill="#fff" d="M0 0h{side}v{side}h-{side}z"/><path d="{picture.path}"/></svg>'
    )


@dataclass(frozen=True, slots=True)
class EnrolPage:
    """The secret that an app is to take: in groups, as a link and as a picture of that link.

    With a form for its first code.
    """

    shell: Shell
    csrf: CsrfToken
    ticket: FormTicket
    secret: str
    link: OtpauthLink
    picture: PictureView
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        form_ticket(self.ticket)
        check_text("secret", self.secret)
        otpauth_link(self.link)


@dataclass(frozen=True, slots=True)
class CodesPage:
    """Recovery codes, shown this once."""

    shell: Shell
    codes: tuple[str, ...]

    def __post_init__(self) -> None:
        for code in self.codes:
            check_text("codes", code)


@dataclass(frozen=True, slots=True)
class TokenPage:
    """An API token, shown this once."""

    shell: Shell
    token: str
    name: str
    expires_at: datetime

    def __post_init__(self) -> None:
        check_text("token", self.token)
        check_text("name", self.name)


@dataclass(frozen=True, slots=True)
class RegisterPage:
    """The form that makes an account."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    sign_in: LocalPath
    username: str = ""
    email: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.sign_in)


@dataclass(frozen=True, slots=True)
class ProtectedPage:
    """A page for members only."""

    shell: Shell
    username: str

    def __post_init__(self) -> None:
        check_text("username", self.username)


@dataclass(frozen=True, slots=True)
class ProvePage:
    """The form by which a member proves again who they are, and goes on to `next`."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    username: str
    email: str
    # A code is asked for, not the password.
    has_second: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    by_link: LocalPath | None = None
    rp_id: RpId | None = None
    # A recovery code is taken, too.
    has_codes: bool = True
    # No proof there is would be enough: the sign-in is of some risk, and there is no second factor.
    is_limited: bool = False

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        if self.by_link is not None:
            local_path(self.by_link)
        _check_rp_id(self.rp_id)
        check_text("username", self.username)
        check_text("email", self.email)


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device of a member; `trust` in words. `reference` names it and opens nothing."""

    reference: ElementId
    name: str
    browser: str
    trust: str
    is_trusted: bool
    first_seen_at: datetime
    seen_at: datetime

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_text("browser", self.browser)


@dataclass(frozen=True, slots=True)
class TokenView:
    """An API token of a member. `reference` names it and opens nothing; `scopes` are told."""

    reference: ElementId
    name: str
    scopes: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_text("name", self.name)
        check_text("scopes", self.scopes)


@dataclass(frozen=True, slots=True)
class SignInView:
    """One sign-in of a member. `reference` names it and opens nothing."""

    reference: ElementId
    browser: str
    created_at: datetime
    seen_at: datetime
    is_this: bool
    # Where it began, masked, and what its owner calls it; empty for neither.
    address: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_text("browser", self.browser)
        check_utc("created_at", self.created_at)
        check_utc("seen_at", self.seen_at)


@dataclass(frozen=True, slots=True)
class FactorsView:
    """The second factors of a member: since when there is an app, and how many codes are left.

    `has_codes`: recovery codes are taken, and can be made.
    """

    totp_since: datetime | None
    codes_left: int
    has_codes: bool = False

    def __post_init__(self) -> None:
        if self.totp_since is not None:
            check_utc("totp_since", self.totp_since)


@dataclass(frozen=True, slots=True)
class PasskeyView:
    """One passkey of a member. `is_flagged`: its counter fell, so there may be a copy of it."""

    reference: ElementId
    name: str
    added_at: datetime
    used_at: datetime | None
    is_synced: bool = False
    is_flagged: bool = False

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_utc("added_at", self.added_at)
        if self.used_at is not None:
            check_utc("used_at", self.used_at)


@dataclass(frozen=True, slots=True)
class AccountPage:
    """What a member sees of their account, and may change of it."""

    shell: Shell
    csrf: CsrfToken
    username: str
    email: str
    role: str
    since: datetime
    sign_ins: tuple[SignInView, ...]
    # By field: `current_password`, `new_password`, `export_password`, and that of the deletion.
    problems: Mapping[str, str] = field(default_factory=dict)
    ends_others: bool = True
    # The page one came from, to which one is sent back when a sign-in was ended.
    back: LocalPath | None = None
    # A sign-in just now ended another one.
    has_ended_one: bool = False
    # Who came by a link has none until they give one.
    has_password: bool = True
    factors: FactorsView = FactorsView(None, 0)
    passkeys: tuple[PasskeyView, ...] = ()
    rp_id: RpId | None = None
    # An app for codes may be added.
    has_app_offer: bool = True
    providers: ProvidersView = ProvidersView()
    # Another address can be asked for; what was typed there; and that one was.
    has_address_offer: bool = False
    new_email: str = ""
    has_asked_address: bool = False
    devices: tuple[DeviceView, ...] = ()
    tokens: tuple[TokenView, ...] = ()
    # What was typed for a token that was refused.
    token_name: str = ""
    token_scopes: tuple[str, ...] = ()
    # This sign-in changes nothing that is sensitive, for a day.
    is_limited: bool = False
    # When somebody who lost the second factor may have the account, unless it is stopped.
    recovered_at: datetime | None = None
    # Until when nothing sensitive is done, because it was recovered.
    guarded_until: datetime | None = None

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        _check_rp_id(self.rp_id)
        if self.back is not None:
            local_path(self.back)
        check_text("username", self.username)
        check_text("email", self.email)
        check_text("role", self.role)
        check_utc("since", self.since)
        for name, at in (
            ("recovered_at", self.recovered_at),
            ("guarded_until", self.guarded_until),
        ):
            if at is not None:
                check_utc(name, at)
