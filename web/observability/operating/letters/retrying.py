"""Many dead letters handed back, oldest first, at a pace; stopped when they only fail (RES-12).

Rule 1: ten a second, so that what has just come back is not overrun.
Rule 2: five in a row that failed end it: the cause is not mended, and the rest stays as it is. One
        has failed that was tried again and failed once, long before it is a dead letter again; and
        one that could not be handed back because the store or the bus is away.
Rule 3: one letter is one transaction: however a run ends, each is handed back or as it was.
Rule 4: what only its own program can try again is left as it is, and is no failure; neither is one
        that somebody else settled meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

import trio

from actors.persistence import (
    DeadLetterStatus,
    InvalidTransition,
    StoredDeadLetter,
    StoreError,
    StoreMisuse,
    UnknownDeadLetter,
)
from actors.persistence.beside_log.dead_letters import PROJECTION, words_of
from actors.persistence.words import READ_LIMIT_MAX
from actors.runtime import Actor, Log, message
from web.observability.operating.letters.handing import BUS, LetterDesk

PER_SECOND: Final = 10
FAILED_IN_A_ROW_MAX: Final = 5
# What one run takes: an hour and a half at that pace is more than anybody watches.
RUN_MAX: Final = 50_000
# Of a letter's payload a look takes up to 256 KiB.
PAGE: Final = 50
# How often is looked what became of them, and of how many: whoever tries them again waits for half
# a minute at most for another side that does not answer.
LOOK_EVERY: Final = PER_SECOND
LOOKED_AT: Final = 30 * PER_SECOND
# So long the last ones have to be tried, where somebody does.
SETTLE_S: Final = 5.0

log = Log("web.letters")

# What a letter is known by when it comes again.
Key: TypeAlias = tuple[str, str, str]


class Ended(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILING = "failing"
    STOPPED = "stopped"


@dataclass
class Progress:
    """How far a run is; `ended` is None while it goes on."""

    by: str
    kind: str | None
    source: str | None
    total: int = 0
    handed_back: int = 0
    refused: int = 0
    # Handed back, and failed again.
    came_back: int = 0
    # For their own program to try again; none of `total`.
    left: int = 0
    last_error: str = ""
    ended: Ended | None = None

    @property
    def done(self) -> int:
        """Call this for how many were taken in hand, however it ended."""
        return self.handed_back + self.refused


@dataclass(slots=True)
class _Tried:
    id: int
    key: Key
    retry_count: int
    # None until it is known.
    has_failed: bool | None = None

    @property
    def is_awaited(self) -> bool:
        """Call this for whether it will be known without a new letter: not of a record."""
        return self.has_failed is None and self.key[0] != BUS


def _key(stored: StoredDeadLetter) -> Key:
    return (stored.letter.kind, stored.letter.source, stored.letter.message_key)


@dataclass
class RetryRun:
    """One run over the pending letters of a kind and a source; `run` it once."""

    desk: LetterDesk
    progress: Progress
    limit: int = RUN_MAX
    told: Callable[[Progress], None] = lambda progress: None
    refused: Callable[[str], None] = lambda words: None
    _tried: list[_Tried] = field(default_factory=list)
    # New letters are looked for behind this one.
    _newest: int = 0
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def stop(self) -> None:
        """Call this to end it before the next letter; what was handed back is."""
        self._scope.cancel()

    async def run(self) -> Progress:
        """Hand them back; cancelled or stopped it says so, and leaves none in hand."""
        progress = self.progress
        try:
            with self._scope:
                progress.ended = await self._run()
        finally:
            if progress.ended is None:
                progress.ended = Ended.STOPPED
            self.told(progress)
        return progress

    async def _run(self) -> Ended:
        waiting = await self._found()
        self.progress.total = len(waiting)
        began = trio.current_time()
        for n, one in enumerate(waiting, 1):
            await self._hand_back(one)
            if n % LOOK_EVERY == 0 or n == len(waiting):
                await self._look()
            self.told(self.progress)
            if self._are_failing():
                return Ended.FAILING
            if n < len(waiting):
                await trio.sleep_until(began + n / PER_SECOND)
        return await self._settled()

    async def _settled(self) -> Ended:
        """The last ones were handed back a moment ago: see what becomes of them."""
        until = trio.current_time() + SETTLE_S
        while trio.current_time() < until and any(
            one.is_awaited for one in self._tried[-LOOKED_AT:]
        ):
            await trio.sleep(LOOK_EVERY / PER_SECOND)
            await self._look()
            self.told(self.progress)
            if self._are_failing():
                return Ended.FAILING
        return Ended.DONE

    async def _found(self) -> list[_Tried]:
        """Those that are pending now: one that comes back while it runs is not taken again."""
        found: list[_Tried] = []
        after: int | None = None
        while True:
            page = await self._pending(after)
            for one in page:
                if not self.desk.is_served(one):
                    self.progress.left += 1
                elif len(found) < self.limit:
                    found.append(_Tried(one.id, _key(one), one.retry_count))
            if len(page) < PAGE or len(found) >= self.limit:
                break
            after = page[-1].id
        self._newest = found[-1].id if found else 0
        return found

    async def _pending(self, after: int | None) -> list[StoredDeadLetter]:
        progress = self.progress
        page = await self.desk.letters.list(
            status=DeadLetterStatus.PENDING,
            kind=progress.kind,
            source=progress.source,
            limit=min(PAGE, READ_LIMIT_MAX),
            after=after,
        )
        return list(page)

    async def _hand_back(self, one: _Tried) -> None:
        progress = self.progress
        try:
            await self.desk.hand_back(one.id, progress.by)
            progress.handed_back += 1
        except StoreError as error:
            # Settled by somebody else, for its own program to repeat, or the store is away.
            progress.refused += 1
            progress.last_error = words_of(error)
            self.refused(str(error))
            # Nothing was tried where somebody was faster, or it speaks of what is gone. What a bus
            # refuses it was given.
            is_settled = isinstance(error, InvalidTransition | UnknownDeadLetter)
            is_tried = one.key[0] == BUS or not isinstance(error, StoreMisuse)
            one.has_failed = is_tried and not is_settled
        self._tried.append(one)

    async def _look(self) -> None:
        """See which of the last ones have failed again."""
        recent = {one.id: one for one in self._tried[-LOOKED_AT:] if one.has_failed is None}
        keys = {one.key: one for one in recent.values()}
        letters = self.desk.letters
        try:
            for id_, error in (await letters.outcomes(list(recent))).items():
                self._note(recent[id_], error)
            # What is given up at once is a new letter by now.
            while page := await self._pending(self._newest):
                for stored in page:
                    if (tried := keys.get(_key(stored))) is not None:
                        self._note(tried, stored.letter.error_message)
                if len(page) < PAGE:
                    break
                self._newest = page[-1].id
            # A parked event keeps its letter, which counts.
            for tried in [one for one in recent.values() if one.key[0] == PROJECTION]:
                stored = await letters.get(tried.id)
                if tried.has_failed is None and stored.retry_count > tried.retry_count:
                    self._note(tried, stored.letter.error_message)
        except StoreError as error:
            self.progress.last_error = words_of(error)

    def _note(self, tried: _Tried, error: str) -> None:
        if tried.has_failed is None and error:
            self.progress.came_back += 1
            self.progress.last_error = error
        tried.has_failed = bool(tried.has_failed or error)

    def _are_failing(self) -> bool:
        in_a_row = 0
        for one in self._tried[-LOOKED_AT:]:
            in_a_row = in_a_row + 1 if one.has_failed else 0
            if in_a_row >= FAILED_IN_A_ROW_MAX:
                return True
        return False


# -- beside a site -----------------------------------------------------------------------------


@message
class LookAtRetries:
    """There is a run to begin."""


class Retries:
    """The one run that a process has, or had last; kept while its actor is restarted."""

    def __init__(self, desk: LetterDesk, wake: Callable[[], None]) -> None:
        self.desk, self._wake = desk, wake
        self.current: RetryRun | None = None

    @property
    def progress(self) -> Progress | None:
        """Call this for how far it is; None when there was none."""
        return None if self.current is None else self.current.progress

    def begin(self, by: str, kind: str | None, source: str | None) -> bool:
        """Call this to have one run; False while another does."""
        if self.progress is not None and self.progress.ended is None:
            return False
        self.current = RetryRun(self.desk, Progress(by, kind, source))
        self._wake()
        return True

    def stop(self) -> bool:
        """Call this to end it before its next letter; False when none runs."""
        if self.current is None or self.current.progress.ended is not None:
            return False
        self.current.stop()
        return True


class RetriesActor(Actor[LookAtRetries]):
    """Runs what `Retries` holds, one at a time; a restart begins a run that was not begun."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._begun: RetryRun | None = None

    async def on_start(self) -> None:
        """A run may have been asked for while nobody was there."""
        self.on_look_at_retries(LookAtRetries())

    def on_look_at_retries(self, message: LookAtRetries) -> None:
        """Begin it, once."""
        run = self._retries.current
        if run is None or run is self._begun or run.progress.ended is not None:
            return
        self._begun = run
        self.start_soon(self._run, run)

    async def _run(self, run: RetryRun) -> None:
        progress = run.progress
        try:
            await run.run()
        except StoreError as error:
            progress.last_error = words_of(error)
        log.info(
            "letters.retried",
            by=progress.by,
            kind=progress.kind or "all",
            total=progress.total,
            handed_back=progress.handed_back,
            refused=progress.refused,
            came_back=progress.came_back,
            left=progress.left,
            ended=progress.ended,
        )
