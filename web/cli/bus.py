"""`greenroom bus`: which groups read the bus, how far each is behind, and moving one that stopped.

It is the bus in the store's own database; that of a broker is moved with the broker's tools.
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from actors.persistence.bus import Goal, StartAt
from actors.persistence.bus.words import check_goal
from actors.persistence.words import Cursor
from storage.bus import PostgresBus
from storage.postgres import Database
from web.cli.answering import Code, CommandFailed, Teller
from web.cli.opening import changing, open_store

Do: TypeAlias = Callable[[argparse.Namespace, Teller, Database], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this to carry out a parsed command on the store of the settings."""
    async with open_store(environment) as database:
        return await _COMMANDS[parsed.action](parsed, teller, database)


async def _groups(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    rows = [
        {
            "group": one.name,
            "members": one.members,
            "seen": one.seen_at,
            "counted": one.is_counted,
            "topics": ", ".join(one.topics),
        }
        for one in await PostgresBus(database).groups()
    ]
    teller.rows(rows, "no group has ever read the bus")
    return Code.DONE


async def _lag(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    rows = [
        {
            "topic": one.topic,
            "partition": one.partition,
            "behind": one.records,
            "seconds": one.seconds,
            "handled": one.handled_at,
        }
        for one in await PostgresBus(database).lag(parsed.group)
    ]
    teller.rows(rows, "this group reads no topic")
    return Code.DONE


async def _seek(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    return await _move(parsed, teller, database, _goal(parsed.to), f"to {parsed.to}")


async def _replay(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    where = "back to the first record that is kept"
    return await _move(parsed, teller, database, StartAt.EARLIEST, where)


async def _move(
    parsed: argparse.Namespace, teller: Teller, database: Database, goal: Goal, where: str
) -> int:
    bus = PostgresBus(database)
    # Told before anybody is asked.
    check_goal(parsed.group, goal, parsed.topic)
    await bus.lag(parsed.group)
    of = "all its topics" if parsed.topic is None else parsed.topic
    async with changing(
        parsed, teller, database, f"move group {parsed.group} on {of} {where}", parsed.group
    ):
        moved = await bus.seek(parsed.group, goal, parsed.topic)
    teller.one({"group": parsed.group, "partitions": moved})
    return Code.DONE


def _goal(text: str) -> Goal:
    if text in tuple(StartAt):
        return StartAt(text)
    try:
        return Cursor.parse(text)
    except ValueError:
        pass  # then it is a time
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(
            Code.USAGE,
            f"{text!r} is no place to move a group to",
            "Say earliest, latest, a time such as 2025-03-01T12:00Z, or an offset such as 7421.3",
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


_COMMANDS: Mapping[str, Do] = {
    "groups": _groups,
    "lag": _lag,
    "seek": _seek,
    "replay": _replay,
}
