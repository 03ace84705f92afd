"""What beginning a flow at a provider and coming back from it do, whoever asks (AUTH-4).

Rule 1: beginning keeps nothing but a cookie: what a state is for stands in the state itself,
        signed, and opens with that cookie only (SEC-91).
Rule 2: whatever failed, one text tells it, and nothing of what a provider said is in it.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote
from uuid import UUID

import msgspec

from actors.accounts import Act, Entry, Limit, Limited, Member, Origin
from actors.accounts.ways.link_flow import SendLink
from actors.accounts.ways.links import (
    Entered,
    Newcomer,
    code_of,
    digest_of,
    mailbox_of,
    newcomer_names,
)
from actors.accounts.ways.provider.flow import (
    Away,
    Came,
    ComeBack,
    Links,
    Nobody,
    NotYours,
    SignsIn,
)
from actors.accounts.ways.provider.flow import Messages as FlowMessage
from actors.accounts.ways.provider.identities import Identities, LinkedIdentity, Linking, Unlinking
from actors.accounts.ways.provider.judging import (
    STATE_KEPT_S,
    judge_return,
    secrets_of,
)
from actors.accounts.ways.provider.words import NotShown, Provider, ProviderAway
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
from web.accounts.identity import new_token
from web.accounts.own.managing import alert
from web.accounts.second import Half, fingerprint_of, half_of
from web.accounts.ways.links import FlowCookie, LinkServices, flow_id, new_secret
from web.accounts.ways.provider.asking import AskedProvider
from web.api import count
from web.mail.templates import AlertKind
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.quota import address_key
from web.server import RequestState

# Who comes back in vain from one address: as with links, and a house of people behind it.
RETURNS_PER_ADDRESS_MAX = 20
RETURN_PERIOD = timedelta(minutes=15)
# Longer than a flow asks a provider, shorter than the ten seconds a request may take.
COME_BACK_S_MAX = 9.0
# A page's address that is longer is led to where all sign-ins lead: a state is part of an address.
THEN_CHARS_MAX = 400
AWAY_AGAIN_S = 30.0

# SEC-91: for all that can be wrong.
WRONG = (
    "This sign-in did not work, and nothing was changed. Begin it once more from here, or take "
    "another way."
)
_AWAY = "{label} does not answer just now. Nothing was changed; take another way, or try later."
_TAKEN = (
    "There is an account with the address that {label} gave. {sent} Then link {label} on the page "
    "of your account."
)
_SENT = "A link that signs in was sent to that address: open it."
_NOT_SENT = "Sign in to it as you do."
_NOT_LINKED = {
    Linking.NOT_THEIRS: "This identity at {label} is linked to another account.",
    Linking.TWICE: "Another identity at {label} is linked to this account; unlink it first.",
    Linking.OVER: "This sign-in is over; sign in again.",
    Linking.LAST_WAY: (
        "This is the last way to sign in to your account. Give yourself a password, or link "
        "another provider first."
    ),
}
_LATER = "This cannot be done just now; try again in a moment."
_STATE = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{1,1024})")


class Began(msgspec.Struct, frozen=True):
    """What a state is for. `then` is None for a program, that is given its session in the answer.

    `links` is the sign-in whose member links what comes.
    """

    provider: str
    until: int
    then: str | None = None
    links: UUID | None = None


@dataclass(frozen=True, slots=True)
class ProviderServices:
    """What providers need beside what accounts do. Without `links` no mail leaves the site."""

    accounts: AccountServices
    identities: Identities
    # Finds the actor of a state; raises `NoProc` while what is above it is being restarted.
    flow: Callable[[str], Ref[FlowMessage]]
    cookie: FlowCookie
    asked: Mapping[str, AskedProvider] = field(default_factory=dict)
    links: LinkServices | None = None

    def provider(self, name: str) -> AskedProvider:
        """Call this for a provider; raises `NoSuchThing` for one that is not set."""
        found = self.asked.get(name)
        if found is None:
            raise NoSuchThing("no provider of this name")
        return found


@dataclass(frozen=True, slots=True)
class Opened:
    """A state that is good here, and the nonce of the flow it is of."""

    began: Began
    state: str
    flow: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Who came in, and the token of their sign-in; with a `half` nobody did yet."""

    entered: Entered
    reference: UUID
    token: Secret[str]
    half: str | None = None


