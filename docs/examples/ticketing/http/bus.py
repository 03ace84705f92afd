"""What was committed goes on a bus, and sockets, pages and read models are told by it.

`TICKETING_BUS` says which: in the memory of each process, fed from its log, or one that all of them
share and other programs may read, in PostgreSQL or at a broker. Nothing hangs on it: what it does
not tell is read from the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from socket import gethostname

from actors.persistence import Follows
from actors.persistence.bus import (
    HeardLog,
    LogListener,
    LogPublisher,
    OwnPlace,
    PublishingPlace,
    SharedPlace,
)
from docs.examples.ticketing.http.desk import desk_of
from docs.examples.ticketing.http.options import BUS
from docs.examples.ticketing.reservations import Reservation
from supervision import ChildSpec
from web.app import CannotStart, OwnSite

TOPIC = "ticketing-events"
# Who signs in is nobody's business there.
CATEGORIES = ("event", "inventory", "buyer", Reservation.kind, "payment", "bank", "ticket")
PUBLISHER, LISTENER = "bus-publisher", "bus-listener"
# The row beside those of projections that says how far the log is published.
PUBLISHED = "ticketing_bus"


class TicketBus:
    """The bus of a site: what feeds it, and what this process has heard on it."""

    def __init__(self, site: OwnSite) -> None:
        self._site = site
        try:
            self.bus = site.open_bus(desk_of(site).options.bus)
        except CannotStart as error:
            raise CannotStart(f"{BUS}: {error}") from error
        self.heard = HeardLog(site.store)
        place: PublishingPlace = OwnPlace()
        if self.bus.is_shared:
            place = SharedPlace(site.beside.projections, PUBLISHED)
        self._place = place

    @property
    def source(self) -> Follows:
        """Call this for what whoever is told by the bus follows."""
        return self.heard

    def children(self) -> Sequence[ChildSpec]:
        """Call this for what stands in the tree before all that hears."""
        store, engine = self._site.store, self.bus.engine
        # A process hears all, so each is a group; one that comes back is the one that went. Of two
        # on any free port, one would hear for both.
        mine = self._site.settings.port or self._site.environment.ids.new_id()
        group = f"ticketing-{gethostname()}-{mine}"
        return [
            *self.bus.children,
            ChildSpec(LISTENER, partial(LogListener, engine, TOPIC, group, self.heard, store)),
            ChildSpec(
                PUBLISHER,
                partial(LogPublisher, store, engine, TOPIC, self._place, CATEGORIES),
                name=PUBLISHER,
            ),
        ]


def bus_of(site: OwnSite) -> TicketBus:
    """Call this for the bus of a site; raises `CannotStart` for one that it cannot have."""
    return site.once(TicketBus)
