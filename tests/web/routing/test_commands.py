"""What all commands of a page share: how they are read, refused, counted."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from quart import Response

from actors.runtime import Secret
from tests.any_text import any_text
from tests.web.watcher import Watcher
from web.realtime import Stream, StreamKey, Streams
from web.routing.commands import Origin, RefusalTeller, parse_tab, read_command
from web.routing.errors import InvalidInput, RateLimited, error_table
from web.server import Checks, EdgeSettings, KeyRing, WebApp, current_request_state

TAB = str(uuid.UUID(int=7))


class Command(msgspec.Struct, frozen=True):
    number: int
    tab: str = msgspec.field(name="sseTabId")


@dataclass
class App:
    """A small application with one command, and what became of it."""

    app: WebApp = field(init=False)
    read: list[tuple[Command, Origin]] = field(default_factory=list)
    error: Exception | None = None
    streams: Streams = field(init=False)
    visitor: uuid.UUID | None = None

    def __post_init__(self) -> None:
        async def start(_: Stream) -> None:
            return None

        self.streams = Streams(start_actor=start)
        checks = Checks(own_origin="http://localhost")
        self.app = WebApp(
            __name__,
            EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64))),
            error_table(),
            on_refused=RefusalTeller(self.streams),
        )

        @self.app.post("/do")
        async def do() -> Response:
            self.visitor = current_request_state().visitor.id
            self.read.append(await read_command(Command, "lab"))
            if self.error is not None:
                raise self.error
            return Response(b"", status=202)

    async def send(self, body: bytes, kind: str = "application/json", **headers: str) -> int:
        client = self.app.test_client()
        answer = await client.post(
            "/do",
            data=body,
            headers={"content-type": kind, "sec-fetch-site": "same-origin", **headers},
        )
        return answer.status_code


def good(**more: object) -> bytes:
    return json.dumps({"number": 1, "sseTabId": TAB, **more}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (good(), 202),
        (good(unknown={"is": "ignored"}), 202),  # SITE-97
        (good(number="1"), 400),  # strictly typed
        (good(number=1.5), 400),
        (good(sseTabId=""), 400),
        (good(sseTabId="tab"), 400),
        (good(sseTabId=TAB.replace("-", "")), 400),
        (good(sseTabId="{" + TAB + "}"), 400),
        (good(sseTabId=None), 400),
        (b'{"number": 1}', 400),
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"number": 1, "sseTabId": "\xff"}', 400),
        (b"[" * 5000, 400),
        (b'{"x":' * 5000, 400),
    ],
)
async def test_a_command_is_read_strictly(body: bytes, status: int) -> None:
    """SITE-61 SITE-97 SITE-150: whatever comes, 400 and never 500."""
    app = App()
    assert await app.send(body) == status
    assert len(app.read) == (status == 202)


async def test_a_form_says_422(monkeypatch: pytest.MonkeyPatch) -> None:  # SITE-61
    app = App()
    kind = "application/x-www-form-urlencoded"
    assert await app.send(b"sseTabId=" + TAB.encode(), kind) == 422
    assert await app.send(b"number=x&sseTabId=" + TAB.encode(), kind) == 422


@given(any_text(max_size=80))
def test_only_uuids_as_this_site_writes_them_are_tabs(text: str) -> None:  # SITE-91
    try:
        parsed = parse_tab(text)
    except InvalidInput:
        return
    assert str(uuid.UUID(parsed)) == text


async def test_a_refusal_is_told_to_its_own_tab_only() -> None:  # SITE-101
    app = App()
    app.error = RateLimited(3.2)
    await app.send(good())
    assert app.visitor is not None
    # The test client keeps no cookie: the visitor is made known by its key.
    told = await tell(app, app.error)
    assert told == {
        "transportErrorSource": "lab",
        "transportErrorKind": "rate_limited",
        "transportErrorTitle": "Slow down",
        "transportErrorMessage": "That was too often; wait a moment.",
        "transportErrorStatus": 429,
        "transportErrorRetryAfter": 4,
        "transportErrorRetrying": False,
    }


async def tell(app: App, error: Exception) -> object:
    """Send the same command with the cookie of a visitor whose tab has a stream."""
    client = app.app.test_client()

    @app.app.get("/who")
    async def who() -> Response:
        app.visitor = current_request_state().visitor.id
        return Response("<p>", content_type="text/html")

    await client.get("/who")
    assert app.visitor is not None
    stream = await app.streams.open(StreamKey(app.visitor, TAB), "address")
    other = await app.streams.open(StreamKey(app.visitor, str(uuid.UUID(int=8))), "address")
    watchers = [Watcher(stream=stream), Watcher(stream=other)]
    headers = {
        "content-type": "application/json",
        "sec-fetch-site": "same-origin",
        "datastar-request": "true",
    }
    app.error = error
    answer = await client.post("/do", data=good(), headers=headers)
    assert await answer.get_data() == b""
    (event,) = await watchers[0].events()
    assert await watchers[1].events() == []
    return json.loads(event.partition("signals ")[2])
