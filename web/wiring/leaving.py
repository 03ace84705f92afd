"""The way out of the process, whatever hangs: by the first signal in order, else by force.

A stop waits for much that may never come: a hook, a thread, a database, a loop that does not turn
because a handler holds it. So its two last promises are kept by a thread of their own: a stop ends
within its budget, with what was left in the log (REL-22), and a second SIGINT or SIGTERM ends it
at once (REL-23).

Rule 1: the handler of a signal only puts a number into a queue that may be used in handlers.
Rule 2: by force means `os._exit`: nothing is tidied up any more. The store needs none of it, and
        the guard of the embedded server outlives us and shuts that down.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import trio

from actors.runtime import Log
from supervision import stopping_signals

log = Log(__name__)

# What the shell expects of a process that a signal ended.
EXIT_OF_SIGNAL = 128
EXIT_CUT = 1
# A log that nobody reads must not hold up a process that somebody wants gone within a second.
LAST_WORDS_S = 0.5

Left = Callable[[], Sequence[str]]


class WayOut:
    """Receives the signals that end a process and sees to it that they do.

    `left` is asked in a thread, when `budget_s` has passed since the first signal, what has not
    ended; `leave` is told the exit code then. Used as a context: signals mean what they meant
    before when it is left, and nothing ends the process any more.
    """

    def __init__(
        self, budget_s: float, left: Left, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._budget_s, self._left, self._leave = budget_s, left, leave
        self._received: signal.Signals | None = None
        self._first = trio.Event()
        self._before: dict[signal.Signals, object] = {}
        # Not `queue.Queue`, whose lock the interrupted code may hold; this one's `put` may be
        # called by a handler (its documentation says so).
        self._numbers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="way out", daemon=True)

    def __enter__(self) -> "WayOut":
        """Nothing happens here: the signals are received from `open` on."""
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what the signals meant; the thread ends."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # reason: what `signal` gave
        self._before.clear()
        self._numbers.put(None)

    def open(self) -> None:
        """Call this in the main thread, in trio: from now on signals are received.

        SIGHUP too, unless `nohup` had it ignored: a closed terminal is a stop like any other.
        """
        token = trio.lowlevel.current_trio_token()

        def handle(number: int, _frame: FrameType | None) -> None:
            if self._received is None:
                self._received = signal.Signals(number)
                token.run_sync_soon(self._first.set)
            elif signal.Signals(number).name == "SIGHUP":
                return  # a terminal that closes sends it more than once: that is no second wish
            self._numbers.put(number)

        self._thread.start()
        for number in {signal.SIGINT, signal.SIGTERM, *stopping_signals()}:
            self._before[number] = signal.signal(number, handle)

    async def first(self) -> signal.Signals:
        """Call this to wait for the first signal; gives it."""
        await self._first.wait()
        assert self._received is not None, "the event is set by the handler"
        return self._received

    def _watch(self) -> None:
        if self._numbers.get() is None:
            return
        try:
            number = self._numbers.get(timeout=self._budget_s)
        except queue.Empty:
            _say(lambda: log.error("site.stopped", cut=list(self._left()), was_forced=True))
            self._leave(EXIT_CUT)
            return
        if number is not None:
            name = signal.Signals(number).name
            _say(lambda: log.warning("site.stopped_at_once", signal=name))
            self._leave(EXIT_OF_SIGNAL + number)


def _say(words: Callable[[], object]) -> None:
    said = threading.Thread(target=words, name="last words", daemon=True)
    said.start()
    said.join(LAST_WORDS_S)


def threads_left() -> list[str]:
    """Call this for the threads that do something, each with where it stands.

    Those of a pool that wait for work are left out: they have nothing in hand.
    """
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread() or thread.name in _OURS:
            continue
        place = _place(frame)
        if place is not None:
            found.append(f"thread {thread.name} at {place}")
    return found


_OURS = frozenset({"way out", "last words"})
# Where a thread stands that only waits: for work, or for the loop's next event.
_WAITING = ("threading.py", "queue.py", "_thread_cache.py", "selectors.py", "_io_epoll.py")


def _place(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename.rpartition("/")[2]
    if name in _WAITING:
        return None
    return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
