"""What a WebSocket still has to send while its reader is busy (REL-70).

Pure bookkeeping: a queue of 1,000 messages or 1 MiB, and a policy for each topic when it is full.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from web.server import Frame

# A minute of a busy room; a reader further behind is not reading.
MESSAGES_MAX = 1000
QUEUE_BYTES_MAX = 1024 * 1024


class Policy(enum.Enum):
    """Says what happens to a topic's events when a reader is behind."""

    DISCONNECT = "disconnect"  # close 1013: the client comes back and loads a snapshot
    DROP_OLDEST = "drop_oldest"  # the client is told how many it missed
    LATEST = "latest"  # only the newest is worth sending


@dataclass(slots=True)
class _Entry:
    frame: Frame
    topic: str | None


class SocketOutbox:
    """Holds what waits for one WebSocket; `lagged(topic, missed)` builds the note for a gap."""

    __slots__ = ("_bytes", "_entries", "_lagged", "_missed")

    def __init__(self, lagged: Callable[[str, int], Frame]) -> None:
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._missed: dict[str, int] = {}
        self._lagged = lagged

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<SocketOutbox messages={len(self._entries)} bytes={self._bytes}>"

    def put(self, frame: Frame, topic: str | None = None, policy: Policy | None = None) -> bool:
        """Keep a frame by its topic's policy; False when the connection must be closed (1013).

        Without a topic (replies) a full queue means a client that asks and never reads.
        """
        if policy is Policy.LATEST and topic is not None:
            self._replace(topic)
        self._entries.append(_Entry(frame, topic))
        self._bytes += len(frame)
        while len(self._entries) > MESSAGES_MAX or self._bytes > QUEUE_BYTES_MAX:
            if policy is not Policy.DROP_OLDEST or topic is None or not self._drop(topic):
                return False
        return True

    def take(self, bytes_max: int) -> list[Frame]:
        """Take what may be sent next, in order; a gap is told before the event after it."""
        taken: list[Frame] = []
        size = 0
        while self._entries and size < bytes_max:
            entry = self._entries.popleft()
            self._bytes -= len(entry.frame)
            missed = self._missed.pop(entry.topic, 0) if entry.topic is not None else 0
            if missed and entry.topic is not None:
                taken.append(self._lagged(entry.topic, missed))
            taken.append(entry.frame)
            size += len(entry.frame)
        return taken

    def clear(self) -> None:
        """Forget everything: the connection is over."""
        self._entries.clear()
        self._missed.clear()
        self._bytes = 0

    def _replace(self, topic: str) -> None:
        for entry in self._entries:
            if entry.topic == topic:
                self._entries.remove(entry)
                self._bytes -= len(entry.frame)
                return

    def _drop(self, topic: str) -> bool:
        for entry in self._entries:
            if entry.topic == topic:
                self._entries.remove(entry)
                self._bytes -= len(entry.frame)
                self._missed[topic] = self._missed.get(topic, 0) + 1
                return True
        return False
