"""What a provider is asked, and what its answers are worth. Pure: no clock, no network, no keys.

Rule 1: what is not said is not assumed: a missing claim refuses as a wrong one does.
Rule 2: a reason is a word of this file, never a text of the provider's.
Rule 3: the secrets of a flow are made of its cookie and its state, so nothing of a flow is kept
        here: who has one of them without the other has nothing.
"""

import base64
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from actors.accounts.ways.provider.words import (
    SUBJECT_CHARS_MAX,
    Endpoints,
    Exchange,
    NotShown,
    Provider,
    SaidLogout,
)
from actors.runtime import Secret

# SEC-91. Long enough to type a password and a code at the provider.
STATE_KEPT_S = 300
# Clocks of two machines that are kept by somebody.
SKEW_S = 60
# Signatures by a key pair only: what verifies must not be able to sign.
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384"})
# By algorithm, the kind of key it is made with (RFC 7518).
KEY_KINDS = {
    name: "EC" if name.startswith("ES") else "RSA" for name in ALGORITHMS
}  # fmt: skip
# No code in use is as long; it goes on in one request.
CODE_CHARS_MAX = 2048
# An id token with every claim that providers add.
TOKEN_CHARS_MAX = 16_384
# What the header of a token may say it is (OpenID Connect Back-Channel Logout 1.0, section 2.4).
ID_TOKEN = "jwt"  # noqa: S105 - a word
LOGOUT_TOKEN = "logout+jwt"  # noqa: S105 - a word
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Two minutes are advised; one that is good for longer would have to be remembered for longer.
LOGOUT_KEPT_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class FlowSecrets:
    """What ties a flow to the browser that began it (nonce) and to who exchanges its code."""

    nonce: Secret[str]
    verifier: Secret[str]


def secrets_of(flow: str, state: str) -> FlowSecrets:
    """Call this with the nonce of a flow's cookie and its state, each of 256 random bits."""
    return FlowSecrets(*(Secret(_derived(flow, use, state)) for use in ("nonce", "verifier")))


def _derived(flow: str, use: str, state: str) -> str:
    return _base64url(hmac.digest(flow.encode(), f"{use}:{state}".encode(), "sha256"))


def challenge_of(verifier: Secret[str]) -> str:
    """Call this for the challenge of PKCE, S256 (RFC 7636)."""
    return _base64url(sha256(verifier.reveal().encode("ascii")).digest())


def authorize_query(
    provider: Provider, secrets: FlowSecrets, state: str, back: str
) -> dict[str, str]:
    """Call this for what somebody is sent to a provider with; they come back to `back`."""
    return {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": back,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": secrets.nonce.reveal(),
        "code_challenge": challenge_of(secrets.verifier),
        "code_challenge_method": "S256",
    }


def judge_return(given: Sequence[tuple[str, str]], secrets: FlowSecrets) -> Exchange:
    """Call this with the query somebody came back with; raises `NotShown`."""
    found: dict[str, str] = {}
    for name, value in given:
        if name in {"code", "iss", "error"}:
            if name in found:
                raise NotShown("twice")
            found[name] = value
    if "error" in found:
        raise NotShown("denied" if found["error"] == "access_denied" else "error")
    code = found.get("code", "")
    if not 1 <= len(code) <= CODE_CHARS_MAX or not code.isprintable():
        raise NotShown("code")
    return Exchange(Secret(code), secrets.verifier, secrets.nonce, found.get("iss"))


def judge_issuer(said: str | None, provider: Provider, endpoints: Endpoints) -> None:
    """Call this with whom an answer says it is from; raises `NotShown` (RFC 9207)."""
    if said is None and not endpoints.says_issuer:
        return
    if said != provider.issuer:
        raise NotShown("issuer")


class TokenHeader(msgspec.Struct, frozen=True):
    """What counts of a token's header. Keys, and places of keys, that it names are not looked at.

    `jku`, `jwk`, `x5u` and `x5c` name whatever the sender likes.
    """

    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: object = None


