"""A feed of what was committed: read back from the store, so whichever process did it, told once.

A feed of one's own says which categories it reads, and what it tells of a page of their events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar, cast

import trio

from actors.persistence import (
    START,
    Cursor,
    CursorOutdated,
    EventStore,
    Follows,
    Page,
    StoreError,
    StoreUnavailable,
)
from actors.runtime import Actor, Ask, Log, message

# A store that is away is asked again as often as a person would.
AWAY_S = 1.0

log = Log(__name__)


@message
class AskPlace(Ask[Cursor]):
    """Asks the feed how far it has told."""


class FeedPlace:
    """How far the feed has told. It outlives the feed, so a crash of it skips nothing."""

    def __init__(self) -> None:
        self.at: Cursor | None = None


class StoreFeed(Actor[AskPlace]):
    """Reads what happens from the store; `tell` passes it on."""

    categories: ClassVar[Sequence[str]]

    def __init__(self, store: EventStore, place: FeedPlace, source: Follows | None = None) -> None:
        self._store, self._place = store, place
        # Such as what was heard of it on a bus.
        self._source: Follows = store if source is None else source

    async def tell(self, page: Page) -> None:
        """Override this: a page's events, each of which comes once."""
        raise NotImplementedError

    async def on_start(self) -> None:
        """Begin where the log ends, or where the feed before this one had come."""
        if self._place.at is None:
            try:
                self._place.at = await self._end()
            except StoreError as error:
                log.warning("feed.waits", code=error.code)
        self.start_soon(self._follow)

    def on_ask_place(self, message: AskPlace) -> Cursor:
        """Tell how far it has told."""
        return self._place.at or START

    async def _follow(self) -> None:
        while True:
            try:
                if self._place.at is None:
                    self._place.at = await self._end()
                await self._tell_for_ever(self._place.at)
            except StoreUnavailable as error:
                log.warning("feed.waits", code=error.code)
                await trio.sleep(AWAY_S)
            except CursorOutdated:
                # Another order of events: what was told of the one before says nothing in it.
                self._place.at = None

    async def _tell_for_ever(self, after: Cursor) -> None:
        pages = self._source.follow(after=after, categories=self.categories)
        async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
            async for page in reading:
                await self.tell(page)
                self._place.at = page.next

    async def _end(self) -> Cursor:
        newest = await self._store.read_backwards(limit=1, categories=self.categories)
        return newest.events[0].cursor if newest.events else START
