"""What a member may do to their own account: see it, end sign-ins, change the password, delete it.

Each act is logged as a try is, with its reason and without what was typed (SEC-130).
"""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts import (
    NO_PASSWORD,
    Act,
    BadField,
    Credentials,
    Entry,
    Level,
    Limited,
    Member,
    NewPassword,
    StepUp,
    check_password,
)
from actors.accounts.members import SIGN_IN_NAME_MAX
from actors.persistence import OutboxMessage
from actors.persistence.errors import InvalidField
from web.accounts.entering import (
    AccountServices,
    NotEntered,
    in_words,
    leave,
    log,
    origin_of,
    renew,
    tell,
)
from web.accounts.hashing import common_passwords
from web.accounts.identity import new_token
from web.accounts.own.mending.disavowing import not_me_link
from web.api import count
from web.mail.templates import AlertKind, SecurityAlert
from web.mail.words import BadMail
from web.server import RequestState

WRONG = "This is not your password."
_NOT_FRESH = "Sign in by a link once more: your last sign-in is over ten minutes old."
_CHANGED = (
    "Your password was changed, or this sign-in ended, meanwhile, elsewhere; nothing was done. "
    "Try again with the new one."
)


async def end_sign_ins(
    services: AccountServices, state: RequestState, member: Member, reference: str | None
) -> bool:
    """Call this to end one of a member's other sign-ins, or all of them; False for none such.

    The sign-in that asks is not among them: it ends by signing out.
    """
    if reference is None:
        count = await services.accounts.end_others(
            member.user_id, member.reference, origin_of(state)
        )
        outcome = "refused" if count is None else "accepted"
        tell(state, "accounts.sign_ins_end", outcome, user_id=str(member.user_id), count=count or 0)
        return count is not None
    try:
        named = UUID(reference)
    except ValueError:
        return False
    if named == member.reference:
        return False
    is_ended = await services.accounts.end_sign_in(
        member.user_id, named, origin_of(state), by=member.reference
    )
    outcome = "accepted" if is_ended else "refused"
    tell(state, "accounts.sign_ins_end", outcome, user_id=str(member.user_id))
    return is_ended


async def name_sign_in(
    services: AccountServices, member: Member, reference: str, name: str
) -> bool:
    """Call this to call one of a member's sign-ins something; False for none such.

    Raises `NotEntered` for what is no name.
    """
    try:
        return await services.accounts.name_sign_in(member.user_id, UUID(reference), name)
    except InvalidField as error:
        raise NotEntered(422, {"name": f"Use up to {SIGN_IN_NAME_MAX} characters."}) from error
    except ValueError:
        return False


async def prove_again(
    services: AccountServices, state: RequestState, member: Member, password: str
) -> None:
    """Call this when a member gives their password once more; raises as `change_password`.

    Raises `NotEntered` 409 when the sign-in ended, or the password was changed, meanwhile.
    """
    kept = await prove(services, state, member, password, "password")
    await raise_level(services, state, member, Level.BASIC, kept.password_hash)


async def raise_level(
    services: AccountServices,
    state: RequestState,
    member: Member,
    level: Level,
    former_hash: str | None = None,
) -> None:
    """Call this when a factor was proven: the sign-in is fresh, of that level, under a new token.

    Every factor ends here, whatever it is; `former_hash` is what a password was compared with.
    """
    token, digest = new_token()
    step = StepUp(member.user_id, member.reference, digest, level, former_hash)
    if not await services.accounts.step_up(step, origin_of(state)):
        raise NotEntered(409, {"": _CHANGED})
    tell(state, "accounts.step_up", "accepted", user_id=str(member.user_id), level=level.name)
    renew(services, state, token)


