"""A recorder before a port: which operations were called, with what, and how each ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from inspect import isawaitable
from typing import Final, Generic, TypeVar, cast

import trio

P = TypeVar("P")

# A test that calls more often looks at a few of them; without a limit a soak would keep all.
OPERATIONS_MAX: Final = 10_000


class Ended(Enum):
    """How an operation ended; one that is read bit by bit is closed when nobody reads on."""

    NOT_YET = "not yet"
    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"
    CLOSED = "closed"


@dataclass
class Operation:
    """One call of an operation; `result` when it returned, `error` when it raised."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    ended: Ended = Ended.NOT_YET
    result: object = None
    error: BaseException | None = None
    # Of one that is read bit by bit: how many it gave.
    items: int = 0

    def __str__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        given = ", ".join([*map(repr, self.args), *named])
        return f"{self.name}({given}) {self.ended.value}"


class Recorder(Generic[P]):
    """Notes what is called of a port; the code under test is given `port`, which does all else.

    ```python
    recorder: Recorder[EventStore] = Recorder(MemoryEventStore())
    await greet(recorder.port)
    assert recorder.names == ["head", "append"]
    ```

    Noted are its methods, those of views of it too, in the order of their calls; attributes are
    passed through. Errors and cancellation reach the caller as they are. Of more than
    `OPERATIONS_MAX` the last ones are counted in `missed`.
    """

    def __init__(self, port: P) -> None:
        self.operations: list[Operation] = []
        self.missed = 0
        self.port: P = cast("P", _Front(port, self._begin))

    @property
    def names(self) -> list[str]:
        """Call this for what was called, in order."""
        return [one.name for one in self.operations]

    def of(self, *names: str) -> list[Operation]:
        """Call this for the calls of some operations, in order."""
        return [one for one in self.operations if one.name in names]

    def clear(self) -> None:
        """Call this to begin anew; what is under way is noted no longer."""
        self.operations.clear()
        self.missed = 0

    def _begin(self, operation: Operation) -> None:
        if len(self.operations) < OPERATIONS_MAX:
            self.operations.append(operation)
        else:
            self.missed += 1


class _Front:
    """What stands for the port: its methods are noted, all else is its own."""

    def __init__(self, port: object, begin: Callable[[Operation], None]) -> None:
        self._port, self._begin = port, begin

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._port, name)
        if not callable(found) or name.startswith("_"):
            return found
        method = found

        def call(*args: object, **kwargs: object) -> object:
            operation = Operation(name, args, kwargs)
            with _noted(operation):
                answer: object = method(*args, **kwargs)
            if isinstance(answer, type(self._port)):
                return _Front(answer, self._begin)  # a view of the same port
            self._begin(operation)
            if isinstance(answer, AsyncIterator):
                return _read(operation, answer)
            if isawaitable(answer):
                return _awaited(operation, answer)
            operation.ended, operation.result = Ended.RETURNED, answer
            return answer

        return call


async def _awaited(operation: Operation, answer: Awaitable[object]) -> object:
    with _noted(operation):
        operation.result = await answer
    operation.ended = Ended.RETURNED
    return operation.result


async def _read(
    operation: Operation, source: AsyncIterator[object]
) -> AsyncGenerator[object, None]:
    try:
        with _noted(operation):
            async for item in source:
                operation.items += 1
                yield item
        operation.ended = Ended.RETURNED
    except GeneratorExit:
        operation.ended = Ended.CLOSED
        raise
    finally:
        # As its reader would: an open one keeps what it holds until it is collected.
        if isinstance(source, AsyncGenerator):
            await source.aclose()


@contextmanager
def _noted(operation: Operation) -> Iterator[None]:
    try:
        yield
    except trio.Cancelled as error:
        operation.ended, operation.error = Ended.CANCELLED, error
        raise
    except Exception as error:
        operation.ended, operation.error = Ended.RAISED, error
        raise
