"""Processes that take seats under conditions over tags, until each has had its rounds.

`python -m tests.storage.tag_race_program URL SEED PROCESSES ROUNDS`; forks, as a new process for
each would load everything anew. A line for each that is there: `took EVENT_ID`; one for each that
somebody else was first for: `lost`; `pid N` at each beginning, and `over` at the end of all.
"""

import os
import random
import sys
from uuid import UUID

import trio

from actors.persistence import (
    Condition,
    ConditionFailed,
    NewEvent,
    StoreUnavailable,
    StreamId,
    Tagged,
)
from storage.postgres import PostgresEventStore, open_database
from tests.patience import PATIENCE_S, PATIENT_POOL

COURSES, STUDENTS = 4, 8
SEATS, COURSES_EACH = 3, 2
_TASKS, _TRIES = 3, 12


def _tell(words: str) -> None:
    os.write(1, f"{words}\n".encode())


async def _take(store: PostgresEventStore, course: str, student: str, rng: random.Random) -> None:
    query = [Tagged((course,), ("Joined",)), Tagged((student,), ("Joined",))]
    event_id = UUID(int=rng.getrandbits(128), version=4)
    event = NewEvent(event_id=event_id, type="Joined", data=b"{}", tags=(course, student))
    while True:
        # A call that is cut short is sent again with its id: it is there once, or not at all.
        with trio.move_on_after(rng.random() * 0.02 if rng.random() < 0.2 else PATIENCE_S):
            try:
                page = await store.read_tagged(query)
                is_mine = any(one.event_id == event_id for one in page.events)
                is_full = sum(course in one.tags for one in page.events) >= SEATS
                has_all = sum(student in one.tags for one in page.events) >= COURSES_EACH
                if not is_mine and (is_full or has_all):
                    return
                await store.append(
                    StreamId(f"joined-{event_id}"), [event], condition=Condition(query, page.next)
                )
                _tell(f"took {event_id}")
                return
            except ConditionFailed:
                _tell("lost")
            except StoreUnavailable:
                await trio.sleep(0.02)


async def _run(url: str, seed: int, rounds: int) -> None:
    async with open_database(url, part="race", settings=PATIENT_POOL) as database:
        store = PostgresEventStore(database)

        async def race(round_: int, rng: random.Random) -> None:
            for _ in range(_TRIES):
                course, student = rng.randrange(COURSES), rng.randrange(STUDENTS)
                await _take(store, f"course-{round_}-{course}", f"student-{round_}-{student}", rng)

        for round_ in range(rounds):
            async with trio.open_nursery() as nursery:
                for task in range(_TASKS):
                    nursery.start_soon(race, round_, random.Random(f"{seed} {round_} {task}"))


def _fork(url: str, seed: int, processes: int, rounds: int) -> None:
    for number in range(processes):
        if (pid := os.fork()) == 0:
            try:
                trio.run(_run, url, seed + number, rounds)
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        _tell(f"pid {pid}")
    codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(processes)]
    _tell(f"over {' '.join(map(str, sorted(codes)))}")


if __name__ == "__main__":
    _fork(sys.argv[1], *map(int, sys.argv[2:]))
