"""A map that cannot grow without end, for whatever is kept by a name that clients choose.

An address, a tab, a header, an id: a client makes up as many as it likes, and each would stay.
`tests/architecture/test_bounds.py` asks of every other map what bounds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """Keeps at most `room` values; for a further one that goes which was put longest ago.

    `forgotten` counts those. Whoever uses it says why what is forgotten may be: it is made again,
    or after so many others nobody asks for it. Raises ValueError for a room below 1.
    """

    __slots__ = ("_kept", "forgotten", "room")

    def __init__(self, room: int) -> None:
        if room < 1:
            raise ValueError(f"a map with room for {room} keeps nothing; give it at least 1")
        # The first of a plain dict is found by a walk over all gaps that earlier ones left.
        self._kept: OrderedDict[K, V] = OrderedDict()
        self.room, self.forgotten = room, 0

    def __repr__(self) -> str:
        return f"<BoundedMap {len(self._kept)} of {self.room}, {self.forgotten} forgotten>"

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[K]:
        return iter(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def get(self, key: K) -> V | None:
        """Call this for a value; None when it is not there. It does not count as put again."""
        return self._kept.get(key)

    def put(self, key: K, value: V) -> None:
        """Call this to keep a value; it is the newest from now on, also when it was there."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self.room:
            self._kept.popitem(last=False)
            self.forgotten += 1

    def clear(self) -> None:
        """Call this when all of it is out of date; that is no forgetting."""
        self._kept.clear()
