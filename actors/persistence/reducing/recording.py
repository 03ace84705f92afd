"""Words of reducers whose events are kept: what they record, what went wrong, what they decide in.

Rule: what is reduced of a stored event is the same in every life. So its environment is made of
what is stored with it: the time it was recorded, ids and chance out of its own id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Self, TypeVar
from uuid import UUID

from actors.persistence.errors import StoreError
from actors.persistence.reducing.effects import check_events
from actors.persistence.words import (
    APPEND_EVENTS_MAX,
    Idempotent,
    OutboxMessage,
    StoredEvent,
    TimerChange,
)
from actors.reducers import Callback, Effect, Environment, RandomOfIds, check_callback
from actors.reducers.messages import here
from actors.runtime import AskError

E = TypeVar("E", bound=Environment)


class NotKept(AskError):
    """The events of an action could not be stored: the action was not applied.

    `error` is what the store says. When it is `StoreTimeout` or `StoreUnavailable` without
    `nothing_written`, they may be stored all the same; the actor reads that before it goes on.
    """

    def __init__(self, path: str, action: object, error: StoreError) -> None:
        super().__init__(
            path, type(action), f"{path} did not keep {type(action).__name__}: {error}"
        )
        self.action, self.error = action, error


@dataclass(frozen=True, init=False, repr=False)
class Record(Effect):
    """Stores events of the actor's own stream, then reduces each of them: what a command decides.

    They are one transaction, with what goes along, which carries their metadata. Nobody sees the
    command, nor its answer, before it is committed; its other effects begin behind it. TypeError
    for none.
    """

    events: tuple[object, ...]
    outbox: Sequence[OutboxMessage]
    timers: Sequence[TimerChange]
    idempotency: Idempotent | None

    is_at_once: ClassVar[bool] = True

    def __init__(
        self,
        *events: object,
        outbox: Sequence[OutboxMessage] = (),
        timers: Sequence[TimerChange] = (),
        idempotency: Idempotent | None = None,
    ) -> None:
        if not events:
            raise TypeError(f"Record(...) needs at least one event ({here()})")
        check_events(events, "Record(...)")
        if len(events) > APPEND_EVENTS_MAX:
            raise ValueError(
                f"Record takes {APPEND_EVENTS_MAX} events, not {len(events)} ({here()})"
            )
        for name, value in (
            ("events", events),
            ("outbox", tuple(outbox)),
            ("timers", tuple(timers)),
            ("idempotency", idempotency),
            ("maps", ()),
        ):
            object.__setattr__(self, name, value)

    def map(self, f: Callback) -> Self:
        """Call this for the same with `f(event)` for each event: made now."""
        check_callback(f, "map")
        events = tuple(f(one) for one in self.events)  # type: ignore[arg-type]
        return type(self)(
            *events, outbox=self.outbox, timers=self.timers, idempotency=self.idempotency
        )

    def __repr__(self) -> str:
        return f"Record({', '.join(map(repr, self.events))})"


class _Then:
    """The time at which an event was recorded."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """Call this for that time, always the same."""
        return self._at


class _IdsOf:
    """UUIDv7 made of the id of an event: with its time, and the same in every life."""

    def __init__(self, event_id: UUID) -> None:
        self._event_id, self._made = event_id, 0

    def new_id(self) -> UUID:
        """Call this for the next one; they rise."""
        self._made += 1
        seed = self._event_id.bytes + self._made.to_bytes(8, "big")
        chance = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")
        # As RFC 9562 lays it out: time, version, 12 bits that count, variant, 62 bits of chance.
        value = (self._event_id.int >> 80 << 80) | (0x7 << 76) | ((self._made & 0xFFF) << 64)
        return UUID(int=value | (0b10 << 62) | (chance & ((1 << 62) - 1)))


def reduced_at(stored: StoredEvent) -> datetime:
    """Call this for the time at which a stored event was reduced first, and is ever again."""
    timestamp = stored.metadata.get("timestamp")
    return stored.recorded_at if timestamp is None else datetime.fromisoformat(timestamp)


def environment_of(env: E, event_id: UUID, at: datetime) -> E:
    """Call this for what an event is reduced in: all of `env` but clock, ids and chance."""
    ids = _IdsOf(event_id)
    return replace(env, clock=_Then(at), ids=ids, random=RandomOfIds(ids))
