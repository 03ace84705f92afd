"""How a member's address is changed by links, and changed back (AUTH-11).

Rule 1: who asks is answered alike, whoever has the address that is wished for (SEC-77).
Rule 2: opening a link shows a button and looks nothing up; only what that sends acts.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from actors.accounts import Act, BadField, Entry, Limited, Member
from actors.accounts.kept.addresses import (
    CONFIRM_KEPT,
    REVERT_KEPT,
    AddressChange,
    NewAddress,
    TakeBack,
    ask_limit,
    try_limit,
)
from actors.accounts.ways.links import mailbox_limit, mailbox_of
from actors.persistence import OutboxMessage
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    in_words,
    leave,
    log,
    origin_of,
    tell,
)
from web.accounts.own.mending.disavowing import needs_mailbox, not_me_link
from web.api import count
from web.mail.templates import AlertKind, SecurityAlert, Verification
from web.mail.words import BadMail, parse_address
from web.routing import paths
from web.routing.quota import address_key
from web.server import RequestState

FIELD = "new_email"
WRONG = (
    "This does nothing any more: it was used, its time is over, or the sign-in that asked has "
    "ended. Sign in and look at your account."
)
_OVER = "This sign-in is over; sign in again."
_SAME = "This is your address already."
# The link of a wish goes to two mails, of the wish and of the change; each is good for a week.
_BACK_TICKET_KEPT = REVERT_KEPT + CONFIRM_KEPT


class ConfirmsAddress(msgspec.Struct, frozen=True, array_like=True):
    """What the link to the new address says."""

    change: UUID


class TakesBack(msgspec.Struct, frozen=True, array_like=True):
    """What the link to the former address says."""

    change: UUID


async def ask_for_address(
    services: AccountServices, state: RequestState, member: Member, typed: str
) -> None:
    """Call this when a member, fresh, wishes for another address; raises `NotEntered`.

    Also `StoreUnavailable` and its kin: then nothing was kept or sent.
    """
    try:
        email = parse_address(typed)
    except BadMail as error:
        raise NotEntered(422, {FIELD: _problem(error)}) from error
    if email == member.email:
        raise NotEntered(422, {FIELD: _SAME})
    match await count(services.limiter, state, "address-ask", ask_limit(member.user_id)):
        case Limited(wait):
            _tell(state, "accounts.address_ask", "refused", member.user_id, reason="too_many")
            raise NotEntered(429, {FIELD: "Too many changes; " + in_words(wait)}, wait)
    change = services.ids.new_id()
    match await services.limiter.hit(mailbox_limit(mailbox_of(email))):
        case Limited():
            to_new: Sequence[OutboxMessage] = ()  # a mailbox that has enough, whoever asks
        case _:
            to_new = _link_to_new(services, member, change, email)
    new = NewAddress(
        change,
        member.user_id,
        member.reference,
        email,
        to_new,
        _alert(services, member.email, member.username, AlertKind.ADDRESS_ASKED, change),
    )
    if not await services.addresses.ask(new, origin_of(state)):
        raise NotEntered(409, {FIELD: _OVER})
    services.mails.wake()
    _tell(state, "accounts.address_ask", "accepted", member.user_id)


async def confirm_address(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when the reader of the new address confirms it; raises `NotEntered`.

    401 for one that is used, over or unknown, or whose address is somebody's, with one text; 429.
    """
    act, limit = "accounts.address", try_limit(address_key(state.address))
    await _count(services, state, act)
    said = services.tickets.open(ConfirmsAddress, token, "")
    change = None if said is None else await services.addresses.find(said.change)
    origin = origin_of(state, user_agent, "")
    if change is None or not await services.addresses.confirm(
        change.id, origin, _told_of_change(services, change)
    ):
        await services.audit.note(Entry(Act.ADDRESS, None, origin, "link"))
        _tell(state, act, "refused", None, reason="link")
        raise NotEntered(401, {"": WRONG})
    await services.limiter.give_back(limit)
    services.mails.wake()
    _tell(state, act, "accepted", change.user_id)


