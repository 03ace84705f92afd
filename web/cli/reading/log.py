"""`greenroom streams`, `events` and `follow`: what is stored, listed, printed, and as it comes."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from difflib import get_close_matches
from typing import TypeVar, cast

from actors.persistence import (
    START,
    Bookmark,
    Cursor,
    InvalidStreamId,
    InvalidTenant,
    Keyring,
    StoredEvent,
    StreamId,
)
from storage.keyring import SubjectKeyring
from storage.postgres import Database, PostgresEventStore, PostgresSubjectKeys, audited
from web.cli.answering import Teller
from web.cli.opening import open_store
from web.cli.reading.showing import event_line, event_row
from web.observability import Code, CommandFailed
from web.settings import Settings, read_settings
from web.wiring.secret import PRIVATE_FILE_NAME, SecretUnusable, load_private_key

# How many names are looked at for those that are meant; a third of a second.
NAMES_MAX = 10_000
NEAR_MAX = 5
_KEYS = ("STATE_DIR", "PRIVATE_KEY", "PRIVATE_KEYS_PREVIOUS")
T = TypeVar("T")


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    async with open_store(environment) as database:
        match parsed.command:
            case "streams":
                return await _streams(parsed, teller, view_of(parsed, database))
            case "follow":
                return await _follow(parsed, teller, PostgresEventStore(database))
        async with opened_log(parsed, environment, database) as store:
            return await _events(parsed, teller, store)


# The store, as it may be read.


def view_of(
    parsed: argparse.Namespace, database: Database, keyring: Keyring | None = None
) -> PostgresEventStore:
    """Call this for the store, or a tenant's view of it; `CommandFailed` for a bad name."""
    store = PostgresEventStore(database, keyring=keyring)
    try:
        return store if parsed.tenant is None else store.for_tenant(parsed.tenant)
    except InvalidTenant as error:
        raise CommandFailed(Code.USAGE, str(error).rstrip(".")) from error


@asynccontextmanager
async def opened_log(
    parsed: argparse.Namespace, environment: Mapping[str, str], database: Database
) -> AsyncIterator[PostgresEventStore]:
    """Call this for a store whose private fields are opened, if that was asked for.

    Then who reads, what and why stands in the audit before anything is read.
    """
    if parsed.private is None:
        yield view_of(parsed, database)
        return
    if not parsed.private.strip():
        raise CommandFailed(Code.USAGE, "the reason is empty; nothing was opened", "Say why")
    given = {name: environment[name] for name in _KEYS if name in environment}
    keyring = _keyring(read_settings(given), database)
    action = f"{parsed.command} --private"
    async with audited(database, action, parsed.stream, parsed.private) as is_kept:
        if not is_kept:
            raise CommandFailed(Code.REFUSED, "this store has no table for the audit yet")
        yield view_of(parsed, database, keyring)


def _keyring(settings: Settings, database: Database) -> Keyring:
    if settings.private_key is None and not (settings.state_dir / PRIVATE_FILE_NAME).exists():
        # A key that is made now opens nothing.
        raise CommandFailed(
            Code.UNKNOWN,
            "the key of private texts is not here",
            "Give the site's PRIVATE_KEY, or its STATE_DIR, where it lies",
        )
    try:
        key = load_private_key(settings)
    except SecretUnusable as error:
        raise CommandFailed(Code.FAILED, str(error).rstrip(".")) from error
    return SubjectKeyring(PostgresSubjectKeys(database), key, *settings.private_keys_previous)


async def known_stream(store: PostgresEventStore, name: str) -> tuple[StreamId, int]:
    """Call this for a stream and its last version; `CommandFailed`, with near names, without."""
    try:
        stream = StreamId(name)
    except InvalidStreamId as error:
        hint = await _near(store, name, "") or "greenroom streams lists them"
        raise CommandFailed(Code.USAGE, str(error).rstrip("."), hint) from error
    version = await store.head(stream)
    if version == 0:
        hint = await _near(store, name, stream.category) or await _near(store, name, "")
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no stream {name!r:.80}",
            hint or "greenroom streams lists those that there are",
        )
    return stream, version


