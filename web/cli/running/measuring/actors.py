"""What is measured of the runtime alone: tell, ask, publish, and an action of a reducer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from actors.reducers import Environment, Next, ReducerActor, command, reducer, start_reducer
from actors.runtime import UNBOUNDED, Actor, Ask, message, open_actors
from storage.postgres import Database
from web.cli.running.measuring.words import Turn
from web.wiring.environment import SystemClock, SystemIds

# So many are told before their sender lets others work, as one that is busy does.
BURST = 500
# A room that many look into.
SUBSCRIBERS = 300
TOPIC = "bench"
# Only a machine that stands still takes so long.
ASK_S_MAX = 60.0


@message
class Add:
    """Is counted."""


@message
class Total(Ask[int]):
    """Asks how many were."""


class Adder(Actor[Add | Total]):
    """Counts what it is told."""

    capacity = UNBOUNDED

    def __init__(self) -> None:
        self.total = 0

    def on_add(self, message: Add) -> None:
        self.total += 1

    def on_total(self, message: Total) -> int:
        return self.total


@asynccontextmanager
async def open_tell(_database: Database | None) -> AsyncIterator[Turn]:
    """Call this to tell a burst to one actor; it is over when the last was handled."""
    one = Add()
    async with open_actors() as system:
        ref = await system.start(Adder)

        async def turn() -> None:
            for _ in range(BURST):
                ref.tell(one)
            await ref.ask(Total(), timeout=ASK_S_MAX)

        yield turn


@asynccontextmanager
async def open_ask(_database: Database | None) -> AsyncIterator[Turn]:
    """Call this to ask one actor, and have its answer."""
    async with open_actors() as system:
        ref = await system.start(Adder)

        async def turn() -> None:
            await ref.ask(Total(), timeout=ASK_S_MAX)

        yield turn


@message
class Said:
    """A post, as subscribers hear of it."""

    body: str


class Hearing:
    """How many subscribers have not heard what was published last."""

    def __init__(self) -> None:
        self.left = 0
        self.over = trio.Event()

    def begin(self) -> None:
        """Call this before it is published."""
        self.left, self.over = SUBSCRIBERS, trio.Event()

    def hear(self) -> None:
        """Call this as a subscriber that has heard it."""
        self.left -= 1
        if not self.left:
            self.over.set()


class Subscriber(Actor[Said]):
    """One who looks into the room."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    def on_said(self, message: Said) -> None:
        self._hearing.hear()


@asynccontextmanager
async def open_publish(_database: Database | None) -> AsyncIterator[Turn]:
    """Call this to publish to many subscribers; it is over when the last has heard it."""
    said, hearing = Said("hello"), Hearing()
    async with open_actors() as system:
        for _ in range(SUBSCRIBERS):
            system.topics.subscribe(TOPIC, await system.start(Subscriber, hearing))

        async def turn() -> None:
            hearing.begin()
            system.topics.publish(TOPIC, said)
            await hearing.over.wait()

        yield turn


@command
class Count:
    """An action without an effect."""


@reducer
def counting(state: int, action: Count, env: Environment) -> Next[int]:
    """The pure half of it."""
    return Next(state + 1)


class Counting(ReducerActor[int, Count]):
    """The actor around it."""

    reducer = counting

    def initial(self) -> int:
        return 0


@asynccontextmanager
async def open_reducer(_database: Database | None) -> AsyncIterator[Turn]:
    """Call this to run one action through a reducer's actor."""
    action = Count()
    async with open_actors() as system:
        ref = await start_reducer(system, Counting, Environment(SystemClock(), SystemIds()))

        async def turn() -> None:
            await ref.run(action)

        yield turn
