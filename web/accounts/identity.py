"""Who is signed in on a request: the cookie of a sign-in, and what the store says of it.

Rule 1: a token that was not issued here is never adopted, and opens nothing (SEC-21).
Rule 2: the store is asked at each request of a member, so a role and an end count from the next
        one on, in every process. While it is away the answer is 503, and no guest's page (SITE-51).
        Pages that all may see, and on which a member is only named, may take an answer of the last
        second (PERF-40), of members without a role; what this process has ended is over there too.
Rule 3: a sign-in says which browser session it goes with: the visitor's cookie follows it.
Rule 4: client programs bring their token as `Authorization: Bearer`, below `/api/`, on streams and
        sockets; a cookie beside it counts for nothing, and one that opens nothing is 401 (SEC-37).
Rule 5: an API token comes as a bearer token only. In a cookie it is none; in the query of an
        address, where logs and histories keep it, it is refused before it is looked up (SEC-87).
"""

import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import unquote
from uuid import UUID

from hypercorn.typing import HTTPScope, WebsocketScope

from actors.accounts import SIGN_IN_KEPT, Accounts, Member
from actors.accounts.ways.tokens import ApiTokens
from actors.persistence.errors import StoreError
from actors.runtime import Log
from web.routing import paths
from web.routing.errors import InvalidInput, NotSignedIn
from web.server import (
    Rendering,
    RequestState,
    SignedIn,
    cookie_name,
    expire_cookie,
    masked,
    read_cookies,
    set_cookie,
)

_log = Log("web.accounts")

# SEC-12.
TOKEN_BYTES = 32
# As `secrets` writes that many bytes.
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
# Told apart at sight, by people and by what looks for lost secrets.
API_TOKEN_PREFIX = "grt_"  # noqa: S105 - what all of them begin with
_API_FORM = re.compile(API_TOKEN_PREFIX + _FORM.pattern)
_MEMBER_KEY = "greenroom.member"
_BEARER = b"bearer"
# Where programs ask.
_PROGRAMS = ("/api/", paths.EVENTS)
# Open to all; what they lead to asks anew, the stream of the page first of all.
_LATELY = frozenset({paths.HOME, paths.LAB})


