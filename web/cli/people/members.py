"""`greenroom sessions`, `tokens`, `audit` and `risk`: who may act, and what was done with accounts.

What ends here closes its sockets and streams on all processes within a second (SEC-18, SEC-44).
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from uuid import UUID

from actors.accounts import NOWHERE, AuditQuery, BadField, parse_username
from actors.accounts.ways.tokens import BY_OPERATOR
from storage.postgres import (
    Database,
    PostgresAccounts,
    PostgresApiTokens,
    PostgresAudit,
    PostgresLogins,
)
from web.cli.answering import Teller, moment_of
from web.cli.opening import changing, open_store
from web.observability import Code, CommandFailed

Do: TypeAlias = Callable[[argparse.Namespace, Teller, Database], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this to carry out a parsed command on the store of the settings."""
    async with open_store(environment) as database:
        return await _COMMANDS[parsed.command, parsed.action](parsed, teller, database)


async def _list(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    user_id = await _maybe_user(parsed, database)
    found = await PostgresAccounts(database).all_sign_ins(user_id, limit=parsed.limit)
    rows = [
        {
            "session": one.reference,
            "user": one.user_id,
            "name": one.name,
            "browser": one.browser,
            "address": one.address,
            "since": one.created_at,
            "seen": one.seen_at,
        }
        for one in found
    ]
    teller.rows(rows, "nobody is signed in")
    return Code.DONE


async def _revoke(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    accounts = PostgresAccounts(database)
    user_id = await _maybe_user(parsed, database)
    reference = None if parsed.session is None else _reference(parsed.session)
    if reference is not None:
        what, resource = f"end the session {reference}", str(reference)
    elif user_id is not None:
        what, resource = f"end all sessions of {parsed.user}", str(user_id)
    else:
        what, resource = "end all sessions of everybody", "all"
    async with changing(parsed, teller, database, what, resource):
        count = await accounts.revoke(reference=reference, user_id=user_id)
        if reference is not None and count == 0:
            raise _no_session(parsed.session)
    teller.one({"ended": count})
    return Code.DONE


async def _list_tokens(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    found = await PostgresApiTokens(database).of_user(await _user(parsed, database))
    rows = [
        {
            "token": one.id,
            "name": one.name,
            "scopes": " ".join(one.scopes),
            "since": one.created_at,
            "until": one.expires_at,
            "used": one.used_at,
        }
        for one in found
    ]
    teller.rows(rows, "there are none")
    return Code.DONE


async def _revoke_tokens(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    tokens, user_id = PostgresApiTokens(database), await _user(parsed, database)
    good = [one.id for one in await tokens.of_user(user_id)]
    if not parsed.all:
        # Before it is asked whether to do it: nobody confirms what cannot be done.
        good = [one for one in good if str(one) == parsed.token.lower()]
        if not good:
            raise _no_token()
    what = f"end all API tokens of {parsed.user}" if parsed.all else f"end the token {good[0]}"
    resource = str(user_id) if parsed.all else str(good[0])
    async with changing(parsed, teller, database, what, resource):
        count = 0
        for one in good:
            count += await tokens.revoke(user_id, one, NOWHERE, because=BY_OPERATOR)
        if not (count or parsed.all):
            raise _no_token()  # its owner was faster
    teller.one({"ended": count})
    return Code.DONE


async def _search(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    is_success = None if parsed.outcome is None else parsed.outcome == "accepted"
    query = AuditQuery(
        user_id=await _maybe_user(parsed, database),
        action=parsed.act,
        since=moment_of(parsed.since),
        until=moment_of(parsed.until),
        is_success=is_success,
        before=parsed.before,
        limit=min(parsed.limit, 500),
    )
    rows = [
        {
            "id": one.id,
            "at": one.at,
            "act": one.action,
            "subject": one.subject,
            "by": one.actor,
            "outcome": "accepted" if one.is_success else "refused",
            "reason": one.reason,
            "address": one.address,
            "browser": one.browser,
            "request": one.request_id,
            "why": one.why,
        }
        for one in await PostgresAudit(database).search(query)
    ]
    teller.rows(rows, "nothing of the kind was done")
    return Code.DONE


async def _explain(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    login_id = _maybe_uuid(parsed.login)
    found = None if login_id is None else await PostgresLogins(database).find(login_id)
    if found is None:
        raise CommandFailed(
            Code.UNKNOWN,
            f"no sign-in {parsed.login!r:.60} is kept",
            "The log and the audit have its id; of each account the newest 50 are kept",
        )
    teller.one(
        {
            "login": found.id,
            "user": found.user_id,
            "at": found.at,
            "method": found.method,
            "browser": found.browser,
            "country": found.country,
            "score": found.score,
            "level": found.level,
            "factors": found.factors,
            "outcome": found.outcome.value,
            "would_be": None if found.unobserved is None else found.unobserved.value,
        }
    )
    return Code.DONE


def _maybe_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _user(parsed: argparse.Namespace, database: Database) -> UUID:
    found = await _maybe_user(parsed, database)
    assert found is not None  # it is required
    return found


async def _maybe_user(parsed: argparse.Namespace, database: Database) -> UUID | None:
    """Find whom `--user` names: a name, or an id, which stays when the name is gone."""
    if parsed.user is None:
        return None
    try:
        return UUID(parsed.user)
    except ValueError:
        pass
    try:
        found = await PostgresAccounts(database).named(parse_username(parsed.user))
    except BadField:
        found = None
    if found is None:
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no member {parsed.user!r:.60}",
            "Name one by user name, or by the id that the audit has",
        )
    return found[0]


def _reference(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise _no_session(text) from error


def _no_session(text: str) -> CommandFailed:
    return CommandFailed(
        Code.UNKNOWN, f"there is no session {text!r:.60}", "greenroom sessions list tells them"
    )


def _no_token() -> CommandFailed:
    # It may be the token itself, which stands in no line that others read.
    return CommandFailed(
        Code.UNKNOWN,
        "this member has no token of that id",
        "greenroom tokens list tells them; the id is no secret, the token is",
    )


_COMMANDS: Mapping[tuple[str, str], Do] = {
    ("sessions", "list"): _list,
    ("sessions", "revoke"): _revoke,
    ("tokens", "list"): _list_tokens,
    ("tokens", "revoke"): _revoke_tokens,
    ("audit", "search"): _search,
    ("risk", "explain"): _explain,
}
