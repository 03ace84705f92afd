"""What operators are told of a store: counted as it works, and looked up when a scrape comes.

`StoreTallies` counts appends and reads where they are made; `read_figures` asks for what only the
tables know. Both go on by whoever scrapes (`web/observability/metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from actors.persistence import AppendRequest, ConcurrencyConflict, ConditionFailed, StreamId
from actors.runtime.words.tallies import SIZES, Histogram, Tallies
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.health import OLDEST, read_archive
from storage.postgres.connecting.session import Connection

# A look that takes longer is given up: the figures are absent then, and nothing waits for them.
LOOK_S_MAX: Final = 2.0
# One for each kind of saga, and each projection: code says how many there are.
ROWS_MAX: Final = 100

_OUTBOX = """
SELECT kind, count(*), extract(epoch FROM clock_timestamp() - min(created_at))
FROM outbox WHERE sent_at IS NULL AND NOT is_dead GROUP BY kind
"""
_LETTERS = "SELECT status, count(*) FROM dead_letters GROUP BY status"
_PARKED = f"""
SELECT source, count(*) FROM dead_letters
WHERE kind = 'projection' AND status IN ('pending', 'processing') GROUP BY source LIMIT {ROWS_MAX}
"""  # noqa: S608  (our own number)
# Lines of `SagaIndex`, of every tenant and version, that are not over.
_SAGAS = rf"""
SELECT document->>'kind', document->>'status' = 'stuck', count(*) FROM documents
WHERE (collection LIKE 'sagas\_\_g%' OR collection LIKE '@%/sagas\_\_g%') AND key LIKE 'open/%'
GROUP BY 1, 2 LIMIT {ROWS_MAX}
"""  # noqa: S608  (our own number)
_SINGLE = """
SELECT (SELECT count(*) FROM timers
        WHERE fired_at IS NULL AND cancelled_at IS NULL AND given_up_at IS NULL) AS timers,
    (SELECT count(*) FROM sign_ins) AS sign_ins,
    (SELECT count(*) FROM chat_moderation_queue WHERE status = 'pending') AS queued,
    coalesce((SELECT position FROM events ORDER BY txid DESC, position DESC LIMIT 1), 0) AS head
"""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """How the tables are: what waits, how long the oldest does, and of which kind it is."""

    outbox: Mapping[str, int] = field(default_factory=dict)
    outbox_oldest_s: float = 0.0
    letters: Mapping[str, int] = field(default_factory=dict)
    parked: Mapping[str, int] = field(default_factory=dict)
    sagas_running: Mapping[str, int] = field(default_factory=dict)
    sagas_stuck: Mapping[str, int] = field(default_factory=dict)
    timers: int = 0
    sign_ins: int = 0
    moderation_queue: int = 0
    head: int = 0
    oldest_transaction_s: float = 0.0
    archive_waiting_s: float = 0.0


async def read_figures(database: Database) -> StoreFigures:
    """Call this for the figures; 2 s at most. Raises `StoreError`."""
    return await database.run(_read, timeout_s=LOOK_S_MAX)


async def _read(connection: Connection) -> StoreFigures:
    outbox = await connection.fetch(_OUTBOX)
    letters = await connection.fetch(_LETTERS)
    parked = await connection.fetch(_PARKED)
    sagas = await connection.fetch(_SAGAS)
    single = await connection.fetchrow(_SINGLE)
    assert single is not None, "a row without a table"
    oldest = await connection.fetchrow(OLDEST)
    archive = await read_archive(connection)
    running: dict[str, int] = {}
    stuck: dict[str, int] = {}
    for kind, is_stuck, number in sagas:
        (stuck if is_stuck else running)[kind] = number
    return StoreFigures(
        outbox={kind: number for kind, number, _ in outbox},
        outbox_oldest_s=max((float(age or 0) for _, _, age in outbox), default=0.0),
        letters=dict(map(tuple, letters)),
        parked=dict(map(tuple, parked)),
        sagas_running=running,
        sagas_stuck=stuck,
        timers=single["timers"],
        sign_ins=single["sign_ins"],
        moderation_queue=single["queued"],
        head=single["head"],
        oldest_transaction_s=0.0 if oldest is None else float(oldest["age_s"]),
        archive_waiting_s=archive.waiting_s,
    )


class StoreTallies:
    """Counts what is asked of an event store. A category is a kind of stream, named by code."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies
        self._took = {
            result: tallies.histogram("store_append_seconds", result)
            for result in ("ok", "conflict", "error")
        }
        self._sizes: dict[str, Histogram] = {}

    def appended(
        self, requests: Sequence[AppendRequest], began: float, error: Exception | None = None
    ) -> None:
        """Call this once an append is over, begun at `began` by `perf_counter`."""
        result = _result_of(error)
        self._took[result].note(perf_counter() - began)
        for request in requests:
            stream = request.stream_id
            category = (stream if type(stream) is StreamId else StreamId(stream)).category
            self._tallies.add("store_appends_total", category, result)
            if result == "conflict":
                self._tallies.add("store_conflicts_total", category)
            elif result == "ok":
                self._size_of(category).note(len(request.events))

    def posted(self, category: str, began: float, *, count: int, is_stored: bool) -> None:
        """Call this for events that a statement of its own has stored, one each."""
        self._took["ok" if is_stored else "error"].note(perf_counter() - began)
        result = "ok" if is_stored else "error"
        self._tallies.count("store_appends_total", category, result).number += count
        for _ in range(count if is_stored else 0):
            self._size_of(category).note(1)

    def loaded(self, category: str, count: int, began: float) -> None:
        """Call this with each page of a stream that was read."""
        self._tallies.count("store_loaded_events_total", category).number += count
        self._tallies.histogram("store_load_seconds", category).note(perf_counter() - began)

    def _size_of(self, category: str) -> Histogram:
        found = self._sizes.get(category)
        if found is None:
            found = self._tallies.histogram("store_append_events", category, bounds=SIZES)
            self._sizes[category] = found
        return found


def _result_of(error: Exception | None) -> str:
    if error is None:
        return "ok"
    return "conflict" if isinstance(error, ConcurrencyConflict | ConditionFailed) else "error"