async def change_password(
    services: AccountServices,
    state: RequestState,
    member: Member,
    current: str,
    new: str,
    *,
    ends_others: bool,
) -> None:
    """Call this to change a password; this sign-in goes on under a new token (SITE-46).

    Raises `NotEntered`, `HashingBusy`, and `StoreUnavailable` and its kin.
    """
    try:
        check_password(new, member.username, member.email, common_passwords())
    except BadField as error:
        raise NotEntered(422, {"new_password": error.problem}) from error
    kept = await _without_password(services, member)
    if kept is None:
        kept = await prove(services, state, member, current, "current_password")
    password_hash = await services.passwords.hash(new)
    token, digest = new_token()
    change = NewPassword(
        member.user_id,
        kept.password_hash,
        password_hash,
        member.reference,
        digest,
        ends_others,
        alert(services, member, AlertKind.PASSWORD_CHANGED, digest),
    )
    if not await services.accounts.change_password(change, origin_of(state)):
        raise NotEntered(422, {"current_password": _CHANGED})
    services.mails.wake()
    tell(state, "accounts.password", "accepted", user_id=str(member.user_id))
    renew(services, state, token)


async def has_password(services: AccountServices, member: Member) -> bool:
    """Call this for whether a member has one: who came by a link has none until they give one."""
    kept = await services.accounts.credentials_of(member.user_id)
    return kept is None or kept.password_hash != NO_PASSWORD


async def _without_password(services: AccountServices, member: Member) -> Credentials | None:
    """Give what a first password replaces, to who proved just now who they are; else None."""
    kept = await services.accounts.credentials_of(member.user_id)
    if kept is None or kept.password_hash != NO_PASSWORD:
        return None
    if not member.is_fresh:
        raise NotEntered(403, {"current_password": _NOT_FRESH})
    return kept


def alert(
    services: AccountServices, member: Member, kind: AlertKind, act: bytes
) -> Sequence[OutboxMessage]:
    """Call this for the mail that tells of a change, for the change's own transaction (SEC-73).

    `act` is different for each. An address that no mail can go to hinders nobody.
    """
    return alert_of(services, member, kind, act)


def alert_of(
    services: AccountServices, whose: Member | Credentials, kind: AlertKind, act: bytes
) -> Sequence[OutboxMessage]:
    """Call this as `alert` where nobody is signed in."""
    now = services.now()
    not_me = not_me_link(services, whose.user_id, whose.email, now)
    context = SecurityAlert(whose.username, kind, now, not_me=not_me)
    try:
        key = f"{kind}:{whose.user_id}:{act.hex()}"
        return services.mails.security_alert(whose.email, context, key)
    except BadMail as error:
        log.warning("accounts.not_told", user_id=str(whose.user_id), field=error.field)
        return ()


async def delete(
    services: AccountServices, state: RequestState, member: Member, password: str
) -> None:
    """Call this to delete an account, and sign out everywhere; raises as `change_password`."""
    kept = await prove(services, state, member, password, "password")
    if not await services.accounts.delete(
        member.user_id, kept.password_hash, origin_of(state), by=member.reference
    ):
        raise NotEntered(422, {"password": _CHANGED})
    tell(state, "accounts.delete", "accepted", user_id=str(member.user_id))
    leave(services, state)
    services.tell_forgotten()


async def prove(
    services: AccountServices, state: RequestState, member: Member, password: str, field: str
) -> Credentials:
    """Call this to ask for the password again, no more often than a login may; raises `NotEntered`.

    A browser left open is no key.
    """
    limits = services.login_limits(state, member.email)
    match await count(services.limiter, state, "password", *limits):
        case Limited(wait):
            tell(state, "accounts.prove", "refused", reason="too_many", user_id=str(member.user_id))
            raise NotEntered(429, {field: "Too many tries; " + in_words(wait)}, wait)
    is_judged = is_right = False
    try:
        kept = await services.accounts.credentials_of(member.user_id)
        password_hash = None if kept is None else kept.password_hash
        verified = await services.passwords.verify(password_hash, password)
        is_judged, is_right = True, verified.is_right
    finally:
        if not is_judged or is_right:
            await services.limiter.give_back(*limits)
    if kept is None or not is_right:
        entry = Entry(Act.STEP_UP, member.user_id, origin_of(state), "wrong")
        await services.audit.note(entry)
        tell(state, "accounts.prove", "refused", reason="wrong", user_id=str(member.user_id))
        raise NotEntered(422, {field: WRONG})
    return kept
