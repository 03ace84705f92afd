"""A thread that notices when the loop does not turn, and names who holds it.

It pings the loop, and when no answer comes it looks who runs. A loop that waits for the kernel
would answer at once: it is not woken for that, but now and then. Who runs: for dispatched actors
the dispatcher says so. Any other task is the one whose step trio takes, and its frame is in the
stack of the loop's thread; what it does for which actor stands in its context (`current_activity`),
where log lines find it too. So nothing is written for the watchdog while all is well. Real time
only; it ends with the system.

What is read here belongs to another thread, which may go on at any moment: everything is read
once, and a wrong or missing name in a log line is the worst that comes of it.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from types import FrameType
from typing import Final, TypeAlias

import trio

from actors.runtime.delivery.dispatcher import Dispatcher
from actors.runtime.delivery.envelope import MESSAGE, Envelope, current_activity
from actors.runtime.telling.log import Log, failure_of
from actors.runtime.words.counting import MICRO, bucket
from actors.runtime.words.showing import class_name, shown
from actors.runtime.words.tallies import Histogram

# People feel a pause of a tenth of a second.
BLOCK_THRESHOLD_S: Final = 0.1
# A block is reported at most one interval plus the threshold after it began.
PING_INTERVAL_S: Final = 0.05
# A loop that waits is pinged all the same once in so many looks, a second: how late it wakes tells
# of a machine that is full.
LOOKS_A_PING: Final = 20
STACK_FRAMES_MAX: Final = 30
# Where trio asks the kernel what came, in a module for each kind of kernel.
_WAITS_IN: Final = ("trio._core._io_", "get_events")
TOPIC: Final = "loop_blocked"

_log = Log("actors.watchdog")


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """The loop has not turned for `blocked_for` seconds; `ended` when it turns again."""

    path: str | None
    message_type: str | None
    stack: str
    blocked_for: float
    ended: bool


def stack_of(frame: FrameType) -> str:
    """Call this for where a thread is: file, line and function of its innermost frames.

    Without the lines of the source: to look them up reads whole files, which stay in memory.
    """
    found = reversed(list(islice(traceback.walk_stack(frame), STACK_FRAMES_MAX)))
    return "".join(
        f'  File "{one.f_code.co_filename}", line {line}, in {one.f_code.co_name}\n'
        for one, line in found
    )


BlockListener: TypeAlias = Callable[[LoopBlocked], object]


class Watchdog:
    """Call `start` within trio and `close` at the end.

    `lag_us` is the histogram of how late the loop is for whoever comes: how late pings are
    answered, and nothing where it waits for them; `lag` is the same for operators. `listeners` are
    called in this thread, at once, and removed when they raise; `publish` in the loop's, when it
    turns again.
    """

    def __init__(
        self,
        threshold: float,
        dispatcher: Dispatcher,
        *,
        lag_us: list[int],
        lag: Histogram,
        listeners: list[BlockListener],
        publish: Callable[[str, object], object],
    ) -> None:
        self._threshold, self._dispatcher = threshold, dispatcher
        self._lag_us, self._lag = lag_us, lag
        self._listeners, self._publish = listeners, publish
        self._token = trio.lowlevel.current_trio_token()
        self._steps = _steps_of_this_thread()
        self._loop_thread = threading.get_ident()
        self._closing = threading.Event()
        self._turned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="actors: watchdog", daemon=True)

    def start(self) -> None:
        """Called once."""
        self._thread.start()

    def close(self) -> None:
        """Called in the trio thread: the watchdog thread has ended when it returns."""
        self._closing.set()
        self._turned.set()
        self._thread.join()

    def _run(self) -> None:
        looks = 0
        while not self._closing.wait(PING_INTERVAL_S):
            looks += 1
            if looks % LOOKS_A_PING and self._is_loop_waiting():
                self._note(0.0)
                continue
            self._turned.clear()
            if self._closing.is_set():
                return  # Set after the wait above and cleared just now: nobody will answer.
            began = perf_counter()
            try:
                self._token.run_sync_soon(self._pong, began)
            except trio.RunFinishedError:
                return
            if self._turned.wait(self._threshold) or self._closing.is_set():
                continue
            blocked = self._maybe_look(began)
            if blocked is not None:
                self._tell(blocked)
            self._turned.wait()
            if blocked is not None and not self._closing.is_set():
                self._tell(self._again(blocked, perf_counter() - began))

    def _is_loop_waiting(self) -> bool:
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return False
        module, function = _WAITS_IN
        is_there = frame.f_code.co_name == function
        return is_there and str(frame.f_globals.get("__name__")).startswith(module)

    def _pong(self, began: float) -> None:
        self._note(perf_counter() - began)
        self._turned.set()

    def _note(self, late_s: float) -> None:
        self._lag_us[bucket(late_s * MICRO)] += 1
        self._lag.note(late_s)

    def _maybe_look(self, began: float) -> LoopBlocked | None:
        try:
            return self._look(began)
        except Exception as error:  # noqa: BLE001 - what it reads changes meanwhile; it looks again
            _log.warning("watchdog_failed", error=shown(error))
            return None

    def _look(self, began: float) -> LoopBlocked:
        for_s = perf_counter() - began
        frame = sys._current_frames().get(self._loop_thread)
        stack = "" if frame is None else stack_of(frame)
        path, envelope = self._served(frame)
        return LoopBlocked(
            path,
            None if envelope is None else class_name(type(envelope[MESSAGE])),
            stack,
            for_s,
            ended=False,
        )

    def _served(self, frame: FrameType | None) -> tuple[str | None, Envelope | None]:
        """The path of the actor that the loop works for, and the message in hand."""
        shared = self._dispatcher.activity
        if (cell := shared.cell) is not None:
            # Also when it is served at once, in the task of its asker.
            return cell.path, shared.envelope
        task = self._maybe_running(frame)
        if task is None:
            return None, None
        if task is shared.task:
            # Between two messages: an `__init__`, or what an owner does about an end.
            last = self._dispatcher.last
            return None if last is None else last.path, None
        activity = task.context.get(current_activity)
        if activity is None or (cell := activity.cell) is None:
            return None, None
        return cell.path, activity.in_hand()

    def _maybe_running(self, frame: FrameType | None) -> trio.lowlevel.Task | None:
        """The task whose step the loop is in, if one of its frames is in the stack up to `frame`.

        Between two steps the last one's stands there still.
        """
        task = self._steps.get("task")
        if not isinstance(task, trio.lowlevel.Task):
            return None
        frame_of_task = getattr(task.coro, "cr_frame", None)
        if frame_of_task is None:
            return None
        while frame is not None and frame is not frame_of_task:
            frame = frame.f_back
        return None if frame is None else task

    @staticmethod
    def _again(blocked: LoopBlocked, for_s: float) -> LoopBlocked:
        return LoopBlocked(blocked.path, blocked.message_type, blocked.stack, for_s, ended=True)

    def _tell(self, blocked: LoopBlocked) -> None:
        # Logged from this thread: the loop cannot, that is the point. The stack stands in the first
        # of the two lines only.
        stack = {} if blocked.ended else {"stack": blocked.stack}
        _log.warning(
            "loop_blocked",
            path=blocked.path,
            message_type=blocked.message_type,
            blocked_for=round(blocked.blocked_for, 3),
            ended=blocked.ended,
            **stack,
        )
        for listener in list(self._listeners):
            error = failure_of(listener, blocked)
            if error is not None:
                self._remove(listener)
                _log.warning("block_listener_failed", listener=shown(listener), error=shown(error))
        try:
            self._token.run_sync_soon(self._publish, TOPIC, blocked)
        except trio.RunFinishedError:
            return

    def _remove(self, listener: BlockListener) -> None:
        # The list is the system's: whoever put it there may have taken it out meanwhile.
        self._listeners[:] = [one for one in self._listeners if one is not listener]


def _steps_of_this_thread() -> Mapping[str, object]:
    """Where trio notes whose step it takes, which it tells to no other thread.

    To look at every task instead would take of the loop's time when it has least of it: tens of
    milliseconds in each late turn where thousands are connected. Empty with a trio that keeps it
    elsewhere: then who holds the loop is named only where that is an actor of the dispatcher.
    """
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT  # noqa: PLC0415
    except ImportError:
        return {}
    return vars(GLOBAL_RUN_CONTEXT)
