"""What each act with a passkey does, whatever page or program it comes from (AUTH-7, AUTH-8).

Rule 1: an answer that is refused is told in one sentence, whatever is wrong with it (SEC-101); the
        reason stands in the log.
Rule 2: nobody learns from what is asked or answered which addresses are somebody's (SEC-106).
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar
from uuid import UUID

from actors.accounts import (
    Act,
    Entry,
    Level,
    Limited,
    Member,
    Method,
    NewSignIn,
    Origin,
    StepUp,
)
from actors.accounts.kept.factors import PasskeyProof
from actors.accounts.kept.throttle import Limit
from actors.accounts.ways.links import Entered
from actors.accounts.ways.passkeys import (
    CHALLENGE_BYTES,
    PASSKEY_NAME_MAX,
    PASSKEYS_PER_USER_MAX,
    Added,
    AddPasskey,
    BadAnswer,
    BeginPasskey,
    Ceremony,
    EnterByPasskey,
    MadeAnswer,
    NewChallenge,
    NewPasskey,
    Party,
    Passkeys,
    ProvePasskey,
    Removal,
    Removed,
    Unanswered,
    UseAnswer,
    challenge_digest,
    challenge_of,
    fake_ids,
)
from actors.accounts.ways.passkeys.flow import EnteredBy, Messages, Proven, Refused
from actors.accounts.ways.passkeys.rules import begin_limit, use_limit
from actors.persistence.errors import InvalidField
from actors.runtime import Ask, AskError, NoProc, Ref, Secret, spanned
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    enter,
    in_words,
    new_sign_in,
    origin_of,
    renew,
    tell,
    withheld,
)
from web.accounts.identity import new_token
from web.accounts.own.managing import alert, alert_of
from web.accounts.own.second_factors import digests_of, first_codes
from web.accounts.second import (
    Admitted,
    Half,
    count_try,
    fingerprint_of,
    finish,
    forgive,
    half_of,
    open_half,
)
from web.accounts.ways.links import flow_id
from web.accounts.ways.passkeys.answers import creation_options, request_options
from web.api import count
from web.mail.templates import AlertKind
from web.mail.words import BadMail, parse_address
from web.routing.quota import address_key
from web.server import RequestState

# Shorter than the ten seconds a request may take.
FLOW_S_MAX = 8.0
FIELD = "passkey"
WRONG = "This passkey was not taken. Try it once more, or take another way."
_LATER = "This cannot be done just now; try again in a moment."
_OVER = "This was changed meanwhile, elsewhere; nothing was done."
_KNOWN = "This passkey is kept already."
_TOO_MANY = f"There are {PASSKEYS_PER_USER_MAX} passkeys; remove one first."
_LAST = "This passkey is your only way to sign in. Give yourself a password, or add another, first."

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PasskeyServices:
    """What passkeys need beside what accounts do."""

    accounts: AccountServices
    passkeys: Passkeys
    # Finds the actor of a challenge; raises `NoProc` while what is above it is being restarted.
    flow: Callable[[str], Ref[Messages]]
    party: Party
    # A keyed digest, for ids that are made up.
    digest: Callable[[bytes], bytes]
    wants_attestation: bool = False
    # Called when a counter fell: whoever watches the site is told when it happens often.
    tell_fell: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Offer:
    """A challenge, the keys that may answer it, and all that the browser is told."""

    challenge: bytes
    allowed: tuple[bytes, ...]
    options: dict[str, object]


@dataclass(frozen=True, slots=True)
class ByKey:
    """Who came in by a passkey; with a `half` nobody did yet, and it is the ticket for the rest."""

    entered: Entered
    reference: UUID
    token: Secret[str]
    half: str | None = None


# -- what is asked ----------------------------------------------------------------------------


async def offer_new(services: PasskeyServices, state: RequestState, member: Member) -> Offer:
    """Call this for what a browser is asked that is to have a passkey made; raises `NotEntered`."""
    known = await services.passkeys.of_user(member.user_id)
    if len(known) >= PASSKEYS_PER_USER_MAX:
        raise NotEntered(409, {FIELD: _TOO_MANY})
    bound = bound_to(state, member)
    challenge = await _begin(services, state, Ceremony.REGISTER, bound, member.user_id)
    ids = tuple(one.credential_id for one in known)
    options = creation_options(
        services.party, member, challenge, ids, wants_attestation=services.wants_attestation
    )
    return Offer(challenge, ids, options)


async def offer_sign_in(services: PasskeyServices, state: RequestState, typed: str) -> Offer:
    """Call this for what a browser is asked that signs in, with an address or without ("")."""
    user_id: UUID | None = None
    ids: Sequence[bytes] = ()
    if typed.strip():
        try:
            email = parse_address(typed)
        except BadMail as error:
            raise NotEntered(422, {"email": "Give an address of the form name@example.org."}) from (
                error
            )
        user_id, ids = await services.passkeys.of_email(email)
        if not ids:
            # Of nobody: no passkey that there is may answer it.
            user_id, ids = services.accounts.ids.new_id(), fake_ids(email, services.digest)
    bound = bound_to(state)
    challenge = await _begin(services, state, Ceremony.SIGN_IN, bound, user_id)
    options = request_options(services.party, challenge, ids, needs_verified=False)
    return Offer(challenge, tuple(ids), options)


async def offer_second(services: PasskeyServices, state: RequestState, ticket: str) -> Offer:
    """Call this for a passkey as second factor of who gave the first; raises `NotEntered`."""
    half = open_half(services.accounts, state, ticket)
    return await _offer_proof(services, state, half.user_id, bound_to(state))


async def offer_proof(services: PasskeyServices, state: RequestState, member: Member) -> Offer:
    """Call this for a passkey by which a member proves again who they are."""
    return await _offer_proof(services, state, member.user_id, bound_to(state, member))


async def _offer_proof(
    services: PasskeyServices, state: RequestState, user_id: UUID, bound: bytes
) -> Offer:
    ids = tuple(one.credential_id for one in await services.passkeys.of_user(user_id))
    if not ids:
        raise NotEntered(409, {FIELD: "There is no passkey; take another way."})
    challenge = await _begin(services, state, Ceremony.PROVE, bound, user_id)
    options = request_options(services.party, challenge, ids, needs_verified=True)
    return Offer(challenge, ids, options)


async def _begin(
    services: PasskeyServices,
    state: RequestState,
    ceremony: Ceremony,
    bound: bytes,
    user_id: UUID | None,
) -> bytes:
    await _count(services, state, "passkey-ask", begin_limit(address_key(state.address)))
    if state.visitor.is_new:
        # A program has no page that gave it the cookie to which its challenge is bound.
        state.visitor.must_be_set = True
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    made = NewChallenge(challenge_digest(challenge), ceremony, bound, user_id)
    answer = await _ask(services, made.digest, BeginPasskey(made))
    if isinstance(answer, Unanswered):
        raise NotEntered(503, {FIELD: _LATER}, 1.0)
    return challenge


def bound_to(state: RequestState, member: Member | None = None) -> bytes:
    """Call this for what ties a challenge to a browser, and to its sign-in (SEC-100)."""
    reference = "" if member is None else str(member.reference)
    return sha256(f"passkey:{state.visitor.text}:{reference}".encode()).digest()


# -- what is answered -------------------------------------------------------------------------


@spanned("auth.passkey")
async def enter_by_key(
    services: PasskeyServices,
    state: RequestState,
    read: Callable[[], UseAnswer],
    user_agent: str,
    *,
    by_cookie: bool = True,
) -> ByKey:
    """Call this to sign a browser in by a passkey; raises `NotEntered` 401 for no good one.

    Also 429, and 503 when nobody knows. `read` gives the answer or raises `BadAnswer`.
    """
    accounts, limit = services.accounts, use_limit(address_key(state.address))
    await _count(services, state, "passkey", limit)
    origin = origin_of(state, user_agent, Method.PASSKEY)
    token, sign_in = new_sign_in(
        accounts, state, user_agent, Method.PASSKEY, keeps_cookies=by_cookie
    )
    found = await _answered(services, state, read, sign_in, origin)
    if isinstance(found, Unanswered):
        await accounts.limiter.give_back(limit)
        raise NotEntered(503, {FIELD: _LATER}, 1.0)
    if isinstance(found, Refused):
        await _note(services, state, found, origin, Act.SIGN_IN)
        raise NotEntered(401, {FIELD: WRONG})
    entered = found.entered
    if entered.withheld is not None:
        refused = withheld(
            accounts, state, sign_in, entered.withheld, entered.user_id, Method.PASSKEY
        )
        raise NotEntered(refused.status, {FIELD: refused.problems[""]})
    await accounts.limiter.give_back(limit)
    facts = {"user_id": str(entered.user_id), "level": found.level.name}
    if entered.needs_second:
        tell(state, "accounts.sign_in", "half", Method.PASSKEY, **facts)
        kept = await accounts.accounts.credentials_of(entered.user_id)
        if kept is None:
            raise NotEntered(401, {FIELD: WRONG})
        half = Half(entered.user_id, Method.PASSKEY, fingerprint_of(kept.password_hash))
        ticket = half_of(accounts, state, half)
        return ByKey(entered, sign_in.reference, Secret(token), ticket)
    accounts.mails.wake()
    tell(state, "accounts.sign_in", "accepted", Method.PASSKEY, ended=entered.ended, **facts)
    if by_cookie:
        enter(accounts, state, sign_in, token)
    return ByKey(entered, sign_in.reference, Secret(token))


async def _answered(
    services: PasskeyServices,
    state: RequestState,
    read: Callable[[], UseAnswer],
    sign_in: NewSignIn,
    origin: Origin,
) -> EnteredBy | Refused | Unanswered:
    try:
        answer = read()
        digest = challenge_digest(challenge_of(answer.client_data))
    except BadAnswer as error:
        return Refused(error.reason)
    asked = EnterByPasskey(answer, bound_to(state), services.party, sign_in, origin)
    return await _ask(services, digest, asked)


@spanned("auth.passkey")
async def enter_with_key(
    services: PasskeyServices,
    state: RequestState,
    ticket: str,
    read: Callable[[], UseAnswer],
    user_agent: str,
    *,
    by_cookie: bool = True,
) -> Admitted:
    """Call this to sign in who gave the first factor, by a passkey; raises as `enter_by_key`."""
    half = open_half(services.accounts, state, ticket)
    origin = origin_of(state, user_agent, Method.PASSKEY)
    proven = await _proven(
        services, state, read, half.user_id, bound_to(state), origin, Act.SIGN_IN
    )
    try:
        return await finish(
            services.accounts,
            state,
            half,
            proven.proof,
            Method.PASSKEY,
            user_agent,
            proven.level,
            by_cookie=by_cookie,
        )
    except NotEntered as error:
        raise await _not_taken(services, state, proven, origin, error) from error


async def prove_with_key(
    services: PasskeyServices, state: RequestState, member: Member, read: Callable[[], UseAnswer]
) -> Level:
    """Call this when a member proves again who they are: fresh, of that level, a new token."""
    accounts, origin = services.accounts, origin_of(state, method=Method.PASSKEY)
    proven = await _proven(
        services, state, read, member.user_id, bound_to(state, member), origin, Act.STEP_UP
    )
    token, digest = new_token()
    step = StepUp(
        member.user_id,
        member.reference,
        digest,
        proven.level,
        proof=proven.proof,
        tell_stopped=accounts.tell_stopped,
    )
    if not await accounts.accounts.step_up(step, origin):
        refused = NotEntered(422, {FIELD: WRONG})
        raise await _not_taken(services, state, proven, origin, refused)
    await forgive(accounts, state, member.user_id)
    accounts.mails.wake()
    facts = {"user_id": str(member.user_id), "level": proven.level.name}
    tell(state, "accounts.step_up", "accepted", Method.PASSKEY, **facts)
    renew(accounts, state, token)
    return max(member.level, proven.level)


async def _proven(
    services: PasskeyServices,
    state: RequestState,
    read: Callable[[], UseAnswer],
    user_id: UUID,
    bound: bytes,
    origin: Origin,
    act: Act,
) -> Proven:
    await count_try(services.accounts, state, user_id)
    try:
        answer = read()
        digest = challenge_digest(challenge_of(answer.client_data))
        asked = ProvePasskey(answer, bound, services.party, user_id)
        found = await _ask(services, digest, asked)
    except BadAnswer as error:
        found = Refused(error.reason)
    if isinstance(found, Unanswered):
        raise NotEntered(503, {FIELD: _LATER}, 1.0)
    if isinstance(found, Refused):
        await _note(services, state, replace(found, user_id=found.user_id or user_id), origin, act)
        raise NotEntered(401 if act is Act.SIGN_IN else 422, {FIELD: WRONG})
    return found


async def _note(
    services: PasskeyServices, state: RequestState, refused: Refused, origin: Origin, act: Act
) -> None:
    accounts, user_id = services.accounts, refused.user_id
    tell(state, "accounts.passkey", "refused", Method.PASSKEY, reason=refused.reason)
    proof = refused.proof
    if proof is not None and user_id is not None:
        has_fallen = await _note_fall(services, state, user_id, proof, origin)
        if has_fallen:
            return
    await accounts.audit.note(Entry(act, user_id, origin, "wrong"))


async def _note_fall(
    services: PasskeyServices,
    state: RequestState,
    user_id: UUID,
    proof: PasskeyProof,
    origin: Origin,
) -> bool:
    accounts = services.accounts
    kept = await accounts.accounts.credentials_of(user_id)
    if kept is None:
        return False
    mail = alert_of(accounts, kept, AlertKind.COUNTER_FELL, new_token()[1])
    if not await services.passkeys.note_fall(user_id, proof, origin, mail):
        return False
    accounts.mails.wake()
    services.tell_fell()
    tell(state, "accounts.passkey_counter", "refused", Method.PASSKEY, user_id=str(user_id))
    return True


async def _not_taken(
    services: PasskeyServices,
    state: RequestState,
    proven: Proven,
    origin: Origin,
    refused: NotEntered,
) -> NotEntered:
    """Of two uses at once with one counter the second comes here, and is told of as a fall."""
    await _note_fall(services, state, proven.passkey.user_id, proven.proof, origin)
    return NotEntered(refused.status, {FIELD: WRONG})


# -- a member's own ---------------------------------------------------------------------------


async def add_key(
    services: PasskeyServices,
    state: RequestState,
    member: Member,
    read: Callable[[], MadeAnswer],
    name: str,
    *,
    ends_others: bool,
) -> tuple[UUID, tuple[str, ...]]:
    """Call this with a key that was made; gives its id and recovery codes, none where there are.

    The sign-in is of two factors then, under a new token. Raises `NotEntered`.
    """
    accounts = services.accounts
    codes = await first_codes(accounts, member)
    token, digest = new_token()
    try:
        answer = read()
        challenge = challenge_digest(challenge_of(answer.client_data))
        new = NewPasskey(
            accounts.ids.new_id(), member.user_id, answer.credential_id, b"-", member.reference,
            digest, name=name, ends_others=ends_others, codes=digests_of(codes),
            outbox=alert(accounts, member, AlertKind.FACTOR_ADDED, digest),
        )  # fmt: skip
        asked = AddPasskey(
            answer, bound_to(state, member), services.party, new,
            origin_of(state, method=Method.PASSKEY),
        )  # fmt: skip
    except InvalidField as error:
        raise NotEntered(422, {FIELD: f"Use up to {PASSKEY_NAME_MAX} characters."}) from error
    except BadAnswer as error:
        raise _not_added(state, member, error.reason) from error
    match await _ask(services, challenge, asked):
        case Added.DONE:
            pass
        case Added.OVER:
            raise NotEntered(409, {FIELD: _OVER})
        case Added.KNOWN:
            raise NotEntered(409, {FIELD: _KNOWN})
        case Added.TOO_MANY:
            raise NotEntered(409, {FIELD: _TOO_MANY})
        case Refused(reason):
            raise _not_added(state, member, reason)
        case Unanswered():
            raise NotEntered(503, {FIELD: _LATER}, 1.0)
    accounts.mails.wake()
    tell(state, "accounts.factor_add", "accepted", Method.PASSKEY, user_id=str(member.user_id))
    renew(accounts, state, token)
    return new.id, codes


def _not_added(state: RequestState, member: Member, reason: str) -> NotEntered:
    user_id = str(member.user_id)
    tell(state, "accounts.passkey", "refused", Method.PASSKEY, reason=reason, user_id=user_id)
    return NotEntered(422, {FIELD: WRONG})


async def rename_key(services: PasskeyServices, member: Member, id_: str, name: str) -> bool:
    """Call this to call a passkey something; False for none of the member's."""
    try:
        return await services.passkeys.rename(member.user_id, UUID(id_), name)
    except InvalidField as error:
        raise NotEntered(422, {FIELD: f"Use up to {PASSKEY_NAME_MAX} characters."}) from error
    except ValueError:
        return False


