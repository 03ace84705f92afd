"""From the outbox to the bus: what an `OutboxRelay` is given to send with.

An append queues its record with the event (`AppendRequest.outbox`), and the relay publishes it
after the commit: while the bus is away records wait in the outbox, however long that is, and leave
in order per key.

What others read as CloudEvents gets its headers here, on the way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import trio

from actors.persistence.beside_log.dead_letters import words_of
from actors.persistence.beside_log.outbox import NotSent, OutboxEntry, Send, retry_delay
from actors.persistence.bus.errors import BusUnavailable
from actors.persistence.bus.port import EventBus
from actors.persistence.bus.words import (
    CONTENT_TYPE,
    EVENT_ID,
    JSON,
    RECORD_BYTES_MAX,
    TRACED,
    Record,
    check_topic,
)
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_text
from actors.runtime import current_tallies, span

BUS = "bus"
# BUS-9: a bus that is away is tried after a second, doubling to this, for as long as it takes.
AWAY_RETRY_MAX = timedelta(seconds=30)

# The attributes of CloudEvents 1.0 (cloudevents.io) and of its extensions for traces, order and
# partitions, each with the header of ours that it takes. Of Kafka's binary form: `ce_` before each
# name, and the content's type under a name of its own.
_CE = "ce_"
_CE_CONTENT_TYPE = "content-type"
_ATTRIBUTES = {
    "id": EVENT_ID,
    "type": "event_type",
    "time": "recorded_at",
    "sequence": "version",
    "traceparent": "traceparent",
    "correlationid": "correlation_id",
    "causationid": "causation_id",
}
assert set(TRACED) <= set(_ATTRIBUTES.values()), "what is traced here is traced there"


@dataclass(frozen=True, slots=True)
class CloudEvents:
    """Gives records the headers of CloudEvents 1.0 beside their own, as Kafka's binary form has it.

    `source` is a URI that says who publishes: with the event's id it names an event anywhere.
    """

    source: str

    def __post_init__(self) -> None:
        if not check_text("source", self.source) or not self.source.isprintable():
            raise InvalidField("source", "is empty, or no URI")
        if " " in self.source:
            raise InvalidField("source", "has a blank, which no URI has")

    def of(self, topic: str, record: Record) -> Record:
        """Call this for a record as it is published; a header that is there already stays.

        Without `event_type` the type is the topic's name. One that they would make too large goes
        without them.
        """
        ours = record.wire_headers
        found = {"specversion": "1.0", "source": self.source, "type": topic}
        found |= {name: ours[header] for name, header in _ATTRIBUTES.items() if ours.get(header)}
        found |= {"subject": record.key, "partitionkey": record.key}
        headers = {_CE + name: text for name, text in found.items()}
        headers[_CE_CONTENT_TYPE] = ours.get(CONTENT_TYPE, JSON)
        try:
            marked = replace(record, headers={**headers, **record.headers})
        except InvalidField:
            return record
        return marked if marked.size <= RECORD_BYTES_MAX else record


def bus_message(topic: str, record: Record) -> OutboxMessage:
    """Call this for a record in `AppendRequest.outbox`; raises `InvalidTopic`."""
    return OutboxMessage(
        record.event_id, BUS, check_topic(topic), record.key, record.value, record.headers
    )


def publisher(bus: EventBus, cloud_events: CloudEvents | None = None) -> Send:
    """Call this for the `send` of a relay: the target of a message is its topic.

    With `cloud_events` records have the headers of CloudEvents too.
    """

    async def send(entry: OutboxEntry) -> None:
        record = Record(entry.message_id, entry.key, entry.payload, entry.headers)
        if cloud_events is not None:
            record = cloud_events.of(entry.target, record)
        tallies, began = current_tallies(), trio.current_time()
        try:
            with span("bus.publish", topic=entry.target), awaited_bus(entry):
                await bus.publish(entry.target, record)
        except Exception:
            tallies.add("bus_published_total", entry.target, "failed")
            raise
        tallies.add("bus_published_total", entry.target, "ok")
        took = trio.current_time() - began
        tallies.histogram("bus_publish_seconds", entry.target).note(took)

    return send


@contextmanager
def awaited_bus(entry: OutboxEntry) -> Iterator[None]:
    """Call this around what sends an entry: a bus that is away is no fault of the message's.

    `BusUnavailable` becomes `NotSent` with a time, so that an outage of hours gives nothing up.
    """
    try:
        yield
    except BusUnavailable as error:
        jitter = (entry.message_id.int & 0xFFFF) / 0x10000
        wait = min(retry_delay(entry.attempts + 1, jitter), AWAY_RETRY_MAX)
        raise NotSent(words_of(error), wait) from error
