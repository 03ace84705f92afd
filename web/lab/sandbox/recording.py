"""What visitors did in the lab, as events: who, what, when, and what came of it (LAB-6).

Rule 1: an action waits for nothing here: it is noted, and stored by the recorder a moment later.
Rule 2: what is noted outlives the recorder's incarnations, and waits for a store that is away; of
more than fit the oldest are lost, and counted.
Rule 3: each sandbox has a stream of its own, which ends with it (LAB-94): `lab-<name>`. What a
process that was killed left is found by its age.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import trio

from actors.persistence import (
    EVENTS,
    Appended,
    AppendRequest,
    EventStore,
    NewEvent,
    StoreError,
    StreamId,
    event,
)
from actors.reducers import Ids
from actors.runtime import Actor, Exit, Log, current_context, message, tell_past
from actors.timeline import Kind, Timeline, Values

CATEGORY = "lab"
# Two hundred visitors at their quota for twenty seconds.
WAITING_MAX = 2000
# So many streams wait for a store that is away to be ended; `end_left_streams` ends older ones.
OVER_MAX = 2000
# Of one sandbox in one append; a visitor's whole quota of a minute is less.
AT_ONCE_MAX = 500
# A store that is away: how soon it is asked again, at first and at last.
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
# At a stop, behind the server: what is noted by then is stored, unless the store is away.
FLUSH_S_MAX = 1.0
# Far longer than any sandbox lives after its last action: what is older has no owner any more.
LEFT_AFTER = timedelta(days=1)
PAGE = 100

_log = Log("web.lab")


@event(name="LabActed")
@dataclass(frozen=True, slots=True)
class LabActed:
    """Somebody wanted something done to an actor of the lab.

    `outcome` is `done`, or why not: `not_possible`, `unknown`, `over_quota`. `place` is where the
    actor stands, a word of ours; `user` is the member who was signed in. `at` is when.
    """

    session: UUID
    user: UUID | None
    action: str
    place: str
    count: int
    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody wants done: an action, where, and of a flood how much."""

    action: str
    place: str
    count: int


@dataclass(frozen=True, slots=True)
class _Noted:
    stream: StreamId
    event: NewEvent
    request_id: str | None
    values: Values


class Ledger:
    """Where actions are noted until they are stored. One for a process."""

    def __init__(self, ids: Ids, now: Callable[[], datetime], wake: Callable[[], None]) -> None:
        self._ids, self._now, self._wake = ids, now, wake
        self.waiting: deque[_Noted] = deque()
        # Streams that were written, and those of them whose sandbox is over.
        self.written: set[StreamId] = set()
        self.over: dict[StreamId, None] = {}
        self.lost = 0

    def note(
        self,
        record: str,
        session: UUID,
        user: UUID | None,
        deed: Deed,
        outcome: str,
    ) -> None:
        """Call this when an action was carried out or refused, of the sandbox with this record.

        Returns at once, and never fails.
        """
        what = deed.action, deed.place, deed.count
        acted = LabActed(session, user, *what, outcome, self._now())
        context = current_context()
        self.waiting.append(
            _Noted(
                StreamId(f"{CATEGORY}-{record}"),
                EVENTS.encode(acted, event_id=self._ids.new_id()),
                None if context is None else context.correlation_id,
                {"action": deed.action, "place": deed.place, "outcome": outcome},
            )
        )
        if len(self.waiting) > WAITING_MAX:
            self.waiting.popleft()
            self.lost += 1
        self._wake()

    def end(self, record: str) -> None:
        """Call this when a sandbox is over: its stream ends with it."""
        self.over[StreamId(f"{CATEGORY}-{record}")] = None
        if len(self.over) > OVER_MAX:
            self._let_go(next(iter(self.over)))
        self._wake()

    def _let_go(self, stream: StreamId) -> None:
        del self.over[stream]
        self.written.discard(stream)


@message
class Write:
    """Something is to be stored."""


class Recorder(Actor[Write]):
    """Stores what was noted, a moment later and many together."""

    def __init__(self, ledger: Ledger, store: EventStore, timeline: Timeline) -> None:
        self._ledger, self._store, self._timeline = ledger, store, timeline
        self._retry_s = RETRY_FIRST_S

    def on_start(self) -> None:
        """Go on with what an incarnation before has left."""
        self.after(0.0, Write(), key="write")

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Store what was noted until now."""
        with trio.move_on_after(FLUSH_S_MAX):
            await self._write()

    async def on_write(self, _: Write) -> None:
        """Store all of it; look again later when the store is away."""
        if await self._write():
            self._retry_s = RETRY_FIRST_S
        else:
            self.after(self._retry_s, Write(), key="write")
            self._retry_s = min(RETRY_LAST_S, 2 * self._retry_s)

    async def _write(self) -> bool:
        ledger = self._ledger
        while ledger.waiting:
            taken = [ledger.waiting[at] for at in range(min(AT_ONCE_MAX, len(ledger.waiting)))]
            streams: dict[StreamId, list[_Noted]] = {}
            for noted in taken:
                streams.setdefault(noted.stream, []).append(noted)
            requests = [
                AppendRequest(stream, [noted.event for noted in of_stream])
                for stream, of_stream in streams.items()
            ]
            began = trio.current_time()
            try:
                answers = await self._store.append_batch(requests)
            except StoreError as error:
                # Perhaps it is stored: the ids are the same at the next try.
                _log.warning("lab.recording_waits", code=error.code, waiting=len(ledger.waiting))
                return False
            causes = [noted.event.metadata for noted in taken]
            tell_past("store.batch", causes, began, events=len(taken))
            self._told(list(streams.values()), answers)
            stored = {noted.event.event_id for noted in taken}
            # Others were noted meanwhile, behind these, and may have pushed some of these out.
            while ledger.waiting and ledger.waiting[0].event.event_id in stored:
                ledger.waiting.popleft()
        return await self._end_streams()

    def _told(
        self, groups: Sequence[Sequence[_Noted]], answers: Sequence[Appended | StoreError]
    ) -> None:
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, StoreError):
                _log.warning("lab.not_recorded", code=answer.code, events=len(group))
                continue
            self._ledger.written.add(group[0].stream)
            for noted in group:
                self._timeline.note(noted.request_id, Kind.LAB_ACTION, noted.values)

    async def _end_streams(self) -> bool:
        ledger = self._ledger
        while ledger.over:
            stream = next(iter(ledger.over))
            if stream in ledger.written:
                try:
                    await self._store.tombstone(stream)
                except StoreError as error:
                    _log.warning("lab.recording_waits", code=error.code, streams=len(ledger.over))
                    return False
            # Perhaps it was let go of meanwhile, because too many others came.
            ledger.over.pop(stream, None)
            ledger.written.discard(stream)
        return True


async def end_left_streams(
    store: EventStore, before: datetime, limit: int, category: str = CATEGORY
) -> int:
    """Call this now and then for streams of sandboxes whose process was killed; how many ended.

    Those of another `category` are of what lasts no longer than a sandbox.

    Raises `StoreUnavailable`.
    """
    ended, after = 0, None
    while ended < limit:
        found = await store.list_streams(category=category, after=after, limit=PAGE)
        for stream in found:
            if stream.last_recorded_at < before and ended < limit:
                await store.tombstone(StreamId(stream.stream_id))
                ended += 1
        if len(found) < PAGE:
            break
        after = found[-1].stream_id
    return ended
