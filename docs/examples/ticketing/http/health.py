"""What `/ready` says of ticketing beside what every site has of its store: each truly asked."""

from __future__ import annotations

from actors.persistence import Checkpoint, GenerationState
from actors.persistence.errors import StoreError
from actors.runtime import AskError, NoProc
from docs.examples.store_feed import AskPlace
from docs.examples.ticketing.http.bus import bus_of
from docs.examples.ticketing.http.feed import FEED, TicketFeed
from docs.examples.ticketing.reading import halls, listing, sales
from web.app import Component, Finding, OwnSite, degraded, healthy, unhealthy

# Who waits for a reservation is told by what the feed has read.
BEHIND_MAX = 1000


def components(site: OwnSite) -> list[Component]:
    """Call this for the components of the plan."""

    async def projections_db() -> Finding:
        try:
            found: list[Checkpoint] = []
            for name in (listing.NAME, halls.NAME, sales.NAME):
                found += await site.beside.projections.checkpoints(name)
        except StoreError as error:
            return unhealthy("the rows cannot be read", code=error.code)
        halted = [one for one in found if one.state is GenerationState.HALTED]
        return degraded("rows are not filled any more") if halted else healthy(rows=len(found))

    async def auth_db() -> Finding:
        try:
            await site.members.accounts.named("nobody")
        except StoreError as error:
            return unhealthy("nobody can sign in", code=error.code)
        return healthy()

    async def event_bus() -> Finding:
        try:
            told = await bus_of(site).bus.engine.health()
            place = await site.ref(FEED, TicketFeed).ask(AskPlace())
            lag = await site.store.lag(place)
        except (AskError, NoProc, StoreError):
            return unhealthy("what happens is not told")
        if lag.events > BEHIND_MAX:
            return degraded("what happens is told late", behind=lag.events)
        if told.reason:
            # It is told by the log meanwhile, a little later.
            return degraded("the bus is away", away_s=round(told.away_s))
        return healthy()

    return [
        Component("projections_db", projections_db),
        Component("auth_db", auth_db),
        Component("event_bus", event_bus),
    ]
