"""`greenroom bus`: which groups read the bus, how far each is behind, and moving one that stopped.

It is the bus of the settings: in the store's own database, or with `BUS=kafka` at a broker. What
is put aside and the audit are in the store in either case.
"""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from actors.persistence.bus import Engine, Goal, StartAt
from actors.persistence.bus.words import check_goal
from actors.persistence.words import Cursor
from storage.bus import PostgresBus
from storage.postgres import Database
from web.cli.answering import Teller
from web.cli.opening import NEEDED, changing, open_store
from web.observability import Code, CommandFailed
from web.settings import Bus, read_settings


@dataclass(frozen=True, slots=True)
class OpenedBus:
    """The bus a command works on, and the store that has its audit."""

    bus: Engine
    database: Database
    is_broker: bool = False


Do: TypeAlias = Callable[[argparse.Namespace, Teller, OpenedBus], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this to carry out a parsed command on the bus of the settings."""
    async with open_store(environment) as database, opened_bus(environment, database) as opened:
        return await _COMMANDS[parsed.action](parsed, teller, opened)


@asynccontextmanager
async def opened_bus(
    environment: Mapping[str, str], database: Database
) -> AsyncIterator[OpenedBus]:
    """Call this for the bus of the settings, as long as the block."""
    given = {
        name: value
        for name, value in environment.items()
        if name in (*NEEDED, "BUS") or name.startswith("KAFKA_")
    }
    settings = read_settings(given)
    if settings.bus is Bus.POSTGRES:
        yield OpenedBus(PostgresBus(database), database)
        return
    # It brings the whole site with it, which the bus in the database has no need of.
    from web.app.bus import BusRefused, make_bus  # noqa: PLC0415

    try:
        made = make_bus(settings, database)
    except BusRefused as error:
        raise CommandFailed(Code.USAGE, str(error).rstrip(".")) from error
    try:
        yield OpenedBus(made.engine, database, is_broker=True)
    finally:
        if made.close is not None:
            await made.close()


async def _groups(parsed: argparse.Namespace, teller: Teller, opened: OpenedBus) -> int:
    rows = [
        {
            "group": one.name,
            "members": one.members,
            "seen": one.seen_at,
            "counted": one.is_counted,
            "topics": ", ".join(one.topics),
        }
        for one in await opened.bus.groups()
    ]
    teller.rows(rows, "no group has ever read the bus")
    return Code.DONE


async def _lag(parsed: argparse.Namespace, teller: Teller, opened: OpenedBus) -> int:
    rows = [
        {
            "topic": one.topic,
            "partition": one.partition,
            "behind": one.records,
            "seconds": one.seconds,
            "handled": one.handled_at,
        }
        for one in await opened.bus.lag(parsed.group)
    ]
    teller.rows(rows, "this group reads no topic")
    return Code.DONE


async def _seek(parsed: argparse.Namespace, teller: Teller, opened: OpenedBus) -> int:
    return await _move(parsed, teller, opened, _goal(parsed.to, opened), f"to {parsed.to}")


async def _replay(parsed: argparse.Namespace, teller: Teller, opened: OpenedBus) -> int:
    where = "back to the first record that is kept"
    return await _move(parsed, teller, opened, StartAt.EARLIEST, where)


async def _move(
    parsed: argparse.Namespace, teller: Teller, opened: OpenedBus, goal: Goal, where: str
) -> int:
    bus = opened.bus
    # Told before anybody is asked.
    check_goal(parsed.group, goal, parsed.topic)
    await bus.lag(parsed.group)
    of = "all its topics" if parsed.topic is None else parsed.topic
    async with changing(
        parsed, teller, opened.database, f"move group {parsed.group} on {of} {where}", parsed.group
    ):
        moved = await bus.seek(parsed.group, goal, parsed.topic)
    teller.one({"group": parsed.group, "partitions": moved})
    return Code.DONE


def _goal(text: str, opened: OpenedBus) -> Goal:
    if text in tuple(StartAt):
        return StartAt(text)
    # A broker counts the records of each partition; a day is written with its dashes there.
    if opened.is_broker and text.isdecimal() and text.isascii():
        text = f"0.{text}"
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
            "Say earliest, latest, a time such as 2025-03-01T12:00Z, or an offset such as "
            + ("7421" if opened.is_broker else "7421.3"),
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


_COMMANDS: Mapping[str, Do] = {
    "groups": _groups,
    "lag": _lag,
    "seek": _seek,
    "replay": _replay,
}