@spanned("auth.provider")
async def begin(
    services: ProviderServices,
    state: RequestState,
    name: str,
    cookies: dict[str, str],
    *,
    then: str | None,
    links: Member | None = None,
) -> str:
    """Call this for where somebody is sent to; raises `NoSuchThing`, and `NotEntered` 503."""
    asked = services.provider(name)
    try:
        endpoints = await asked.endpoints()
    except ProviderAway as error:
        raise away(asked.provider, state, error.reason) from error
    # One that is there goes on: two tabs, or a link that is on its way, are not disturbed.
    flow = services.cookie.read(cookies) or new_secret()
    state.set_cookies.append(services.cookie.set(flow))
    random, now = new_secret(), services.accounts.now()
    if then is not None and len(then) > THEN_CHARS_MAX:
        then = paths.PROTECTED
    began = Began(
        name,
        round(now.timestamp()) + STATE_KEPT_S,
        then,
        None if links is None else links.reference,
    )
    ticket = services.accounts.tickets.make(began, _bound(flow, random))
    return asked.authorize_url(endpoints, secrets_of(flow, random), f"{random}.{ticket}")


def open_state(
    services: ProviderServices,
    name: str,
    query: Sequence[tuple[str, str]],
    cookies: dict[str, str],
) -> Opened | None:
    """Call this with what somebody came back with; None for a state that is not good here."""
    flow = services.cookie.read(cookies)
    states = [value for key, value in query if key == "state"]
    found = _STATE.fullmatch(states[0]) if len(states) == 1 else None
    if found is None or flow is None:
        return None
    random, ticket = found.groups()
    began = services.accounts.tickets.open(Began, ticket, _bound(flow, random))
    if began is None or began.provider != name:
        return None
    if services.accounts.now().timestamp() >= began.until:
        return None
    return Opened(began, random, flow)


