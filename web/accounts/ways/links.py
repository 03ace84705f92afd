"""What asking for a link and opening one do, whatever page or program they come from (AUTH-1).

Rule 1: the answer to who asks is made before anybody is looked up or written to (SEC-77).
Rule 2: opening shows a button; only what that sends uses a link up, so that a program that reads
        mails for somebody uses up nothing (SEC-82).
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from urllib.parse import quote
from uuid import UUID

from actors.accounts import Act, BadField, Entry, Limited, Method, RateLimiter
from actors.accounts.ways.link_flow import LinkEnvironment, NotKnown, RedeemLink, SendLink
from actors.accounts.ways.link_flow import Messages as LinkMessage
from actors.accounts.ways.links import (
    LINK_KEPT,
    Entered,
    LinkClaim,
    Newcomer,
    SignInLinks,
    code_digest,
    code_of,
    digest_of,
    mailbox_of,
    newcomer_names,
    parse_code,
    redeem_limit,
    send_limit,
)
from actors.persistence import OutboxMessage
from actors.runtime import AskError, NoProc, Ref, Secret, spanned
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    enter,
    in_words,
    new_sign_in,
    origin_of,
    tell,
    withheld,
)
from web.accounts.second import Half, fingerprint_of, half_of
from web.api import count
from web.mail.mails import Mails
from web.mail.templates import MagicLink
from web.mail.words import BadMail, parse_address
from web.routing.quota import address_key
from web.server import Rendering, RequestState, cookie_name, expire_cookie, set_cookie

TOKEN_BYTES = 32
# As `secrets` writes that many bytes.
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
# Names of actors are those of this process.
_NAMES = secrets.token_bytes(32)
# Shorter than the ten seconds a request may take.
REDEEM_S_MAX = 8.0
# SEC-81: for one that is over, was used, or never was.
WRONG = "Invalid or expired link"
_LATER = "This cannot be done just now; try again in a moment."
_WRONG_IN_WORDS = (
    "This link opens nothing: it was used, its ten minutes are over, or it was asked for in "
    "another browser. Ask for a new one, or type the code that is shown where you asked."
)


def new_secret() -> str:
    """Call this for the token of a link, or the nonce of a flow: 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def flow_id(of: bytes) -> str:
    """Call this to name the actor of a mailbox or a token; paths are shown, and tell neither."""
    return blake2b(of, digest_size=16, key=_NAMES).hexdigest()


class FlowCookie:
    """The cookie that ties a flow to the browser it began in, in either mode (SEC-82)."""

    def __init__(self, *, is_https: bool) -> None:
        self._name, self._is_https = cookie_name("flow", is_https=is_https), is_https

    def set(self, nonce: str) -> tuple[bytes, bytes]:
        """Call this for the header that begins a flow in a browser."""
        kept = round(LINK_KEPT.total_seconds())
        return set_cookie(self._name, nonce, is_https=self._is_https, max_age_s=kept)

    def expire(self) -> tuple[bytes, bytes]:
        """Call this for the header that ends it."""
        return expire_cookie(self._name, is_https=self._is_https)

    def read(self, cookies: dict[str, str]) -> str | None:
        """Call this with a request's cookies for the nonce of its flow; None for none."""
        found = cookies.get(self._name, "")
        return found if _FORM.fullmatch(found) else None


@dataclass(frozen=True, slots=True)
class LinkServices:
    """What links need beside what accounts do. `origin` is that of the site, for mails (SEC-84)."""

    accounts: AccountServices
    # Finds the actor of a flow; raises `NoProc` while what is above it is being restarted.
    flow: Callable[[str], Ref[LinkMessage]]
    origin: str
    cookie: FlowCookie
    binds: bool = True


def link_environment(
    links: SignInLinks, limiter: RateLimiter, now: Callable[[], datetime], mails: Mails
) -> LinkEnvironment:
    """Call this for what the actors of flows need."""

    def mail(email: str, link: str, over_at: datetime, key: str) -> Sequence[OutboxMessage]:
        return mails.magic_link(email, MagicLink(email, link, over_at), key)

    return LinkEnvironment(links, limiter, now, new_secret, mail, mails.wake)


