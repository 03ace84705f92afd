"""Topics that stand in the event store: how what was missed is read again from there (WEB-42).

Such a topic has the store's lineage as epoch and the version of its stream as number, so what a
client heard last means the same on every node and after any restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

M_co = TypeVar("M_co", covariant=True)

# WEB-42: who missed more loads a snapshot faster.
RECOVERED_MAX = 10_000
# One read of the store, and one handful of frames for a reader; then it is asked whether it reads.
PAGE = 200


class StoreAway(Exception):
    """Raised by a `StoredTopic` while the store does not answer; ask again."""


@dataclass(frozen=True, slots=True)
class Again(Generic[M_co]):
    """One event as it was published, with its number and the correlation id stored with it."""

    message: M_co
    seq: int
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredPage(Generic[M_co]):
    """What members of a topic heard behind a number, up to `to`.

    `head` is the stream's version when it was read. `is_whole` is False when some of it is not
    kept any more.
    """

    epoch: str
    head: int
    to: int
    events: Sequence[Again[M_co]]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class StoredHead:
    """Where a topic stands: its stream's version, and the last event that members heard."""

    epoch: str
    head: int
    seq: int


class StoredTopic(Protocol[M_co]):
    """A topic as the store has it. Both raise `StoreAway`."""

    async def head(self) -> StoredHead:
        """Tell where the topic stands."""

    async def page(self, after: int, limit: int) -> StoredPage[M_co]:
        """Read what was heard of the next `limit` versions behind `after`."""
