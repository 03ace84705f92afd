"""What was committed, told in this process, whichever one did it: how reservations stand."""

from __future__ import annotations

from dataclasses import dataclass

from actors.persistence import Page
from actors.sagas import SagaId, SagaState
from docs.examples.store_feed import FeedPlace, StoreFeed
from docs.examples.ticketing.http.desk import Desk
from docs.examples.ticketing.reservations import Reservation, status_of


@dataclass(frozen=True)
class Stands:
    """How a reservation stands now."""

    reservation: str
    customer: str
    word: str


def stands_on(reservation: str) -> str:
    """Call this for the topic on which one reservation is told of."""
    return f"reservation-{reservation}"


class TicketFeed(StoreFeed):
    """Reads reservations from the store, and publishes how each stands."""

    categories = (Reservation.kind,)

    def __init__(self, desk: Desk, place: FeedPlace) -> None:
        super().__init__(desk.site.store, place)
        self._desk = desk

    async def tell(self, page: Page) -> None:
        """Publish how each reservation of the page stands; once each, as it is now."""
        for stream in dict.fromkeys(one.stream_id for one in page.events if not one.is_system):
            saga = SagaId.parse(str(stream))
            self._publish(saga.name, await self._desk.office.sagas.query(saga))

    def _publish(self, name: str, state: SagaState) -> None:
        told = Stands(name, str(state.data.get("customer", "")), status_of(state))
        self.system.topics.publish(stands_on(name), told)
