"""What a person sees of sagas and may decide: the port behind a page or a command line.

Each decision needs a name and a reason, which the saga's own log keeps: it is the audit. And what
becomes of sagas that nobody asks for any more: `purge`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from actors.persistence import (
    EVENTS,
    DurableTimers,
    EventStore,
    OpenTimer,
    Outbox,
    ProjectionStore,
    StoredEvent,
    StreamId,
    WaitingMessage,
)
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_delay
from actors.sagas.doing.index import SagaLine, has_open_line, lines, tenants
from actors.sagas.doing.sagas import Sagas
from actors.sagas.graph import saga_graph
from actors.sagas.words.errors import UnknownSagaKind
from actors.sagas.words.log import SagasPurged
from actors.sagas.words.state import SagaState
from actors.sagas.words.words import Action, Intervene, SagaId, Status, short

# A customer who disputes a charge has mostly done so within this; a client that repeats its start
# has long given up.
ENDED_KEPT = timedelta(days=90)
# So many lines go with one append: their names are a few kilobytes of one event.
PURGED_AT_ONCE = 100
# Where it stands which sagas were removed: a stream of all kinds, in the order they went.
PURGED = StreamId("sagas_purged-all")

# Of one saga's messages that wait: it has one for each step in flight.
WAITING_MAX = 1000


@dataclass(frozen=True, slots=True)
class SagaView:
    """One saga whole: its state, its log, its open timers, its messages that were not sent."""

    state: SagaState
    log: Sequence[StoredEvent]
    timers: Sequence[OpenTimer]
    waiting: Sequence[WaitingMessage]


class SagaAdministration:
    """Lists, shows and changes sagas; whoever uses it has checked who is asking.

    Sagas that are over are kept for `kept`, and then removed by `purge_all`, where somebody calls
    it: a `Cleaner({"sagas": administration.purge_all})`.
    """

    def __init__(
        self,
        sagas: Sagas,
        store: EventStore,
        index: ProjectionStore,
        timers: DurableTimers,
        outbox: Outbox,
        *,
        kept: timedelta = ENDED_KEPT,
    ) -> None:
        check_delay("kept", kept)
        self._kept = kept
        self._sagas, self._store, self._index = sagas, store, index
        self._timers, self._outbox = timers, outbox

    def list(
        self,
        kind: str | None = None,
        status: Status | None = None,
        older_than: timedelta | None = None,
        *,
        tenant: str | None = None,
    ) -> AsyncGenerator[SagaLine, None]:
        """Call this for the lines of sagas; `older_than` is since their status last changed.

        Those of a `tenant`, or of none.
        """
        now, age = self._sagas.env.clock.now(), older_than
        return lines(self._index, kind=kind, status=status, older_than=age, now=now, tenant=tenant)

    async def show(self, saga: SagaId) -> SagaView:
        """Call this for everything that is known of a saga. Raises `UnknownSaga`."""
        state = await self._sagas.query(saga)
        log = [one async for one in self._log_of(saga.tenant).load(saga.stream)]
        timers = await self._timers.open_timers(address=str(saga))
        waiting = await self._outbox.waiting(limit=WAITING_MAX)
        mine = [one for one in waiting if one.key.partition(":")[0] == str(saga)]
        return SagaView(state, log, timers, mine)

    async def graph(self, saga: SagaId) -> str:
        """Call this for a saga as Mermaid, with what happened. Raises as `show`."""
        view = await self.show(saga)
        found = self._sagas.kinds.versions(saga.kind).get(view.state.version)
        if found is None:
            raise UnknownSagaKind(saga.kind, view.state.version)
        return saga_graph(found, view.log)

    async def retry_step(self, saga: SagaId, by: str, reason: str) -> SagaState:
        """Call this to let a stuck saga go on where it is stuck.

        This and the three below raise `InvalidSagaTransition` where the status does not allow it,
        `UnknownSaga`, and `ValueError` without a name or a reason; nothing was done then.
        """
        return await self._decided(saga, "retry", by, reason)

    async def skip_step(self, saga: SagaId, by: str, reason: str) -> SagaState:
        """Call this to let a stuck saga go on without the step or undo it is stuck at."""
        return await self._decided(saga, "skip", by, reason)

    async def force_compensate(self, saga: SagaId, by: str, reason: str) -> SagaState:
        """Call this to have what a running saga has done undone, also when it is stuck."""
        return await self._decided(saga, "compensate", by, reason)

    async def mark_failed(self, saga: SagaId, by: str, reason: str) -> SagaState:
        """Call this to give a stuck saga up: what it has done stays as it is."""
        return await self._decided(saga, "fail", by, reason)

    async def purge(
        self, limit: int = 1000, *, tenant: str | None = None, kind: str | None = None
    ) -> int:
        """Call this to remove sagas that ended long ago, at most `limit`; returns how many.

        Those of all kinds, or of one.

        A nested one goes when its parent is over, which might still ask it to undo. Streams are
        tombstoned first, so a name is never taken twice (`StreamGone`); then the lines go. Cut in
        between, the next call does the rest.
        """
        check_limit(limit)
        gone: list[str] = []
        store = self._log_of(tenant)
        async with aclosing(self._ended(tenant, kind)) as ended:
            async for line in ended:
                parent = line.parent
                if parent and await has_open_line(self._index, SagaId.parse(parent)):
                    continue
                await store.tombstone(SagaId.parse(line.saga).stream)
                gone.append(line.saga)
                if len(gone) == limit:
                    break
        for at in range(0, len(gone), PURGED_AT_ONCE):
            names = tuple(gone[at : at + PURGED_AT_ONCE])
            new_id = self._sagas.env.ids.new_id()
            await store.append(PURGED, [EVENTS.encode(SagasPurged(names), event_id=new_id)])
        return len(gone)

    async def purge_all(self, limit: int = 1000) -> int:
        """Call this as `purge`, for those of no tenant and of each one: at most `limit` together.

        For a `Cleaner`, which calls it again until nothing is left.
        """
        gone = await self.purge(limit)
        async with aclosing(tenants(self._index)) as owners:
            async for tenant in owners:
                if gone >= limit:
                    break
                gone += await self.purge(limit - gone, tenant=tenant)
        return gone

    def _ended(self, tenant: str | None, kind: str | None) -> AsyncGenerator[SagaLine, None]:
        now, kept = self._sagas.env.clock.now(), self._kept
        return lines(self._index, kind=kind, is_over=True, older_than=kept, now=now, tenant=tenant)

    def _log_of(self, tenant: str | None) -> EventStore:
        return self._store if tenant is None else self._store.for_tenant(tenant)

    async def _decided(self, saga: SagaId, action: Action, by: str, reason: str) -> SagaState:
        await self._sagas.order(saga, Intervene(action, short(by), short(reason)), f"{action}")
        return await self._sagas.query(saga)
