"""Sends what is kept to a collector, a batch at a time; whoever records never waits for it (OBS-4).

Rule 1: what may yet be taken waits and is sent again; beyond the bound the oldest are lost, and
        every span that is lost is counted with the reason.
Rule 2: at a stop there is a last second for what waits; then it is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Never

import trio

from actors.runtime import Actor, Exit, Log
from actors.runtime.telling.spans import Record, SpanRead
from actors.runtime.words.tallies import Tallies
from supervision import DependencyTimeout, NotCalled, NotRetried
from web.observability.operating.traces.exporting.encoding import Encoded, encode
from web.observability.operating.traces.exporting.sending import NotTaken, may_pass
from web.observability.operating.traces.exporting.waiting import WaitingSpans
from web.routing.outward import NoAnswer

log = Log(__name__)

# How long a collector that was away is left alone; its breaker has times of its own.
REST_S: Final = 5.0
# Of the drain (OBS-4: a second at most), with what it takes to end.
STOP_S: Final = 0.8
# And what its supervisor waits for it.
SHUTDOWN_S: Final = 1.0


class TraceExporter(Actor[Never]):
    """Takes from `waiting` and gives to `take`, which tells how many of a body it has refused."""

    def __init__(
        self,
        waiting: WaitingSpans,
        take: Callable[[bytes], Awaitable[int]],
        read: Callable[[Record], SpanRead],
        zero_ns: Callable[[], int],
        resource: Mapping[str, str],
        tallies: Tallies,
    ) -> None:
        self._waiting, self._take = waiting, take
        self._read, self._zero_ns, self._resource = read, zero_ns, resource
        self._tallies = tallies
        self._thread = trio.CapacityLimiter(1)
        self._over = trio.Event()
        # What was said last, so that a collector that is away for a day is one line.
        self._said = ""

    def on_start(self) -> None:
        """Begin to send."""
        self._waiting.open()
        self.start_soon(self._work)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Send what waits, as far as a moment reaches."""
        self._waiting.close()
        with trio.move_on_after(STOP_S):
            await self._over.wait()

    async def _work(self) -> None:
        waiting = self._waiting
        is_away = False
        try:
            while not (waiting.is_closed and (is_away or not len(waiting))):
                is_away = not await self._send(await waiting.take())
                if is_away:
                    await waiting.rest(REST_S)
        finally:
            if waiting.is_closed and len(waiting):
                # No scrape comes any more to tell of it.
                log.warning("traces.lost_at_stop", spans=len(waiting))
                self._lose("stopped", len(waiting))
            self._over.set()

    async def _send(self, records: Sequence[Record]) -> bool:
        """Send them, and tell whether the collector is there; what was not taken waits again."""
        if not records:
            return True
        encoding = partial(encode, records, self._read, self._zero_ns(), self._resource)
        try:
            encoded = await trio.to_thread.run_sync(
                encoding, abandon_on_cancel=True, limiter=self._thread
            )
            is_settled = not encoded.spans or await self._try(encoded)
        except trio.Cancelled:
            self._waiting.put_back(records)
            raise
        except Exception:
            # A fault of ours: the next incarnation must not meet the same ones again.
            self._lose("failed", len(records))
            raise
        if is_settled:
            self._lose("unreadable", encoded.unreadable)
        else:
            self._waiting.put_back(records)
        return is_settled

    async def _try(self, encoded: Encoded) -> bool:
        try:
            rejected = min(encoded.spans, await self._take(encoded.body))
        except NotCalled:
            return False  # Its breaker has been told of.
        except (NotRetried, NotTaken, NoAnswer, DependencyTimeout) as error:
            cause = error.cause if isinstance(error, NotRetried) else error
            if may_pass(cause):
                self._say("away", f"{type(cause).__name__}: {cause}")
                return False
            rejected = encoded.spans
            self._say("refused", str(cause))
        else:
            self._say("refused" if rejected else "", "the collector of traces took not all")
        self._lose("refused", rejected)
        self._tallies.count("trace_spans_exported_total").number += encoded.spans - rejected
        return True

    def _say(self, what: str, reason: str) -> None:
        before, self._said = self._said, what
        if what and what != before:
            log.warning("traces.not_exported", why=what, reason=reason)
        elif before and not what:
            log.info("traces.exported_again")

    def _lose(self, reason: str, count: int) -> None:
        if count:
            self._tallies.count("trace_spans_lost_total", reason).number += count
