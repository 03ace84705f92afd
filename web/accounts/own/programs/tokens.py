"""What a member does with the API tokens of their own account (SEC-87).

A token is in one answer, when it is made, and is kept nowhere in the clear; its owner is told by
mail that there is one. Each act is logged as a try is (SEC-130). Of another's token, and of none,
nothing is told apart.
"""

from collections.abc import Collection
from uuid import UUID, uuid4

from actors.accounts import Member, SessionId
from actors.accounts.kept.tokens import (
    TOKEN_NAME_MAX,
    TOKENS_PER_USER_MAX,
    ApiToken,
    NewToken,
    NotAdded,
    Scope,
    check_scopes,
    check_token_name,
)
from actors.persistence.errors import InvalidField
from web.accounts.entering import AccountServices, NotEntered, origin_of, tell
from web.accounts.identity import new_api_token
from web.accounts.own.managing import alert
from web.mail.templates import AlertKind
from web.server import RequestState

NAME_FIELD, SCOPES_FIELD = "token_name", "scopes"
_NAME_PROBLEM = f"Give it a name of up to {TOKEN_NAME_MAX} characters that can be seen."
_SCOPES_PROBLEM = "Choose what it may do: " + ", ".join(Scope) + "."
_REFUSED = {
    NotAdded.ENDED: "This sign-in ended meanwhile, elsewhere; nothing was done.",
    NotAdded.TOO_MANY: f"There are {TOKENS_PER_USER_MAX} tokens already; revoke one first.",
}


async def add_token(
    services: AccountServices,
    state: RequestState,
    member: Member,
    name: str,
    scopes: Collection[str],
) -> tuple[str, ApiToken]:
    """Call this to make a token, for it and what is kept of it; raises `NotEntered` 422 or 409."""
    problems: dict[str, str] = {}
    given: tuple[Scope, ...] = ()
    try:
        name = check_token_name(name)
    except InvalidField:
        problems[NAME_FIELD] = _NAME_PROBLEM
    try:
        given = check_scopes([Scope(one) for one in scopes])
    except (InvalidField, ValueError):
        problems[SCOPES_FIELD] = _SCOPES_PROBLEM
    if problems:
        raise NotEntered(422, problems)
    token, digest = new_api_token()
    new = NewToken(
        services.ids.new_id(),
        member.user_id,
        member.reference,
        digest,
        SessionId(str(uuid4())),
        name,
        given,
        alert(services, member, AlertKind.TOKEN_MADE, digest),
    )
    made = await services.tokens.add(new, origin_of(state))
    facts = {"user_id": str(member.user_id), "token_id": str(new.id)}
    if isinstance(made, NotAdded):
        tell(state, "accounts.token_add", "refused", "", reason=made.value, **facts)
        raise NotEntered(409, {"": _REFUSED[made]})
    services.mails.wake()
    tell(state, "accounts.token_add", "accepted", "", scopes=" ".join(given), **facts)
    return token, made


async def revoke_token(
    services: AccountServices, state: RequestState, member: Member, token: str
) -> bool:
    """Call this to end a token by its id, with what it has open; False for none such."""
    try:
        id_ = UUID(token)
    except ValueError:
        return False
    is_done = await services.tokens.revoke(member.user_id, id_, origin_of(state))
    outcome = "accepted" if is_done else "refused"
    tell(state, "accounts.token_revoke", outcome, "", user_id=str(member.user_id))
    return is_done
