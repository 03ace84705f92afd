"""What who looks sees; green when goals are told."""

import re
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
import trio
from score import PLAN, Goal, Match

from storage.memory import MemoryDatabase, MemoryEventStore
from web.app import open_site
from web.settings import Settings

# Longer than any goal takes to be seen: then it is not seen at all.
LIMIT_S = 20


@pytest.fixture(scope="module")
def seen() -> list[str]:
    """The score of the page as it is opened, then as its stream tells it behind each goal."""
    found: list[str] = []

    async def main() -> None:
        store = MemoryEventStore(MemoryDatabase())
        async with open_site(PLAN, Settings(port=0), store=store) as site:
            match = site.ref("match", Match)
            browser = build_opener(HTTPCookieProcessor())
            page = (await trio.to_thread.run_sync(browser.open, site.url)).read().decode()
            found.extend(re.findall(r"<b>([^<]*)</b>", page))
            address = re.search(r"@get\('([^']+)'", page)
            assert address is not None
            stream = await trio.to_thread.run_sync(
                browser.open, site.url + address[1].replace("&amp;", "&"), None, LIMIT_S
            )

            def next_score() -> str:
                while True:
                    told = re.search(rb"<b>([^<]*)</b>", stream.readline())
                    if told and told[1].decode() != found[-1]:
                        return told[1].decode()

            for is_home in (True, True, False):
                await match.ask(Goal(is_home))
                found.append(await trio.to_thread.run_sync(next_score))
            stream.close()

    trio.run(main)
    return found


def test_who_opens_the_page_sees_the_score(seen: list[str]) -> None:
    assert seen[0] == "0 : 0"


def test_who_has_it_open_sees_each_goal(seen: list[str]) -> None:
    assert seen[1:] == ["1 : 0", "2 : 0", "2 : 1"]
