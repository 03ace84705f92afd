"""What several of these tests need: a small message, a sink that keeps, a thing that counts."""

from __future__ import annotations

import asyncio

from actors.runtime import Actor, Ask, Exit, message
from actors.testing import AnyPuppet
from actors.testing.puppet import StopHook


@message
class Go:
    """A message that says nothing."""


class Small(Actor[Go]):
    """An actor with room for one message."""

    capacity = 1

    def on_go(self, message: Go) -> None: ...


@message
class Stranger(Ask[int]):
    """A message that no puppet has a handler for."""


class Counting:
    """Counts how often it was asked for its text."""

    asked = 0

    def __repr__(self) -> str:
        Counting.asked += 1
        return "item"


class Recorder:
    """A sink that keeps what it gets, and fails when told to."""

    def __init__(self) -> None:
        self.got: list[object] = []
        self.fails = False

    def deliver(self, message: object, /) -> None:
        if self.fails:
            raise asyncio.CancelledError
        self.got.append(message)


def noting(log: list[object]) -> StopHook:
    """Give a stop hook that notes the exit."""

    def note(_: AnyPuppet, exit_: Exit) -> None:
        log.append(exit_)

    return note
