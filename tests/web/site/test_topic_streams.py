"""`GET /events?topic=…` of the whole site, as a program sees it."""

from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import pytest
import trio

from storage.memory import MemoryChatLog
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S, until
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.realtime import ServerEvent, SseParser
from web.settings import Settings

LOBBY = "/events?topic=room:lobby"


class Listening:
    """A program that reads one stream."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response, self.parser = response, SseParser()
        self._events: list[ServerEvent] = []

    def next(self) -> ServerEvent:
        while not self._events:
            line = self.response.readline()
            assert line, "the stream ended"
            self._events = self.parser.feed(line)
        return self._events.pop(0)

    def rest(self) -> bytes:
        return self.response.read()


@contextmanager
def listening(visitor: Visitor, last_id: str = "", path: str = LOBBY) -> Iterator[Listening]:
    host, _, port = visitor.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    connection.request("GET", path, headers={"last-event-id": last_id} if last_id else {})
    response = connection.getresponse()
    try:
        yield Listening(response)
    finally:
        response.close()
        connection.close()


def author_of(site: WholeSite) -> Visitor:
    author = site.visitor()
    author.open_lab()
    return author


def bodies(events: list[ServerEvent]) -> list[str]:
    return [json.loads(event.data)["body"] for event in events]


async def test_a_program_listens_and_comes_back_over_a_restart() -> None:
    # WEB-48, WEB-42, SEC-52, SITE-92
    log = MemoryChatLog()

    def first(site: WholeSite) -> str:
        author = author_of(site)
        author.post("before")
        with listening(site.visitor()) as stream:
            head = {name.lower(): value for name, value in stream.response.getheaders()}
            assert head["content-type"] == "text/event-stream; charset=utf-8"
            assert head["cache-control"] == "no-cache, no-transform, no-store"
            assert (head["x-accel-buffering"], head["x-content-type-options"]) == ("no", "nosniff")
            begun = stream.next()
            assert begun.event == "subscribed"
            place = json.loads(begun.data)
            assert place == {
                "topic": "room:lobby", "epoch": place["epoch"], "seq": 1, "recovered": False,
            }  # fmt: skip
            assert stream.parser.retry_ms == 2000
            author.post("see https://example.org")  # waits for review
            author.post("one\ntwo")
            event = stream.next()
            fields = json.loads(event.data)
            assert (event.event, fields["body"], fields["n"]) == ("MessagePosted", "one\ntwo", 3)
            assert event.id == f"{place['epoch']}.3"
            return event.id

    def missing(site: WholeSite) -> None:
        author = author_of(site)
        for number in range(3):
            author.post(f"missed {number}")

    def second(site: WholeSite, last_id: str) -> None:
        author = author_of(site)
        with listening(site.visitor(), last_id) as stream:
            assert json.loads(stream.next().data)["recovered"] is True
            assert bodies([stream.next() for _ in range(3)]) == [f"missed {n}" for n in range(3)]
            author.post("live")
            assert bodies([stream.next()]) == ["live"]
        for other in ("other.3", "nonsense", "\u00ff.3"):
            with listening(site.visitor(), other) as stream:
                assert json.loads(stream.next().data)["recovered"] is False

    async with open_whole_site(log=log) as site:
        last_id = await in_thread(lambda: first(site))
        await in_thread(lambda: missing(site))
    async with open_whole_site(log=log) as again:
        await in_thread(lambda: second(again, last_id))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/events?topic=room:support", 403),
        ("/events?topic=room:none", 403),
        ("/events?topic=", 403),
        ("/events?topic=%00%0d%0aid:1", 403),
        ("/events?topic=room:lobby&topic=room:lobby", 400),
        ("/events?topic=room:lobby&client=me", 400),
        ("/events", 400),
    ],
)
async def test_what_is_no_topic_for_you_is_refused(path: str, status: int) -> None:
    # WEB-48, SEC-55
    async with open_whole_site() as site:
        answer = await in_thread(lambda: site.visitor().get(path))
        assert answer.status == status
        if status == 403:
            other = await in_thread(lambda: site.visitor().get("/events?topic=room:other"))
            assert answer.headers.keys() == other.headers.keys()
        # SEC-36: nor may a page of another site open one in somebody's browser
        embedded = {"sec-fetch-site": "cross-site"}
        foreign = await in_thread(lambda: site.visitor().request("GET", LOBBY, headers=embedded))
        assert foreign.status == 403
        head = await in_thread(lambda: site.visitor().request("HEAD", LOBBY))
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"


def nobody_listens(site: WholeSite) -> Callable[[], bool]:
    def found() -> bool:
        left = [cell for cell in site.system.cells() if cell.path.startswith("site/sockets/")]
        return not any(cell.status != "stopped" for cell in left)

    return found


async def test_streams_of_programs_are_counted_as_sockets_are_and_freed() -> None:
    # WEB-48, SEC-48, SITE-94
    async with open_whole_site(settings=Settings(port=0, sockets_per_address_max=3)) as site:

        def fill() -> None:
            with ExitStack() as stack:
                for _ in range(3):
                    stream = stack.enter_context(listening(site.visitor()))
                    assert stream.next().event == "subscribed"
                refused = site.visitor().get(LOBBY)
                assert refused.status == 429
                assert int(refused.headers["retry-after"]) > 0

        for _ in range(2):
            await in_thread(fill)
            await until(nobody_listens(site))


async def test_a_drain_tells_programs_when_to_come_back() -> None:  # WEB-48, REL-20, SITE-185
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(open_whole_site())
        opened = listening(site.visitor())
        stream = await in_thread(opened.__enter__)
        await in_thread(stream.next)
        await stack.aclose()
        # Read to its end: the last chunk is there.
        rest = await in_thread(stream.rest)
        opened.__exit__(None, None, None)
        assert [drain.is_clean for drain in site.drains] == [True]
    assert rest.startswith(b"retry: ")


async def test_streams_go_on_where_the_server_may_not_write_itself() -> None:
    # WEB-48, REL-61: HTTP/2 and test clients pull
    async with open_whole_site() as site:
        author = await in_thread(lambda: author_of(site))
        cookie = "; ".join(f"{name}={value}" for name, value in author.cookies.items())
        headers = {
            "host": f"127.0.0.1:{site.port}", "accept-encoding": "gzip", "cookie": cookie,
        }  # fmt: skip
        client, inflate = site.apps[0].test_client(), zlib.decompressobj(31)
        with trio.fail_after(PATIENCE_S):
            async with client.request(LOBBY, headers=headers) as program:
                await program.send_complete()
                seen = b""
                while b"subscribed" not in seen:
                    seen += await program.receive()
                await in_thread(lambda: author.post("pulled"))
                while b"pulled" not in seen:
                    seen += await program.receive()
                assert site.web.sockets is not None
                await site.web.sockets.close_all()
                while not seen.rpartition(b"}")[2].startswith(b"\n\nretry: "):
                    seen += await program.receive()
                await program.disconnect()
            async with client.request(author.stream_path, headers=headers) as page:
                await page.send_complete()
                seen = b""
                while b"pulled" not in seen:
                    seen += inflate.decompress(await page.receive())
                site.web.streams.all()[0].close("test")
                while not inflate.eof:
                    inflate.decompress(await page.receive())
                await page.disconnect()
        await until(lambda: not len(site.web.streams) and not site.web.sockets)
