"""What a full mailbox does with one more tell. Senders never notice.

Pure choice of what to lose; `mailbox.py` carries it out. Asks and sends wait for room instead.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

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


def check_mailbox(capacity: object, overflow: object) -> None:
    """Call this when an actor class is made; raises ValueError for what cannot work."""
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
        raise ValueError(f"capacity is {capacity!r}; it must be at least 1, or UNBOUNDED")
    if not isinstance(overflow, Latest) and overflow not in ("drop_new", "drop_old", "crash"):
        raise ValueError(
            f"overflow is {overflow!r}; choose drop_new, drop_old, latest(key) or crash"
        )
