"""`serve`: a tree that runs until somebody ends the program, as the program's last line.

    serve(Shop)

SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed) end it in order: the tree stops, last
started first, and every `on_stop` runs. A second SIGINT or SIGTERM ends the process at once.

Rule 1: nothing that takes time happens in the handler of a signal; the loop is told, and does it.
Rule 2: what a signal meant before is put back at the end; one that was ignored stays ignored.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

import trio

from actors.runtime import StopActor, System
from actors.runtime.system.making import Maker, maker_of
from supervision.doing.supervising import Supervising
from supervision.opening import Root, opened
from supervision.specs.errors import StartFailed

P = ParamSpec("P")
S = TypeVar("S", bound=Supervising)
Ts = TypeVarTuple("Ts")

# What ends a program from outside, in the order of how often it does. Windows has no SIGHUP;
# there Ctrl-Break is the polite one.
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
EXIT_FAILED: Final = 1
_OPTIONS: Final = ("main", "name", "check_replies", "development")


@overload
def serve(
    root: Callable[[Unpack[Ts]], S],
    /,
    *args: *Ts,
    main: Callable[[S], Awaitable[object]] | None = None,
    name: str | None = None,
    check_replies: bool = False,
    development: bool = False,
) -> None: ...
@overload
def serve(root: Callable[P, S], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
def serve(root: object, /, *args: object, **given: object) -> None:
    """Call this as the last line of a program: runs a tree until SIGINT, SIGTERM or SIGHUP.

        if __name__ == "__main__":
            serve(Shop, settings)

    With `main` it runs `main(shop)` beside the tree, and ends when that returns. It also ends when
    the root does. Returns when the tree has stopped in order. When the tree does not start, or
    gives up, one line on standard error says why and SystemExit(1) is raised; with `development`
    the traceback too. What `main` raises is raised here, behind the stop. A second SIGINT or
    SIGTERM ends the process at once, by that signal. Raises RuntimeError outside the main thread.
    `name`, `check_replies` and arguments by name are those of `open_system`.
    """
    _check_thread()
    made, options = maker_of(root, args, given, _OPTIONS)
    served = _Served(made, args, **options)
    try:
        trio.run(served.run)
    except Exception as error:
        if not served.is_fault_of_tree:
            raise
        served.tell(error)
        raise SystemExit(EXIT_FAILED) from None


@overload
async def run_until_signal(
    root: Callable[[Unpack[Ts]], S],
    /,
    *args: *Ts,
    main: Callable[[S], Awaitable[object]] | None = None,
    name: str | None = None,
    check_replies: bool = False,
    development: bool = False,
) -> signal.Signals | None: ...
@overload
async def run_until_signal(
    root: Callable[P, S], /, *args: P.args, **kwargs: P.kwargs
) -> signal.Signals | None: ...
async def run_until_signal(
    root: object, /, *args: object, **given: object
) -> signal.Signals | None:
    """Call this as `serve` in a program that runs trio already; gives the signal that ended it.

    None when `main` returned or the root ended. Raises what `open_system` raises. The signals mean
    what they meant before when it returns. Cancelled, all ends at once, as `open_system` does.
    """
    made, options = maker_of(root, args, given, _OPTIONS)
    return await _Served(made, args, **options).run()


class _Served:
    """One run of a tree until a signal."""

    def __init__(
        self,
        root: Maker,
        args: tuple[object, ...],
        *,
        main: Callable[[Supervising], Awaitable[object]] | None = None,
        name: str | None = None,
        check_replies: bool = False,
        development: bool = False,
    ) -> None:
        self._root, self._args, self._main, self._name = root, args, main, name
        self._check_replies, self._development = check_replies, development
        self._owner: Root | None = None

    @property
    def is_fault_of_tree(self) -> bool:
        """Whether an error came from the tree; else from the body."""
        owner = self._owner
        return owner is not None and (not owner.is_up or bool(owner.failures))

    async def run(self) -> signal.Signals | None:
        """Run it; gives the signal that ended it."""
        # Made here: a system takes its surroundings from the trio run it is made in.
        system = System(check_replies=self._check_replies, development=self._development)
        self._owner = owner = Root(system)
        owner.ends_with_root = True
        with stop_signals(lambda first: owner.leave(first.name)) as received:
            try:
                async with opened(owner, self._root, self._args, self._name) as handle:
                    if self._main is None:
                        await trio.sleep_forever()
                    else:
                        await self._main(handle)
            except StartFailed as error:
                # Its start was cut off because we asked for it: that is no failure.
                is_ours = received.first is not None and isinstance(error.__cause__, StopActor)
                if owner.is_up or not is_ours:
                    raise
        return received.first

    def tell(self, error: Exception) -> None:
        """Print why the tree failed, for the person who started it: the program's last words."""
        stream = sys.stderr
        if stream is None:
            return
        text = error.message if isinstance(error, ExceptionGroup) else str(error)
        lines = f"{text}\nstart it with development=True for the whole traceback\n"
        if self._development:
            lines = f"{''.join(traceback.format_exception(error))}{text}\n"
        try:
            stream.write(lines)
            stream.flush()
        except (OSError, ValueError):
            pass  # Nobody reads; the exit code still tells.


class Received:
    """What came: the signal that was the first, or None so far."""

    first: signal.Signals | None = None


@contextmanager
def stop_signals(on_first: Callable[[signal.Signals], None]) -> Iterator[Received]:
    """Call this in a trio program to receive what ends a program, for as long as the block runs.

    `on_first` is called in the loop with the first signal. The second one ends the process at
    once, as if nobody received it, also when the loop hangs; only a further SIGHUP does nothing,
    because a terminal that closes sends it more than once. Raises RuntimeError outside the main
    thread.
    """
    _check_thread()
    received, token = Received(), trio.lowlevel.current_trio_token()

    def handle(number: int, _frame: FrameType | None) -> None:
        if received.first is not None:
            return
        received.first = signal.Signals(number)
        # From here on they are the kernel's affair: Python would not run a handler before the
        # call of C returns in which a hook of the user's may hang.
        for other in before:
            if other.name != "SIGHUP":
                signal.signal(other, signal.SIG_DFL)
        token.run_sync_soon(on_first, received.first)

    before = {number: signal.getsignal(number) for number in stopping_signals()}
    try:
        for number in before:
            signal.signal(number, handle)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals reach only the main thread; use open_system in this one")


def stopping_signals() -> list[signal.Signals]:
    """Call this for the signals that end a program here: those that exist and are not ignored.

    `nohup` and a shell's background jobs set some to be ignored before the program starts, and
    mean it. One with a handler from outside Python is left alone too: it could not be put back.
    """
    found = [signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__]
    return [one for one in found if signal.getsignal(one) not in (signal.SIG_IGN, None)]