class Claims(msgspec.Struct, frozen=True):
    """What counts of an id token."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    iat: float
    nonce: str | None = None
    azp: str | None = None
    nbf: float | None = None
    email: str | None = None
    # Some providers write it as text.
    email_verified: bool | str | None = None
    sid: str | None = None


class LogoutClaims(msgspec.Struct, frozen=True):
    """What counts of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4)."""

    iss: str
    aud: str | list[str]
    iat: float
    exp: float
    jti: str
    events: dict[str, object]
    sub: str | None = None
    sid: str | None = None
    nbf: float | None = None
    # What is meant for a sign-in must not end one.
    nonce: object = msgspec.UNSET


def header_of(token: str, kinds: Collection[str] = (ID_TOKEN,)) -> TokenHeader:
    """Call this with a token of one of these kinds for its header, judged; raises `NotShown`."""
    parts = token.split(".")
    if len(token) > TOKEN_CHARS_MAX or len(parts) != 3:
        raise NotShown("form")
    try:
        text = base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4))
        header = msgspec.json.decode(text, type=TokenHeader)
    except (ValueError, msgspec.MsgspecError):
        raise NotShown("header") from None
    if header.alg not in ALGORITHMS:
        raise NotShown("algorithm")
    # An access token, or one that says somebody left, is signed with the same keys.
    if header.typ is not None and header.typ.lower().removeprefix("application/") not in kinds:
        raise NotShown("type")
    if header.crit is not None:
        raise NotShown("critical")
    return header


def claims_of(payload: bytes) -> Claims:
    """Call this with what a token says, of a good signature; raises `NotShown`."""
    try:
        return msgspec.json.decode(payload, type=Claims)
    except msgspec.MsgspecError:
        raise NotShown("claims") from None


def judge_claims(claims: Claims, provider: Provider, nonce: Secret[str], now: float) -> None:
    """Call this to judge an id token at a time, in seconds since 1970; raises `NotShown`."""
    if not provider.is_named(claims.iss):
        raise NotShown("issuer")
    judge_audience(claims.aud, claims.azp, provider.client_id)
    judge_times(claims, now)
    if not hmac.compare_digest((claims.nonce or "").encode(), nonce.reveal().encode()):
        raise NotShown("nonce")
    judge_subject(claims.sub)


def judge_audience(audience: str | Collection[str], party: str | None, client_id: str) -> None:
    """Call this for whether a token is for us, and for nobody besides; raises `NotShown`."""
    named = [audience] if isinstance(audience, str) else list(audience)
    # OpenID Connect Core 1.0, 3.1.3.7: others that it is for must be trusted, and we trust none.
    if named != [client_id]:
        raise NotShown("audience")
    if party is not None and party != client_id:
        raise NotShown("party")


def session_of(claims: Claims) -> str:
    """Call this for what a provider calls its session; "" for none; raises `NotShown`."""
    if claims.sid is not None:
        judge_subject(claims.sid)
    return claims.sid or ""


def judge_logout(payload: bytes, provider: Provider, now: float) -> SaidLogout:
    """Call this with what a logout token says, of a good signature; raises `NotShown` (SEC-94)."""
    try:
        claims = msgspec.json.decode(payload, type=LogoutClaims)
    except msgspec.MsgspecError:
        raise NotShown("claims") from None
    if not provider.is_named(claims.iss):
        raise NotShown("issuer")
    judge_audience(claims.aud, None, provider.client_id)
    judge_times(claims, now)
    if claims.exp > now + LOGOUT_KEPT_S:
        raise NotShown("long")
    if claims.nonce is not msgspec.UNSET:
        raise NotShown("nonce")
    if not isinstance(claims.events.get(LOGOUT_EVENT), dict):
        raise NotShown("events")
    judge_subject(claims.jti)
    if claims.sub is None and claims.sid is None:
        raise NotShown("subject")
    for named in (claims.sub, claims.sid):
        if named is not None:
            judge_subject(named)
    until = datetime.fromtimestamp(claims.exp + SKEW_S, UTC)
    return SaidLogout(provider.issuer, claims.jti, until, claims.sub, claims.sid)


def leave_query(provider: Provider, back: str, hint: Secret[str] | None) -> dict[str, str]:
    """Call this for what somebody is sent to a provider with who signs out there, too.

    OpenID Connect RP-Initiated Logout 1.0. The id token tells whom, and which of its sessions;
    without one the provider asks.
    """
    asked = {"client_id": provider.client_id, "post_logout_redirect_uri": back}
    if hint is not None:
        asked["id_token_hint"] = hint.reveal()
    return asked


def judge_times(claims: Claims | LogoutClaims, now: float) -> None:
    """Call this for whether a token is good at a time; raises `NotShown`."""
    if not now < claims.exp + SKEW_S:
        raise NotShown("expired")
    if not claims.iat <= now + SKEW_S or claims.exp <= claims.iat:
        raise NotShown("issued")
    if claims.nbf is not None and not claims.nbf <= now + SKEW_S:
        raise NotShown("early")


def judge_subject(subject: str) -> None:
    """Call this with who somebody is said to be; raises `NotShown`."""
    if not 1 <= len(subject) <= SUBJECT_CHARS_MAX or not subject.isprintable():
        raise NotShown("subject")


def is_verified(said: bool | str | None) -> bool:
    """Call this with what a provider says of an address."""
    return said is True or said == "true"


def is_known_key(kind: object, use: object, algorithm: object, wanted: str) -> bool:
    """Call this for whether a key is for signatures by an algorithm; what it does not say fits."""
    return kind == KEY_KINDS[wanted] and use in (None, "sig") and algorithm in (None, wanted)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
