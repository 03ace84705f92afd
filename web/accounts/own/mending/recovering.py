"""What begins, stops and finishes a recovery, whatever page it comes from (AUTH-10).

Rule 1: it begins with the half ticket of who opened a link to the address, in their browser; who
        gave a password has shown no mailbox.
Rule 2: opening a link of a mail shows a button and looks nothing up; only what that sends acts.
Rule 3: used, over, foreign and unknown are one answer.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from actors.accounts import Act, Entry, Limited, Member, Method, Origin
from actors.accounts.kept.factors import CodeProof, parse_recovery_code, recovery_digest
from actors.accounts.kept.recoveries import (
    RECOVERY_KEPT,
    RECOVERY_WAIT,
    Known,
    KnownAddress,
    NewRecovery,
    Recovery,
    Telling,
    recovery_limit,
    start_limit,
)
from actors.persistence import OutboxMessage
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    in_words,
    leave,
    origin_of,
    tell,
)
from web.accounts.own.mending.telling import alert_all, recovery_stopped, to_all, undo_link
from web.accounts.second import (
    AGAIN,
    FIELD,
    Half,
    count_try,
    fingerprint_of,
    forgive,
    open_half,
    refuse,
)
from web.api import count
from web.mail.templates import AlertKind, RecoveryNotice, RecoveryStep
from web.routing import paths
from web.routing.quota import address_key
from web.server import RequestState

WRONG = (
    "This does nothing any more: it was used or stopped, its time is over, or the account has "
    "another address. Ask for a link to your address, and begin again if you must."
)
_NO_MAILBOX = "Show first that you read your mail: ask for a link to your address."


class StopsRecovery(msgspec.Struct, frozen=True, array_like=True):
    """What the link says that stops one."""

    recovery: UUID


class FinishesRecovery(msgspec.Struct, frozen=True, array_like=True):
    """What the link says that carries one out; it goes to the account's own address only."""

    recovery: UUID


async def start_recovery(
    services: AccountServices, state: RequestState, ticket: str, user_agent: str
) -> None:
    """Call this when somebody who opened a link has lost their second factor; `NotEntered`.

    One that is under way goes on, and the answer is the same. 401, 429; also `StoreUnavailable` and
    its kin: then nothing was begun or sent.
    """
    half = _open_mailbox(services, state, ticket)
    origin = origin_of(state, user_agent, Method.MAGIC_LINK)
    match await count(services.limiter, state, "recovery-start", start_limit(half.user_id)):
        case Limited(wait):
            _tell(state, "accounts.recovery_start", "refused", half.user_id, reason="too_many")
            raise NotEntered(429, {"": "Too many recoveries; " + in_words(wait)}, wait)
    found = await _start(services, half, origin)
    if found is None:
        entry = Entry(Act.RECOVERY_START, half.user_id, origin, "half")
        await services.audit.note(entry)
        _tell(state, "accounts.recovery_start", "refused", half.user_id, reason="half")
        raise NotEntered(401, {"": AGAIN})
    services.mails.wake()
    _tell(state, "accounts.recovery_start", "accepted", half.user_id)


async def recover_by_code(
    services: AccountServices, state: RequestState, ticket: str, typed: str, user_agent: str
) -> None:
    """Call this when who opened a link has a recovery code: it is done at once; `NotEntered`.

    As `finish_recovery` beside that; a wrong code is counted as any second factor.
    """
    half = _open_mailbox(services, state, ticket)
    services.methods.check(Method.RECOVERY_CODE)
    await count_try(services, state, half.user_id)
    code, ended = parse_recovery_code(typed), None
    kept = await services.accounts.credentials_of(half.user_id)
    known = await services.recoveries.known(half.user_id)
    is_same = kept is not None and fingerprint_of(kept.password_hash) == half.fingerprint
    if code is not None and known is not None and is_same:
        id_ = services.ids.new_id()
        telling = Telling(known.emails, _told_recovered(services, half.user_id, id_, known))
        new, proof = NewRecovery(id_, half.user_id, telling), CodeProof(recovery_digest(code))
        origin = origin_of(state, user_agent, Method.RECOVERY_CODE)
        ended = await services.recoveries.recover(new, proof, origin)
    if ended is None:
        found = await refuse(services, state, half.user_id, Act.RECOVERY, Method.RECOVERY_CODE)
        raise NotEntered(401, {"": found.problems[FIELD]})
    await forgive(services, state, half.user_id)
    services.mails.wake()
    _tell(state, "accounts.recovery", "accepted", half.user_id, ended=ended)


def _open_mailbox(services: AccountServices, state: RequestState, ticket: str) -> Half:
    half = open_half(services, state, ticket)
    if half.method != Method.MAGIC_LINK:
        raise NotEntered(401, {"": _NO_MAILBOX})
    return half


def _told_recovered(
    services: AccountServices, user_id: UUID, id_: UUID, known: Known
) -> Sequence[OutboxMessage]:
    def undo(one: KnownAddress, at: datetime) -> str:
        return undo_link(services, user_id, one, at)

    return alert_all(services, known, AlertKind.RECOVERED, str(id_), undo)


