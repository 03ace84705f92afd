"""What a page costs on the wire: when it loads, and when its stream comes back."""

from __future__ import annotations

import gzip
import re
import zlib
from functools import partial
from pathlib import Path

import pytest

from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.settings import Compression, Settings
from web.views import load
from web.wiring.frame.probes import ready_answers

# A reconnect of a page that misses nothing; a whole window and tree are ten times that.
RECONNECT_BYTES_MAX = 5 * 1024
# Of a first visit to /lab: the page, its files, and its stream until it is live.
LAB_BYTES_MAX = 60 * 1024
_BUILD = Path(__file__).parents[3] / "build"
_DATASTAR = _BUILD / "datastar" / "datastar.js"
_HEADING = _BUILD / "heading" / "heading.ttf"
GZIP = {"accept-encoding": "gzip, deflate, br"}
_HOLDS = re.compile(r'data-holds="([^"]+)" data-mark="([^"]+)"')
_MARK = re.compile(r'id="chat-you-[0-9a-f-]{36}"[^>]* data-mark="([^"]+)"')


def holds_of(page: Answer) -> str:
    """What `holds` in web/views/static/connection.js says of a page that was just loaded."""
    said = [f"{panel}={mark}" for panel, mark in _HOLDS.findall(page.text)]
    return ";".join([*said, "chat=" + ",".join(_MARK.findall(page.text))])


def fill(site: WholeSite) -> Visitor:
    """Fifty messages of somebody."""
    author = site.visitor()
    author.open_lab()
    for number in range(50):
        assert author.post(f"message {number} of somebody who has a little to say").status == 202
    return author


def heard(stream: OpenStream, author: Visitor, word: str) -> bytes:
    """All that the stream brought up to a message that is posted now."""
    assert author.post(word).status == 202
    return stream.read_until(word.encode())


async def test_a_page_that_comes_back_costs_little() -> None:  # SITE-91, WEB-42
    async with open_whole_site() as site:
        author = await in_thread(lambda: fill(site))
        reader = site.visitor()
        reader.panel = "site"  # a page says which one it has open, and is sent no other

        def visit() -> tuple[bytes, bytes, bytes]:
            page = reader.open_lab()
            holds = holds_of(page)
            with reader.open_stream(**{"x-page-holds": holds}) as stream:
                first = heard(stream, author, "the first word")
            page = reader.get("/lab")
            with reader.open_stream(**{"x-page-holds": holds_of(page)}) as stream:
                again = heard(stream, author, "the second word")
            with reader.open_stream() as stream:
                everything = heard(stream, author, "the third word")
            return first, again, everything

        first, again, everything = await in_thread(visit)
    for seen in (first, again):
        assert b"of somebody who has" not in seen
        assert len(seen) < RECONNECT_BYTES_MAX
    assert everything.count(b"of somebody who has") >= 2 * 45


def size_of(answer: Answer) -> int:
    """What an answer takes on the wire: its body, and a head as the server writes it."""
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    return len(f"HTTP/1.1 {answer.status} OK\r\n{head}\r\n") + len(answer.body)


def bytes_until(stream: OpenStream, *parts: bytes) -> int:
    """How much of a compressed stream comes, with its head, until all parts have been seen."""
    assert stream.header("content-encoding") == "gzip"
    came, seen, reader = len(bytes(stream.response.headers)), b"", zlib.decompressobj(31)
    while not all(part in seen for part in parts):
        piece = stream.response.read1()
        assert piece, f"the stream ended after {seen!r}"
        came, seen = came + len(piece), seen + reader.decompress(piece)
    return came


def files_of(page: str) -> list[str]:
    """All that a browser with scripts loads by itself for a page, without what a tab loads."""
    seen = re.sub(r"<noscript>.*?</noscript>", "", page, flags=re.DOTALL)
    found = re.findall(
        r'<(?:link rel="(?:stylesheet|icon)"|script)[^>]* (?:href|src)="([^"]+)"', seen
    )
    # Of the two icons a browser takes one.
    return [one for one in dict.fromkeys(found) if one != "/favicon.ico"]


def bytes_of_files(page: str) -> int:
    """What the bodies of a page's files take, as they are shipped: a site of a test has others."""
    table = load(_DATASTAR, font=_HEADING if _HEADING.is_file() else None)
    answers = ready_answers(table, "1", robots=b"")
    total = 0
    for path in files_of(page):
        name = re.sub(r"\.[0-9a-f]{12}\.", ".", path.removeprefix("/static/"))
        found = answers(table.url(name))
        assert found is not None, path
        total += len((found.gzip or found).body)
    return total


