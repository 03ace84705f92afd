"""What is said to a search server, and who is not taken for one; no server is needed (PROJ-13)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import h11
import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Secret
from storage.errors import InvalidField, StoreUnavailable
from storage.search import (
    SearchRefused,
    SearchRejected,
    SearchSettings,
    open_search,
)
from storage.search.questions import BULK_ITEMS_MAX, alias_of, bulk_lines
from tests.web.server.certificate import make_context

SECRET = "canary-of-search"
OPENSEARCH = b'{"version": {"distribution": "opensearch", "number": "2.19.1"}}'
OLD = b'{"version": {"number": "7.9.3"}}'


class Host:
    """Answers each request with the next of `answers`, and the last one again and again."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Speak HTTP on one connection until the other side ends it."""
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                match connection.next_event():
                    case h11.NEED_DATA:
                        connection.receive_data(bytes(await stream.receive_some(65_536)))
                    case h11.Request(headers=headers, target=target):
                        asked = {name.decode(): value.decode() for name, value in headers}
                        self.asked.append({"target": target.decode(), **asked})
                    case h11.EndOfMessage():
                        status, body = (
                            self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                        )
                        head = [("content-length", str(len(body)))]
                        said = [h11.Response(status_code=status, headers=head), h11.Data(data=body)]
                        for event in (*said, h11.EndOfMessage()):
                            await stream.send_all(connection.send(event) or b"")
                        connection.start_next_cycle()
                    case h11.ConnectionClosed():
                        return
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # whoever called does not trust it, or has enough of it
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def serving(host: Host, tls: ssl.SSLContext | None = None) -> AsyncIterator[SearchSettings]:
    """Be a server as long as the block."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        listening = listener if tls is None else trio.SSLListener(listener, tls)
        nursery.start_soon(trio.serve_listeners, host.serve, [listening])
        yield SearchSettings("127.0.0.1" if tls is None else "localhost", port, is_tls=bool(tls))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": "ann", "password": Secret(SECRET)}, "Basic YW5uOmNhbmFyeS1vZi1zZWFyY2g="),
        ({"api_key": Secret(SECRET)}, f"ApiKey {SECRET}"),
        ({"path": "/behind"}, ""),
    ],
)
async def test_who_asks_says_who_it_is(given: dict[str, object], said: str) -> None:
    # PROJ-13: with each request, and nowhere else
    host = Host((200, OPENSEARCH))
    async with serving(host) as plain:
        settings = replace(plain, **given)  # type: ignore[arg-type]
        async with open_search(settings) as client:
            assert await client.check() == "opensearch 2.19.1"
    assert [one.get("authorization", "") for one in host.asked] == [said] * 2
    assert {one["target"] for one in host.asked} == {f"{settings.path}/"}
    assert SECRET not in repr(settings) + settings.place


async def test_by_tls_only_who_is_trusted_is_spoken_to(tmp_path: Path) -> None:
    # PROJ-13
    tls = make_context(tmp_path)
    host = Host((200, OPENSEARCH))
    async with serving(host, tls) as settings:
        async with open_search(replace(settings, ca_file=tmp_path / "cert")) as client:
            assert await client.check() == "opensearch 2.19.1"
        with pytest.raises(SearchRejected, match="certificate"):
            await begin(settings)
        with pytest.raises(StoreUnavailable):
            await begin(replace(settings, is_tls=False), wait_s=0)
    assert len(host.asked) == 2
    with pytest.raises(OSError, match="No such file"):
        await begin(replace(settings, ca_file=tmp_path / "nothing"))


async def begin(settings: SearchSettings, wait_s: float = 30.0) -> None:
    """Open a client, and leave it."""
    async with open_search(settings, wait_s=wait_s):
        pass


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, b'{"error": {"type": "security_exception"}}'), "401 to these credentials"),
        ((403, b"go away"), "403 to these credentials"),
        ((200, b"<html>hello</html>"), "no search server"),
        ((200, b'{"hello": "world"}'), "no search server"),
        ((200, OLD), "elasticsearch 7.9.3"),
        ((200, b'{"version": {"distribution": "other", "number": "9"}}'), "other 9"),
    ],
)
async def test_what_cannot_be_used_is_refused_at_once(answer: tuple[int, bytes], why: str) -> None:
    # PROJ-13: at the start, with a reason, and without the secret
    host = Host(answer)
    async with serving(host) as settings:
        with pytest.raises(SearchRejected, match=why) as refused:
            await begin(replace(settings, api_key=Secret(SECRET)))
    assert SECRET not in str(refused.value)
    assert len(host.asked) == 1


@pytest.mark.parametrize("number", [b"7.10.2", b"8.15.0-SNAPSHOT", b"9.0.0"])
async def test_versions_that_speak_alike_are_known(number: bytes) -> None:
    # PROJ-13
    async with serving(Host((200, OLD.replace(b"7.9.3", number)))) as settings:
        await begin(settings)


async def test_who_is_away_at_the_start_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    # PROJ-13: a while
    settings = SearchSettings("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="no connection"):
        await begin(settings, wait_s=3.0)
    assert 2.0 <= trio.current_time() <= 3.0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, b'{"error": {"type": "bad", "reason": "canary-of-search"}}'), SearchRefused),
        ((429, b'{"error": {"type": "circuit_breaking_exception"}}'), StoreUnavailable),
        ((403, b'{"error": {"type": "cluster_block_exception"}}'), StoreUnavailable),
        ((502, b"<html>bad gateway</html>"), StoreUnavailable),
        ((400, b'{"error": "no handler found"}'), SearchRefused),
        ((200, b"<html>a page for people</html>"), StoreUnavailable),
    ],
)
async def test_what_an_answer_says_is_told_without_what_it_quotes(
    answer: tuple[int, bytes], error: type[Exception]
) -> None:
    # PROJ-13: what may pass is told as a store that is away
    async with (
        serving(Host((200, OPENSEARCH), answer)) as settings,
        open_search(settings) as client,
    ):
        with pytest.raises(error) as told:
            await client.ask("GET", "/x", answer=dict)
        assert SECRET not in str(told.value)
        assert client.statistics().asked == 1


async def test_a_request_whose_answer_is_lost_is_sent_once() -> None:
    # PROJ-13: whether it was done is not known
    class HangsUp(Host):
        async def serve(self, stream: trio.abc.Stream) -> None:
            """Read, and end."""
            self.asked.append({"read": str(len(await stream.receive_some(65_536)))})
            await stream.aclose()

    rude = HangsUp((200, b""))
    async with serving(rude) as settings:
        with pytest.raises(StoreUnavailable) as away:
            await begin(settings, wait_s=0)
        assert len(rude.asked) == 1
        assert not away.value.nothing_written


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://one", SearchSettings("one")),
        ("https://one:7/", SearchSettings("one", 7, is_tls=True)),
        (
            "https://a%40b:c%2Fd@one/x/y",
            SearchSettings("one", 9200, "/x/y", "a@b", Secret("c/d"), is_tls=True),
        ),
        ("http://[::1]:9", SearchSettings("::1", 9)),
    ],
)
def test_an_address_is_read(url: str, settings: SearchSettings) -> None:
    assert SearchSettings.of(Secret(url)) == settings
    assert "c/d" not in SearchSettings.of(Secret(url)).place


@pytest.mark.parametrize(
    "url",
    ["", "one", "redis://one", "http://", "http://one:0", "http://one:99999999", "http://one?a=b",
     "http://ann@one", "http://:x@one", "http://one#x", "http://[::1"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidField):
        SearchSettings.of(Secret(url))
    with pytest.raises(InvalidField):
        SearchSettings.of(Secret("http://a:b@one"), api_key=Secret("x"))


def test_names_of_indices_are_such_and_apart() -> None:
    # PROJ-13: small letters, few signs, 255 bytes
    names = ["orders__g1", "Orders__g1", "ORDERS__g1", "or-ders__g1", "@a/orders__g1", "ö" * 300]
    names += ["..", "orders__g1-n0", "", "x" * 101]
    found = {alias_of("p-", name) for name in names}
    assert len(found) == len(names)
    for one in found:
        assert one == one.lower()
        assert len(one.encode()) < 200
        assert not set(one) & set('\\/*?"<>| ,#:')


def test_a_batch_is_cut_by_items_and_by_bytes() -> None:
    # PROJ-13
    many: list[tuple[str, dict[str, object]]] = [(f"k{number}", {}) for number in range(1001)]
    pieces = list(bulk_lines(many, 7))
    assert [len(keys) for keys, _ in pieces] == [BULK_ITEMS_MAX, BULK_ITEMS_MAX, 1]
    assert b'"version":7,"version_type":"external"' in pieces[0][1]
    large: list[tuple[str, dict[str, object]]] = [
        (f"k{n}", {"x": "y" * 3_000_000}) for n in range(3)
    ]
    assert [len(keys) for keys, _ in bulk_lines(large, 1)] == [1, 1, 1]