async def take_back(
    services: AccountServices, state: RequestState, token: str, user_agent: str
) -> None:
    """Call this when somebody at the former address takes the account back; as `disavow`."""
    act, limit = "accounts.address_back", try_limit(address_key(state.address))
    await _count(services, state, act)
    said = services.tickets.open(TakesBack, token, "")
    change = None if said is None else await services.addresses.find(said.change)
    origin = origin_of(state, user_agent, "")
    ended = None
    if change is not None:
        mails = _told_of_return(services, change)
        back = TakeBack(change.id, needs_mailbox(services), mails, services.tell_stopped)
        ended = await services.addresses.take_back(back, origin)
    if change is None or ended is None:
        await services.audit.note(Entry(Act.ADDRESS_BACK, None, origin, "link"))
        _tell(state, act, "refused", None, reason="link")
        raise NotEntered(401, {"": WRONG})
    await services.limiter.give_back(limit)
    services.mails.wake()
    _tell(state, act, "accepted", change.user_id, ended=ended)
    if state.signed_in is not None and state.signed_in.user_id == change.user_id:
        leave(services, state)


async def _count(services: AccountServices, state: RequestState, act: str) -> None:
    limit = try_limit(address_key(state.address))
    match await count(services.limiter, state, "address", limit):
        case Limited(wait):
            _tell(state, act, "refused", None, reason="too_many")
            raise NotEntered(429, {"": "Too many tries; " + in_words(wait)}, wait)


def _link_to_new(
    services: AccountServices, member: Member, change: UUID, email: str
) -> Sequence[OutboxMessage]:
    ticket = services.tickets.make(ConfirmsAddress(change), "", CONFIRM_KEPT)
    link = f"{services.origin}{paths.ADDRESS_CONFIRM}?token={ticket}"
    context = Verification(member.username, link, services.now() + CONFIRM_KEPT)
    return services.mails.verification(email, context, f"address:{change}")


def back_link(services: AccountServices, change: UUID) -> str:
    """Call this for the link by which a former address takes the account back."""
    ticket = services.tickets.make(TakesBack(change), "", _BACK_TICKET_KEPT)
    return f"{services.origin}{paths.ADDRESS_BACK}?token={ticket}"


def _alert(
    services: AccountServices, to: str, username: str, kind: AlertKind, change: UUID
) -> Sequence[OutboxMessage]:
    def written() -> Sequence[OutboxMessage]:
        link = back_link(services, change) if kind is AlertKind.ADDRESS_ASKED else ""
        context = SecurityAlert(username, kind, services.now(), not_me=link)
        return services.mails.security_alert(to, context, f"{kind}:{change}")

    return _or_none(written)


def _told_of_change(services: AccountServices, change: AddressChange) -> Sequence[OutboxMessage]:
    now = services.now()
    return _or_none(
        lambda: services.mails.address_changed(
            change.former,
            change.email,
            change.username,
            now,
            f"address:{change.id}",
            back=back_link(services, change.id),
            not_me=not_me_link(services, change.user_id, change.email, now),
        )
    )


def _told_of_return(services: AccountServices, change: AddressChange) -> Sequence[OutboxMessage]:
    name = change.username
    told = [*_alert(services, change.former, name, AlertKind.ADDRESS_BACK, change.id)]
    if change.is_made:
        lost = AlertKind.ADDRESS_CHANGED
        told += _alert(services, change.email, name, lost, change.id)
    return told


def _or_none(written: Callable[[], Sequence[OutboxMessage]]) -> Sequence[OutboxMessage]:
    """An address that no mail can go to hinders nobody."""
    try:
        return written()
    except BadMail as error:
        log.warning("accounts.not_told", field=error.field)
        return ()


def _problem(error: BadMail) -> str:
    cause = error.__cause__
    return cause.problem if isinstance(cause, BadField) else "Give an address that mail can go to."


def _tell(
    state: RequestState, act: str, outcome: str, user_id: UUID | None, **facts: object
) -> None:
    whose = {} if user_id is None else {"user_id": str(user_id)}
    tell(state, act, outcome, "", **whose, **facts)