def new_token() -> tuple[str, bytes]:
    """Call this for the token of a new sign-in and its digest; only the digest is kept."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, digest_of(token)


def new_api_token() -> tuple[str, bytes]:
    """Call this for a new API token and its digest; only the digest is kept."""
    token = API_TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    return token, digest_of(token)


def digest_of(token: str) -> bytes:
    """Call this for what the store knows a token by."""
    return sha256(token.encode("ascii")).digest()


class SignInCookie:
    """The cookie that holds a token, in either mode (SEC-10, SITE-38)."""

    def __init__(self, *, is_https: bool) -> None:
        self._is_https = is_https
        self._name = cookie_name("auth", is_https=is_https)
        self._sign = self._name.encode("ascii")

    def set(self, token: str) -> tuple[bytes, bytes]:
        """Call this for the header that gives a browser its token."""
        kept = round(SIGN_IN_KEPT.total_seconds())
        return set_cookie(self._name, token, is_https=self._is_https, max_age_s=kept)

    def expire(self) -> tuple[bytes, bytes]:
        """Call this for the header that takes it away."""
        return expire_cookie(self._name, is_https=self._is_https)

    def read(self, scope: HTTPScope | WebsocketScope) -> str | None:
        """Call this for what a request brought as its token, whatever it is; None for nothing."""
        # Most requests are guests': one look, before the cookies are taken apart.
        for name, value in scope["headers"]:
            if name == b"cookie" and self._sign in value:
                return read_cookies(scope["headers"]).get(self._name) or None
        return None


class Identity:
    """Finds out who is signed in; given to `WebApp` as `identify`, and asked at each handshake."""

    def __init__(
        self,
        accounts: Accounts,
        tokens: ApiTokens,
        cookie: SignInCookie,
        tell_away: Callable[[], None] = lambda: None,
        tell_forged: Callable[[], None] = lambda: None,
    ) -> None:
        """`tell_away` is called each time the store does not say who it is, `tell_forged` for
        what has not the form of a token: it was not issued here.
        """
        self._accounts, self._tokens, self._cookie = accounts, tokens, cookie
        self._tell_away, self._tell_forged = tell_away, tell_forged

    async def __call__(self, state: RequestState, scope: HTTPScope | WebsocketScope) -> None:
        """Set who is signed in; raises `StoreUnavailable` and its kin.

        Raises `NotSignedIn` for a bearer token that opens nothing: who shows one is no guest, and
        `InvalidInput` for an API token in the query.
        """
        if _has_token_in_query(state, scope):
            raise InvalidInput("an API token in the query; show it as Authorization: Bearer")
        bearer = bearer_of(scope)
        token = self._cookie.read(scope) if bearer is None else bearer
        if token is None:
            return
        try:
            if bearer is None and _is_glance(scope):
                member = await self._who_lately(token)
            else:
                member = await self._who(token, is_by_bearer=bearer is not None)
        except StoreError:
            self._tell_away()  # and nobody is taken for a guest meanwhile (SEC-3)
            raise
        if bearer is not None and bearer.startswith(API_TOKEN_PREFIX):
            _log_use(state, member)
        if member is None:
            if bearer is not None:
                raise NotSignedIn("a bearer token that opens nothing")
            self._forget(state, scope)
            return
        state.is_by_bearer = bearer is not None
        state.signed_in = SignedIn(
            member.user_id,
            member.username,
            member.role.value,
            member.reference,
            member.scopes,
        )
        state.visitor.adopt(UUID(member.session_id))
        if state.is_by_bearer:
            state.visitor.must_be_set = False  # a program keeps no cookie
        # Where `state` was found: the edge puts it there.
        scope["state"][_MEMBER_KEY] = member

    async def _who(self, token: str, *, is_by_bearer: bool) -> Member | None:
        if _FORM.fullmatch(token):
            return await self._accounts.who(digest_of(token))
        if is_by_bearer and _API_FORM.fullmatch(token):
            return await self._tokens.who(digest_of(token))
        self._tell_forged()
        return None

    async def _who_lately(self, token: str) -> Member | None:
        if _FORM.fullmatch(token):
            return await self._accounts.who_lately(digest_of(token))
        return await self._who(token, is_by_bearer=False)

    def _forget(self, state: RequestState, scope: HTTPScope | WebsocketScope) -> None:
        """Of a sign-in that is over nothing is left in its browser, which the next one may use."""
        state.set_cookies.append(self._cookie.expire())
        if scope["type"] != "http" or scope["method"] != "GET" or state.visitor.is_new:
            return
        if state.rendering is Rendering.PAGE:
            state.visitor.rotate()


def _is_glance(scope: HTTPScope | WebsocketScope) -> bool:
    # HEAD is told what GET would be.
    return (
        scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] in _LATELY
    )


def _log_use(state: RequestState, member: Member | None) -> None:
    """Log that an API token is used (SEC-130); of one that opens nothing nobody knows whose."""
    facts = {}
    if member is not None:
        facts = {"user_id": str(member.user_id), "token_id": str(member.reference)}
    _log.info(
        "accounts.token_use",
        outcome="refused" if member is None else "accepted",
        address=masked(state.address),
        request_id=state.request_id,
        **facts,
    )


def _has_token_in_query(state: RequestState, scope: HTTPScope | WebsocketScope) -> bool:
    # As it would be read, however it was written.
    if not scope["query_string"] and state.ticket is None:
        return False
    query = scope["query_string"].decode("latin-1")
    if state.ticket is not None:
        query += state.ticket.reveal()  # it was taken out of there
    return bool(query) and _API_FORM.search(unquote(query)) is not None


def bearer_of(scope: HTTPScope | WebsocketScope) -> str | None:
    """Call this for the bearer token of a request, whatever it is; None where none counts.

    A page is read by a browser, which brings cookies: only where programs ask it is looked for.
    """
    if scope["type"] == "http" and not scope["path"].startswith(_PROGRAMS):
        return None
    for name, value in scope["headers"]:
        scheme, _, token = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == _BEARER:
            return token.strip().decode("latin-1")
    return None


def member_of(scope: HTTPScope | WebsocketScope) -> Member | None:
    """Call this with a request's scope for all that is known of its member; None for guests."""
    found = scope["state"].get(_MEMBER_KEY)
    return found if isinstance(found, Member) else None
