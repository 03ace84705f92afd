"""The home page: its stage is nobody's until somebody wants it, and its figures are true."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from uuid import uuid4

from actors.accounts import Role
from tests.journeys.visitor import Visitor
from tests.web.accounts.test_entering import register
from tests.web.whole_site import in_thread, open_whole_site
from web.site.measured import MEASURED

FIGURES = Path(__file__).parents[3] / "docs" / "reference" / "performance.md"
_TAB = re.compile(r'id="home-crash"[^>]*data-tab="([0-9a-f-]+)"')


def open_home(visitor: Visitor) -> None:
    found = _TAB.search(visitor.get("/").text)
    assert found
    visitor.tab = found[1]


def crash(visitor: Visitor) -> int:
    command: dict[str, object] = {"commandId": str(uuid4()), "sseTabId": visitor.tab}
    return visitor.command("/api/lab/actors/feed-sink/crash", command).status


async def test_each_is_shown_the_frame_of_what_they_are() -> None:  # SITE-4, PERF-40
    async with open_whole_site() as site:
        member, guest, other = await register(site), site.visitor(), site.visitor()
        grace = await register(site, username="Grace", email="grace@example.org")
        await site.accounts.grant("grace", Role.MODERATOR)
        names, tabs = set[str](), set[str]()
        for visitor in (guest, member, grace, other, member, grace, guest, other):
            page = await in_thread(partial(visitor.get, "/"))
            is_guest = visitor in (guest, other)
            assert ('action="/logout"' in page.text) is not is_guest
            assert ('href="/login?next=%2F"' in page.text) is is_guest
            assert ("moderation-badge" in page.text) is (visitor is grace)
            assert ("<bdi>ada</bdi>" in page.text) is (visitor is member)
            nonces = set(re.findall(r'nonce="([^"]+)"', page.text))
            assert len(nonces) == 1
            assert f"'nonce-{nonces.pop()}'" in page.headers["content-security-policy"]
            name, tab = re.search(r"<bdi>([^<]+)</bdi>", page.text), _TAB.search(page.text)
            assert name is not None
            assert tab is not None
            names.add(name[1])
            tabs.add(tab[1])
        assert (len(names), len(tabs)) == (4, 8)


async def test_a_visit_makes_no_sandbox_and_a_wish_makes_one() -> None:  # SITE-5, LAB-3
    async with open_whole_site() as site:

        def visit() -> None:
            visitor = site.visitor()
            open_home(visitor)
            with visitor.open_stream_of("home") as stream:
                stream.read_until(b'id="proof"')
                assert len(site.web.sandboxes) == 0
                # Nobody breaks the shared one.
                assert crash(visitor) == 409
                look: dict[str, object] = {"sseTabId": visitor.tab, "panel": "tree"}
                assert visitor.command("/api/lab/look", look).status == 202
                stream.read_until(b'data-access="open"')
                assert len(site.web.sandboxes) == 1
                while crash(visitor) != 202:
                    stream.read_until(b'id="pulse"')  # it is still being started
                stream.read_until(b"data-took=", b'data-place="feed-sink"')

        await in_thread(visit)


async def test_a_home_page_that_comes_back_goes_on_with_its_stage() -> None:  # SITE-5
    async with open_whole_site() as site:

        def visit() -> None:
            visitor = site.visitor()
            open_home(visitor)
            visitor.panel = "tree"
            path = visitor.stream_path.replace("%22lab%22", "%22home%22")
            with visitor._open(path) as stream:
                stream.read_until(b'id="proof"', b'id="chip-feed-sink"', b'data-access="open"')

        await in_thread(visit)


def test_every_figure_stands_on_the_page_of_figures() -> None:  # SITE-5
    text = FIGURES.read_text(encoding="utf-8")
    table = text[text.index("## Beside Erlang and Pykka") :]
    for row in MEASURED:
        for figure in (row.ours, *filter(None, row.others)):
            assert figure in table, (row.what, figure)