async def _start(services: AccountServices, half: Half, origin: Origin) -> Recovery | None:
    kept = await services.accounts.credentials_of(half.user_id)
    known = await services.recoveries.known(half.user_id)
    if kept is None or known is None or fingerprint_of(kept.password_hash) != half.fingerprint:
        return None
    id_ = services.ids.new_id()
    mails = _announced(services, id_, known, RecoveryStep.STARTED, services.now() + RECOVERY_WAIT)
    new = NewRecovery(id_, half.user_id, Telling(known.emails, mails))
    return await services.recoveries.start(new, origin)


def tell_ready(
    services: AccountServices, recovery: Recovery, known: Known
) -> Sequence[OutboxMessage]:
    """Call this for the mails that say that its day is over; none before the site is reached."""
    if not services.origin:
        return ()
    until = recovery.ready_at + RECOVERY_KEPT
    return _announced(services, recovery.id, known, RecoveryStep.READY, until)


async def stop_recovery(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when the reader of a mail stops one; raises `NotEntered` 401 or 429."""

    async def done(given: _Given) -> bool:
        outbox = recovery_stopped(services, given.recovery.id, given.known)
        telling = Telling(given.known.emails, outbox)
        return await services.recoveries.stop(given.recovery.id, telling, given.origin)

    said = services.tickets.open(StopsRecovery, token, "")
    which = None if said is None else said.recovery
    await _act(services, state, which, Act.RECOVERY_STOP, user_agent, done)


async def finish_recovery(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when the reader of the account's address carries one out; as `stop_recovery`.

    Nobody is signed in by it: that is what a link is for (SEC-85).
    """

    async def done(given: _Given) -> bool:
        outbox = _told_recovered(services, given.recovery.user_id, given.recovery.id, given.known)
        telling = Telling(given.known.emails, outbox)
        ended = await services.recoveries.finish(given.recovery.id, telling, given.origin)
        return ended is not None

    said = services.tickets.open(FinishesRecovery, token, "")
    which = None if said is None else said.recovery
    user_id = await _act(services, state, which, Act.RECOVERY, user_agent, done)
    if state.signed_in is not None and state.signed_in.user_id == user_id:
        leave(services, state)


async def stop_own_recovery(
    services: AccountServices, state: RequestState, member: Member, user_agent: str
) -> bool:
    """Call this when a member stops that of their own account; False when there is none."""
    recovery = await services.recoveries.of_user(member.user_id)
    known = await services.recoveries.known(member.user_id)
    if recovery is None or known is None:
        return False
    telling = Telling(known.emails, recovery_stopped(services, recovery.id, known))
    origin = origin_of(state, user_agent, "")
    is_stopped = await services.recoveries.stop(recovery.id, telling, origin)
    if is_stopped:
        services.mails.wake()
        _tell(state, "accounts.recovery_stop", "accepted", member.user_id)
    return is_stopped


@dataclass(frozen=True, slots=True)
class _Given:
    recovery: Recovery
    known: Known
    origin: Origin


async def _act(
    services: AccountServices,
    state: RequestState,
    which: UUID | None,
    act: Act,
    user_agent: str,
    done: Callable[[_Given], Awaitable[bool]],
) -> UUID:
    """Count the try, look, and do it; gives whose it was. One answer to all that is no good."""
    limit, name = recovery_limit(address_key(state.address)), f"accounts.{act.name.lower()}"
    match await count(services.limiter, state, "recovery", limit):
        case Limited(wait):
            _tell(state, name, "refused", None, reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)
    # Who did it nobody knows: whoever has the mail.
    origin = origin_of(state, user_agent, "")
    recovery = None if which is None else await services.recoveries.find(which)
    known = None if recovery is None else await services.recoveries.known(recovery.user_id)
    if recovery is None or known is None or not await done(_Given(recovery, known, origin)):
        await services.audit.note(Entry(act, None, origin, "link"))
        _tell(state, name, "refused", None, reason="link")
        raise NotEntered(401, {"": WRONG})
    await services.limiter.give_back(limit)
    services.mails.wake()
    _tell(state, name, "accepted", recovery.user_id)
    return recovery.user_id


def _announced(
    services: AccountServices, id_: UUID, known: Known, step: RecoveryStep, at: datetime
) -> Sequence[OutboxMessage]:
    tickets = services.tickets
    kept = RECOVERY_WAIT + RECOVERY_KEPT
    stop = f"{services.origin}{paths.RECOVERY_STOP}?token="
    finish = f"{services.origin}{paths.RECOVERY_FINISH}?token="

    def written(one: KnownAddress, mailbox: str) -> Sequence[OutboxMessage]:
        is_own = one.change is None and step is RecoveryStep.READY
        context = RecoveryNotice(
            known.username,
            step,
            at,
            stop + tickets.make(StopsRecovery(id_), "", kept),
            finish + tickets.make(FinishesRecovery(id_), "", RECOVERY_KEPT) if is_own else "",
        )
        key = f"recovery_{step}:{id_}:{mailbox}"
        return services.mails.recovery(one.email, context, key)

    return to_all(known, written)


def _tell(
    state: RequestState, act: str, outcome: str, user_id: UUID | None, **facts: object
) -> None:
    whose = {} if user_id is None else {"user_id": str(user_id)}
    tell(state, act, outcome, "", **whose, **facts)
