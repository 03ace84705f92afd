"""What an append may carry besides events: messages to send, timers, and their ends.

Frozen data only. `words.AppendRequest` holds them; they are written in its transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias
from uuid import UUID


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Something to be sent after the commit, in order per key, at least once."""

    message_id: UUID
    kind: str
    target: str
    key: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetTimer:
    """A timer to be set in the append's transaction; it survives every restart."""

    timer_id: UUID
    address: str
    name: str
    token: str
    due_at: datetime
    payload: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer to be cancelled in the append's transaction; no effect once it has fired."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class CloseTimer:
    """A delivered timer that this append handles; it is not delivered again."""

    timer_id: UUID


TimerChange: TypeAlias = SetTimer | CancelTimer | CloseTimer
