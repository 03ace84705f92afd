"""What a page costs on the wire: when it loads, and when its stream comes back."""

from __future__ import annotations

import re

from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.web.whole_site import WholeSite, in_thread, open_whole_site

# A reconnect of a page that misses nothing; a whole window and tree are ten times that.
RECONNECT_BYTES_MAX = 5 * 1024
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
