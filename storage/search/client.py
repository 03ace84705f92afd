"""What is asked of a search server: requests of the REST API that both servers share.

Rule 1: a request is sent once. One whose answer was lost is told as `StoreUnavailable`, and whether
it was done is not known.
Rule 2: what an answer says of a document stays here but for its class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from storage.errors import StoreUnavailable
from storage.guard import UNGUARDED, Guard
from storage.search.answers import Refusal, Root
from storage.search.words import SearchRefused, SearchRejected, SearchSettings

if TYPE_CHECKING:
    from storage.search.sending import Line

T = TypeVar("T")

FIRST_CONNECT_S_MAX = 30.0
RETRY_S = 0.5
# From these on there are the calls that are made here.
_OLDEST = {"elasticsearch": (7, 10), "opensearch": (1,)}
# It is there, and cannot do it now, or has been given other rights: as if it were away.
_FOR_NOW = frozenset({401, 403, 408, 429})


@dataclass(frozen=True, slots=True)
class SearchStatistics:
    """How a client is: what it has asked, and how many of that were in vain."""

    asked: int
    failed: int


class SearchClient:
    """A server, and who asks it; `open_search` makes one. `guard` stands before each request."""

    def __init__(self, line: Line, *, guard: Guard = UNGUARDED) -> None:
        self._line, self._guard = line, guard
        self._asked = self._failed = 0

    def statistics(self) -> SearchStatistics:
        """Call this for how it is; waits for nothing."""
        return SearchStatistics(self._asked, self._failed)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        answer: type[T],
        params: Mapping[str, str] | None = None,
    ) -> T | None:
        """Call this for an answer of that form; None for a 404.

        `body` is bytes for lines of JSON. Raises `StoreUnavailable` and `SearchRefused`.
        """
        status, said = await self.told(method, path, body, params=params)
        if status == 404:
            return None
        if status >= 400:
            raise failure(status, kind_of(said))
        try:
            return msgspec.json.decode(said, type=answer)
        except msgspec.DecodeError as error:
            raise StoreUnavailable("what answered is no search server") from error

    async def told(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Call this for a status and an answer as they are."""
        content = body if isinstance(body, bytes) else b""
        if body is not None and not content:
            content = msgspec.json.encode(body)
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        self._asked += 1
        try:
            return await self._guard.call(
                partial(self._line.send, method, path, content, kind, params or {})
            )
        except BaseException:
            self._failed += 1
            raise

    async def check(self) -> str:
        """Call this for what the server is; raises `SearchRejected` when it cannot be used."""
        status, said = await self.told("GET", "/")
        place = self._line.settings.place
        if status in {401, 403}:
            raise SearchRejected(place, f"it says {status} to these credentials")
        if status >= 400:
            raise failure(status, kind_of(said))
        try:
            version = msgspec.json.decode(said, type=Root).version
        except msgspec.DecodeError:
            raise SearchRejected(place, "it is no search server") from None
        kind, number = version.distribution, version.number
        oldest = _OLDEST.get(kind)
        if oldest is None or _numbers(number) < oldest:
            needed = ", ".join(
                f"{name} {'.'.join(map(str, least))}" for name, least in _OLDEST.items()
            )
            raise SearchRejected(place, f"it is {kind} {number}; from {needed} on they are known")
        return f"{kind} {number}"


def failure(status: int, kind: str) -> StoreUnavailable | SearchRefused:
    """Call this for what a refusal means for who asked."""
    if status in _FOR_NOW or status >= 500:
        return StoreUnavailable(f"the search server says {status} {kind}")
    return SearchRefused(status, kind)


def kind_of(said: bytes) -> str:
    """Call this for the class of an error that an answer tells."""
    try:
        return msgspec.json.decode(said, type=Refusal).kind
    except msgspec.DecodeError:
        # A proxy before it, that speaks for a server that is away.
        return Refusal().kind


@asynccontextmanager
async def open_search(
    settings: SearchSettings,
    *,
    guard: Guard = UNGUARDED,
    wait_s: float = FIRST_CONNECT_S_MAX,
) -> AsyncIterator[SearchClient]:
    """Call this for a client, once its server has answered: one that is away is waited for.

    Raises `SearchRejected`, `StoreUnavailable` after `wait_s`, `OSError` for a certificate's file.
    """
    from storage.search.sending import open_line  # noqa: PLC0415  (loads a library)

    async with open_line(settings) as line:
        first = SearchClient(line)
        until = trio.current_time() + wait_s
        while True:
            try:
                await first.check()
                break
            except StoreUnavailable:
                if trio.current_time() + RETRY_S > until:
                    raise
                await trio.sleep(RETRY_S)
        yield SearchClient(line, guard=guard)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in version.split("-", maxsplit=1)[0].split(".") if one.isdigit())
