"""Two server processes on one database: what one of them ends or says is seen in the other."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.journeys.site_process import SiteProcess
from tests.journeys.test_process import MANY
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

PASSWORD = "x9 qv, tz!"
SESSION_ENDED = 4401


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SiteProcess, SiteProcess]]:
    folder = tmp_path_factory.mktemp("pair")
    server = start_prepared(folder / "database")
    # One state folder: they have one secret and one key, as two machines are given them.
    sites: list[SiteProcess] = []
    try:
        settings = {"DATABASE_URL": server.url, **MANY}
        sites.extend(SiteProcess(folder / "state", **settings) for _ in range(2))
        yield sites[0], sites[1]
    finally:
        for site in sites:
            site.end()
        server.stop()


def at(site: SiteProcess, visitor: Visitor) -> Visitor:
    """The same browser, whose next request another process answers; its cookies are shared."""
    other = Visitor(site.url)
    other.cookies = visitor.cookies
    other.tab = visitor.tab
    return other


def registered(site: SiteProcess) -> Visitor:
    visitor, name = Visitor(site.url), f"u{uuid.uuid4().hex[:12]}"
    fields = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    assert visitor.form("/register", fields).status == 303
    return visitor


async def hear_all(socket: WebSocketConnection) -> None:
    while True:
        await socket.get_message()


def closed_with(site: SiteProcess, visitor: Visitor, end: partial[Answer]) -> int | None:
    """Open a socket at a process, let something happen, and wait for the socket's end."""
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    return ended_with(site, [(b"cookie", cookies.encode()), (b"origin", site.url.encode())], end)


def ended_with(
    site: SiteProcess, headers: Sequence[tuple[bytes, bytes]], end: Callable[[], object]
) -> int | None:
    """As `closed_with`, for whoever sends these headers."""

    async def run() -> int | None:
        host = f"127.0.0.1:{site.port}"
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        async with stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery, stream, host, "/ws", extra_headers=list(headers)
            )
            with trio.fail_after(PATIENCE_S):
                await socket.send_message('{"type":"subscribe","topics":["room:lobby"]}')
                assert "subscribed" in await socket.get_message()
                await trio.to_thread.run_sync(end)
                with pytest.raises(ConnectionClosed) as closed:
                    await hear_all(socket)
            nursery.cancel_scope.cancel()
        return None if closed.value.reason is None else closed.value.reason.code

    return trio.run(run)


def test_a_sign_in_of_one_counts_in_the_other(pair: tuple[SiteProcess, SiteProcess]) -> None:
    # SITE-37, SITE-40, SEC-15
    one, other = pair
    visitor = registered(one)
    there = at(other, visitor)
    assert there.get("/account").status == 200
    kept = dict(visitor.cookies)
    assert visitor.form("/logout", {}).status == 303
    stale = Visitor(other.url, kept)
    assert stale.get("/account").status == 303


def test_what_a_login_or_logout_ends_is_closed_in_the_other(
    pair: tuple[SiteProcess, SiteProcess],
) -> None:
    # SITE-43, SITE-40, SEC-44: a page and a socket of the same browser at another process.
    one, other = pair
    visitor = Visitor(one.url)
    visitor.get("/")
    there = at(other, visitor)
    there.open_lab()
    name = f"u{uuid.uuid4().hex[:12]}"
    fields = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    with there.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        join = partial(visitor.form, "/register", fields)
        assert closed_with(other, there, join) == SESSION_ENDED
        stream.response.read()  # to its end

    there = at(other, visitor)
    there.open_lab()
    with there.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        assert closed_with(other, there, partial(visitor.form, "/logout", {})) == SESSION_ENDED
        stream.response.read()


def test_a_revoked_sign_in_is_over_everywhere(pair: tuple[SiteProcess, SiteProcess]) -> None:
    # SITE-45: by the same person, at another machine and another process.
    one, other = pair
    first = registered(one)
    text = first.get("/account").text
    name = text.partition("@example.org")[0].rpartition(">")[2]
    second = Visitor(other.url)
    login = {"email": f"{name}@example.org", "password": PASSWORD}
    assert second.form("/login", login).status == 303
    second.open_lab()
    with second.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        revoke = partial(first.form, "/account/sessions/revoke", {"others": "1"})
        assert closed_with(other, second, revoke) == SESSION_ENDED
        stream.response.read()
    assert second.get("/account").status == 303
    assert first.get("/account").status == 200


