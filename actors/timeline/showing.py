"""What of the timeline may be seen, in which words: pure (SITE-123, SITE-124, SITE-125, SITE-128).

Rule 1: a value is shown only under a name of `_SHOWN`, so what a source adds is seen by nobody
before somebody has thought about it (SITE-131).
Rule 2: a text is one line, cut, and without what looks like a secret. A user is `authenticated`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from actors.runtime.telling.log import one_line
from actors.runtime.words.showing import redact_text
from actors.timeline.words import STAGE_OF, Entry, Flow, Kind, Level, Stage, level_of

FLOWS_MAX: Final = 20
FILTER_TERMS_MAX: Final = 10
FILTER_TERM_LENGTH_MAX: Final = 64
# A path of ours has less; what a visitor types may be anything.
PATH_MAX: Final = 120
TEXT_MAX: Final = 240

_SHOWN: Final = (
    "direction",
    "sender",
    "receiver",
    "event",
    "selector",
    "mode",
    "payload_bytes",
    "streams",
    "statement",
    "db_duration_ms",
    "rows",
    "path",
    "reason",
    "incarnation",
    "restart_ms",
    "action",
    "place",
    "outcome",
    "node",
    "shard",
    "took_ms",
)

# Seconds of the loop's clock become a moment in UTC.
ToMoment = Callable[[float], datetime]


@dataclass(frozen=True, slots=True)
class Shown:
    """One entry in words: when, where, what, and its values in order."""

    at: datetime
    stage: Stage
    kind: Kind
    level: Level
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ShownFlow:
    """One flow in words; `status` is None while it has no answer."""

    request_id: str
    short_id: str
    title: str
    at: datetime
    status: int | None
    entries: tuple[Shown, ...]


def parse_filter(text: str) -> tuple[str, ...]:
    """Call this to read a filter: what the terms name is left out.

    Terms are parted by commas, trimmed and lower-cased; empty ones are dropped, further ones than
    ten too, and each is cut at 64 letters. Never raises: it is typed letter by letter.
    """
    terms = (term.strip().lower()[:FILTER_TERM_LENGTH_MAX] for term in text.split(","))
    return tuple([term for term in terms if term][:FILTER_TERMS_MAX])


def flows_shown(
    entries: Sequence[Entry], tab: str, terms: Sequence[str], moment: ToMoment
) -> list[ShownFlow]:
    """Call this for what one tab shows of its session: at most twenty, newest activity first.

    Requests of other tabs are left out; page loads have no tab and are shown.
    """
    found: dict[Flow, float] = {}
    for entry in entries:
        if not entry.flow.is_hidden and entry.flow.tab in (None, tab):
            found[entry.flow] = max(entry.at, found.get(entry.flow, entry.at))
    kept: list[ShownFlow] = []
    for flow in sorted(found, key=found.__getitem__, reverse=True):
        shown = shown_flow(flow, moment)
        if not any(term in text for term in terms for text in _texts(shown)):
            kept.append(shown)
            if len(kept) == FLOWS_MAX:
                break
    return kept


def newest_flows(flows: Iterable[Flow], most: int, moment: ToMoment) -> list[ShownFlow]:
    """Call this for the newest flows of a session, of all its tabs, by their titles only.

    `flows` come newest first, each any number of times; no more of them are asked for than needed.
    """
    found: dict[Flow, None] = {}
    for flow in flows:
        if not flow.is_hidden:
            found[flow] = None
            if len(found) == most:
                break
    return [_titled(flow, moment, ()) for flow in found]


def shown_flow(flow: Flow, moment: ToMoment) -> ShownFlow:
    """Call this for one flow in words."""
    return _titled(flow, moment, tuple(shown_entries(flow.entries[-50:], moment)))


def _titled(flow: Flow, moment: ToMoment, entries: tuple[Shown, ...]) -> ShownFlow:
    return ShownFlow(
        request_id=flow.request_id,
        short_id=flow.request_id.partition("-")[0],
        title=f"{_text(flow.method, 16)} {_path(flow.path)}",
        at=moment(flow.at),
        status=flow.status,
        entries=entries,
    )


def shown_entries(entries: Iterable[Entry], moment: ToMoment) -> Iterator[Shown]:
    """Call this for entries in words, in the order in which they happened."""
    # By time: that an actor is back is found out a moment after it was.
    for entry in sorted(entries, key=lambda entry: entry.at):
        yield Shown(
            moment(entry.at),
            STAGE_OF[entry.kind],
            entry.kind,
            level_of(entry),
            tuple(_values(entry)),
        )


def json_record(entry: Entry, moment: ToMoment) -> dict[str, object]:
    """Call this for an entry as an operator reads it: the record of SITE-120."""
    flow = entry.flow
    fields: dict[str, object] = {
        "request_id": flow.request_id,
        "session_id": flow.session,
        "user_id": "authenticated" if flow.is_member else None,
        "tab_id": flow.tab,
        "correlation": flow.request_id,
        "causation": entry.values.get("causation"),
        "traceparent": flow.traceparent,
        **dict(_values(entry)),
    }
    at = moment(entry.at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "time": at,
        "level": str(level_of(entry)),
        "target": str(STAGE_OF[entry.kind]),
        "message": str(entry.kind),
        "fields": {name: value for name, value in fields.items() if value is not None},
    }


def _values(entry: Entry) -> Iterator[tuple[str, str]]:
    flow = entry.flow
    if entry.kind in (Kind.REQUEST_START, Kind.REQUEST_END):
        yield "method", _text(flow.method, 16)
        yield "path", _path(flow.path)
        yield "sender", flow.sender
        if entry.kind is Kind.REQUEST_END:
            yield "status", "left" if flow.status is None else str(flow.status)
            yield "latency_ms", _number((flow.latency_s or 0.0) * 1000)
            if flow.is_member:
                yield "user", "authenticated"
        return
    for name in _SHOWN:
        value = entry.values.get(name)
        if value is not None:
            yield name, _text(value, TEXT_MAX) if isinstance(value, str) else _number(value)


def _texts(flow: ShownFlow) -> Iterator[str]:
    """All a filter is compared with."""
    yield flow.request_id.lower()
    yield flow.title.lower()
    yield str(flow.status or "")
    for entry in flow.entries:
        yield f"{entry.stage} {entry.kind} {entry.level}"
        for name, value in entry.values:
            yield f"{name} {value}".lower()


# A site has few, and to look one through takes ten microseconds: a fiftieth of a page that shows
# five. Each is of 200 characters at most (`PATH_KEPT_MAX`).
@lru_cache(256)
def _path(path: str) -> str:
    return _text(path, PATH_MAX)


def _text(value: str, limit: int) -> str:
    text = redact_text(one_line(" ".join(value[: limit * 4].split())))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"
