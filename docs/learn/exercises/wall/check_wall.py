"""What visitors see of the wall; green when its form is taken."""

from collections.abc import Callable
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
import trio
from wall import PLAN

from storage.memory import MemoryDatabase, MemoryEventStore
from web.app import open_site
from web.settings import Settings

Post = Callable[[str], tuple[int, str]]


def visited(walk: Callable[[Post], None]) -> None:
    """Run the site, and be a browser at it."""

    def browse(url: str) -> None:
        browser = build_opener(HTTPCookieProcessor())
        browser.open(url).close()

        def post(text: str) -> tuple[int, str]:
            data = urlencode({"text": text}).encode()
            try:
                with browser.open(Request(url, data, {"sec-fetch-site": "same-origin"})) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as refused:
                with refused:
                    return refused.code, refused.read().decode()

        walk(post)

    async def main() -> None:
        store = MemoryEventStore(MemoryDatabase())
        async with open_site(PLAN, Settings(port=0), store=store) as site:
            await trio.to_thread.run_sync(browse, site.url)

    trio.run(main)


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}

    def walk(post: Post) -> None:
        for text in ("", "x" * 81, "hello", "<b>bold</b>", "x" * 80):
            found[text] = post(text)

    visited(walk)
    return found


def test_what_was_written_is_shown(said: dict[str, tuple[int, str]]) -> None:
    assert said["hello"][0] == 200  # the browser has followed to the page
    assert "<li>hello</li>" in said["hello"][1]


def test_markup_is_text(said: dict[str, tuple[int, str]]) -> None:
    assert "<li>&lt;b&gt;bold&lt;/b&gt;</li>" in said["<b>bold</b>"][1]


def test_nothing_and_too_much_are_refused(said: dict[str, tuple[int, str]]) -> None:
    assert (said[""][0], said["x" * 81][0]) == (422, 422)
    assert said["x" * 80][1].count("<li>") == 3
