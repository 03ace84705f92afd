"""Actors that do what a test tells them, in both kinds: `Puppet` dispatched, `AsyncPuppet` a task.

puppet = await system.start(Puppet)
puppet.tell(Do(lambda me: me.stop()))
assert await puppet.ask(Call(lambda me: me.incarnation)) == 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import trio

from actors.runtime import Actor, Ask, Down, Exit, Exited, IdleTimeout, message


@message
class Do:
    """Run `what` in the handler; what it raises is the handler's error."""

    what: Callable[[AnyPuppet], object]


@message
class Call(Ask[object]):
    """Run `what` in the handler; what it returns is the reply."""

    what: Callable[[AnyPuppet], object]


@message
class Note:
    """Write `text` into the log of the puppet."""

    text: object


# What a puppet takes.
PuppetMessage: TypeAlias = Do | Call | Note
# What a puppet runs: at its start, or because a test told it so.
Hook: TypeAlias = Callable[["AnyPuppet"], object]
# What it runs when it ends.
StopHook: TypeAlias = Callable[["AnyPuppet", Exit], object]


class Puppet(Actor[PuppetMessage]):
    """A dispatched actor. `log` is given from outside, so it survives restarts.

    What it is told goes there: the text of each `Note`, and what the runtime tells it. `start` and
    `stop` are called with it at each start and end.
    """

    def __init__(
        self,
        log: list[object] | None = None,
        start: Hook | None = None,
        stop: StopHook | None = None,
    ) -> None:
        self.log: list[object] = [] if log is None else log
        self.start_hook, self.stop_hook = start, stop
        self.state: dict[str, object] = {}

    def on_start(self) -> object:
        """Called at each start."""
        return None if self.start_hook is None else self.start_hook(self)

    def on_stop(self, exit: Exit) -> None:  # noqa: A002
        """Called at each end."""
        if self.stop_hook is not None:
            self.stop_hook(self, exit)

    def on_do(self, message: Do) -> None:
        """Called with each `Do`."""
        message.what(self)

    def on_call(self, message: Call) -> object:
        """Called with each `Call`; replies."""
        return message.what(self)

    def on_note(self, message: Note) -> None:
        """Called with each `Note`."""
        self.log.append(message.text)

    def on_news(self, message: Down | Exited | IdleTimeout) -> None:
        """Called with what the runtime tells; notes it."""
        self.log.append(message)


class AsyncPuppet(Actor[PuppetMessage]):
    """A puppet with a task. What its functions return is awaited when it can be."""

    def __init__(
        self,
        log: list[object] | None = None,
        start: Hook | None = None,
        stop: StopHook | None = None,
    ) -> None:
        self.log: list[object] = [] if log is None else log
        self.start_hook, self.stop_hook = start, stop
        self.state: dict[str, object] = {}

    async def on_start(self) -> object:
        """Called at each start."""
        return None if self.start_hook is None else await _result(self.start_hook(self))

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002
        """Called at each end."""
        if self.stop_hook is not None:
            await _result(self.stop_hook(self, exit))

    async def on_do(self, message: Do) -> None:
        """Called with each `Do`."""
        await _result(message.what(self))

    async def on_call(self, message: Call) -> object:
        """Called with each `Call`; replies."""
        return await _result(message.what(self))

    async def on_note(self, message: Note) -> None:
        """Called with each `Note`."""
        self.log.append(message.text)

    async def on_news(self, message: Down | Exited | IdleTimeout) -> None:
        """Called with what the runtime tells; notes it."""
        self.log.append(message)


class TrappingPuppet(Puppet):
    """A dispatched puppet that gets the ends of linked actors as messages."""

    trap_exits = True


class AsyncTrappingPuppet(AsyncPuppet):
    """A task puppet that gets the ends of linked actors as messages."""

    trap_exits = True


# Whichever kind runs: what a function given to `Do` or `Call` gets.
AnyPuppet: TypeAlias = Puppet | AsyncPuppet


def sleeping(seconds: float) -> Hook:
    """Call this for something slow to do: `Do(sleeping(2))`."""

    async def sleep(_: AnyPuppet) -> None:
        await trio.sleep(seconds)

    return sleep


def raising(error: BaseException) -> Hook:
    """Call this for something that fails: `Do(raising(OSError()))`."""

    def raise_it(_: AnyPuppet) -> None:
        raise error

    return raise_it


async def _result(value: object) -> object:
    if hasattr(value, "__await__"):
        return await value
    return value
