"""What a full mailbox does with one more tell. Senders never notice.

What to lose is chosen here; `mailbox.py` knows when. Asks and sends wait for room instead.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from actors.runtime.entries import Notice
from actors.runtime.envelope import Envelope

# One slow handler of a millisecond a message then means a second of backlog: enough to ride out
# a burst, little enough to notice an actor that is too slow while its messages are still fresh.
DEFAULT_CAPACITY: Final = 1024
# Written out by whoever wants it, and flagged in the lab. Larger than any list can grow.
UNBOUNDED: Final = 2**62


@dataclass(frozen=True, slots=True)
class Latest:
    """Keep the newest message of each class and `key`; see `latest`."""

    key: Callable[[object], Hashable]


def latest(key: Callable[[object], Hashable]) -> Latest:
    """Call this to let a full mailbox replace a queued message of the same class and key."""
    return Latest(key)


Overflow: TypeAlias = Literal["drop_new", "drop_old", "crash"] | Latest

# The parts of a mailbox that wait, oldest first: each list, and where in it they begin.
Lanes: TypeAlias = tuple[tuple[list[Envelope], int], ...]


def replace_latest(lanes: Lanes, envelope: Envelope, policy: Latest) -> bool:
    """Call this to put `envelope` in the place of a queued tell of its class and key, if any."""
    kind, key = type(envelope[0]), _key_of(policy, envelope)
    for lane, first in lanes:
        for at in range(first, len(lane)):
            queued = lane[at]
            if queued[2] is None and type(queued[0]) is kind and _key_of(policy, queued) == key:
                lane[at] = envelope
                return True
    return False


def _key_of(policy: Latest, envelope: Envelope) -> Hashable:
    try:
        return policy.key(envelope[0])
    except Exception:  # noqa: BLE001 - a tell never raises: what has no key equals nothing
        return object()


def remove_oldest_tell(lanes: Lanes) -> Envelope | None:
    """Call this to take the oldest queued tell out; None when all that waits are asks."""
    for lane, first in lanes:
        for at in range(first, len(lane)):
            if lane[at][2] is None and not isinstance(lane[at][0], Notice):
                return lane.pop(at)
    return None


def check_mailbox(capacity: object, overflow: object) -> None:
    """Call this when an actor class is made; raises ValueError for what cannot work."""
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
        raise ValueError(f"capacity is {capacity!r}; it must be at least 1, or UNBOUNDED")
    if not isinstance(overflow, Latest) and overflow not in ("drop_new", "drop_old", "crash"):
        raise ValueError(
            f"overflow is {overflow!r}; choose drop_new, drop_old, latest(key) or crash"
        )
