"""A second factor that is asked for: at the sign-in, and again before what is sensitive.

Rule 1: before the second factor there is no sign-in at all, only a `Half` in the browser that gave
        the first one.
Rule 2: wrong, used and unknown codes are answered alike; a good one is used up with what it opens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import UUID

import msgspec

from actors.accounts import (
    Act,
    Entry,
    Level,
    Limited,
    Member,
    Method,
    StepUp,
    factor_limits,
)
from actors.accounts.kept.factors import (
    CodeProof,
    Proof,
    TotpProof,
    parse_recovery_code,
    parse_totp,
    recovery_digest,
    step_of_code,
)
from actors.accounts.kept.risk.words import Withheld
from actors.accounts.members import AtProvider
from actors.persistence import OutboxMessage
from actors.runtime import Secret, spanned
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
from web.api import count
from web.routing.quota import address_key
from web.server import Rendering, RequestState

FIELD = "code"
WRONG = "This code is not right, or was used already. Wait for the next one, and type it anew."
AGAIN = "This took too long, or began in another browser; sign in again."
_BLANK = "Type the six digits your app shows."
_BLANK_EITHER = "Type the six digits your app shows, or one of your recovery codes."


class Half(msgspec.Struct, frozen=True):
    """A first factor that was given: whose, how, and by which hash of a password.

    Of one at a provider also at which, and in which of its sessions.
    """

    user_id: UUID
    method: str
    fingerprint: str
    provider: str = ""
    session: str = ""


def fingerprint_of(password_hash: str) -> str:
    """Call this for what tells one password hash from another, and is no use to guess it."""
    return sha256(b"greenroom half" + password_hash.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in by two factors, and how many other sign-ins that ended."""

    reference: UUID
    token: Secret[str]
    email: str
    ended: int


def half_of(
    services: AccountServices, state: RequestState, half: Half, *, is_bound: bool = True
) -> str:
    """Call this for the ticket of a first factor; it opens in this browser only.

    Where programs keep no cookies it is not bound to one: then whoever has it opens it, as a
    program, and with a second factor.
    """
    if not is_bound:
        return services.tickets.make(half, "")
    if state.visitor.is_new:
        state.visitor.must_be_set = True  # a program has no page that gave it the cookie
    return services.tickets.make(half, state.visitor.text)


def open_half(services: AccountServices, state: RequestState, ticket: str) -> Half:
    """Call this for the first factor that a ticket stands for; raises `NotEntered` for none."""
    half = services.tickets.open(Half, ticket, state.visitor.text)
    if half is None and state.rendering is Rendering.API:
        half = services.tickets.open(Half, ticket, "")
    if half is None:
        raise NotEntered(401, {"": AGAIN})
    return half


def is_by_mailbox(services: AccountServices, state: RequestState, ticket: str) -> bool:
    """Call this for whether the first factor was a link: then a lost second one can be mended."""
    half = services.tickets.open(Half, ticket, state.visitor.text)
    return half is not None and half.method == Method.MAGIC_LINK


async def has_passkey(services: AccountServices, state: RequestState, ticket: str) -> bool:
    """Call this for whether a passkey may be the second factor of who brings a ticket."""
    half = services.tickets.open(Half, ticket, state.visitor.text)
    if half is None or not services.methods.has(Method.PASSKEY):
        return False
    return (await services.factors.held(half.user_id)).passkeys_count > 0


@spanned("auth.second")
async def enter_with_second(
    services: AccountServices,
    state: RequestState,
    ticket: str,
    typed: str,
    user_agent: str,
    *,
    by_cookie: bool = True,
) -> Admitted:
    """Call this to sign in who gave the first factor, by a code; raises as `entering.log_in`.

    With `by_cookie` off the browser is given no cookie.
    """
    half = open_half(services, state, ticket)
    proof, method = await judged_code(services, state, half.user_id, Act.SIGN_IN, typed)
    return await finish(services, state, half, proof, method, user_agent, by_cookie=by_cookie)


async def finish(
    services: AccountServices,
    state: RequestState,
    half: Half,
    proof: Proof,
    method: str,
    user_agent: str,
    level: Level = Level.MULTI_FACTOR,
    *,
    by_cookie: bool = True,
) -> Admitted:
    """Call this with both factors to sign in; raises and gives as `enter_with_second`."""
    kept = await services.accounts.credentials_of(half.user_id)
    if kept is None or fingerprint_of(kept.password_hash) != half.fingerprint:
        raise NotEntered(401, {"": AGAIN})
    token, plain = new_sign_in(services, state, user_agent, half.method, keeps_cookies=by_cookie)
    by_mailbox = half.method == Method.MAGIC_LINK
    at = AtProvider(half.provider, half.session) if half.provider else None
    told = await _told_of_code(services, half.user_id, proof)
    sign_in = replace(
        plain, level=level, proof=proof, by_mailbox=by_mailbox, at_provider=at, outbox=told
    )
    origin = origin_of(state, user_agent, method)
    ended = await services.accounts.sign_in(half.user_id, kept.password_hash, sign_in, origin)
    if ended is None:
        raise await refuse(services, state, half.user_id, Act.SIGN_IN, method)
    if isinstance(ended, Withheld):
        raise withheld(services, state, sign_in, ended, half.user_id, method)
    await forgive(services, state, half.user_id)
    services.mails.wake()
    tell(state, "accounts.sign_in", "accepted", method, user_id=str(half.user_id), ended=ended)
    if by_cookie:
        enter(services, state, sign_in, token)
    return Admitted(sign_in.reference, Secret(token), kept.email, ended)


