"""A purse in a process of its own, which stops for ever at a given place; its test kills it.

    python -m tests.actors.persistence.purse_program URL before|behind

It prints `seen CLASS` for an action that a subscriber was shown, `told N` for a reply, and `here`
at its place: before the third append, or behind its commit.
"""

from __future__ import annotations

import sys
import time
from typing import cast

import trio

from actors.persistence import Appended, AppendRequest, EventStore
from actors.reducers import Environment, start_reducer
from actors.runtime import open_actors
from storage.postgres import PostgresEventStore, open_database
from tests.actors.persistence.test_event_sourced_reducer import TYPES, Pay, PurseActor
from tests.patience import PATIENT_POOL
from web.wiring.environment import SystemClock, SystemIds

APPENDS = 3


class Stopping:
    """A store that says where it is at its third append, and then never goes on."""

    tenant = None

    def __init__(self, store: EventStore, place: str) -> None:
        self._store, self._place = store, place
        self._left = APPENDS
        self.load = store.load

    async def append_request(self, request: AppendRequest) -> Appended:
        """Append, or stop with the whole process."""
        self._left -= 1
        if not self._left and self._place == "before":
            _stand()
        appended = await self._store.append_request(request)
        if not self._left:
            _stand()
        return appended


def _stand() -> None:
    print("here", flush=True)
    # The whole process: nobody in it can be told anything any more.
    time.sleep(3600)


async def main(url: str, place: str) -> None:
    """Pay three times."""
    async with open_database(url, settings=PATIENT_POOL) as database, open_actors() as system:
        env = Environment(SystemClock(), SystemIds())
        store = cast("EventStore", Stopping(PostgresEventStore(database, event_types=TYPES), place))
        ref = await start_reducer(system, PurseActor, env, "1", store)

        async with ref.subscribe(100) as applied:
            for cents in range(1, APPENDS + 1):
                told = await ref.ask(Pay(cents))
                print("told", told, flush=True)
                for _ in range(2):
                    one = await anext(applied)
                    print("seen", type(getattr(one, "action", None)).__name__, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