async def remove_key(
    services: PasskeyServices,
    state: RequestState,
    member: Member,
    id_: str,
    *,
    ends_others: bool,
) -> bool:
    """Call this to remove a passkey; False for none of the member's. Raises `NotEntered` 409 for
    the last way to sign in.
    """
    accounts = services.accounts
    try:
        named = UUID(id_)
    except ValueError:
        return False
    token, digest = new_token()
    removal = Removal(
        named,
        member.user_id,
        member.reference,
        digest,
        accounts.methods.ways,
        ends_others,
        alert(accounts, member, AlertKind.FACTOR_REMOVED, digest),
    )
    match await services.passkeys.remove(removal, origin_of(state, method=Method.PASSKEY)):
        case Removed.UNKNOWN:
            return False
        case Removed.LAST:
            raise NotEntered(409, {FIELD: _LAST})
        case Removed.OVER:
            raise NotEntered(409, {FIELD: _OVER})
        case Removed.DONE:
            pass
    accounts.mails.wake()
    user_id = str(member.user_id)
    tell(state, "accounts.factor_remove", "accepted", Method.PASSKEY, user_id=user_id)
    renew(accounts, state, token)
    return True


async def _ask(services: PasskeyServices, digest: bytes, asked: Ask[R]) -> R | Unanswered:
    try:
        return await services.flow(flow_id(digest)).ask(asked, timeout=FLOW_S_MAX)
    except (AskError, NoProc) as error:
        return Unanswered(type(error).__name__)


async def _count(services: PasskeyServices, state: RequestState, name: str, limit: Limit) -> None:
    match await count(services.accounts.limiter, state, name, limit):
        case Limited(wait):
            tell(state, "accounts.passkey", "refused", Method.PASSKEY, reason="too_many")
            raise NotEntered(429, {FIELD: "Too many tries; " + in_words(wait)}, wait)