async def prove_with_second(
    services: AccountServices, state: RequestState, member: Member, typed: str
) -> None:
    """Call this when a member proves a second factor again: fresh, of two factors, a new token.

    Raises `NotEntered`; 409 when the sign-in ended meanwhile.
    """
    proof, method = await judged_code(services, state, member.user_id, Act.STEP_UP, typed)
    await step_up(services, state, member, proof, method)


async def step_up(
    services: AccountServices, state: RequestState, member: Member, proof: Proof, method: str
) -> None:
    """Call this with a proof that was judged; raises `NotEntered`."""
    token, digest = new_token()
    told = await _told_of_code(services, member.user_id, proof)
    step = StepUp(
        member.user_id,
        member.reference,
        digest,
        Level.MULTI_FACTOR,
        proof=proof,
        outbox=told,
        tell_stopped=services.tell_stopped,
    )
    if not await services.accounts.step_up(step, origin_of(state, method=method)):
        raise await refuse(services, state, member.user_id, Act.STEP_UP, method)
    await forgive(services, state, member.user_id)
    services.mails.wake()
    facts = {"user_id": str(member.user_id), "level": Level.MULTI_FACTOR.name}
    tell(state, "accounts.step_up", "accepted", method, **facts)
    renew(services, state, token)


async def _told_of_code(
    services: AccountServices, user_id: UUID, proof: Proof
) -> Sequence[OutboxMessage]:
    """A recovery code stands for a factor that is lost: all addresses hear of its use (AUTH-10)."""
    if not isinstance(proof, CodeProof):
        return ()
    known = await services.recoveries.known(user_id)
    if known is None:
        return ()

    return services.tell_code_used(services, user_id, known, proof.digest)


async def judged_code(
    services: AccountServices, state: RequestState, user_id: UUID, act: Act, typed: str
) -> tuple[Proof, str]:
    """Call this with what was typed for the proof it is, and its method; raises `NotEntered`.

    An app that was added is asked for and taken whether or not others can be added: without it an
    account would be left with one factor, or without a way in. Recovery codes that are switched
    off open nothing: the factor they stand for is still there. Each try counts until it is
    forgiven: fifty at once count fifty.
    """
    has_codes = services.methods.has(Method.RECOVERY_CODE)
    if not typed.strip():
        raise NotEntered(422, {FIELD: _BLANK_EITHER if has_codes else _BLANK})
    await count_try(services, state, user_id)
    held = await services.factors.held(user_id)
    code, recovery = parse_totp(typed), parse_recovery_code(typed)
    if code is not None and held.totp is not None:
        step = step_of_code(held.totp.secret, code, services.now(), held.totp.last_step)
        if step is not None:
            return TotpProof(step), "totp"
    if recovery is not None and held.codes_left and has_codes:
        return CodeProof(recovery_digest(recovery)), "recovery_code"
    raise await refuse(
        services, state, user_id, act, "totp" if recovery is None else "recovery_code"
    )


async def count_try(services: AccountServices, state: RequestState, user_id: UUID) -> None:
    """Call this before a second factor is judged; raises `NotEntered` 429."""
    limits = factor_limits(address_key(state.address), user_id)
    match await count(services.limiter, state, "second-factor", *limits):
        case Limited(wait):
            tell(state, "accounts.second", "refused", "", reason="too_many", user_id=str(user_id))
            raise NotEntered(429, {FIELD: "Too many tries; " + in_words(wait)}, wait)


async def forgive(services: AccountServices, state: RequestState, user_id: UUID) -> None:
    """Call this when a try was a good one."""
    by_address, by_account = factor_limits(address_key(state.address), user_id)
    await services.limiter.give_back(by_address)
    await services.limiter.clear(by_account.key)


async def refuse(
    services: AccountServices, state: RequestState, user_id: UUID, act: Act, method: str
) -> NotEntered:
    """Call this for the one answer to all that is not right; it is audited."""
    await services.audit.note(Entry(act, user_id, origin_of(state, method=method), "wrong"))
    tell(state, "accounts.second", "refused", method, reason="wrong", user_id=str(user_id))
    status = 401 if act is Act.SIGN_IN else 422
    return NotEntered(status, {FIELD: WRONG})
