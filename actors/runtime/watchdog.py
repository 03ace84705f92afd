"""A thread that notices when the loop does not turn, and names who holds it.

It pings the loop, and when no answer comes it reads the stack of the loop's thread: the frames of
the runtime's own loop hold the actor and its message. Real time only; it ends with the system.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Final

import structlog
import trio

from actors.runtime.life import Life
from actors.runtime.words.counting import COUNTERS, MICRO, bucket

if TYPE_CHECKING:
    from actors.runtime.system import System

# People feel a pause of a tenth of a second.
BLOCK_THRESHOLD_S: Final = 0.1
# A block is reported at most one interval plus the threshold after it began.
PING_INTERVAL_S: Final = 0.05
STACK_FRAMES_MAX: Final = 30
TOPIC: Final = "loop_blocked"

_log = structlog.get_logger("actors.watchdog")


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """The loop has not turned for `blocked_for` seconds; `ended` when it turns again."""

    path: str | None
    message_type: str | None
    stack: str
    blocked_for: float
    ended: bool


class Watchdog:
    """Call `start` within trio and `close` at the end."""

    def __init__(self, system: System, threshold: float) -> None:
        self._system, self._threshold = system, threshold
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self._closing = threading.Event()
        self._turned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="actors: watchdog", daemon=True)

    def start(self) -> None:
        """Call this once."""
        self._thread.start()

    def close(self) -> None:
        """Call this from the trio thread: the watchdog thread has ended when it returns."""
        self._closing.set()
        self._turned.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(PING_INTERVAL_S):
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
            blocked = self._look(began)
            self._tell(blocked)
            self._turned.wait()
            if not self._closing.is_set():
                self._tell(self._again(blocked, perf_counter() - began))

    def _pong(self, began: float) -> None:
        self._system.loop_lag_us[bucket((perf_counter() - began) * MICRO)] += 1
        self._turned.set()

    def _look(self, began: float) -> LoopBlocked:
        frame = sys._current_frames().get(self._loop_thread)
        stack = traceback.format_stack(frame, STACK_FRAMES_MAX) if frame is not None else []
        life = _life_in(frame)
        path = message_type = None
        if life is not None:
            path = life.cell.path
            envelope = life.activity.envelope
            message_type = None if envelope is None else type(envelope[0]).__name__
        return LoopBlocked(path, message_type, "".join(stack), perf_counter() - began, ended=False)

    @staticmethod
    def _again(blocked: LoopBlocked, for_s: float) -> LoopBlocked:
        return LoopBlocked(blocked.path, blocked.message_type, blocked.stack, for_s, ended=True)

    def _tell(self, blocked: LoopBlocked) -> None:
        # Logged from this thread: the loop cannot, that is the point.
        _log.warning(
            "loop_blocked",
            path=blocked.path,
            message_type=blocked.message_type,
            blocked_for=round(blocked.blocked_for, 3),
            ended=blocked.ended,
            stack=blocked.stack,
        )
        for listener in list(self._system.block_listeners):
            listener(blocked)
        try:
            self._token.run_sync_soon(self._system.topics.publish, TOPIC, blocked)
        except trio.RunFinishedError:
            return


BlockListener = Callable[[LoopBlocked], object]


def new_lag_histogram() -> list[int]:
    """Call this for the counters of `loop_lag_us`."""
    return [0] * COUNTERS


def _life_in(frame: FrameType | None) -> Life | None:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("actors.runtime."):
            life = frame.f_locals.get("life")
            if isinstance(life, Life):
                return life
        frame = frame.f_back
    return None
