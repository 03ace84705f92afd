"""A provider that can be asked: where it is, the keys it signs with, whom a code stands for.

What was found is kept for a time: addresses for a day, keys for an hour. A key that is not known is
looked for once a minute at most, so that who makes keys up makes no calls (SEC-95).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

import msgspec
import trio

from actors.accounts import BadField
from actors.accounts.ways.provider.judging import (
    ID_TOKEN,
    LOGOUT_TOKEN,
    FlowSecrets,
    TokenHeader,
    authorize_query,
    claims_of,
    header_of,
    is_known_key,
    is_verified,
    judge_claims,
    judge_issuer,
    judge_logout,
    judge_subject,
    leave_query,
    session_of,
)
from actors.accounts.ways.provider.words import (
    AskProvider,
    Endpoints,
    Exchange,
    Identity,
    Kind,
    NotShown,
    Provider,
    ProviderAway,
    ProviderTokens,
    SaidLogout,
    Shown,
)
from actors.runtime import Log, Secret
from supervision import Dependencies, Dependency
from web.accounts.ways.provider.calling import Caller, dependency_of, read_json
from web.mail.words import BadMail, parse_address
from web.routing import paths
from web.routing.outward import Answered

log = Log("web.accounts")

# AUTH-4, SEC-95.
ENDPOINTS_KEPT_S = 24 * 3600.0
KEYS_KEPT_S = 3600.0
KEYS_AGAIN_S = 60.0
# Of one provider at once: two that take turns, and some more.
KEYS_MAX = 100
# What a token that says more is good for: ten years.
TOKEN_S_MAX = 10 * 365 * 24 * 3600
# It stands in an address, and servers take heads of 8 KiB.
HINT_CHARS_MAX = 4096
# What a provider says of our own settings, rather than of who signs in (RFC 6749, 5.2; GitHub).
_OURS = frozenset({
    "invalid_client", "unauthorized_client", "incorrect_client_credentials",
    "redirect_uri_mismatch",
})  # fmt: skip


class _Discovered(msgspec.Struct, frozen=True):
    """What counts of a discovery document (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    authorization_response_iss_parameter_supported: bool = False
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    """What a token endpoint gives, or says is wrong."""

    access_token: str = ""
    token_type: str = "bearer"  # noqa: S105 - a word
    id_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None
    error: str | None = None


class _UserInfo(msgspec.Struct, frozen=True):
    sub: str
    email: str | None = None
    email_verified: bool | str | None = None


class _GitHubUser(msgspec.Struct, frozen=True):
    id: int


class _GitHubEmail(msgspec.Struct, frozen=True):
    email: str
    primary: bool
    verified: bool


class _Keys(msgspec.Struct, frozen=True):
    keys: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a provider is, and when that was found."""

    endpoints: Endpoints
    at: float


class AskedProvider(AskProvider):
    """One provider of the settings.

    `back` is where it sends people back to who signed in, and `left` who signed out.
    """

    def __init__(
        self,
        provider: Provider,
        back: str,
        left: str,
        now: Callable[[], datetime],
        dependency: Dependency,
    ) -> None:
        self._provider, self._back, self._left, self._now = provider, back, left, now
        self.caller = Caller(provider, dependency)
        self._found: _Found | None = None
        self._keys: list[dict[str, object]] = []
        self._keys_at = self.looked_at = float("-inf")
        # Of many who come at once one looks, and the others find what it found.
        self._looking = trio.Lock()
        self.endpoints_kept_s = ENDPOINTS_KEPT_S

    def __repr__(self) -> str:
        return f"<AskedProvider {self._provider.name}>"

    @property
    def provider(self) -> Provider:
        """See `AskProvider.provider`."""
        return self._provider

    def authorize_url(self, endpoints: Endpoints, secrets: FlowSecrets, state: str) -> str:
        """Call this for where somebody is sent to."""
        asked = urlencode(authorize_query(self._provider, secrets, state, self._back))
        return f"{endpoints.authorize}{'&' if urlsplit(endpoints.authorize).query else '?'}{asked}"

    async def endpoints(self) -> Endpoints:
        """See `AskProvider.endpoints`."""
        if not self._provider.needs_discovery:
            return self._set_endpoints()
        async with self._looking:
            found, now = self._found, trio.current_time()
            if found is not None and now - found.at < self.endpoints_kept_s:
                return found.endpoints
            endpoints = await self._discovered()
            self._found = _Found(endpoints, now)
            return endpoints

    async def show(self, exchange: Exchange) -> Shown:
        """See `AskProvider.show`."""
        endpoints = await self.endpoints()
        judge_issuer(exchange.issuer, self._provider, endpoints)
        tokens = await self._exchanged(
            endpoints,
            {
                "grant_type": "authorization_code",
                "code": exchange.code.reveal(),
                "redirect_uri": self._back,
                "code_verifier": exchange.verifier.reveal(),
            },
        )
        kept = self._kept(tokens)
        if self._provider.kind is Kind.GITHUB:
            return await self._github_shown(endpoints, kept)
        return await self._oidc_shown(endpoints, tokens, kept, exchange.nonce)

    async def renew(self, tokens: ProviderTokens) -> ProviderTokens:
        """See `AskProvider.renew`; without a new refresh token the former keeps its age."""
        if tokens.refresh is None:
            raise NotShown("tokens")
        endpoints = await self.endpoints()
        asked = {"grant_type": "refresh_token", "refresh_token": tokens.refresh.reveal()}
        renewed = replace(
            self._kept(await self._exchanged(endpoints, asked)),
            id_token=tokens.id_token,
            id_session=tokens.id_session,
        )
        if renewed.refresh in (None, tokens.refresh):
            renewed = replace(renewed, refresh=tokens.refresh, refresh_since=tokens.refresh_since)
        return renewed

    async def said_logout(self, token: str) -> SaidLogout:
        """Call this with a logout token for what it says; raises `NotShown`, `ProviderAway`."""
        header = header_of(token, (LOGOUT_TOKEN, ID_TOKEN))
        endpoints = await self.endpoints()
        key = await self._key_for(endpoints, header)
        payload = verified(token, header, key)
        return judge_logout(payload, self._provider, self._now().timestamp())

    def leave_url(self, endpoints: Endpoints, hint: Secret[str] | None) -> str | None:
        """Call this for where one signs out at the provider, too; None where one cannot.

        `hint` is the id token of who leaves.
        """
        if endpoints.end_session is None:
            return None
        asked = urlencode(leave_query(self._provider, self._left, hint))
        join = "&" if urlsplit(endpoints.end_session).query else "?"
        return f"{endpoints.end_session}{join}{asked}"

    # -- where it is --------------------------------------------------------------------------

    def _set_endpoints(self) -> Endpoints:
        one = self._provider
        if one.authorize_url is None or one.token_url is None:
            raise ProviderAway(one.name, "settings")
        is_github = one.kind is Kind.GITHUB
        return Endpoints(
            one.authorize_url, one.token_url, one.userinfo_url, one.jwks_url,
            takes_basic=not is_github,
        )  # fmt: skip

    async def _discovered(self) -> Endpoints:
        one = self._provider
        url = f"{one.issuer.removesuffix('/')}/.well-known/openid-configuration"
        answer = await self.caller.get(url)
        if not answer.is_good:
            raise ProviderAway(one.name, f"status {answer.status}")
        found = read_json(answer, _Discovered, one.name)
        if found.issuer != one.issuer:
            # SEC-92: whoever answers is somebody else than who was set.
            log.error("accounts.provider_issuer", provider=one.name)
            raise ProviderAway(one.name, "issuer")
        check = self.caller.check
        userinfo = one.userinfo_url or found.userinfo_endpoint
        return Endpoints(
            check(one.authorize_url or found.authorization_endpoint),
            check(one.token_url or found.token_endpoint),
            None if userinfo is None else check(userinfo),
            check(one.jwks_url or found.jwks_uri),
            None if found.end_session_endpoint is None else check(found.end_session_endpoint),
            found.authorization_response_iss_parameter_supported,
            "client_secret_basic" in found.token_endpoint_auth_methods_supported,
        )

    # -- its keys -----------------------------------------------------------------------------

    async def _key_for(self, endpoints: Endpoints, header: TokenHeader) -> Mapping[str, object]:
        """Give the key that a token says it is signed with, or the only one that fits."""
        async with self._looking:
            now = trio.current_time()
            if now - self._keys_at >= KEYS_KEPT_S:
                await self._look_for_keys(endpoints, now)
            found = self._fitting(header)
            if found is None and now - self.looked_at >= KEYS_AGAIN_S:
                await self._look_for_keys(endpoints, now)
                found = self._fitting(header)
        if found is None:
            raise NotShown("key")
        return found

    async def _look_for_keys(self, endpoints: Endpoints, now: float) -> None:
        if endpoints.jwks is None:
            raise ProviderAway(self._provider.name, "keys")
        # Counted before it is known: one that fails is no reason to ask at once again.
        self.looked_at = now
        answer = await self.caller.get(endpoints.jwks)
        if not answer.is_good:
            raise ProviderAway(self._provider.name, f"status {answer.status}")
        self._keys = read_json(answer, _Keys, self._provider.name).keys[:KEYS_MAX]
        self._keys_at = now

    def _fitting(self, header: TokenHeader) -> Mapping[str, object] | None:
        fitting = [
            key
            for key in self._keys
            if is_known_key(key.get("kty"), key.get("use"), key.get("alg"), header.alg)
            and header.kid in (None, key.get("kid"))
        ]
        return fitting[0] if len(fitting) == 1 else None

    # -- whom it shows ------------------------------------------------------------------------

    async def _oidc_shown(
        self, endpoints: Endpoints, tokens: _Tokens, kept: ProviderTokens, nonce: Secret[str]
    ) -> Shown:
        if tokens.id_token is None:
            raise NotShown("no token")
        header = header_of(tokens.id_token)
        key = await self._key_for(endpoints, header)
        claims = claims_of(verified(tokens.id_token, header, key))
        judge_claims(claims, self._provider, nonce, self._now().timestamp())
        email, is_good = claims.email, is_verified(claims.email_verified)
        if email is None and endpoints.userinfo is not None:
            told = await self.caller.get(endpoints.userinfo, kept.access.reveal())
            info = read_json(self._good(told), _UserInfo, self._provider.name)
            if info.sub != claims.sub:
                raise NotShown("subject")  # OpenID Connect Core 1.0, 5.3.2
            email, is_good = info.email, is_verified(info.email_verified)
        session, token = session_of(claims), Secret(tokens.id_token)
        if endpoints.end_session is not None and len(tokens.id_token) <= HINT_CHARS_MAX:
            kept = replace(kept, id_token=token, id_session=session)
        shown = self._shown(claims.sub, email if is_good else None, kept)
        return replace(shown, session=session)

    async def _github_shown(self, endpoints: Endpoints, kept: ProviderTokens) -> Shown:
        if endpoints.userinfo is None:
            raise ProviderAway(self._provider.name, "settings")
        name, token = self._provider.name, kept.access.reveal()
        user = self._good(await self.caller.get(endpoints.userinfo, token))
        listed = self._good(await self.caller.get(f"{endpoints.userinfo}/emails", token))
        addresses = [
            one.email
            for one in read_json(listed, list[_GitHubEmail], name)
            if one.primary and one.verified
        ]
        subject = str(read_json(user, _GitHubUser, name).id)
        return self._shown(subject, addresses[0] if addresses else None, kept)

    def _shown(self, subject: str, email: str | None, tokens: ProviderTokens) -> Shown:
        judge_subject(subject)
        if email is None:
            raise NotShown("address not verified")
        try:
            address = parse_address(email)
        except (BadMail, BadField):
            raise NotShown("address") from None
        return Shown(Identity(self._provider.issuer, subject), address, tokens)

    # -- its tokens ---------------------------------------------------------------------------

    async def _exchanged(self, endpoints: Endpoints, asked: dict[str, str]) -> _Tokens:
        one = self._provider
        basic = None
        if one.client_secret is None:
            asked["client_id"] = one.client_id
        elif endpoints.takes_basic:
            basic = (one.client_id, one.client_secret.reveal())
        else:
            asked |= {"client_id": one.client_id, "client_secret": one.client_secret.reveal()}
        answer = await self.caller.post(endpoints.token, asked, basic)
        if not 200 <= answer.status < 500:
            raise ProviderAway(one.name, f"status {answer.status}")
        tokens = read_json(answer, _Tokens, one.name)
        if tokens.error in _OURS:
            log.error("accounts.provider_refuses_us", provider=one.name, reason=tokens.error)
            raise ProviderAway(one.name, "settings")
        if tokens.error is not None or not answer.is_good:
            raise NotShown("grant")
        if not tokens.access_token or tokens.token_type.lower() != "bearer":
            raise NotShown("tokens")
        return tokens

    def _kept(self, tokens: _Tokens) -> ProviderTokens:
        now, life = self._now(), tokens.expires_in
        is_told = life is not None and 0 < life <= TOKEN_S_MAX
        return ProviderTokens(
            Secret(tokens.access_token),
            now + timedelta(seconds=life or 0) if is_told else None,
            None if tokens.refresh_token is None else Secret(tokens.refresh_token),
            None if tokens.refresh_token is None else now,
        )

    def _good(self, answer: Answered) -> Answered:
        if not answer.is_good:
            raise NotShown("access")
        return answer


def verified(token: str, header: TokenHeader, key: Mapping[str, object]) -> bytes:
    """Call this for what a token says, signed with a key by the algorithm that fits it.

    Raises `NotShown`.
    """
    # Only who signs in by a provider needs it.
    from joserfc import jws  # noqa: PLC0415  (as said)
    from joserfc.errors import JoseError  # noqa: PLC0415  (as said)
    from joserfc.jwk import import_key  # noqa: PLC0415  (as said)

    # Nothing but what a public key is: a private one, or a chain, is not looked at.
    public: dict[str, str | list[str]]
    public = {name: str(key[name]) for name in ("kty", "n", "e", "crv", "x", "y") if name in key}
    registry = jws.JWSRegistry(algorithms=[header.alg], strict_check_header=False)
    try:
        found = jws.deserialize_compact(token, import_key(public), [header.alg], registry)
    except (JoseError, ValueError, TypeError, KeyError):
        raise NotShown("signature") from None
    return found.payload


def asked_providers(
    providers: Sequence[Provider],
    origin: str,
    now: Callable[[], datetime],
    outside: Dependencies,
) -> dict[str, AskedProvider]:
    """Call this for the providers of the settings, which send people back to this origin (SEC-90).

    Where one is sent back to is one text a provider, with its name in the path. Each is called
    through its dependency, which `outside` has declared.
    """
    return {
        one.name: AskedProvider(
            one,
            origin + paths.OAUTH_BACK.replace("<provider>", one.name),
            origin + paths.HOME,
            now,
            outside.dependency(dependency_of(one)),
        )
        for one in providers
    }
