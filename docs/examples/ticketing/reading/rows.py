"""Keys whose order is that of the questions, and what reads the rows below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

import msgspec
import trio

from actors.persistence import Document, ProjectionStore, ProjectionTx, live_collection

T = TypeVar("T")

_NUMBER = re.compile(r"[0-9]+")
# As many as the seats of the largest section have.
NUMBER_CHARS = 5

# Microseconds of the last moment there is, and cents of more than all the money: what is
# subtracted from it sorts newest and largest first.
LAST = 10**18
# What a store gives at once.
AT_ONCE_MAX = 1000
# For so long nobody asks anew which rows serve: each read would be two.
KNOWN_S = 1.0


def newest(at: datetime) -> str:
    """Call this for a part of a key that sorts newest first."""
    return largest(int(at.timestamp()) * 1_000_000 + at.microsecond)


def largest(number: int) -> str:
    """Call this for a part of a key that sorts largest first."""
    return f"{LAST - number:019d}"


def person(customer: str) -> str:
    """Call this for a customer in a key: of a fixed length, so that none is another's beginning."""
    return sha256(customer.encode()).hexdigest()[:32]


def natural(name: str) -> str:
    """Call this for a part of a key in which A2 comes before A10."""
    return _NUMBER.sub(lambda found: found[0].rjust(NUMBER_CHARS, "0"), name)


async def row(tx: ProjectionTx, key: str, kind: type[T]) -> T | None:
    """Call this in a projection for a row as a value."""
    found = await tx.get(key)
    return None if found is None else msgspec.convert(found, kind)


def put(tx: ProjectionTx, key: str, value: msgspec.Struct) -> None:
    """Call this in a projection to write a row."""
    tx.put(key, msgspec.to_builtins(value))


class Rows:
    """The rows of one projection, for who reads; before it is there it has none."""

    def __init__(self, store: ProjectionStore, name: str) -> None:
        self.store, self.name = store, name
        self._found: tuple[float, str] | None = None

    async def _live(self) -> str | None:
        """The collection that serves. One that was replaced a moment ago is there for hours."""
        now = trio.current_time()
        if self._found is None or now - self._found[0] > KNOWN_S:
            collection = await live_collection(self.store, self.name)
            self._found = None if collection is None else (now, collection)
        return None if self._found is None else self._found[1]

    async def one(self, key: str, kind: type[T]) -> T | None:
        """Call this for a row, or None."""
        collection = await self._live()
        if collection is None:
            return None
        found = await self.store.get(collection, key)
        return None if found is None else msgspec.convert(found, kind)

    async def many(self, place: str, names: Sequence[str], kind: type[T]) -> dict[str, T]:
        """Call this for rows of `place` by name; unknown ones are left out."""
        collection = await self._live()
        keys = {f"{place}/{name}": name for name in names}
        if collection is None or not keys:
            return {}
        found = await self.store.get_many(collection, [*keys])
        return {keys[key]: msgspec.convert(one, kind) for key, one in found.items() if one}

    async def below(
        self, prefix: str, kind: type[T], *, limit: int = 100, skip: int = 0
    ) -> Sequence[T]:
        """Call this for rows in the order of their keys."""
        return [msgspec.convert(one, kind) for one in await self._below(prefix, limit, skip)]

    async def named(
        self, prefix: str, place: str, kind: type[T], *, limit: int = 100, skip: int = 0
    ) -> Sequence[T]:
        """Call this for the rows of `place` that are named, by `id`, below a prefix."""
        names = [str(one["id"]) for one in await self._below(prefix, limit, skip)]
        found = await self.many(place, names, kind)
        return [found[name] for name in names if name in found]

    async def _below(self, prefix: str, limit: int, skip: int) -> Sequence[Document]:
        collection = await self._live()
        found: list[Document] = []
        after: str | None = None
        while collection is not None and len(found) < limit + skip:
            left = min(limit + skip - len(found), AT_ONCE_MAX)
            page = await self.store.query(collection, prefix=prefix, after=after, limit=left)
            found += [document for _, document in page]
            if len(page) < left:
                break
            after = page[-1][0]
        return found[skip:]
