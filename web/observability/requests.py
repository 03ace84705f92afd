"""The log of requests: one line each, on standard output (SITE-121, SITE-133).

Apart from the log of what the program does, as other servers keep it: `LOG_LEVEL` has no say here,
and whoever wants none of it sends standard output to nowhere. A line never holds a query, a body,
a cookie or a whole address (SEC-131, SEC-132), nor what looks like a mail address or a token in a
path: people paste what they have. One that cannot be written is lost and counted, as in `logs.py`;
nobody waits for a reader. Lines of one turn of the loop leave in one write.
"""

import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import msgspec
import trio

from actors.accounts.policy import mask_email
from actors.runtime.telling.lines import LineWriter
from actors.runtime.telling.log import lost, one_line
from actors.runtime.words.showing import HIDDEN, redact_text
from web.observability.logs import tell_lost
from web.server import RequestSpan, masked
from web.settings import LogFormat

# Of an address longer than this the start is shown: the edge takes up to 8 KiB.
PATH_SHOWN_MAX = 512
# Most visitors ask more than once, and reading an address is dear.
_masked = lru_cache(1024)(masked)
_encode = msgspec.json.Encoder().encode
_MAIL = re.compile(r"[^/\s@]+@[^/\s@]+")
# Longer than a UUID; a token of ours has 43. Names of pages have no capitals, nor digests any.
_LONG = re.compile(r"(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{40,}")


class RequestLog:
    """Writes a line for every request it is told of; `RequestSpan` says what is known of one."""

    def __init__(self, log_format: LogFormat, stream: TextIO | None = None) -> None:
        self._writer = LineWriter(sys.stdout if stream is None else stream)
        self._line = _as_json if log_format is LogFormat.JSON else _as_text
        self._told: list[RequestSpan] = []

    def tell(self, span: RequestSpan) -> None:
        """Call this in trio once a request; never raises, and waits for nobody."""
        self._told.append(span)
        if len(self._told) == 1:
            # After what runs in this turn: a server that is busy answers many in one.
            trio.lowlevel.current_trio_token().run_sync_soon(self.flush)

    def flush(self) -> None:
        """Call this to write what was told."""
        told, self._told = self._told, []
        if told:
            # They are of one turn of the loop, and so of one moment.
            line, now = self._line, _now()
            lost.guard(
                lambda: self._writer.write("\n".join([line(span, now) for span in told])), tell_lost
            )


def _fields(span: RequestSpan) -> dict[str, object]:
    """What is known of a request, in the order of the line; what is not known is left out."""
    found: dict[str, object] = {
        "method": one_line(span.method),
        "route": span.route,
        "path": _path(span),
        "status": span.status,
        "latency_ms": round(span.latency_s * 1000, 1),
        "request_id": span.request_id,
        "client_request_id": span.client_request_id,
        "correlation_id": span.correlation_id,
        "trace_id": None if span.above is None else span.above[3:35],
        "session_id": span.session_id,
        "user_id": span.user_id,
        "client_ip": _masked(span.address) if span.address else None,
        "user_agent": span.user_agent,
        "rule": None if span.rule is None else one_line(span.rule),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def _path(span: RequestSpan) -> str:
    if span.path == span.route:
        return span.path
    # First: of half a token nobody would know that it is one.
    hidden = _LONG.sub(HIDDEN, _MAIL.sub(lambda found: mask_email(found[0]), span.path))
    return one_line(redact_text(hidden)[:PATH_SHOWN_MAX])


def _as_json(span: RequestSpan, now: str) -> str:
    record = {"timestamp": now, "level": "info", "event": "request.end", **_fields(span)}
    return _encode(record).decode("utf-8")


def _as_text(span: RequestSpan, now: str) -> str:
    status = "left" if span.status is None else str(span.status)
    what = f"{one_line(span.method)} {_path(span)}".strip()
    if span.rule is not None:
        what = f"no request: {one_line(span.rule)}"
    took = f"{span.latency_s * 1000:.1f} ms"
    who = _masked(span.address) if span.address else ""
    return f"{now} {status:>4} {took:>9}  {what}  {who} {span.request_id}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
