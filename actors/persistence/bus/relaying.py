"""From the outbox to the bus: what an `OutboxRelay` is given to send with.

An append queues its record with the event (`AppendRequest.outbox`), and the relay publishes it
after the commit: while the bus is away records wait in the outbox, and leave in order per key.
"""

from actors.persistence.beside_log.outbox import OutboxEntry, Send
from actors.persistence.bus.port import EventBus
from actors.persistence.bus.words import Record, check_topic
from actors.persistence.words import OutboxMessage

BUS = "bus"


def bus_message(topic: str, record: Record) -> OutboxMessage:
    """Call this for a record in `AppendRequest.outbox`; raises `InvalidTopic`."""
    return OutboxMessage(
        record.event_id, BUS, check_topic(topic), record.key, record.value, record.headers
    )


def publisher(bus: EventBus) -> Send:
    """Call this for the `send` of a relay: the target of a message is its topic."""

    async def send(entry: OutboxEntry) -> None:
        record = Record(entry.message_id, entry.key, entry.payload, entry.headers)
        await bus.publish(entry.target, record)

    return send
