"""A member takes away what is kept of them: one JSON document, written as it is read (SEC-136).

Its shape is `docs/reference/account_export.md`. However much there is, a page of it is in memory at
a time, and no connection to the store is held while the client is slow.
"""

from collections.abc import AsyncGenerator

import msgspec

from actors.accounts import HeldAccount, HeldPart, Limited, Member, export_limit
from actors.persistence.errors import StoreError
from web.accounts.entering import AccountServices, NotEntered, in_words, tell
from web.accounts.own.managing import prove
from web.api import count
from web.server import RequestState

FORMAT = "greenroom.account"
# Raised with each change by which a reader of the document may be misled.
VERSION = 1

DOCUMENT_HEADERS = {
    "content-type": "application/json",
    "content-disposition": 'attachment; filename="greenroom-account.json"',
    "cache-control": "no-store",
}

FIELD = "export_password"
_GONE = "This account is not there any more."


async def export(
    services: AccountServices, state: RequestState, member: Member, password: str
) -> AsyncGenerator[bytes, None]:
    """Call this for the document; raises `NotEntered`, `HashingBusy`, `StoreUnavailable` and kin.

    Five times an hour. When the store goes away later, or the sign-in ends (SITE-40), the document
    ends in the middle, and whoever reads it sees that it does.
    """
    await prove(services, state, member, password, FIELD)
    limit = export_limit(member.user_id)
    match await count(services.limiter, state, "export", limit):
        case Limited(wait):
            tell(
                state, "accounts.export", "refused", reason="too_many", user_id=str(member.user_id)
            )
            raise NotEntered(429, {FIELD: "Too many downloads; " + in_words(wait)}, wait)
    try:
        account = await services.holdings.account(member.user_id)
    except StoreError:
        await services.limiter.give_back(limit)
        raise
    if account is None:
        raise NotEntered(422, {FIELD: _GONE})
    tell(state, "accounts.export", "accepted", user_id=str(member.user_id))
    state.is_long = True
    return _document(services, member, account)


async def _document(
    services: AccountServices, member: Member, account: HeldAccount
) -> AsyncGenerator[bytes, None]:
    head = {"format": FORMAT, "version": VERSION, **msgspec.to_builtins(account)}
    yield msgspec.json.encode(head)[:-1]
    for part in HeldPart:
        yield f',"{part}":['.encode()
        after: str | None = ""
        between = b""
        while after is not None:
            sign_ins = await services.accounts.sign_ins(member.user_id)
            if all(one.reference != member.reference for one in sign_ins):
                return
            page = await services.holdings.page(member.user_id, part, after=after)
            after = page.after
            if page.rows:
                yield between + msgspec.json.encode(page.rows)[1:-1]
                between = b","
        yield b"]"
    yield b"}\n"
