"""A member of a group that is killed: its effect and its inbox row are one append."""

import sys

import trio

from actors.persistence import AppendRequest, StreamId
from actors.persistence.bus import Engine, Guard, Received, SubscribeOptions, Subscription
from storage.bus import PostgresBus
from storage.postgres import Database, PostgresEventStore, open_database
from storage.testing.bus import GROUP, TOPIC
from storage.testing.samples import new_event
from tests.patience import PATIENT_POOL

OPTIONS = SubscribeOptions(Guard.INBOX)


def subscription_on(database: Database, bus: Engine) -> Subscription:
    """Call this for a member whose effects are events, one a record, of a stream a partition."""
    events = PostgresEventStore(database)

    async def handle(received: Received) -> None:
        stream = StreamId(f"effects-{received.partition}")
        inbox = (GROUP, received.record.event_id)
        event = new_event(received.record.value)
        await events.append_request(AppendRequest(stream, [event], inbox=inbox))

    return Subscription(bus, [TOPIC], GROUP, handle, OPTIONS)


async def main(url: str) -> None:
    """Call this to handle records until killed."""
    async with open_database(url, part="member", settings=PATIENT_POOL) as database:
        await subscription_on(database, PostgresBus(database)).run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
