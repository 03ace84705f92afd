"""A provider as the operator set it, where it is asked, and what it shows of somebody."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from actors.persistence.errors import InvalidField
from actors.persistence.words import check_a, check_text
from actors.runtime import Secret

# OpenID Connect Core 1.0, section 2: a subject has at most so many ASCII characters.
SUBJECT_CHARS_MAX = 255
ISSUER_CHARS_MAX = 512
NAME_CHARS_MAX = 32
# Tokens of providers are signed claims; some carry the groups of their person.
SECRET_CHARS_MAX = 16_384


class Kind(StrEnum):
    """How a provider shows who somebody is: by an id token, or as GitHub by what its API says."""

    OIDC = "oidc"
    GITHUB = "github"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the settings have it. An address that is not given is found by discovery.

    `name` stands in paths, `label` on buttons.
    """

    name: str
    label: str
    kind: Kind
    issuer: str
    client_id: str
    client_secret: Secret[str] | None = None
    authorize_url: str | None = None
    token_url: str | None = None
    userinfo_url: str | None = None
    jwks_url: str | None = None
    scopes: tuple[str, ...] = ("openid", "email")
    # Hosts besides those of the addresses above, of a provider that is built in.
    further_hosts: frozenset[str] = frozenset()
    # It may write itself without the scheme in its tokens, as Google does.
    may_be_bare: bool = False

    def is_named(self, said: str) -> bool:
        """Call this for whether a token is from it, by whom that says it is from."""
        bare = self.issuer.partition("://")[2]
        return said == self.issuer or (self.may_be_bare and said == bare)

    @property
    def method(self) -> str:
        """Call this for how somebody showed who they are, as the audit has it (AUTH-41)."""
        return f"oauth_{self.name}"

    @property
    def needs_discovery(self) -> bool:
        """Call this for whether an address is still to be found."""
        given = (self.authorize_url, self.token_url, self.jwks_url)
        return self.kind is Kind.OIDC and any(url is None for url in given)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked. `says_issuer`: it names itself in each answer (RFC 9207)."""

    authorize: str
    token: str
    userinfo: str | None = None
    jwks: str | None = None
    end_session: str | None = None
    says_issuer: bool = False
    # The secret goes in a header, else in the body.
    takes_basic: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody at a provider. An address may go to another person, this does not (SEC-93)."""

    issuer: str
    subject: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, text, most in (
            ("issuer", self.issuer, ISSUER_CHARS_MAX),
            ("subject", self.subject, SUBJECT_CHARS_MAX),
        ):
            if not check_text(name, text, most):
                raise InvalidField(name, "is empty")


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    """What a provider gave to be asked with later. Each ends by its own term; None is not told."""

    access: Secret[str]
    access_until: datetime | None = None
    refresh: Secret[str] | None = None
    # When the refresh token came.
    refresh_since: datetime | None = None
    # Who was shown, in the provider's own words, and in which of its sessions: a hint for whoever
    # leaves it. Kept of one that can be left only.
    id_token: Secret[str] | None = None
    id_session: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_text("id_session", self.id_session)
        for name in ("access", "refresh", "id_token"):
            secret = getattr(self, name)
            if name == "access" or secret is not None:
                check_a(name, secret, Secret)
                check_text(name, secret.reveal(), SECRET_CHARS_MAX)
        for name in ("access_until", "refresh_since"):
            moment = getattr(self, name)
            if moment is not None:
                check_a(name, moment, datetime)
                if moment.tzinfo is None:
                    raise InvalidField(name, "has no time zone")


@dataclass(frozen=True, slots=True)
class Shown:
    """Who somebody is at a provider, with an address that it says it has verified."""

    identity: Identity
    email: str = field(repr=False)
    tokens: ProviderTokens
    # What the provider calls the session it was shown in (`sid`); "" where it names none.
    session: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_a("identity", self.identity, Identity)
        check_text("session", self.session)
        check_a("tokens", self.tokens, ProviderTokens)
        if not check_text("email", self.email, 1024):
            raise InvalidField("email", "is empty")


class NotShown(Exception):
    """Raised when a provider, or who came back from it, showed nobody; nothing was changed.

    `reason` is a word for the log; whoever came back is told one text for all (SEC-91).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"nobody was shown: {reason}")
        self.reason = reason


class ProviderAway(Exception):
    """Raised when a provider did not answer as one does; nothing was changed. Take another way."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is away: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True, slots=True)
class SaidLogout:
    """A provider says that somebody left it: one of their sessions, or all of them without one.

    `token` is what it calls what it said; it is good once, until `until`.
    """

    issuer: str
    token: str = field(repr=False)
    until: datetime
    subject: str | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, most in (("issuer", ISSUER_CHARS_MAX), ("token", SECRET_CHARS_MAX)):
            if not check_text(name, getattr(self, name), most):
                raise InvalidField(name, "is empty")
        for name in ("subject", "session"):
            given = getattr(self, name)
            if given is not None and not check_text(name, given, SUBJECT_CHARS_MAX):
                raise InvalidField(name, "is empty")
        if self.subject is None and self.session is None:
            raise InvalidField("subject", "is missing, and so is the session")
        check_a("until", self.until, datetime)
        if self.until.tzinfo is None:
            raise InvalidField("until", "has no time zone")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is exchanged for who somebody is: a code, and the secrets of the flow it came by."""

    code: Secret[str]
    verifier: Secret[str]
    nonce: Secret[str]
    # Who the answer says it is from; None for an answer without.
    issuer: str | None = None


class AskProvider(Protocol):
    """A provider that can be asked. Raises `ProviderAway` when it cannot just now."""

    @property
    def provider(self) -> Provider:
        """Its settings."""
        ...

    async def endpoints(self) -> Endpoints:
        """Call this for where it is asked; kept for a day."""
        ...

    async def show(self, exchange: Exchange) -> Shown:
        """Call this for whom a code stands for; also raises `NotShown`."""
        ...

    async def renew(self, tokens: ProviderTokens) -> ProviderTokens:
        """Call this for what a refresh token gives; also raises `NotShown` when it is refused."""
        ...


def check_provider_name(name: object) -> str:
    """Call this with the name of a provider; raises `InvalidField`."""
    if not check_text("provider", name, NAME_CHARS_MAX):
        raise InvalidField("provider", "is empty")
    return str(name)
