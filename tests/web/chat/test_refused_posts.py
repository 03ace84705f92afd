"""A refused post loses nothing: the form comes back with its text, an open page is told why."""

from __future__ import annotations

import html
import json
import re
import uuid
from functools import partial

import pytest
from structlog.testing import capture_logs

from actors.chat import Decided, Decision
from actors.chat.policy import WAITING_PER_AUTHOR_MAX
from storage.memory import MemoryChatLog
from storage.testing.chat_log import moderator_in_memory, verdict
from tests.journeys.visitor import Answer, Visitor
from tests.patience import until
from tests.web.whole_site import in_thread, open_whole_site

pytestmark = pytest.mark.slow

PATH = "/demo/chat/messages/demo"
HOSTILE = "</textarea><b>bold</b> {{ 7*7 }} & so on"


def fields_of(page: Answer, text: str) -> dict[str, str]:
    """What the demo user's composer on a page sends without scripts."""
    form = page.text.partition('id="chat-demo-composer"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    return {**fields, "chatDemoDraftBody": text}


def brought(page: Answer, pane: str = "demo") -> tuple[str, str]:
    """The text in a composer, and the words beside it."""
    form = page.text[page.text.index(f'id="chat-{pane}-composer"') :]
    draft = re.search(r"<textarea[^>]*>(.*?)</textarea>", form, re.DOTALL)
    note = re.search(r'<p id="chat-\w+-note"[^>]*>(.*?)</p>', form, re.DOTALL)
    assert draft
    assert note
    return html.unescape(draft.group(1)), html.unescape(note.group(1))


async def send(visitor: Visitor, page: Answer, text: str) -> Answer:
    return await in_thread(partial(visitor.form, PATH, fields_of(page, text)))


async def test_a_refused_form_comes_back_with_its_text() -> None:
    # SITE-64: what is wrong beside it, and the page that brings it back works on
    log = MemoryChatLog()
    async with open_whole_site(log=log) as site:
        visitor = site.visitor()
        page = await in_thread(visitor.open_lab)
        long = HOSTILE + "x" * (1001 - len(HOSTILE))
        again = await send(visitor, page, long)
        assert again.status == 422
        draft, note = brought(again)
        assert draft == long
        assert "at most 1000 characters; this has 1001" in note
        assert "<b>bold" not in again.text
        assert (await send(visitor, again, long[:-1])).status == 303
        # It waits for review, and whoever shows the queue reads it: no failure below is theirs.
        await until(lambda: site.web.badge_readers.count == 1)
        # Nobody is given another's text, nor the same visitor on another page.
        other = await in_thread(site.visitor().open_lab)
        shown = await in_thread(visitor.open_lab)
        assert brought(other) == brought(shown) == ("", "")
        # A tab that nobody knows: the page of the answer has one.
        unknown = {**fields_of(shown, "hello"), "sseTabId": str(uuid.uuid4()), "roomName": ""}
        again = await in_thread(partial(visitor.form, PATH, unknown))
        assert again.status == 412
        assert brought(again)[0] == "hello"
        assert "cookie" in brought(again)[1]
        # SITE-66: what found no store may be stored; sent again with its id it is stored once.
        with capture_logs() as lines:
            log.fail_next()
            lost = await send(visitor, again, "hello")
            for _ in range(3):
                log.fail_next()
                assert (await send(visitor, lost, "hello")).status == 503
        # SITE-155: with the store away each of them comes again and again: told once, and counted
        told = [line["log_level"] for line in lines if line["event"] == "request.unavailable"]
        assert told == ["warning", "debug", "debug", "debug"]
        assert not [line for line in lines if line["log_level"] == "error"]
        assert lost.status == 503
        assert brought(lost)[0] == "hello"
        assert fields_of(lost, "")["demoClientId"] == fields_of(again, "")["demoClientId"]
        for _ in range(2):
            assert (await send(visitor, lost, "hello")).status == 303
        shown = await in_thread(visitor.open_lab)
        assert shown.text.count('<p class="body" dir="auto">hello</p>') == 2, "once in each pane"
        # SITE-67: nine more may wait beside it, and then none.
        for _ in range(WAITING_PER_AUTHOR_MAX):
            further = {**fields_of(page, long[:-1]), "demoClientId": str(uuid.uuid4())}
            again = await in_thread(partial(visitor.form, PATH, further))
        assert (again.status, again.headers["retry-after"]) == (429, "60")
        assert brought(again)[0] == long[:-1]
        assert "10 of your messages wait for a moderator" in brought(again)[1]
        # SITE-101: on an open page as well, and nothing counts seconds there that nobody knows.
        with await in_thread(visitor.open_stream) as stream:
            one_more: dict[str, object] = {
                "chatDemoDraftBody": long[:-1],
                "demoClientId": str(uuid.uuid4()),
                "sseTabId": visitor.tab,
            }
            refused = await in_thread(partial(visitor.command, PATH, one_more))
            came = await in_thread(partial(stream.read_until, b"wait for a moderator"))
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
        assert b'"transportErrorRetryAfter":60' not in came


async def test_who_posts_too_often_is_told_the_seconds() -> None:
    # SITE-64 SITE-65 SITE-101: with the text again, or on the open page at its composer
    async with open_whole_site(posts_max=1) as site:
        visitor = site.visitor()
        page = await in_thread(visitor.open_lab)
        with await in_thread(visitor.open_stream) as stream:
            answers = []
            for text in ("first", "second", "x" * 1001):
                values: dict[str, object] = {
                    "chatDemoDraftBody": text,
                    "demoClientId": str(uuid.uuid4()),
                    "sseTabId": visitor.tab,
                }
                answers.append(await in_thread(partial(visitor.command, PATH, values)))
            told = await in_thread(partial(stream.read_until, b"this has 1001"))
        again = await send(visitor, page, "third")
    assert [(one.status, one.body) for one in answers] == [(202, b""), (429, b""), (400, b"")]
    # AUTH-40: as all that is limited, to the page and without scripts
    for one in (answers[1], again):
        assert one.headers["ratelimit-policy"] == '"chat-post";q=1;w=10'
        assert one.headers["ratelimit"] == f'"chat-post";r=0;t={one.headers["retry-after"]}'
    signals = [
        json.loads(one)
        for one in re.findall(rb"data: signals (.*)", told)
        if b"transportErrorStatus" in one
    ]
    assert [one["transportErrorSource"] for one in signals] == ["chat-demo"] * 2
    wait = int(answers[1].headers["retry-after"])
    assert signals[0]["transportErrorRetryAfter"] == wait > 0
    assert f"in {wait} s" in signals[0]["transportErrorMessage"]
    assert again.status == 429
    assert brought(again)[0] == "third"
    assert f"send it again in {again.headers['retry-after']} s" in brought(again)[1]


async def test_a_page_of_another_node_posts_on_here() -> None:
    # CLU-41: its stream ends there while the balancer sends its posts here already
    async with open_whole_site() as site:
        visitor = site.visitor()
        shown_before = await in_thread(visitor.open_lab)
        values: dict[str, object] = {
            "chatDemoDraftBody": "from elsewhere",
            "demoClientId": str(uuid.uuid4()),
            "sseTabId": str(uuid.uuid4()),
        }
        answers = [
            await in_thread(partial(visitor.command, PATH, {**values, **more}))
            for more in ({}, {"roomName": "nowhere"}, {"roomName": "Lobby"}, {})
        ]
        members_only = {**values, "sseTabId": str(uuid.uuid4()), "roomName": "Support"}
        refused = await in_thread(partial(visitor.command, PATH, members_only))
        # A page without scripts says it by its form, and shows what was said.
        page = await in_thread(site.visitor().open_lab)
        form = {**fields_of(page, "without scripts"), "csrf": fields_of(shown_before, "")["csrf"]}
        by_form = await in_thread(partial(visitor.form, PATH, form))
        shown = await in_thread(visitor.open_lab)
    assert [one.status for one in answers] == [412, 412, 202, 202]
    # The answer clears the composer, for no stream of this page is here to do it.
    signals = json.loads(answers[2].body)
    assert (signals["chatDemoDraftBody"], len(signals["demoClientId"])) == ("", 36)
    assert refused.status == 403
    assert by_form.status == 303
    assert shown.text.count('<p class="body" dir="auto">without scripts</p>') == 2
    assert shown.text.count('<p class="body" dir="auto">from elsewhere</p>') == 2, "once a pane"


async def test_what_is_written_behind_a_lost_answer_is_a_message_of_its_own() -> None:
    """SITE-64 SITE-66: a page that heard no answer has the id of its former post still."""
    async with open_whole_site() as site:
        visitor = site.visitor()
        page = await in_thread(visitor.open_lab)
        client_id = str(uuid.uuid4())
        posted = [
            await in_thread(partial(visitor.post, text, client_id))
            for text in ("the first", " the first ", "changed", "changed", "the first", "again")
        ]
        # By a form too: who goes back in their browser writes into the one they have sent.
        forms = [await send(visitor, page, text) for text in ("by form", "went back", "went back")]
        shown = await in_thread(visitor.open_lab)
    assert [one.status for one in posted] == [202] * 6
    assert [one.status for one in forms] == [303] * 3
    for text in ("the first", "changed", "again", "by form", "went back"):
        assert shown.text.count(f'<p class="body" dir="auto">{text}</p>') == 2, "once a pane"


async def test_a_message_that_was_taken_away_does_not_come_back() -> None:
    """SITE-66: the page did not hear that it came in, nor that it went; its text may differ."""
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        client_id, moderated = str(uuid.uuid4()), moderator_in_memory(site.log)
        await in_thread(partial(visitor.post, "regretted https://a.example", client_id))
        (waits,) = (await moderated.waiting()).messages
        taken = await moderated.moderate(verdict(waits.message.id, Decision.REMOVE))
        assert isinstance(taken, Decided)
        again = await in_thread(partial(visitor.post, "regretted https://b.example", client_id))
        waiting = (await moderated.waiting()).messages
    assert again.status == 202
    assert not waiting
