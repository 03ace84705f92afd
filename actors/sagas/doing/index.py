"""Which sagas there are, and where they stand: an inline projection, so it is never behind.

Give `SagaIndex()` to the store (`inline=[SagaIndex()]`). An append that changes a saga's status
writes its line; the many that do not (a step, a reply) do not touch it. Lines of sagas that are
over stay as long as their logs do (`SagaAdministration.purge`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from actors.persistence import (
    EVENTS,
    Document,
    Projection,
    ProjectionStore,
    ProjectionTx,
    StoredEvent,
    inline_collection,
)
from actors.persistence.words import owned_name
from actors.sagas.words.log import (
    CompensationStarted,
    SagaCompleted,
    SagaFailed,
    SagaMigrated,
    SagaResumed,
    SagasPurged,
    SagaStarted,
    SagaStuck,
)
from actors.sagas.words.words import SagaId, Status

# Lines are read in pages: a thousand sagas are ten looks.
PAGE = 100

_OPEN, _OVER = "open", "over"
# As events are stored under them, today or by an older version.
_UNREAD = frozenset(EVENTS.stored_as(SagaStarted, SagasPurged))


@dataclass(frozen=True, slots=True)
class SagaLine:
    """One saga in a list. `phase` is what its status was before it was stuck."""

    saga: str
    kind: str
    version: int
    fingerprint: str
    status: Status
    phase: Status
    started_at: datetime
    changed_at: datetime
    step: str = ""
    reason: str = ""
    parent: str = ""


class SagaIndex(Projection):
    """Writes the lines; the port that keeps its documents reads them (`lines`)."""

    name = "sagas"
    inline = True
    handles = (
        SagaStarted,
        CompensationStarted,
        SagaCompleted,
        SagaFailed,
        SagaStuck,
        SagaResumed,
        SagaMigrated,
        SagasPurged,
    )

    def reads(self, event: StoredEvent) -> Sequence[str]:
        """See `Projection.reads`."""
        if event.type in _UNREAD:
            return ()
        return (_key(_OPEN, SagaId.parse(event.stream_id)),)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """See `Projection.apply`."""
        fact = self.types.decode(event)
        if isinstance(fact, SagasPurged):
            for name in fact.sagas:
                tx.delete(_key(_OVER, SagaId.parse(name)))
            return
        saga = SagaId.parse(owned_name(event.tenant, event.stream_id))
        if isinstance(fact, SagaStarted):
            line = SagaLine(
                str(saga),
                fact.kind,
                fact.version,
                fact.fingerprint,
                Status.RUNNING,
                Status.RUNNING,
                fact.started_at,
                fact.started_at,
                parent=fact.parent,
            )
        else:
            kept = await tx.get(_key(_OPEN, saga)) or await tx.get(_key(_OVER, saga))
            if kept is None:
                return  # from before there was this index
            line = _after(_line(kept), fact, event.recorded_at)
        is_over = line.status in (Status.COMPLETED, Status.FAILED)
        tx.put(_key(_OVER if is_over else _OPEN, saga), msgspec.to_builtins(line))
        if not isinstance(fact, SagaStarted):  # which has no other line yet
            tx.delete(_key(_OPEN if is_over else _OVER, saga))


def _key(place: str, saga: SagaId) -> str:
    return f"{place}/{saga.kind}/{saga.name}"


def _line(document: Document) -> SagaLine:
    return msgspec.convert(document, SagaLine)


def _after(line: SagaLine, fact: object, at: datetime) -> SagaLine:
    match fact:
        case CompensationStarted():
            now, reason = Status.COMPENSATING, line.reason or fact.reason
            return replace(line, status=now, phase=now, changed_at=at, reason=reason)
        case SagaCompleted():
            now = Status.COMPLETED
            return replace(line, status=now, phase=now, changed_at=at)
        case SagaFailed():
            now = Status.FAILED
            return replace(line, status=now, phase=now, changed_at=at, reason=fact.reason)
        case SagaStuck():
            return replace(
                line, status=Status.STUCK, changed_at=at, step=fact.step, reason=fact.reason
            )
        case SagaResumed():
            return replace(line, status=line.phase, changed_at=at, step="")
        case SagaMigrated():
            return replace(line, version=fact.version, fingerprint=fact.fingerprint, changed_at=at)
    return line


async def has_open_line(store: ProjectionStore, saga: SagaId) -> bool:
    """Call this to ask whether a saga is listed as not over."""
    collection = inline_collection(SagaIndex(), tenant=saga.tenant)
    return await store.exists(collection, _key(_OPEN, saga))


async def tenants(store: ProjectionStore) -> AsyncGenerator[str, None]:
    """Call this for the tenants that have sagas, over or not."""
    collection, after = inline_collection(SagaIndex()), None
    while True:
        page = await store.tenants(collection, after=after, limit=PAGE)
        for tenant in page:
            yield tenant
        if len(page) < PAGE:
            return
        after = page[-1]


async def lines(
    store: ProjectionStore,
    *,
    kind: str | None = None,
    named: str = "",
    status: Status | None = None,
    older_than: timedelta | None = None,
    now: datetime | None = None,
    is_over: bool | None = None,
    tenant: str | None = None,
) -> AsyncGenerator[SagaLine, None]:
    """Call this for the lines of sagas, those that are not over first.

    With a `kind`, `named` asks for those whose names begin so.

    `is_over` asks for those that are, or are not; the others are not read then. `older_than` asks
    for those whose status did not change since; it needs `now`. With `tenant` they are that
    tenant's, else those of no tenant.
    """
    collection = inline_collection(SagaIndex(), tenant=tenant)
    if status is not None and is_over is None:
        is_over = status in (Status.COMPLETED, Status.FAILED)
    for place in (_OPEN, _OVER):
        if is_over not in (None, place == _OVER):
            continue
        prefix = f"{place}/" if kind is None else f"{place}/{kind}/{named}"
        after: str | None = None
        while True:
            page = await store.query(collection, prefix=prefix, after=after, limit=PAGE)
            for _, document in page:
                line = _line(document)
                is_wanted = status in (None, line.status)
                if older_than is not None and now is not None:
                    is_wanted = is_wanted and line.changed_at <= now - older_than
                if is_wanted:
                    yield line
            if len(page) < PAGE:
                break
            after = page[-1][0]
