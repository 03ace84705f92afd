"""The mechanism pages on the running site: each shows its panel, and is sent that and no other."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from tests.journeys.visitor import Visitor
from tests.web.whole_site import in_thread, open_whole_site

PAGES = {
    "chat-realtime": ("chat", "chat-demo"),
    "command-sse": ("demos", "demo-counter"),
    "operational-visibility": ("operations", "operations-surface"),
}


def open_page(visitor: Visitor, slug: str) -> str:
    answer = visitor.get(f"/work/{slug}")
    assert answer.status == 200
    found = re.search(r"sseTabId: '([0-9a-f-]+)'", answer.text)
    assert found
    visitor.tab = found[1]
    return answer.text


def path_of(visitor: Visitor, panel: str, room: str = "Lobby") -> str:
    signals = {"sseTabId": visitor.tab, "ssePage": "work", "roomName": room, "labPanel": panel}
    return f"/events?datastar={quote(json.dumps(signals))}"


async def test_every_mechanism_has_its_page() -> None:  # SITE-10 SITE-11 SITE-12 SITE-13
    async with open_whole_site() as site:

        def visit() -> None:
            visitor = site.visitor()
            listed = visitor.get("/work").text
            for slug, (panel, element) in PAGES.items():
                assert f'href="/work/{slug}"' in listed
                text = open_page(visitor, slug)
                assert f"labPanel: '{panel}'" in text
                assert f'id="{element}"' in text
                assert 'role="img" aria-labelledby="diagram-words"' in text
                assert 'href="/docs/reference/requirements#site-' in text
                assert 4 <= len(re.findall(r"<li><h3>", text)) <= 8
            assert visitor.get("/work/another").status == 404
            assert visitor.get("/work/").status == 404

        await in_thread(visit)


async def test_without_documents_no_page_leads_there() -> None:  # SITE-15
    async with open_whole_site(has_documents=False) as site:
        text = await in_thread(lambda: site.visitor().get("/work/command-sse").text)
        assert "/docs" not in text
        assert "SITE-101" in text


async def test_a_page_is_sent_what_it_shows() -> None:  # SITE-10
    async with open_whole_site() as site:

        def visit() -> None:
            visitor = site.visitor()
            open_page(visitor, "operational-visibility")
            with visitor._open(path_of(visitor, "operations")) as stream:
                stream.read_until(b"serverConnected")
                assert visitor.get("/work").status == 200
                seen = stream.read_until(b"/work")
                assert b"chat-you" not in seen
            open_page(visitor, "chat-realtime")
            with visitor._open(path_of(visitor, "chat")) as stream:
                stream.read_until(b"serverConnected")
                values: dict[str, object] = {
                    "chatDemoDraftBody": "hello from a mechanism",
                    "demoClientId": "one",
                    "sseTabId": visitor.tab,
                }
                assert visitor.command("/demo/chat/messages/demo", values).status == 202
                assert b"chip-" not in stream.read_until(b"hello from a mechanism")

        await in_thread(visit)


@pytest.mark.parametrize(("panel", "room"), [("", "Lobby"), ("tree", "Lobby"), ("chat", "Attic")])
async def test_a_stream_of_nothing_there_is_is_refused(panel: str, room: str) -> None:
    async with open_whole_site() as site:

        def visit() -> int:
            visitor = site.visitor()
            open_page(visitor, "chat-realtime")
            with visitor._open(path_of(visitor, panel, room)) as stream:
                return stream.status

        assert await in_thread(visit) == 400