async def _near(store: PostgresEventStore, name: str, category: str) -> str:
    """A sentence with the names like this one, of a category or of all; empty without any."""
    listed = await store.list_streams(
        category=category or None, limit=NAMES_MAX, include_archived=True
    )
    near = get_close_matches(name, [one.stream_id for one in listed], NEAR_MAX)
    return f"There is {', '.join(near)}" if near else ""


def closing(events: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Call this around a reader of the store, so that it is closed where reading ends early."""
    return aclosing(cast("AsyncGenerator[T, None]", events))


# The commands.


async def _streams(parsed: argparse.Namespace, teller: Teller, store: PostgresEventStore) -> int:
    listed = await store.list_streams(
        category=parsed.category,
        prefix=parsed.prefix,
        after=parsed.after,
        limit=parsed.limit + 1,
        include_archived=True,
    )
    rows = [
        {
            "stream": one.stream_id,
            "version": one.version,
            "last": one.last_recorded_at,
            "archived": one.is_archived,
        }
        for one in listed[: parsed.limit]
    ]
    teller.rows(rows, "no such stream")
    if len(listed) > parsed.limit:
        teller.note(f"there are more: go on with --after {rows[-1]['stream']}")
    return Code.DONE


async def _events(parsed: argparse.Namespace, teller: Teller, store: PostgresEventStore) -> int:
    check_bounds_of(parsed)
    stream, version = await known_stream(store, parsed.stream)
    count = 0
    reading = store.load(stream, from_version=parsed.first, to_version=parsed.last)
    async with closing(reading) as events:
        async for stored in events:
            count += 1
            teller.at_once(event_row(stored), [event_line(stored)])
    if not count:
        teller.note(nothing_read(version))
    return Code.DONE


def check_bounds_of(parsed: argparse.Namespace) -> None:
    """Call this with --from and --to; `CommandFailed` when nothing can lie between them."""
    if parsed.last is not None and parsed.last < parsed.first:
        raise CommandFailed(Code.USAGE, f"--to {parsed.last} lies before --from {parsed.first}")


def nothing_read(version: int) -> str:
    """Call this for why a stream that is there gave no event."""
    return f"the stream ends at version {version}, or was closed for ever: nothing of it is here"


async def _follow(parsed: argparse.Namespace, teller: Teller, store: PostgresEventStore) -> int:
    categories = None if parsed.category is None else [parsed.category]
    if parsed.after is not None:
        try:
            after = Bookmark.parse(parsed.after)
        except ValueError as error:
            hint = "Give the bookmark of a line that --json told"
            raise CommandFailed(Code.USAGE, f"{parsed.after!r:.80} is no place", hint) from error
    else:
        after = await _end(store)
        for stored in await _newest(store, after, parsed.number, categories):
            _tell(teller, stored, after.lineage)
    async with closing(store.follow(after=after, categories=categories)) as pages:
        async for page in pages:
            for stored in page.events:
                _tell(teller, stored, page.lineage)
    return Code.DONE


def _tell(teller: Teller, stored: StoredEvent, lineage: str) -> None:
    row = event_row(stored) | {"bookmark": str(Bookmark(lineage, stored.cursor))}
    teller.at_once(row, [event_line(stored, has_stream=True)])


async def _end(store: PostgresEventStore) -> Bookmark:
    """The last place of the order, behind which is what comes."""
    before: Bookmark | None = None
    while True:
        page = await store.read_backwards(before=before, limit=1)
        if page.events or page.is_last:
            return Bookmark(page.lineage, page.events[0].cursor if page.events else START)
        before = page.bookmark


async def _newest(
    store: PostgresEventStore, end: Bookmark, count: int, categories: Sequence[str] | None
) -> list[StoredEvent]:
    """The newest events up to a place, oldest first; of a category those that a look finds."""
    if count == 0 or end.cursor == START:
        return []
    behind = Bookmark(end.lineage, Cursor(end.cursor.txid, end.cursor.position + 1))
    page = await store.read_backwards(before=behind, limit=count, categories=categories)
    return list(reversed(page.events))
