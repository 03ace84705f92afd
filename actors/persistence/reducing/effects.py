"""Effects of reducers that need a store: append, load, and snapshots of a state.

    interpreters=store_effects(store, snapshots=snapshots)

What must be atomic is one `Append`: its events, what leaves by the outbox, timers and the record of
an idempotency key are one transaction. `ok` makes an action of what came of it, behind the commit;
`failed` of a `StoreError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, TypeVar

import msgspec

from actors.persistence.aggregate import shape_of
from actors.persistence.event_store import EventStore, Snapshots
from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.words import (
    VERSION_MAX,
    AppendRequest,
    Expected,
    ExpectedVersion,
    Idempotent,
    OutboxMessage,
    SetTimer,
    Snapshot,
    StreamId,
    TimerChange,
    Version,
    check_stream,
)
from actors.reducers import (
    Callback,
    Effect,
    Environment,
    Interpreter,
    check_callback,
    effect,
    is_event,
)
from actors.reducers.messages import here
from actors.runtime import Log, cause_of, current_context, current_tallies, span

C = TypeVar("C", bound=OutboxMessage | TimerChange)

# An action holds what was loaded, and a reducer looks through it without letting others run: more
# is a projection's, or a page at a time.
LOADED_EVENTS_MAX: Final = 10_000

_log = Log("actors.persistence")


@effect
class Append(Effect):
    """Stores events, and what goes with them, in one transaction; `ok(version)` behind the commit.

    `expected` is what the stream must be like. `failed` gets a `ConcurrencyConflict` when it is
    not, or whatever else the store says.
    """

    stream_id: str
    expected: ExpectedVersion
    events: tuple[object, ...]
    ok: Callback
    failed: Callback
    outbox: tuple[OutboxMessage, ...] = ()
    timers: tuple[TimerChange, ...] = ()
    idempotency: Idempotent | None = None

    def __post_init__(self) -> None:
        _check(self, self.ok, self.failed)
        if type(self.events) is not tuple or not self.events:
            raise TypeError(
                f"Append.events is {self.events!r}; it must be a tuple of events ({here()})"
            )
        check_events(self.events, "Append.events")
        if not isinstance(self.expected, Expected):
            _check_version(self, "expected", self.expected, least=0)


@effect
class Load(Effect):
    """Reads a stream; `ok(tuple of events)`, empty for one that is not there.

    From `from_version` on, at most `limit` events, never more than 10,000.
    """

    stream_id: str
    ok: Callback
    failed: Callback
    from_version: Version = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        _check(self, self.ok, self.failed)
        _check_version(self, "from_version", self.from_version, least=1)
        if self.limit is not None and not 1 <= self.limit <= LOADED_EVENTS_MAX:
            raise ValueError(
                f"Load.limit is {self.limit}; it must be 1 to {LOADED_EVENTS_MAX} ({here()})"
            )


@effect
class SaveSnapshot(Effect):
    """Keeps a state as the latest of a stream; `ok(version)`."""

    stream_id: str
    version: Version
    state: object
    ok: Callback
    failed: Callback

    def __post_init__(self) -> None:
        _check(self, self.ok, self.failed)
        _check_version(self, "version", self.version, least=1)


@effect
class LoadSnapshot(Effect):
    """Reads the latest state of a stream; `ok((version, state))`, or `ok(None)` without one.

    One that was kept by another shape of `state_type` is as good as none.
    """

    stream_id: str
    state_type: type
    ok: Callback
    failed: Callback

    def __post_init__(self) -> None:
        _check(self, self.ok, self.failed)


def store_effects(
    store: EventStore, *, snapshots: Snapshots | None = None, types: EventTypes = EVENTS
) -> dict[type[Effect], Interpreter]:
    """Call this for what a reducer actor is handed as `interpreters`.

    Without `snapshots` their effects are interpreted by nobody. Events are of `types`. On a
    tenant's store everything is that tenant's.
    """

    async def append(wanted: Append, env: Environment) -> Version:
        metadata = metadata_of(env, store.tenant)
        new = [
            types.encode(one, event_id=env.ids.new_id(), metadata=metadata, tenant=store.tenant)
            for one in wanted.events
        ]
        request = AppendRequest(
            StreamId(wanted.stream_id),
            new,
            wanted.expected,
            outbox=[carrying(one, metadata) for one in wanted.outbox],
            timers=[carrying(one, metadata) for one in wanted.timers],
            idempotency=wanted.idempotency,
        )
        with span("store.append", stream=str(request.stream_id), events=len(new),
                  expected_version=str(wanted.expected)):  # fmt: skip
            return (await store.append_request(request)).version

    async def load(wanted: Load, env: Environment) -> tuple[object, ...]:
        limit = LOADED_EVENTS_MAX if wanted.limit is None else wanted.limit
        to_version = wanted.from_version + limit - 1
        found: list[object] = []
        with span("store.load", stream=str(wanted.stream_id), from_version=wanted.from_version):
            async for stored in store.load(
                StreamId(wanted.stream_id), from_version=wanted.from_version, to_version=to_version
            ):
                found += types.decode_all(stored)
        return tuple(islice(found, limit))

    async def save(wanted: SaveSnapshot, env: Environment) -> Version:
        assert snapshots is not None
        await snapshots.save(_snapshot(wanted))
        current_tallies().add("store_snapshots_total", "stored")
        return wanted.version

    async def load_snapshot(wanted: LoadSnapshot, env: Environment) -> tuple[int, object] | None:
        assert snapshots is not None
        kept = await snapshots.latest(StreamId(wanted.stream_id))
        if kept is None:
            return None
        if kept.schema != _tag(wanted.state_type):
            _log.warning("persistence.snapshot_ignored", stream_id=kept.stream_id, why="schema")
            current_tallies().add("store_snapshots_total", "ignored")
            return None
        current_tallies().add("store_snapshots_total", "used")
        return kept.version, msgspec.json.decode(kept.data, type=wanted.state_type)

    found: dict[type[Effect], Interpreter] = {Append: append, Load: load}
    if snapshots is not None:
        found |= {SaveSnapshot: save, LoadSnapshot: load_snapshot}
    return found


def _snapshot(wanted: SaveSnapshot) -> Snapshot:
    data = msgspec.json.encode(wanted.state)
    return Snapshot(wanted.stream_id, wanted.version, _tag(type(wanted.state)), data)


def _check(of: Append | Load | SaveSnapshot | LoadSnapshot, ok: Callback, no: Callback) -> None:
    name = type(of).__name__
    check_stream(of.stream_id)
    check_callback(ok, f"{name}.ok")
    check_callback(no, f"{name}.failed")


def check_events(values: Sequence[object], where: str) -> None:
    """Called when an effect is made that stores; TypeError for what no class of events is of."""
    for one in values:
        if isinstance(one, type) or not is_event(one):
            raise TypeError(
                f"{where} takes events, not {one!r}; mark its class by @event ({here()})"
            )


def _check_version(of: Effect, name: str, value: object, *, least: int) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not least <= value <= VERSION_MAX:  # type: ignore[operator]
        raise ValueError(
            f"{type(of).__name__}.{name} is {value!r}; versions count from {least} ({here()})"
        )


def _tag(state_type: type) -> str:
    """What a snapshot is known by: it changes with the fields of the state, however deep."""
    text = f"{state_type.__qualname__}|{shape_of(state_type)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def carrying(one: C, metadata: Mapping[str, str]) -> C:
    """Call this for what goes along with events, with their metadata: its own words win."""
    if isinstance(one, OutboxMessage):
        has_it = metadata.keys() <= one.headers.keys()
        return one if has_it else replace(one, headers={**metadata, **one.headers})
    if isinstance(one, SetTimer):
        has_it = metadata.keys() <= one.metadata.keys()
        return one if has_it else replace(one, metadata={**metadata, **one.metadata})
    return one


def metadata_of(env: Environment, tenant: str | None) -> dict[str, str]:
    """Call this for what is stored with an event: when, for whom, and what has caused it."""
    found = {"timestamp": env.clock.now().isoformat()}
    context = current_context()
    if context is None:
        return found
    found["correlation_id"] = str(context.correlation_id)
    cause = cause_of(context)
    if cause is not None:
        found["causation_id"] = cause
    if context.traceparent is not None:
        found["traceparent"] = str(context.traceparent)
    if context.user_id is not None:
        found["user_id"] = str(context.user_id)
    # In the stream of no tenant it says for whom; a tenant's events have it anyhow.
    if tenant is None and context.tenant is not None:
        found["tenant"] = str(context.tenant)
    return found
