"""Refs from other threads: `system.portal.tell(ref, m)` and `.ask(ref, m)`."""

from __future__ import annotations

from typing import TypeVar

import trio

from actors.runtime.ref import ASK_TIMEOUT_S, Ref
from actors.runtime.words.messages import Ask

M = TypeVar("M")
R = TypeVar("R")


class Portal:
    """Made within trio, used anywhere else."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def tell(self, ref: Ref[M], message: M) -> None:
        """Call this from any thread to tell; returns at once, never fails while trio runs.

        Messages of one thread arrive in order. Raises trio.RunFinishedError when trio has ended.
        """
        self._token.run_sync_soon(ref.tell, message)

    def ask(self, ref: Ref[M], message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """Call this from a thread other than trio's to ask, blocking it until the reply.

        Raises what `Ref.ask` raises; RuntimeError in the trio thread, which it would block.
        """
        return trio.from_thread.run(ref.ask, message, timeout, trio_token=self._token)
