"""What an event becomes that a projection cannot apply: a dead letter that finds its way back."""

from actors.persistence.dead_letters import NewDeadLetter
from actors.persistence.words import StoredEvent

# Where a parked event stands in its stream, among its letter's metadata.
STREAM_VERSION = "stream_version"


def parked(event: StoredEvent, collection: str, text: str) -> NewDeadLetter:
    """Call this for the letter of an event that a generation of a projection sets aside."""
    return NewDeadLetter(
        kind="projection",
        source=collection,
        message_id=str(event.cursor),
        error_message=text,
        payload=event.data,
        metadata={**event.metadata, STREAM_VERSION: str(event.version)},
        stream_id=event.stream_id,
        event_id=event.event_id,
        event_type=event.type,
        event_version=event.schema_version,
    )
