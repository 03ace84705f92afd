"""What a full mailbox does with one more tell, and how it finds what has to go for it.

Shedding must not be dearer than working, however much is queued. So what was found once is
remembered, and each message is looked at once.

Rule 1: what is remembered of a lane is its list, a place, and the number of the message that lay
there; that is looked at before it is believed, for the loop takes messages and clears lists
meanwhile. Who edits a lane elsewhere than at its ends has to forget all of it (`Mailbox`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from actors.runtime.delivery.envelope import MESSAGE, MESSAGE_ID, REPLY, Envelope
from actors.runtime.words.exits import without_cancelled

# The policies. Senders never notice; asks and sends wait instead.


@dataclass(frozen=True, slots=True)
class Latest:
    """Keep the newest message of each class and `key`; see `latest`."""

    key: Callable[[object], Hashable]


def latest(key: Callable[[object], Hashable]) -> Latest:
    """Call this to let a full mailbox replace a queued tell of the same class and key.

    Of several the newest: what came last is handled last. Nobody waits for a replaced one.
    A message for which `key` raises equals none. `key` is called once for each message that a full
    mailbox finds queued, and for each that comes then, also in the task of whoever sends it. Keys
    that cannot be hashed or compared crash the actor, not the sender.
    """
    return Latest(key)


# What a full mailbox does with one more tell: lose it (`drop_new`), lose the oldest in the queue
# (`drop_old`), replace one of the same kind (`latest(key)`), or crash the actor (`crash`), whose
# next incarnation goes on with what is queued. What is lost is a dead letter, what is replaced is
# only counted; asks and sends wait instead.
Overflow: TypeAlias = Literal["drop_new", "drop_old", "crash"] | Latest


def check_overflow(overflow: object) -> None:
    """Called when an actor class is made; raises ValueError for what cannot work."""
    if not isinstance(overflow, Latest) and overflow not in ("drop_new", "drop_old", "crash"):
        raise ValueError(
            f"overflow is {overflow!r}; choose drop_new, drop_old, latest(key) or crash"
        )
    if isinstance(overflow, Latest) and not callable(overflow.key):
        raise ValueError(f"latest({overflow.key!r}): the key must be a function of the message")


# The parts of a mailbox that wait, oldest first: each list, and where in it they begin.
Lanes: TypeAlias = tuple[tuple[list[Envelope], int], ...]

# Beyond twice what is queued, and this many, keys are forgotten whose messages are gone.
_KEYS_MORE: Final = 64


class _Seen:
    """How far a lane was searched: `count` places, in the last of which lay message `number`."""

    __slots__ = ("count", "lane", "number")

    def __init__(self, lane: list[Envelope]) -> None:
        self.lane = lane
        self.note(0)

    def note(self, count: int) -> None:
        self.count, self.number = count, self.lane[count - 1][MESSAGE_ID] if count else 0

    def still(self) -> int:
        """How many of its places are as they were; none when it has been cleared since."""
        count, lane = self.count, self.lane
        if count <= len(lane) and (not count or lane[count - 1][MESSAGE_ID] == self.number):
            return count
        return 0


class _Search:
    """What is known of the two lists of a mailbox; they change places, and are used again."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: list[_Seen] = []

    def seen(self, lane: list[Envelope]) -> _Seen:
        """How far a lane was searched; not at all when it is a new one."""
        for one in self._seen:
            if one.lane is lane:
                return one
        made = _Seen(lane)
        self._seen = [*self._seen[-1:], made]
        return made


class Newest(_Search):
    """For `latest(key)`: where the newest tell of each class and key lies."""

    __slots__ = ("_found", "_key")

    def __init__(self, key: Callable[[object], Hashable]) -> None:
        super().__init__()
        self._key = key
        # Not the messages: they are not kept longer than they are queued. Of a class its `id`, for
        # it may be one that cannot be hashed; while its message is queued, no other one has it.
        self._found: dict[tuple[int, Hashable], tuple[list[Envelope], int, int]] = {}

    def replace(self, lanes: Lanes, envelope: Envelope) -> list[Envelope] | None:
        """Put `envelope` in the place of the newest of its class and key; gives the lane it is in.

        In the place of an older one it would be handled too early. Raises what hashing and
        comparing keys raises: user code, like the keys themselves.
        """
        try:
            key = (id(type(envelope[MESSAGE])), self._key(envelope[MESSAGE]))
        except BaseException as error:  # noqa: BLE001 - not every message of an actor has the key
            without_cancelled(error)
            return None  # It equals nothing.
        self.search(lanes)
        found, at, number = self._found.get(key, (None, 0, 0))
        for lane, first in lanes:
            if lane is found and first <= at < len(lane) and lane[at][MESSAGE_ID] == number:
                lane[at] = envelope
                self._found[key] = (lane, at, envelope[MESSAGE_ID])
                seen = self.seen(lane)
                if seen.count == at + 1:
                    seen.note(seen.count)
                return lane
        # None is queued; or it has been taken, and with it all that were older.
        return None

    def search(self, lanes: Lanes) -> None:
        """Look at what has come since the last time."""
        queued = sum(len(lane) - first for lane, first in lanes)
        if len(self._found) > 2 * queued + _KEYS_MORE:
            self._found.clear()
            self._seen.clear()
        for lane, first in lanes:
            self._search(lane, first)

    def _search(self, lane: list[Envelope], first: int) -> None:
        seen, key_of, found = self.seen(lane), self._key, self._found
        for at in range(max(first, seen.still()), len(lane)):
            message, number, reply, *_ = lane[at]
            # A notice has no number.
            if reply is None and number:
                try:
                    key = key_of(message)
                except BaseException as error:  # noqa: BLE001 - as above
                    without_cancelled(error)
                    continue
                found[id(type(message)), key] = (lane, at, number)
        seen.note(len(lane))


class Oldest(_Search):
    """For `drop_old`: where the first tell lies, behind asks that cannot be dropped."""

    __slots__ = ()

    def remove(self, lanes: Lanes) -> Envelope | None:
        """Take the oldest queued tell out; None when all that waits are asks."""
        for lane, first in lanes:
            seen = self.seen(lane)
            for at in range(max(first, seen.still()), len(lane)):
                if lane[at][REPLY] is None and lane[at][MESSAGE_ID]:
                    taken = lane.pop(at)
                    seen.note(at)
                    return taken
            seen.note(len(lane))
        return None
