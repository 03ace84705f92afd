"""A state after each event of a stream, as its program's `apply` makes it. Pure.

Rule: an event that cannot be read, or that `apply` raises for, is passed over: the state stays as
it was, and the step says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import msgspec

from actors.persistence import (
    EVENTS,
    PRIVATE_CODEC,
    Aggregate,
    EventSourcedReducerActor,
    EventTypes,
    Opened,
    StoredEvent,
)
from actors.persistence.errors import StoreError
from actors.persistence.reducing.recording import environment_of, reduced_at
from actors.reducers import Environment, Reducer
from actors.runtime.words.showing import shown
from actors.sagas import SagaEvent, SagaId, saga_facts
from actors.sagas.words.state import SagaState
from actors.sagas.words.state import apply as apply_to_saga
from web.cli.reading.showing import sealed_names

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


class Fold(Protocol):
    """Whose stream it is: what a state begins as, and what an event makes of it."""

    name: str
    types: EventTypes

    def initial(self) -> object:
        """Call this for the state before the first event."""

    def apply(self, state: object, event: object, stored: StoredEvent) -> object:
        """Call this for the state after an event, or a part of what is stored as one."""

    def told(self, state: object) -> object:
        """Call this for what of a state is told."""


class AggregateFold:
    """The fold of an aggregate of a program."""

    def __init__(self, aggregate: Aggregate[S, C, E]) -> None:
        self.name, self.types = type(aggregate).__name__, aggregate.types
        self._aggregate = cast("Aggregate[object, object, object]", aggregate)

    def initial(self) -> object:
        """See `Fold.initial`."""
        return self._aggregate.initial()

    def apply(self, state: object, event: object, stored: StoredEvent) -> object:
        """See `Fold.apply`."""
        return self._aggregate.apply(state, event)

    def told(self, state: object) -> object:
        """See `Fold.told`."""
        return state


class ReducerFold:
    """The fold of an event-sourced reducer of a program, which needs no actor.

    Each event is reduced in the clock, the ids and the chance of then, as its actor does.
    """

    def __init__(self, actor: type[EventSourcedReducerActor[S, C]], env: Environment) -> None:
        self.name, self.types = actor.reducer.name, actor.types
        self._reducer, self._env = cast("Reducer[object, object, Environment]", actor.reducer), env
        # What a state begins as is said by a method that needs nothing of a running actor.
        self._first = cast("Callable[[], object]", actor.__new__(actor).initial)
        self._first()

    def initial(self) -> object:
        """See `Fold.initial`."""
        return self._first()

    def apply(self, state: object, event: object, stored: StoredEvent) -> object:
        """See `Fold.apply`."""
        if self._reducer.in_place:
            state = deepcopy(state)
        env = environment_of(self._env, stored.event_id, reduced_at(stored))
        return self._reducer.reduce(state, event, env).state

    def told(self, state: object) -> object:
        """See `Fold.told`."""
        return state


class SagaFold:
    """The fold of a saga of any kind, which needs no class: its events say what happened."""

    name, types = "saga", EVENTS

    def __init__(self, saga: SagaId) -> None:
        self._saga = saga

    def initial(self) -> object:
        """See `Fold.initial`."""
        return SagaState()

    def apply(self, state: object, event: object, stored: StoredEvent) -> object:
        """See `Fold.apply`."""
        return apply_to_saga(cast("SagaState", state), cast("SagaEvent", event))

    def told(self, state: object) -> object:
        """See `Fold.told`: without data and results, which are the program's own."""
        return saga_facts(self._saga, cast("SagaState", state))


@dataclass(frozen=True, slots=True)
class Step:
    """One event, with the state before it and after; `problem` is why it was passed over."""

    stored: StoredEvent
    before: object
    after: object
    problem: str = ""


def step(fold: Fold, before: object, stored: StoredEvent) -> Step:
    """Call this for what an event makes of a state."""
    after = before
    try:
        for event in fold.types.decode_all(_readable(stored)):
            after = fold.apply(after, event, stored)
    except StoreError as error:
        return Step(stored, before, before, str(error).rstrip("."))
    except Exception as error:  # noqa: BLE001  (whatever a program's apply raises is told)
        return Step(stored, before, before, f"{fold.name}.apply raised {shown(error)}")
    return Step(stored, before, after)


def _readable(stored: StoredEvent) -> StoredEvent:
    """Private fields that were not opened are read as erased: nobody needs a key to fold."""
    if stored.codec != PRIVATE_CODEC or stored.private is not None:
        return stored
    erased = Opened((), dict.fromkeys(sealed_names(stored)))
    return msgspec.structs.replace(stored, private=erased)


def is_sagas(first: Sequence[StoredEvent]) -> bool:
    """Call this with the first event of a stream, to ask whether it is that of a saga."""
    return any(one.type == "SagaStarted" for one in first)
