"""The settings of providers: `OAUTH_<NAME>_<WHAT>`, two of which are built in (AUTH-5)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from actors.accounts.ways.provider.words import NAME_CHARS_MAX, Kind, Provider
from actors.runtime import Secret

PREFIX = "OAUTH_"
# What is set of a provider; the secret also in a file.
WHATS = (
    "ISSUER", "AUTHORIZE_URL", "TOKEN_URL", "USERINFO_URL", "JWKS_URL", "CLIENT_ID",
    "CLIENT_SECRET", "SCOPES",
)  # fmt: skip
SECRET = "CLIENT_SECRET"  # noqa: S105 - a word
# As ids, secrets and addresses are in use.
VALUE_CHARS_MAX = 512
_NAME = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # RFC 6749, 3.3
SCOPES_MAX = 20


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """A provider whose addresses need not be set."""

    label: str
    kind: Kind
    given: Mapping[str, str]
    further_hosts: frozenset[str] = frozenset()
    may_be_bare: bool = False


_BUILT_IN: Mapping[str, _BuiltIn] = {
    "GOOGLE": _BuiltIn(
        "Google",
        Kind.OIDC,
        {"ISSUER": "https://accounts.google.com"},
        # As its discovery document names them.
        frozenset({
            "oauth2.googleapis.com", "www.googleapis.com", "openidconnect.googleapis.com",
        }),
        may_be_bare=True,
    ),
    "GITHUB": _BuiltIn(
        "GitHub",
        Kind.GITHUB,
        {
            "ISSUER": "https://github.com",
            "AUTHORIZE_URL": "https://github.com/login/oauth/authorize",
            "TOKEN_URL": "https://github.com/login/oauth/access_token",
            "USERINFO_URL": "https://api.github.com/user",
            "SCOPES": "read:user user:email",
        },
    ),
}  # fmt: skip


class BadProvider(ValueError):
    """Raised when a setting of a provider cannot be; the text is the reason, without a value."""


def read_providers(
    environment: Mapping[str, str], text_of: Callable[[str], str]
) -> tuple[tuple[Provider, ...], list[str]]:
    """Call this for the providers with a client id, by name, and every problem with them.

    `text_of` gives what a setting says, its file's content where that is given; it raises
    ValueError with the reason why it does not.
    """
    providers: list[Provider] = []
    problems: list[str] = []
    for name in _names(environment):
        given, wrong = _given(name, text_of)
        problems += wrong + _strange(name, environment)
        if not wrong:
            try:
                providers.append(_provider(name, given))
            except BadProvider as error:
                problems.append(str(error))
    return tuple(providers), problems


def _names(environment: Mapping[str, str]) -> list[str]:
    ends = ("_CLIENT_ID",)
    found = {
        name.removeprefix(PREFIX).removesuffix(end)
        for name, text in environment.items()
        for end in ends
        if text and name.startswith(PREFIX) and name.endswith(end)
    }
    return sorted(found)


def _given(name: str, text_of: Callable[[str], str]) -> tuple[dict[str, str], list[str]]:
    built_in = _BUILT_IN.get(name)
    given: dict[str, str] = {} if built_in is None else dict(built_in.given)
    problems: list[str] = []
    for what in WHATS:
        setting = f"{PREFIX}{name}_{what}"
        try:
            text = text_of(setting)
        except ValueError as error:
            problems.append(f"{setting}: {error}")
            continue
        if text:
            given[what] = text
    return given, problems


def _strange(name: str, environment: Mapping[str, str]) -> list[str]:
    """Settings of a provider that nobody reads: a slip of the pen, that would go unnoticed."""
    own = f"{PREFIX}{name}_"
    others = [other for other in _names(environment) if other.startswith(f"{name}_")]
    known = {f"{own}{what}" for what in WHATS} | {f"{own}{SECRET}_FILE"}
    return [
        f"{one}: is nothing that is set of a provider; there are {', '.join(WHATS)}"
        for one in sorted(environment)
        if one.startswith(own)
        and one not in known
        and not any(one.startswith(f"{PREFIX}{other}_") for other in others)
    ]


def _provider(name: str, given: Mapping[str, str]) -> Provider:
    own, built_in = f"{PREFIX}{name}_", _BUILT_IN.get(name)
    if _NAME.fullmatch(name) is None or len(name) > NAME_CHARS_MAX:
        raise BadProvider(
            f"{own}CLIENT_ID: a provider's name is 1 to {NAME_CHARS_MAX} of A-Z, 0-9 and _"
        )
    if "ISSUER" not in given:
        raise BadProvider(
            f"{own}ISSUER: is required; who the provider is, such as https://id.example.org"
        )
    for what in ("CLIENT_ID", SECRET):
        _check_line(f"{own}{what}", given.get(what, ""))
    if built_in is not None and SECRET not in given:
        raise BadProvider(f"{own}{SECRET}: is required by {built_in.label}")
    urls = {what: _url(f"{own}{what}", given[what]) for what in WHATS[:5] if what in given}
    if urlsplit(urls["ISSUER"]).query:
        raise BadProvider(f"{own}ISSUER: must not have a query")
    kind = Kind.OIDC if built_in is None else built_in.kind
    return Provider(
        name=name.lower(),
        label=name.replace("_", " ").title() if built_in is None else built_in.label,
        kind=kind,
        issuer=urls["ISSUER"],
        client_id=given["CLIENT_ID"],
        client_secret=Secret(given[SECRET]) if SECRET in given else None,
        authorize_url=urls.get("AUTHORIZE_URL"),
        token_url=urls.get("TOKEN_URL"),
        userinfo_url=urls.get("USERINFO_URL"),
        jwks_url=urls.get("JWKS_URL"),
        scopes=_scopes(f"{own}SCOPES", given.get("SCOPES", "openid email"), kind),
        further_hosts=frozenset() if built_in is None else built_in.further_hosts,
        may_be_bare=built_in is not None and built_in.may_be_bare,
    )


def _check_line(setting: str, text: str) -> None:
    if not text.isprintable() or not text.isascii() or len(text) > VALUE_CHARS_MAX:
        raise BadProvider(
            f"{setting}: must be one line of at most {VALUE_CHARS_MAX} signs of ASCII"
        )


def _url(setting: str, text: str) -> str:
    """An address of a provider: https, but on this machine (SEC-95)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadProvider(f"{setting}: must be an address such as https://id.example.org") from None
    host = parts.hostname or ""
    is_whole = (
        parts.scheme in {"http", "https"}
        and bool(host)
        and port != 0
        and "@" not in parts.netloc
        and "#" not in text
        and text.isascii()
        and text.isprintable()
        and " " not in text
        and len(text) <= VALUE_CHARS_MAX
    )
    if not is_whole:
        raise BadProvider(f"{setting}: must be an address such as https://id.example.org")
    if parts.scheme == "http" and not is_this_machine(host):
        raise BadProvider(f"{setting}: http:// is only for this machine; use https://")
    return text


def is_this_machine(host: str) -> bool:
    """Call this for whether what is said to a host stays here, and may be plain."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _scopes(setting: str, text: str, kind: Kind) -> tuple[str, ...]:
    scopes = tuple(text.split())
    if not scopes or len(scopes) > SCOPES_MAX or not all(map(_SCOPE.fullmatch, scopes)):
        raise BadProvider(f"{setting}: must be 1 to {SCOPES_MAX} words, separated by blanks")
    if kind is Kind.OIDC and "openid" not in scopes:
        raise BadProvider(f"{setting}: must have openid among them")
    return scopes


def hosts_of(provider: Provider) -> frozenset[str]:
    """Call this for the hosts, with their ports, that may be called for a provider (SEC-95)."""
    urls = (
        provider.issuer, provider.authorize_url, provider.token_url, provider.userinfo_url,
        provider.jwks_url,
    )  # fmt: skip
    return provider.further_hosts | {urlsplit(url).netloc for url in urls if url is not None}
