"""Mails to every address an account is known by: its own, and those it had within a week.

Each has a link by which its reader undoes what is told, as far as that address may.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from actors.accounts.kept.recoveries import Known, KnownAddress
from actors.accounts.ways.links import mailbox_of
from actors.persistence import OutboxMessage
from web.accounts.entering import AccountServices, log
from web.accounts.own.mending.addresses import back_link
from web.accounts.own.mending.disavowing import not_me_link
from web.mail.templates import AlertKind, SecurityAlert
from web.mail.words import BadMail


def to_all(
    known: Known, write: Callable[[KnownAddress, str], Sequence[OutboxMessage]]
) -> Sequence[OutboxMessage]:
    """Call this for a mail to each; `write` is given an address, and what tells it from others.

    An address that no mail can go to hinders nobody.
    """
    mails: list[OutboxMessage] = []
    for one in known.addresses:
        try:
            mails += write(one, mailbox_of(one.email).hex()[:16])
        except BadMail as error:
            log.warning("accounts.not_told", field=error.field)
    return mails


def alert_all(
    services: AccountServices,
    known: Known,
    kind: AlertKind,
    key: str,
    undo: Callable[[KnownAddress, datetime], str],
) -> Sequence[OutboxMessage]:
    """Call this to tell all that something was done; `undo` gives the link of an address."""
    now = services.now()

    def written(one: KnownAddress, mailbox: str) -> Sequence[OutboxMessage]:
        context = SecurityAlert(known.username, kind, now, not_me=undo(one, now))
        return services.mails.security_alert(one.email, context, f"{kind}:{key}:{mailbox}")

    return to_all(known, written)


def code_used(
    services: AccountServices, user_id: UUID, known: Known, digest: bytes
) -> Sequence[OutboxMessage]:
    """Call this for the mails of a recovery code that is used, by its digest."""

    def undo(one: KnownAddress, at: datetime) -> str:
        return undo_link(services, user_id, one, at)

    return alert_all(services, known, AlertKind.CODE_USED, digest.hex(), undo)


def recovery_stopped(
    services: AccountServices, recovery_id: UUID, known: Known
) -> Sequence[OutboxMessage]:
    """Call this for the mails that a recovery was stopped; there is nothing to undo."""
    return alert_all(
        services, known, AlertKind.RECOVERY_STOPPED, str(recovery_id), lambda _, __: ""
    )


def undo_link(
    services: AccountServices, user_id: UUID, one: KnownAddress, told_at: datetime
) -> str:
    """Call this for "this was not me" of an address; a former one takes the account back."""
    if one.change is not None:
        return back_link(services, one.change) if services.origin else ""
    return not_me_link(services, user_id, one.email, told_at)
