"""What lies in a mailbox: the message and its papers, and the reply slot of an ask.

An envelope is a plain tuple: it is made for every message, and nothing in Python is cheaper.
Rule 1: a `Reply` is settled once; whatever comes after that is dropped and counted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import trio

from actors.runtime.context import Context
from actors.runtime.words.errors import AskError, AskTimeout

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.wheel import Bucket

NO_DEADLINE: Final = math.inf

Stage = Literal["mailbox", "queued", "handling"]
Outcome = Literal["waiting", "answered", "failed", "timed_out", "withdrawn"]


class Reply:
    """One asker, parked until its ask is settled."""

    __slots__ = (
        "asked_at", "asker", "bucket", "cell", "deadline", "error", "message", "outcome", "parked",
        "stage", "task", "value",
    )  # fmt: skip

    def __init__(
        self,
        task: trio.lowlevel.Task,
        cell: Cell,
        message: object,
        asked_at: float,
        deadline: float,
    ) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.cell, self.message = cell, message
        self.asked_at, self.deadline = asked_at, deadline
        self.stage: Stage = "mailbox"
        self.outcome: Outcome = "waiting"
        self.value: object = None
        self.error: AskError | None = None
        self.bucket: Bucket | None = None
        # An ask that is served at once is settled before its task has parked.
        self.parked = False
        # Whose handler waits; the waiting edge goes with the ask, not when its task runs again.
        self.asker: Cell | None = None

    def give(self, value: object) -> None:
        """Call this with the reply; a second or a late one is counted and dropped."""
        if self.task is None:
            self.cell.counts.late_replies += 1
            return
        self.value = value
        self._settle("answered")

    def fail(self, error: AskError) -> None:
        """Call this when no reply will come; does nothing once the ask is settled."""
        if self.task is not None:
            self.error = error
            self._settle("failed")

    def expire(self, now: float) -> None:
        """Call this when the deadline has passed (the wheel does)."""
        if self.task is not None:
            waited = now - self.asked_at
            self.error = AskTimeout(self.cell.path, self.message, waited, self.stage)
            self._settle("timed_out")

    def withdraw(self, _: object = None) -> trio.lowlevel.Abort:
        """Call this when the asker was cancelled (trio does, as the abort function)."""
        self.outcome = "withdrawn"
        self.task = None
        if self.asker is not None:
            self.asker.waiting_on = None
        self._leave_wheel()
        if self.stage == "mailbox":
            self.cell.mailbox.forget(self)
        return trio.lowlevel.Abort.SUCCEEDED

    def _settle(self, outcome: Outcome) -> None:
        task = self.task
        assert task is not None
        self.outcome = outcome
        self.task = None
        if self.asker is not None:
            self.asker.waiting_on = None
        self._leave_wheel()
        if self.stage == "mailbox":
            self.cell.mailbox.forget(self)
        self.wake(task)

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Call this to let the asker go on; a group ask waits for its last reply instead."""
        if self.parked:
            trio.lowlevel.reschedule(task)

    def _leave_wheel(self) -> None:
        bucket = self.bucket
        if bucket is not None:
            bucket.pop(self, None)
            self.bucket = None


# message, message_id, reply (None for a tell), deadline, enqueued_at, context
Envelope: TypeAlias = tuple[object, int, Reply | None, float, float, Context | None]
