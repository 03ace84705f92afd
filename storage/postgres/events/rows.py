"""Events as rows: the columns of the log, and how a row becomes a `StoredEvent`."""

from collections.abc import Iterable, Mapping

import asyncpg
import msgspec

from actors.persistence import ARCHIVED, TOMBSTONED, Cursor, NewEvent, StoredEvent
from actors.persistence.words import owned_name, split_name

EVENT_COLUMNS = (
    "stream_id, version, txid, position, event_id, event_type, event_version, codec,"
    " event_data, metadata, tenant, recorded_at, tags"
)

# The types of events behind which none is stored; see `closing.py`.
CLOSED = f"('{ARCHIVED}', '{TOMBSTONED}')"

_decode_texts = msgspec.json.Decoder(dict[str, str]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_metadata = msgspec.json.Encoder().encode


def to_event(row: asyncpg.Record) -> StoredEvent:
    """Call this with a row of `EVENT_COLUMNS`, in that order."""
    # Unpacked in one go: this line runs for every event that is ever read.
    (
        stream_id,
        version,
        txid,
        position,
        event_id,
        kind,
        schema,
        codec,
        data,
        meta,
        tenant,
        at,
        tags,
    ) = row
    metadata = {} if meta == "{}" else read_texts(meta)
    if tenant is not None:
        noted, (tenant, stream_id) = tenant, split_name(stream_id)
        if tenant is None:
            # In a stream of no tenant by a program of before: for whom, and not whose it is.
            metadata.setdefault("tenant", noted)
        elif tags:
            # Of each the same was put before it.
            mark = len(owned_name(tenant, ""))
            tags = [tag[mark:] for tag in tags]
    return StoredEvent(
        stream_id,
        version,
        Cursor(txid, position),
        event_id,
        kind,
        schema,
        codec,
        data,
        metadata,
        tenant,
        at,
        tuple(tags) if tags else (),
    )


def read_texts(json: str) -> dict[str, str]:
    """Call this for the metadata of a row, whatever it holds.

    Words of ours are mappings of texts; a row written by hand may be anything, and must not
    keep readers from those behind it. A value that is no text is given as its JSON, and what is
    no mapping is none.
    """
    try:
        return _decode_texts(json)
    except msgspec.ValidationError:
        pass
    try:
        raw = _decode_raw(json)
    except msgspec.ValidationError:
        return {}
    return {key: _text(bytes(value)) for key, value in raw.items()}


def _text(json: bytes) -> str:
    return str(msgspec.json.decode(json)) if json.startswith(b'"') else json.decode()


def metadata_json(metadata: Mapping[str, str]) -> str:
    """Call this for the text of a `jsonb` parameter."""
    if not metadata:
        return "{}"
    try:
        return _encode_metadata(metadata).decode()
    except TypeError:
        # Texts of a class of their own, such as `StreamId`, which the encoder does not know.
        plain = {str.__str__(key): str.__str__(value) for key, value in metadata.items()}
        return _encode_metadata(plain).decode()


def to_columns(events: Iterable[NewEvent]) -> tuple[list[object], ...]:
    """Call this for the arrays of a statement that inserts many events with `unnest`."""
    rows = [
        (
            event.event_id,
            event.type,
            event.schema_version,
            event.codec,
            event.data,
            metadata_json(event.metadata),
            event.tenant,
        )
        for event in events
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))
