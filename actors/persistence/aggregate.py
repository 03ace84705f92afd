"""An event-sourced aggregate as two pure functions: what a command decides, what an event does.

`aggregate_actor.py` carries it out: loads, decides, appends, applies. Commands decide from
the stream's own state, never from a projection.
"""

import hashlib
import inspect
import types
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import (
    ClassVar,
    Generic,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from actors.persistence.errors import InvalidStreamId
from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.private import keep_private, kept_private, private_schema
from actors.persistence.words import Cursor, OutboxMessage, StreamId, TimerChange, Version
from actors.reducers import Environment, Refusal, Reply
from actors.reducers.messages import here

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

# A stream this long takes a few milliseconds to replay; shorter ones need no help.
SNAPSHOT_EVERY = 100

# Another writer is there by accident (a takeover, a second process): few tries suffice.
CONFLICT_RETRIES_MAX = 3
CONFLICT_JITTER_S = (0.005, 0.050)

# A snapshot of private fields needs the keys of all their subjects. A stream of more people than
# that is replayed instead: one of them is forgotten too often for a snapshot to last.
SNAPSHOT_SUBJECTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Done:
    """A command was carried out: its events are stored and applied.

    `cursor` lets a reader of a projection wait for them; it is None when nothing was stored.
    `value` is that of a `Reply`.
    """

    version: Version
    events: tuple[object, ...] = ()
    cursor: Cursor | None = None
    value: object = None
    replayed: bool = False


Decision: TypeAlias = Sequence[E] | Reply | Refusal
"""What `decide` gives: events to be stored, an answer without any, or a no."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes into the append of a decision's events: messages that leave, timers."""

    outbox: Sequence[OutboxMessage] = ()
    timers: Sequence[TimerChange] = ()


_NOTHING_BESIDE = Beside()


class AggregateContractError(TypeError):
    """Raised when `decide` can return what `apply` does not take, or what is no event.

    With file and line where the class is made; at its start for what is not known before.
    """


class Aggregate(Generic[S, C, E]):
    """Base of an aggregate's definition; has no state of its own.

    ```python
    class Account(Aggregate[Balance, Deposit | Withdraw, Deposited | Withdrawn]):
        category = "account"
        state_type = Balance

        def initial(self) -> Balance:
            return Balance(0)

        def decide(
            self, state: Balance, command: Deposit | Withdraw, env: Environment
        ) -> Decision[Deposited | Withdrawn]: ...

        def apply(self, state: Balance, event: Deposited | Withdrawn) -> Balance: ...
    ```

    Raise `schema` when `apply` means something else than before: snapshots of the former
    meaning are then ignored.

    `opens` are the commands that begin a stream. An actor that was just started decides them on
    `initial()`, which saves a look at a stream that is not there; where it is, it reads it then.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _fit(cls)

    category: ClassVar[str]
    state_type: ClassVar[type]
    schema: ClassVar[int] = 1
    snapshot_every: ClassVar[int] = SNAPSHOT_EVERY
    types: ClassVar[EventTypes] = EVENTS
    opens: ClassVar[tuple[type, ...]] = ()

    def initial(self) -> S:
        """Override this: the state before the first event."""
        raise TypeError(f"{type(self).__name__} has no initial()")

    def decide(self, state: S, command: C, env: Environment) -> Decision[E]:
        """Override this: the events a command causes, an answer, or a refusal; a pure function."""
        raise TypeError(f"{type(self).__name__} has no decide()")

    def apply(self, state: S, event: E) -> S:
        """Override this: the state after an event; a pure function that never refuses."""
        raise TypeError(f"{type(self).__name__} has no apply()")

    def stream_of(self, id_: str) -> StreamId:
        """Override this where a stream is named otherwise; raises `InvalidStreamId`."""
        return StreamId(f"{self.category}-{id_}")

    def tags(self, event: E) -> Sequence[str]:
        """Override this: what an event is about beside its stream, to be read by; a pure function.

        See `NewEvent.tags`. They are stored as they are, and stay.
        """
        return ()

    def beside(self, before: S, events: Sequence[E], metadata: Mapping[str, str]) -> Beside:
        """Override this: what goes into the append of these events, decided on `before`; pure.

        `metadata` is that of the events, for the headers of messages.
        """
        return _NOTHING_BESIDE


def _fit(cls: type[Aggregate[S, C, E]]) -> None:
    """Called when a class is made; what it does not say itself is left to those derived from it."""
    for name in ("initial", "decide", "apply"):
        function = getattr(cls, name)
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise AggregateContractError(
                f"{cls.__name__}.{name} is no plain function; it decides at once ({here()})"
            )
    category = getattr(cls, "category", None)
    if category is not None:
        try:
            StreamId(f"{category}-1")
        except InvalidStreamId as error:
            raise AggregateContractError(f"{cls.__name__}.category: {error} ({here()})") from None
    if cls.decide is Aggregate.decide or cls.apply is Aggregate.apply:
        return
    try:
        _check_events(cls, f" ({here()})")
    except NameError:
        return  # A name that comes further down in the module; it is looked at at the start.


def _check_events(cls: type[Aggregate[S, C, E]], where: str = "") -> frozenset[type]:
    applied, decided = _events_of(cls.apply, cls.decide)
    missing = sorted(one.__name__ for one in decided - applied)
    if missing:
        raise AggregateContractError(
            f"{cls.__name__}.decide can return {', '.join(missing)}, which apply does not "
            f"take{where}"
        )
    return applied


def check_aggregate(aggregate: Aggregate[S, C, E]) -> None:
    """Call this at start; raises `AggregateContractError` naming what does not fit."""
    cls = type(aggregate)
    applied = _check_events(cls)
    for name in ("initial", "decide", "apply"):
        if getattr(cls, name) is getattr(Aggregate, name):
            raise AggregateContractError(f"{cls.__name__} has no {name}()")
    if cls.stream_of is Aggregate.stream_of and not hasattr(cls, "category"):
        raise AggregateContractError(
            f"{cls.__name__} has no category, the first part of its streams"
        )
    try:
        aggregate.types.check_marked(applied)
        aggregate.types.check()
    except TypeError as error:
        raise AggregateContractError(f"{cls.__name__}: {error}") from error
    if beside := aggregate.types.beside(applied):
        raise AggregateContractError(
            f"{cls.__name__}: what its events are split into has {', '.join(beside)} too, which "
            "apply does not take"
        )
    if cls.snapshot_every < 1:
        raise AggregateContractError(f"{cls.__name__}.snapshot_every must be at least 1")


# Reading them takes a quarter of a millisecond, and each actor of a class asks: kept for as many
# classes as a large program has.
@lru_cache(maxsize=1024)
def _events_of(apply: Hashable, decide: Hashable) -> tuple[frozenset[type], frozenset[type]]:
    """The events that a class applies, and those that it can decide, by its two functions."""
    applied = _members(get_type_hints(apply).get("event"))
    decided = [
        one
        for part in _members(get_type_hints(decide).get("return"))
        if get_origin(part) is not None
        for one in _members(get_args(part)[0])
    ]
    return frozenset(applied), frozenset(decided)


def has_private_events(aggregate: Aggregate[S, C, E]) -> bool:
    """Call this to ask whether an event that it applies has private fields."""
    cls = type(aggregate)
    applied, _ = _events_of(cls.apply, cls.decide)
    return aggregate.types.has_private(applied)


def check_snapshots(aggregate: Aggregate[S, C, E]) -> None:
    """Call this at start where snapshots are kept; raises `AggregateContractError`.

    A state must go through JSON and back as its `state_type`: else it would be stored and never
    be read again, or not even stored.
    """
    cls = type(aggregate)
    state_type = getattr(aggregate, "state_type", None)
    if state_type is None:
        raise AggregateContractError(f"{cls.__name__} has no state_type; name its state's class")
    try:
        shape_of(state_type)
        read_state(aggregate, write_state(aggregate.initial()))
    except Exception as error:
        raise AggregateContractError(
            f"{cls.__name__}: {state_type.__qualname__} cannot be kept as a snapshot: "
            f"{error}; give it a state of plain data, or no snapshots"
        ) from error


def write_state(state: object) -> bytes:
    """Call this for the JSON of a state, private values in clear; raises what the encoder does."""
    return msgspec.json.encode(state, enc_hook=keep_private)


def read_state(aggregate: Aggregate[S, C, E], data: bytes) -> S:
    """Call this for a state out of its JSON; raises `msgspec.DecodeError`."""
    state: S = msgspec.json.decode(data, type=aggregate.state_type, dec_hook=kept_private)
    return state


def schema_tag(aggregate: Aggregate[S, C, E]) -> str:
    """Call this for the tag of a snapshot: it changes with the state's fields and `schema`.

    The fields of all classes that the state is made of count, however deep. So do upcasters and
    splitters of its events: with another one the same stream is another state. What stands in
    their bodies is not seen; who changes that raises `schema`.
    """
    classes = _members(get_type_hints(type(aggregate).apply).get("event"))
    return tag_of(aggregate.state_type, aggregate.schema, aggregate.types, classes)


def tag_of(state_type: type, schema: int, types: EventTypes, classes: Collection[type]) -> str:
    """Call this for the tag of snapshots of a state that is made of events of these classes."""
    text = f"{state_type.__qualname__}|{shape_of(state_type)}|{schema}"
    roads = types.roads_to(classes)
    if roads:
        text += f"|{' '.join(roads)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shape_of(state_type: type) -> str:
    """Call this for the JSON Schema of a type as one text, without what people wrote about it."""
    schema = msgspec.json.schema(state_type, schema_hook=private_schema)
    return msgspec.json.encode(_undescribed(schema), order="deterministic").decode()


def _undescribed(part: object) -> object:
    if isinstance(part, dict):
        # A field of this name is a mapping here, a docstring is a text.
        return {
            name: _undescribed(one)
            for name, one in part.items()
            if name != "description" or not isinstance(one, str)
        }
    return [_undescribed(one) for one in part] if isinstance(part, list | tuple) else part


def jitter(draw: float) -> float:
    """Call this for the wait before deciding again; `draw` is from 0 to 1."""
    least, most = CONFLICT_JITTER_S
    return least + (most - least) * draw


def _members(hint: object) -> set[type]:
    if get_origin(hint) in (Union, types.UnionType):
        return set(get_args(hint))
    return set() if hint is None else {hint}  # type: ignore[arg-type]
