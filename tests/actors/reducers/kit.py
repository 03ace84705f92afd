"""A small till, as a reducer: what its tests have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import assert_never

import trio

from actors.reducers import (
    Effect,
    Environment,
    Future,
    Next,
    ReducerActor,
    Reply,
    command,
    reducer,
)
from actors.runtime import Ask


@dataclass(frozen=True, slots=True)
class Till:
    """What a till knows: what it has done, in order."""

    done: tuple[str, ...] = ()


@command
class Do:
    """Asks for effects, as they are."""

    effects: tuple[Effect, ...] = ()


@command
class Noted:
    """Something that an effect fed back; `then` are effects of it."""

    text: str
    then: tuple[Effect, ...] = ()


@command
class Wrong:
    """An effect has failed."""

    text: str


@command
class Total(Ask[int]):
    """Asks how much was done."""


@command
class Crash:
    """Asks for a bug."""


Action = Do | Noted | Wrong | Total | Crash


@reducer
def till(state: Till, action: Action, env: Environment) -> Next[Till]:
    match action:
        case Do(effects):
            return Next(state, *effects)
        case Noted(text, then):
            return Next(Till((*state.done, text)), *then)
        case Wrong(text):
            return Next(Till((*state.done, f"wrong: {text}")))
        case Total():
            return Next(state, Reply(len(state.done)))
        case Crash():
            raise OSError("the till is broken")
    assert_never(action)


class TillActor(ReducerActor[Till, Action]):
    reducer = till

    def initial(self) -> Till:
        return Till()


def wrong(error: Exception) -> Wrong:
    return Wrong(type(error).__name__)


def shouted(action: object) -> object:
    return Noted(action.text.upper()) if isinstance(action, Noted) else action


def twice(action: object) -> object:
    return Noted(action.text * 2) if isinstance(action, Noted) else action


def same(action: object) -> object:
    return action


@dataclass(frozen=True, slots=True)
class Note:
    """Gives one action, after a while."""

    text: str
    seconds: float = 0.0
    then: tuple[Effect, ...] = ()

    async def run(self, env: Environment) -> Noted | None:
        await trio.sleep(self.seconds)
        return Noted(self.text, self.then) if self.text else None


@dataclass(frozen=True, slots=True)
class Break:
    """Fails."""

    text: str = "no"

    async def run(self, env: Environment) -> Noted:
        await trio.lowlevel.checkpoint()
        raise OSError(self.text)


@dataclass(frozen=True, slots=True)
class Each:
    """Gives several actions."""

    texts: tuple[str, ...]
    seconds: float = 0.0
    # For those that never end by themselves.
    is_endless: bool = False

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        for text in self.texts:
            await trio.sleep(self.seconds)
            yield Noted(text)
        if self.is_endless:
            await trio.sleep_forever()


def note(text: str, seconds: float = 0.0, then: tuple[Effect, ...] = ()) -> Future:
    return Future(Note(text, seconds, then))
