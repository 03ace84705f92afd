"""How an event, a state and a difference of two states are told: to people, and as JSON.

Rule 1: a private field is told by its name. Only who asked for it with a reason sees its value.
Rule 2: bytes that are no JSON are told as they are, and are no reason to end.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from actors.persistence import PRIVATE_CODEC, PRIVATE_KEY, Private, StoredEvent

HIDDEN = "***"
# A person reads the begin of a long one; `--json` has the whole.
COLUMNS = 80
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Row = dict[str, object]


def event_row(stored: StoredEvent) -> Row:
    """Call this for all that is known of a stored event, as JSON can hold it."""
    told: Row = {
        "stream": stored.stream_key,
        "version": stored.version,
        "cursor": str(stored.cursor),
        "at": stored.recorded_at,
        "type": stored.type,
        "schema": stored.schema_version,
        "event_id": str(stored.event_id),
        "data": None,
        "tags": list(stored.tags),
        "metadata": dict(stored.metadata),
    }
    try:
        told["data"] = _data(stored)
    except _BAD:
        told["raw"] = stored.data.decode("utf-8", "backslashreplace")
    return told


def _data(stored: StoredEvent) -> object:
    data: object = msgspec.json.decode(stored.data)
    if stored.codec != PRIVATE_CODEC or not isinstance(data, dict):
        return data
    data.pop(PRIVATE_KEY, None)
    fields = dict.fromkeys(sealed_names(stored), cast("object", HIDDEN))
    if stored.private is not None:
        for name, value in stored.private.fields().items():
            fields[name] = "ERASED" if value is None else msgspec.json.decode(value)
    return {**data, **fields}


def sealed_names(stored: StoredEvent) -> list[str]:
    """Call this for the names of the private fields of an event; none where there are none."""
    try:
        return sorted(msgspec.json.decode(stored.data)[PRIVATE_KEY]["fields"])
    except (*_BAD, LookupError, TypeError):
        return []


def event_line(stored: StoredEvent, *, has_stream: bool = False) -> str:
    """Call this for an event as a person reads it, on one line."""
    row = event_row(stored)
    at = f"{stored.recorded_at:%Y-%m-%d %H:%M:%S}"
    data = str(row["raw"]) if "raw" in row else as_text(row["data"])
    stream = f"{stored.stream_key}  " if has_stream else ""
    return cut(f"{stored.version:>6}  {at}  {stream}{stored.type}  {data}")


def cut(line: str) -> str:
    """Call this with a line: where a terminal would break it, it ends."""
    line = " ".join(line.split("\n"))
    if sys.stdout is None or not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size((COLUMNS, 24)).columns
    return line if len(line) <= width else f"{line[: max(1, width - 3)]}..."


def plain(value: object, *, is_private_shown: bool) -> object:
    """Call this for a state, or any other value, as JSON would have it."""

    def hook(inner: object) -> object:
        if isinstance(inner, Private):
            return inner.reveal() if is_private_shown else HIDDEN
        return str(inner)

    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=hook))
    except (TypeError, ValueError, RecursionError):
        return repr(value)  # what JSON cannot hold shows itself, and hides what is private


def as_text(value: object) -> str:
    """Call this for the JSON of a plain value as one line."""
    return msgspec.json.encode(value, enc_hook=str).decode()


_ABSENT = object()


def differences(before: object, after: object) -> list[Row]:
    """Call this for what is otherwise in the second of two plain values, by its path."""
    return [
        {"path": path or "(all)"}
        | ({} if one is _ABSENT else {"before": one})
        | ({} if other is _ABSENT else {"after": other})
        for path, one, other in _differing("", before, after)
    ]


def _differing(path: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            below = f"{path}.{name}" if path else str(name)
            yield from _differing(below, one.get(name, _ABSENT), other.get(name, _ABSENT))
    elif isinstance(one, list) and isinstance(other, list):
        for number in range(max(len(one), len(other))):
            here, there = (part[number] if number < len(part) else _ABSENT for part in (one, other))
            yield from _differing(f"{path}[{number}]", here, there)
    elif type(one) is not type(other) or one != other:
        yield path, one, other


def difference_lines(found: list[Row]) -> list[str]:
    """Call this for differences as a person reads them."""
    return [_difference(row) for row in found] or ["nothing is otherwise"]


def _difference(row: Mapping[str, object]) -> str:
    if "before" not in row:
        return f"+ {row['path']}: {as_text(row['after'])}"
    if "after" not in row:
        return f"- {row['path']}: {as_text(row['before'])}"
    return f"  {row['path']}: {as_text(row['before'])} -> {as_text(row['after'])}"