async def test_a_first_visit_to_the_lab_costs_little() -> None:  # LAB-80
    async with open_whole_site() as site:
        await in_thread(lambda: fill(site))
        reader = site.visitor()

        def visit() -> tuple[Answer, Answer, Answer, Answer, int, int]:
            first = reader.get("/lab", **GZIP)
            reader.open_lab()
            plain, packed = reader.get("/lab"), reader.get("/lab", **GZIP)
            head = reader.request("HEAD", "/lab", headers=GZIP)
            holds = holds_of(plain)
            reader.panel = "tree"
            with reader.open_stream(**{"x-page-holds": holds}, **GZIP) as stream:
                live = bytes_until(stream, b"sseConnected", b"stage-state", b"pulse")
            asked = [reader.get(one, **GZIP) for one in files_of(plain.text)]
            heads = sum(size_of(one) - len(one.body) for one in asked)
            return first, plain, packed, head, live, heads

        first, plain, packed, head, live, heads = await in_thread(visit)
    page = gzip.decompress(packed.body)
    assert page.count(b"of somebody who has") == plain.body.count(b"of somebody who has") == 100
    assert packed.headers["content-encoding"] == head.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["vary"]
    assert head.body == b""
    files = bytes_of_files(plain.text) + heads
    total = size_of(first) + live + files
    assert total < LAB_BYTES_MAX, f"{total} bytes: page {size_of(first)}, files {files}"


async def test_what_a_tab_alone_needs_is_not_loaded_before_it_is_opened() -> None:  # LAB-80
    async with open_whole_site() as site:
        reader = site.visitor()
        page = (await in_thread(lambda: reader.get("/lab"))).text
    names = {one.rsplit("/")[-1].split(".")[0] for one in files_of(page)}
    assert {"app", "live", "lab_chat", "datastar"} <= names
    assert not names & {"burst", "panels", "timeline", "demos", "tree", "forms", "crash"}
    # Who has no scripts sees all panels at once, and needs the styles of all.
    plain = "".join(re.findall(r"<noscript>(.*?)</noscript>", page, flags=re.DOTALL))
    for name in ("panels", "timeline", "demos", "tree", "forms"):
        assert re.search(rf'<link rel="stylesheet" href="/static/{name}\.', plain)


async def test_no_secret_stands_twice_in_what_is_compressed() -> None:  # SEC-32
    """What is the same in two answers to one visitor, and in none to another, is no secret."""
    async with open_whole_site() as site:
        author = await in_thread(lambda: fill(site))

        def words(path: str) -> list[set[str]]:
            other = site.visitor()
            other.get("/lab")
            pages = [author.get(path), author.get(path), other.get(path)]
            return [set(re.findall(r"[A-Za-z0-9+/_=.-]{12,}", page.text)) for page in pages]

        for path in ("/", "/lab"):
            first, second, others = await in_thread(partial(words, path))
            # Marks tell an own message from another's, and nothing of who it is.
            constant = {
                word for word in first & second - others if not word.startswith("data-mark")
            }
            assert not constant
            cookie = next(iter(author.cookies.values()))
            assert not any(part in word for word in first for part in cookie.split("."))


async def test_compression_can_be_left_to_a_proxy() -> None:
    async with open_whole_site(settings=Settings(port=0, compression=Compression.OFF)) as site:
        reader = site.visitor()

        def visit() -> list[str | None]:
            page = reader.get("/lab", **GZIP)
            reader.open_lab()
            with reader.open_stream(**GZIP) as stream:
                return [page.headers.get("content-encoding"), stream.header("content-encoding")]

        assert await in_thread(visit) == [None, None]


@pytest.mark.parametrize("is_gzip", [False, True])
async def test_a_head_of_a_stream_says_what_a_get_would(is_gzip: bool) -> None:
    async with open_whole_site() as site:
        reader = site.visitor()

        def visit() -> tuple[str | None, str | None]:
            reader.open_lab()
            headers = GZIP if is_gzip else {}
            with reader.open_stream(**headers) as stream:
                head = reader.request("HEAD", reader.stream_path, headers=headers)
                return stream.header("content-encoding"), head.headers.get("content-encoding")

        found = await in_thread(visit)
    assert found == (("gzip",) * 2 if is_gzip else (None,) * 2)
