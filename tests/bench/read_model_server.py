"""A site of one's own for the benchmarks: a route that reads a read model, and one that does not.

    python -m tests.bench.read_model_server

Where its documents are the environment says, as of any site. Prints the port; the end of the input
ends the process.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from uuid import uuid4

import trio
from quart import Blueprint, Response

from actors.persistence import (
    EVENTS,
    Projection,
    ProjectionRunner,
    ProjectionTx,
    StoredEvent,
    StreamId,
    event,
    live_collection,
    wait_until,
)
from supervision import ChildSpec
from web.api import ok
from web.app import OwnSite, SitePlan, open_site
from web.settings import read_settings

NAME = "bench_parcels"
PARCEL = {"id": "parcel-1", "to": "Ann", "weight_g": 1200, "status": "on its way", "stops": [1, 2]}


@event(name="Bench.ParcelSent")
class ParcelSent:
    to: str


class Parcels(Projection):
    """One document, as an order or a parcel is."""

    name = NAME
    handles = (ParcelSent,)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        tx.put(event.stream_id, PARCEL)


def tree(site: OwnSite) -> list[ChildSpec]:
    """What fills it."""
    make = partial(ProjectionRunner, Parcels(), site.store, site.beside.projections)
    return [ChildSpec("parcels", make)]


def pages(site: OwnSite) -> Blueprint:
    """The two routes; both answer the same."""
    routes, store = Blueprint("all", __name__), site.beside.projections

    @routes.get("/api/bare")
    async def bare() -> Response:
        return ok(PARCEL)

    @routes.get("/api/parcels/<key>")
    async def parcel(key: str) -> Response:
        collection = await live_collection(store, NAME)
        assert collection is not None
        return ok(await store.get(collection, key))

    return routes


async def main() -> None:
    """Serve until the input ends."""
    patient = {"overload_late_ms": 60_000, "overload_after_ms": 60_000}
    settings = replace(read_settings(os.environ), port=0, **patient)  # type: ignore[arg-type]
    async with open_site(SitePlan(tree=tree, pages=pages), settings) as site:
        new = EVENTS.encode(ParcelSent("Ann"), event_id=uuid4())
        sent = await site.store.append(StreamId("parcel-1"), [new])
        await wait_until(site.beside.projections, NAME, sent.cursor, timeout_s=60)
        print(site.port, flush=True)
        # A line for each request is the same for both, and nobody reads them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main)
