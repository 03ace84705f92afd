"""The peer of the store: `eventsourcing` with its PostgreSQL recorder, by its own defaults.

It is called as its applications call it, from threads: the recorder of an application, whose
events have a place in one order. Without the library the figures say so.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from tests.bench.spending import new_id

if TYPE_CHECKING:
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder

TOPIC = "bench:Spent"


def is_installed() -> bool:
    """Call this to ask whether the peer can be measured."""
    return all(map(importlib.util.find_spec, ("eventsourcing", "psycopg", "psycopg_pool")))


@dataclass
class Peer:
    """A recorder with a table of its own in a database of the server that ours is on."""

    sockets: Path
    database: str
    data: bytes
    connections: int

    def __post_init__(self) -> None:
        # Here, so that the benchmarks can be listed without the library.
        from eventsourcing.postgres import (
            PostgresApplicationRecorder,
            PostgresDatastore,
        )

        self._store = PostgresDatastore(
            self.database, str(self.sockets), 5432, "postgres", "", pool_size=self.connections
        )
        self.recorder: PostgresApplicationRecorder = PostgresApplicationRecorder(self._store)
        self.recorder.create_table()

    def close(self) -> None:
        """Call this to give its connections back."""
        self._store.close()

    def events(self, stream: UUID, count: int, first: int = 1) -> list[StoredEvent]:
        """Call this for new events of one stream."""
        from eventsourcing.persistence import StoredEvent

        return [
            StoredEvent(stream, version, TOPIC, self.data)
            for version in range(first, first + count)
        ]

    def fill(self, events: int, a_stream: int, at_once: int, writers: int) -> float:
        """Call this to append so many events, in the streams given; seconds."""

        def write(batches: int) -> None:
            for _ in range(batches):
                batch = [
                    event
                    for _ in range(at_once // a_stream)
                    for event in self.events(new_id(), a_stream)
                ]
                self.recorder.insert_events(batch)

        return _timed(write, [(events // at_once // writers,)] * writers)

    def appends(self, seconds: float, writers: int) -> float:
        """Call this for the appends of one event a second, by so many threads."""
        counts = [0] * writers
        deadline = time.perf_counter() + seconds

        def write(number: int) -> None:
            stream = new_id()
            while time.perf_counter() < deadline:
                counts[number] += 1
                self.recorder.insert_events(self.events(stream, 1, counts[number]))

        took = _timed(write, [(number,) for number in range(writers)])
        return sum(counts) / took

    def make(self, stream: UUID, events: int, at_once: int) -> None:
        """Call this to append so many events to one stream, so many in each transaction."""
        for first in range(1, events, at_once):
            self.recorder.insert_events(self.events(stream, at_once, first))

    def load(self, stream: UUID) -> float:
        """Call this for the events of a stream that are read a second."""
        began = time.perf_counter()
        found = self.recorder.select_events(stream)
        return len(found) / (time.perf_counter() - began)

    def catch_up(self, events: int, page: int) -> list[float]:
        """Call this for the events of the whole log read a second, in thirds."""
        rates: list[float] = []
        after = 0
        for _ in range(3):
            began, count = time.perf_counter(), 0
            while count < events // 3:
                found = self.recorder.select_notifications(after, page, inclusive_of_start=False)
                count += len(found)
                after = int(found[-1].id)
            rates.append(count / (time.perf_counter() - began))
        return rates


def _timed(write: object, arguments: Sequence[tuple[int]]) -> float:
    assert callable(write)
    threads = [threading.Thread(target=write, args=one) for one in arguments]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
