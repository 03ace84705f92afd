"""`greenroom roles`: who may decide over messages, and who operates the site (SITE-49).

A role comes from here and from nowhere else. It counts from the member's next request on; where one
is taken away the member has to sign in again.
"""

import argparse
from collections.abc import Mapping

from actors.accounts import BadField, Role, parse_username
from storage.postgres import Database, PostgresAccounts
from web.cli.answering import Teller
from web.cli.opening import changing, open_store
from web.observability import Code, CommandFailed


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    try:
        username = parse_username(parsed.username)
    except BadField as error:
        # A name that nobody can have: of the demo user too, who is no person.
        raise _unknown(parsed.username) from error
    async with open_store(environment) as database:
        return await _change(parsed, teller, database, username)


async def _change(
    parsed: argparse.Namespace, teller: Teller, database: Database, username: str
) -> int:
    accounts, named = PostgresAccounts(database), Role(parsed.role)
    found = await accounts.named(username)
    # Before it is asked whether to do it: nobody confirms what cannot be done.
    if found is None:
        raise _unknown(username)
    user_id, held = found
    if parsed.action == "grant":
        role, what = named, f"make {username} {_a(named)}"
    else:
        # Another role than the one that is taken away stays.
        role = Role.USER if held is named else held
        what = f"take from {username} what {_a(named)} may do"
    if role is not held:
        # In the audit by the bare id: it outlives the name (SEC-134).
        async with changing(parsed, teller, database, what, f"{user_id} {named}"):
            if await accounts.grant(username, role) is None:
                raise _unknown(username)  # deleted in this moment
    teller.one({"username": username, "before": held.value, "role": role.value})
    return Code.DONE


def _a(role: Role) -> str:
    return f"an {role}" if role is Role.ADMIN else f"a {role}"


def _unknown(username: str) -> CommandFailed:
    return CommandFailed(
        Code.UNKNOWN, f"there is no member {username!r:.60}", "They register at /register first"
    )
