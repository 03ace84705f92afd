"""The log of requests: what stands in a line, and what never does."""

import io
import json

import pytest
import trio
from msgspec.structs import replace

from tests.patience import until
from web.observability.requests import RequestLog
from web.server import RequestSpan
from web.settings import LogFormat

SPAN = RequestSpan(
    method="GET",
    path="/lab",
    route="/lab",
    status=200,
    latency_s=0.01234,
    request_id="4a50033e-dbef-484a-90c1-8c9053242a7d",
    address="203.0.113.77",
    session_id="7b0e3a0e-0f0e-4c39-9a46-1f6a3f6f6b52",
    user_agent="a browser",
)
every_format = pytest.mark.parametrize("log_format", list(LogFormat))


async def tell(log: RequestLog, span: RequestSpan) -> None:
    log.tell(span)
    log.flush()


def line_of(span: RequestSpan, log_format: LogFormat) -> str:
    output = io.StringIO()
    trio.run(tell, RequestLog(log_format, output), span)
    (line,) = output.getvalue().splitlines()
    return line


def test_a_line_has_what_is_known_in_order() -> None:  # SITE-121, SITE-133, OBS-5
    record = json.loads(line_of(SPAN, LogFormat.JSON))
    assert record.pop("timestamp").endswith("Z")
    assert list(record.items()) == [
        ("level", "info"),
        ("event", "request.end"),
        ("method", "GET"),
        ("route", "/lab"),
        ("path", "/lab"),
        ("status", 200),
        ("latency_ms", 12.3),
        ("request_id", SPAN.request_id),
        ("session_id", SPAN.session_id),
        ("client_ip", "203.0.*.*"),
        ("user_agent", "a browser"),
    ]


def test_a_terminal_gets_a_short_one() -> None:  # SITE-133
    line = line_of(SPAN, LogFormat.PRETTY)
    assert line.split()[1:] == ["200", "12.3", "ms", "GET", "/lab", "203.0.*.*", SPAN.request_id]


@every_format
def test_no_line_is_forged_or_without_end(log_format: LogFormat) -> None:  # SITE-132, SEC-132
    hostile = "/\x1b[31m\n200 " + "x" * 9000
    line = line_of(replace(SPAN, path=hostile, method="G\nET", rule="a\nb"), log_format)
    assert "\x1b" not in line
    assert len(line) < 2000
    assert SPAN.request_id in line


@every_format
@pytest.mark.parametrize("span", [replace(SPAN, status=None), replace(SPAN, path="", method="")])
def test_what_is_not_known_is_left_out(span: RequestSpan, log_format: LogFormat) -> None:
    assert "None" not in line_of(span, log_format)
    assert "null" not in line_of(span, log_format)


def test_a_line_that_cannot_be_written_hurts_nobody() -> None:  # SITE-133
    closed = io.StringIO()
    closed.close()
    trio.run(tell, RequestLog(LogFormat.JSON, closed), SPAN)


async def test_what_is_told_in_one_turn_is_one_write() -> None:  # SITE-133
    writes: list[str] = []

    class Output(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    log = RequestLog(LogFormat.PRETTY, Output())
    for _ in range(3):
        log.tell(SPAN)
    assert writes == []
    await until(lambda: bool(writes))
    assert [len(text.splitlines()) for text in writes] == [3]


@every_format
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/static/<path:name>", "/static/<path:name>"),
        ("/nowhere/ada@example.org/x", "/nowhere/a***@example.org/x"),
        (f"/login/link/{'aB3_' * 10}x9-", "/login/link/***"),
        (f"/{'x' * 500}{'aB3-' * 11}", "/***"),
        ("/token=abc/y", "/token=***"),
        ("/api/v1/auth/passkeys/00000000-0000-7000-8000-00000000000A", None),
        (f"/docs/{'a-long-name-of-a-page' * 3}", None),
        (f"/static/site.{'0123456789abcdef' * 4}.css", None),
    ],
)
def test_what_looks_like_an_address_or_a_token_is_hidden_in_a_path(
    log_format: LogFormat, path: str, shown: str | None
) -> None:  # SEC-131, SEC-132
    line = line_of(replace(SPAN, path=path, route=None), log_format)
    said = json.loads(line)["path"] if log_format is LogFormat.JSON else line.split()[5]
    assert said == (path if shown is None else shown)
