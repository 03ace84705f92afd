"""One call on its way from a trio task to the asyncio loop and back."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")


class Job(Generic[T]):
    """One call on its way: the work, the trio task that waits, and how far it came."""

    __slots__ = ("args", "is_answered", "is_withdrawn", "raise_cancel", "running", "waiter", "work")

    def __init__(
        self,
        work: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        waiter: trio.lowlevel.Task,
    ) -> None:
        self.work, self.args, self.waiter = work, args, waiter
        self.running: asyncio.Task[T] | None = None
        self.raise_cancel: Callable[[], Any] | None = None
        self.is_withdrawn = False
        self.is_answered = False
