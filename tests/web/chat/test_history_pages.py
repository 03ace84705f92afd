"""What was said before the newest messages: a fragment, as far as its reader may see it."""

from __future__ import annotations

import re
from functools import partial

import pytest

from actors.chat import LOBBY
from storage.memory import MemoryChatLog
from storage.testing.chat_log import draft
from tests.journeys.visitor import Answer, Visitor
from tests.web.whole_site import in_thread, open_whole_site

pytestmark = pytest.mark.slow

LINK = "see https://example.org"


def seqs(answer: Answer, pane: str = "you") -> list[int]:
    assert answer.status == 200
    part = answer.text[answer.text.index(f'<ol id="chat-{pane}-') :]
    part = part[: part.index("</ol>")]
    return [int(seq) for seq in re.findall(r'data-seq="(\d+)"', part)]


async def older(visitor: Visitor, query: str) -> Answer:
    return await in_thread(partial(visitor.get, f"/partials/chat-history?{query}"))


async def test_history_is_read_page_by_page() -> None:
    # SITE-73 SITE-68: each message once, in order, and a pending one for its author only
    log = MemoryChatLog()
    await log.ensure_rooms([LOBBY])
    for number in range(59):
        await log.post(draft(f"message {number}", at_s=number / 10))
    async with open_whole_site(log=log) as site:
        author, reader = site.visitor(), site.visitor()
        await in_thread(author.open_lab)
        assert (await in_thread(partial(author.post, LINK))).status == 202
        page = await in_thread(author.open_lab)
        newest = seqs(page)
        assert newest == list(range(11, 61))
        assert f'value="{newest[0]}">Older messages' in page.text
        assert '<p class="older needs-script">' in page.text
        rest = await older(author, "room=Lobby&before=11&limit=7")
        assert seqs(rest) == seqs(rest, "demo") == list(range(4, 11))
        assert 'data-more="true"' in rest.text
        last = await older(author, "before=4")
        assert seqs(last) == [1, 2, 3]
        assert 'data-more="true"' not in last.text
        mine, seen = [await older(one, "limit=2") for one in (author, reader)]
        assert (seqs(mine), seqs(seen)) == ([59, 60], [58, 59])
        assert LINK in mine.text
        assert LINK not in seen.text
        assert seqs(await older(reader, "before=1")) == []
        # Who speaks on within a minute is named once.
        assert rest.text.count("is-continued") == 2 * 6
        for query in ("before=0", "before=-1", "before=x", "before=1_0", "before=", "limit=0"):
            assert (await older(reader, query)).status == 400, query
        assert (await older(reader, "limit=51")).status == 400
        assert (await older(reader, f"before={2**63}")).status == 400
        for room, status in (("lobby", 404), ("", 404), ("Support", 403)):
            assert (await older(reader, f"room={room}")).status == status