@spanned("auth.provider")
async def come_back(
    services: ProviderServices,
    state: RequestState,
    opened: Opened,
    query: Sequence[tuple[str, str]],
    member: Member | None,
    user_agent: str,
) -> Returned | None:
    """Call this to sign in who came back; None when what was shown was linked to who is here.

    Raises `NotEntered`: 400 with one text, 409, 429, and 503 when nobody knows.
    """
    accounts, provider = services.accounts, services.provider(opened.began.provider).provider
    limit = return_limit(address_key(state.address))
    match await count(accounts.limiter, state, "provider-return", limit):
        case Limited(wait):
            _tell(state, provider, "refused", reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    origin = origin_of(state, user_agent, provider.method)
    token, sign_in = new_sign_in(
        accounts,
        state,
        user_agent,
        provider.method,
        keeps_cookies=opened.began.then is not None,
    )
    try:
        exchange = judge_return(query, secrets_of(opened.flow, opened.state))
    except NotShown as error:
        raise await _refuse(services, state, provider, origin, error.reason) from None
    wants: SignsIn | Links
    if opened.began.links is None:
        names = newcomer_names(secrets.randbelow)
        wants = SignsIn(Newcomer(accounts.ids.new_id(), names), sign_in)
    elif member is None or member.reference != opened.began.links or not member.is_fresh:
        raise await _refuse(services, state, provider, origin, "not fresh")
    else:
        told = alert(accounts, member, AlertKind.FACTOR_ADDED, new_token()[1])
        wants = Links(member.user_id, member.reference, told)
    digest = digest_of(opened.state)
    came = await _ask(services, digest, ComeBack(provider.name, digest, exchange, wants, origin))
    if isinstance(came, Nobody):
        raise await _refuse(services, state, provider, origin, came.reason)
    await accounts.limiter.give_back(limit)
    match came:
        case Away(reason):
            raise away(provider, state, reason)
        case NotYours(email):
            raise _not_yours(services, state, provider, opened.flow, email)
        case Linking():
            _linked(services, state, provider, came)
            return None
    if came.withheld is not None:
        raise withheld(accounts, state, sign_in, came.withheld, came.user_id, provider.method)
    ticket = await _enter(services, state, provider, came)
    if ticket is None and opened.began.then is not None:
        enter(accounts, state, sign_in, token)
    state.set_cookies.append(services.cookie.expire())
    return Returned(came, sign_in.reference, Secret(token), ticket)


async def unlink(
    services: ProviderServices, state: RequestState, member: Member, name: str
) -> None:
    """Call this to take an identity from a member; raises `NotEntered` 409, and `NoSuchThing`.

    Of a provider that is set no more too.
    """
    accounts = services.accounts
    mail = alert(accounts, member, AlertKind.FACTOR_REMOVED, new_token()[1])
    unlinking = Unlinking(
        member.user_id,
        member.reference,
        name,
        accounts.methods.ways,
        mail,
    )
    method = f"oauth_{name}"
    done = await services.identities.unlink(unlinking, origin_of(state, method=method))
    if done is Linking.NOT_THEIRS:
        raise NoSuchThing("no identity of this member")
    if done is not Linking.DONE:
        raise NotEntered(409, {"": _NOT_LINKED[done].format(label=name)})
    accounts.mails.wake()
    tell(state, "accounts.provider_unlink", "accepted", method, user_id=str(member.user_id))


async def linked(services: ProviderServices, member: Member) -> Sequence[LinkedIdentity]:
    """Call this for the identities of a member."""
    return await services.identities.of_user(member.user_id)


def return_limit(address: str) -> Limit:
    """Call this for how often one comes back in vain from an address of the network; a digest."""
    return Limit(f"provider:{address}", RETURNS_PER_ADDRESS_MAX, RETURN_PERIOD)


def away(provider: Provider, state: RequestState, reason: str) -> NotEntered:
    """Call this for what is told when a provider, or what it stands on, does not answer."""
    _tell(state, provider, "failed", reason=reason)
    return NotEntered(503, {"": _AWAY.format(label=provider.label)}, AWAY_AGAIN_S)


def wrong(state: RequestState, name: str, reason: str) -> NotEntered:
    """Call this for the one answer to who comes back with nothing that is good."""
    tell(state, "accounts.sign_in", "refused", f"oauth_{name}", reason=reason)
    return NotEntered(400, {"": WRONG})


async def _refuse(
    services: ProviderServices,
    state: RequestState,
    provider: Provider,
    origin: Origin,
    reason: str,
) -> NotEntered:
    await services.accounts.audit.note(Entry(Act.SIGN_IN, None, origin, "provider"))
    return wrong(state, provider.name, reason)


async def _ask(services: ProviderServices, digest: bytes, asked: ComeBack) -> Came:
    try:
        return await services.flow(flow_id(digest)).ask(asked, timeout=COME_BACK_S_MAX)
    except (AskError, NoProc) as error:
        return Away(type(error).__name__)


async def _enter(
    services: ProviderServices, state: RequestState, provider: Provider, entered: Entered
) -> str | None:
    """Tell of who came in; gives the ticket of the second factor where they need one."""
    accounts, user = services.accounts, str(entered.user_id)
    if not entered.needs_second:
        _tell(state, provider, "accepted", user_id=user, ended=entered.ended)
        return None
    _tell(state, provider, "half", user_id=user)
    kept = await accounts.accounts.credentials_of(entered.user_id)
    if kept is None:
        raise wrong(state, provider.name, "deleted")
    half = Half(
        entered.user_id,
        provider.method,
        fingerprint_of(kept.password_hash),
        provider.name,
        entered.session,
    )
    return half_of(accounts, state, half)


def _linked(
    services: ProviderServices, state: RequestState, provider: Provider, linking: Linking
) -> None:
    act = "accounts.provider_link"
    if linking is not Linking.DONE:
        tell(state, act, "refused", provider.method, reason=linking.value)
        raise NotEntered(409, {"": _NOT_LINKED[linking].format(label=provider.label)})
    services.accounts.mails.wake()
    tell(state, act, "accepted", provider.method)
    state.set_cookies.append(services.cookie.expire())


def _not_yours(
    services: ProviderServices, state: RequestState, provider: Provider, flow: str, email: str
) -> NotEntered:
    """Write to whom the address is: who reads it there may link (SEC-93)."""
    _tell(state, provider, "refused", reason="address_taken")
    links = services.links
    if links is not None:
        opens_at = f"{links.origin}{paths.LOGIN_LINK_OPEN}?next={quote(paths.ACCOUNT, safe='')}"
        bound = digest_of(flow) if links.binds else None
        code = Secret(code_of(flow)) if links.binds else None
        try:
            links.flow(flow_id(mailbox_of(email))).tell(
                SendLink(email, f"{opens_at}&token=", bound, code)
            )
        except NoProc:
            raise NotEntered(503, {"": _LATER}, 1.0) from None
    sent = _NOT_SENT if links is None else _SENT
    return NotEntered(409, {"": _TAKEN.format(label=provider.label, sent=sent)})


def _bound(flow: str, random: str) -> str:
    # A state is shown to the provider: of the cookie it holds a digest.
    return f"{digest_of(flow).hex()}:{random}"


def _tell(state: RequestState, provider: Provider, outcome: str, **facts: object) -> None:
    tell(state, "accounts.sign_in", outcome, method=provider.method, **facts)