def test_what_is_said_in_one_is_heard_in_the_other(pair: tuple[SiteProcess, SiteProcess]) -> None:
    # SITE-63, SITE-76, SITE-78: live, in order and once, on a page whose process stores nothing.
    one, other = pair
    speaker, listener = Visitor(one.url), Visitor(other.url)
    speaker.open_lab()
    listener.open_lab()
    texts = [uuid.uuid4().hex for _ in range(8)]
    with listener.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        seen = b""
        for text in texts:
            assert speaker.post(text).status == 202
            if len(seen) == 0:
                seen += stream.read_until(text.encode())
        last = uuid.uuid4().hex
        assert listener.post(last).status == 202
        seen += stream.read_until(last.encode())
        places = [seen.index(text.encode()) for text in (*texts, last)]
        assert places == sorted(places)
    with speaker.open_stream() as stream:
        stream.read_until(last.encode())
    for site in pair:
        history = Visitor(site.url).page("/partials/chat-history?room=Lobby&limit=50").text
        found = [history.index(text) for text in (*texts, last)]
        assert found == sorted(found)


def test_what_waits_in_one_is_seen_in_the_other_by_who_may(
    pair: tuple[SiteProcess, SiteProcess],
) -> None:
    # SITE-68, SITE-69, SITE-70: by a moderator, and not by others until it is approved.
    one, other = pair
    author, stranger, moderator = Visitor(one.url), Visitor(other.url), registered(other)
    name = moderator.get("/account").text.partition("@example.org")[0].rpartition(">")[2]
    other.run("roles", "grant", "moderator", name, "--yes")
    author.open_lab()
    stranger.open_lab()
    queue = moderator.get("/demo/chat/moderation")
    found = re.search(r"sseTabId: '([0-9a-f-]{36})", queue.text)
    assert found
    moderator.tab = found.group(1)
    first, second, behind = (uuid.uuid4().hex for _ in range(3))
    with moderator.open_stream_of("moderation") as desk, stranger.open_stream() as stream:
        desk.read_until(b'"sseConnected":true')
        stream.read_until(b'"sseConnected":true')
        for waits in (first, second):
            assert author.post(f"http://{waits}").status == 202
        desk.read_until(first.encode(), second.encode())
        assert author.post(behind).status == 202
        heard = stream.read_until(behind.encode())
        assert first.encode() not in heard
        assert second.encode() not in heard
        for waits, decision in ((first, "approve"), (second, "remove")):
            page = moderator.get("/demo/chat/moderation").text
            before, _, _ = page.partition(waits)
            ids = re.findall(r'<li id="waiting-([0-9a-f-]{36})"', before)
            decided = {
                "message_id": ids[-1],
                "decision": decision,
                "reason": "no links",
            }
            assert moderator.form("/demo/chat/moderation", decided).status == 303
        assert second.encode() not in stream.read_until(first.encode())
    # Decided at the other process, told at the author's.
    with author.open_stream() as stream:
        stream.read_until(b"no links")
    page = author.open_lab().text
    assert first in page
    assert second not in page
    assert "no links" in page


def test_a_name_that_is_gone_in_one_is_gone_in_the_other(
    pair: tuple[SiteProcess, SiteProcess],
) -> None:
    # SITE-47, SEC-136: and what they said, on open pages and on those that open from then on.
    one, other = pair
    author, reader = registered(one), Visitor(other.url)
    name = author.get("/account").text.partition("@example.org")[0].rpartition(">")[2]
    author.open_lab()
    reader.open_lab()
    said = uuid.uuid4().hex
    with reader.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        assert author.post(said).status == 202
        assert name.encode() in stream.read_until(said.encode())
        assert author.form("/account/delete", {"password": PASSWORD}).status == 303
        stream.read_until(b"deleted user", b"(erased)")
    later = Visitor(other.url)
    later.open_lab()
    with later.open_stream() as stream:
        shown = stream.read_until(b"(erased)")
        assert name.encode() not in shown
        assert said.encode() not in shown


def test_what_is_said_in_one_is_read_in_the_other(pair: tuple[SiteProcess, SiteProcess]) -> None:
    # SITE-63: both number the same room, and what is said next mends what an open page has missed.
    one, other = pair
    speaker, reader = Visitor(one.url), Visitor(other.url)
    speaker.open_lab()
    reader.open_lab()
    with reader.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        texts = [(uuid.uuid4().hex, uuid.uuid4().hex) for _ in range(3)]
        for here, there in texts:
            assert speaker.post(here).status == 202
            assert reader.post(there).status == 202
            seen = stream.read_until(here.encode(), there.encode())
            assert seen.index(here.encode()) < seen.index(there.encode())
    # Who was never there reads all of it, from either.
    for site in pair:
        history = Visitor(site.url).page("/partials/chat-history?room=Lobby&limit=50").text
        places = [history.index(text) for pair_of_texts in texts for text in pair_of_texts]
        assert places == sorted(places)