@spanned("auth.link")
async def ask_for_link(
    services: LinkServices, state: RequestState, typed: str, then: str | None, opens_at: str
) -> str:
    """Call this when somebody wants a link; gives its address in one form. Raises `NotEntered`.

    `then` is the page that is wanted behind it. Whatever the address, the work and the answer are
    the same; the rest is done by its flow. Also raises `StoreUnavailable` and its kin.
    """
    try:
        email = parse_address(typed)
    except BadMail as error:
        raise NotEntered(422, {"email": _address_problem(error)}) from error
    limit = send_limit(address_key(state.address))
    match await count(services.accounts.limiter, state, "link-ask", limit):
        case Limited(wait):
            _tell(state, "accounts.link_ask", "refused", reason="too_many")
            raise NotEntered(429, {"": "Too many links; " + in_words(wait)}, wait)
    nonce = new_secret() if services.binds else None
    wanted = f"next={quote(then, safe='')}&" if then else ""
    message = SendLink(
        email,
        f"{services.origin}{opens_at}?{wanted}token=",
        None if nonce is None else digest_of(nonce),
        None if nonce is None else Secret(code_of(nonce)),
    )
    try:
        services.flow(flow_id(mailbox_of(email))).tell(message)
    except NoProc:
        raise NotEntered(503, {"": _LATER}, 1.0) from None
    if nonce is not None:
        state.set_cookies.append(services.cookie.set(nonce))
    _tell(state, "accounts.link_ask", "accepted")
    return email


@dataclass(frozen=True, slots=True)
class Opening:
    """What somebody sends who opens a link: its token, their flow's nonce, a code they typed."""

    token: str
    nonce: str | None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """Who came in, and the token of their sign-in, which is told nobody else.

    With a `half` nobody did yet: it is the ticket for the second factor (SEC-85).
    """

    entered: Entered
    reference: UUID
    token: Secret[str]
    half: str | None = None


@spanned("auth.link")
async def open_link(
    services: LinkServices,
    state: RequestState,
    opening: Opening,
    user_agent: str,
    *,
    by_cookie: bool = True,
) -> Opened:
    """Call this to use a link up and sign its browser in; raises `NotEntered` 401 for no good one.

    Also 429, and 503 when nobody knows. With `by_cookie` off the browser is given no cookie.
    """
    accounts = services.accounts
    limit = redeem_limit(address_key(state.address))
    match await count(accounts.limiter, state, "link-open", limit):
        case Limited(wait):
            _tell(state, "accounts.sign_in", "refused", reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    origin = origin_of(state, user_agent, Method.MAGIC_LINK)
    token, sign_in = new_sign_in(
        accounts, state, user_agent, Method.MAGIC_LINK, keeps_cookies=by_cookie
    )
    found: Entered | NotKnown | None = None
    if _FORM.fullmatch(opening.token):
        code = parse_code(opening.code)
        digest = digest_of(opening.token)
        claim = LinkClaim(
            digest,
            None if opening.nonce is None else digest_of(opening.nonce),
            None if code is None else code_digest(opening.token, code),
        )
        newcomer = Newcomer(accounts.ids.new_id(), newcomer_names(secrets.randbelow))
        asked = RedeemLink(claim, newcomer, sign_in, origin)
        found = await _answer(services, digest, asked)
    if isinstance(found, NotKnown):
        await accounts.limiter.give_back(limit)
        raise NotEntered(503, {"": _LATER}, 1.0)
    if found is None:
        await accounts.audit.note(Entry(Act.SIGN_IN, None, origin, "link"))
        _tell(state, "accounts.sign_in", "refused", reason="link")
        raise NotEntered(401, {"": _WRONG_IN_WORDS})
    if found.withheld is not None:
        held, whose = found.withheld, found.user_id
        raise withheld(accounts, state, sign_in, held, whose, Method.MAGIC_LINK)
    await accounts.limiter.give_back(limit)
    if found.needs_second:
        _tell(state, "accounts.sign_in", "half", user_id=str(found.user_id))
        half = await _half(services, state, found.user_id)
        return Opened(found, sign_in.reference, Secret(token), half)
    _tell(state, "accounts.sign_in", "accepted", user_id=str(found.user_id), ended=found.ended)
    if by_cookie:
        enter(accounts, state, sign_in, token)
    state.set_cookies.append(services.cookie.expire())
    return Opened(found, sign_in.reference, Secret(token))


async def _half(services: LinkServices, state: RequestState, user_id: UUID) -> str:
    accounts = services.accounts
    kept = await accounts.accounts.credentials_of(user_id)
    if kept is None:
        raise NotEntered(401, {"": _WRONG_IN_WORDS})
    half = Half(user_id, Method.MAGIC_LINK, fingerprint_of(kept.password_hash))
    is_program = state.rendering is Rendering.API
    return half_of(accounts, state, half, is_bound=services.binds or not is_program)


async def _answer(
    services: LinkServices, digest: bytes, asked: RedeemLink
) -> Entered | NotKnown | None:
    try:
        return await services.flow(flow_id(digest)).ask(asked, timeout=REDEEM_S_MAX)
    except (AskError, NoProc) as error:
        return NotKnown(type(error).__name__)


def _address_problem(error: BadMail) -> str:
    cause = error.__cause__
    return cause.problem if isinstance(cause, BadField) else "Give an address that mail can go to."


def _tell(state: RequestState, act: str, outcome: str, **facts: object) -> None:
    tell(state, act, outcome, method=Method.MAGIC_LINK, **facts)
