"""The demos of a whole site: counted, run and asked as pages do, and as a page without scripts."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import urlencode

import pytest
import trio

from tests.journeys.visitor import Answer, Visitor
from tests.patience import FOR_EVER_S, until
from tests.web.accounts.test_entering import PASSWORD, form, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.lab.demos import desk
from web.lab.demos.errands import ORIGINAL, WAITING_MAX
from web.lab.demos.panels import PANELS
from web.lab.demos.routes import ASKED_PER_SESSION_MAX
from web.lab.stage.actions import OPERATIONS
from web.server import cookie_name

pytestmark = pytest.mark.slow

COUNTER = "/demo/counter"


def send(visitor: Visitor, path: str, **values: object) -> Answer:
    answer = visitor.command(path, {"sseTabId": visitor.tab, **values})
    assert answer.body == b"", "a command answers a bare status"  # SITE-101
    return answer


def status(visitor: Visitor, path: str, **values: object) -> int:
    return send(visitor, path, **values).status


async def lab(site: WholeSite) -> Visitor:
    visitor = site.visitor()
    visitor.panel = OPERATIONS
    await in_thread(visitor.open_lab)
    return visitor


async def test_the_counter_is_one_for_all_tabs_and_each_command_counts_once() -> None:
    # SITE-101, SITE-102, SITE-103
    async with open_whole_site() as site:
        one = await lab(site)
        two = Visitor(site.url, dict(one.cookies), panel=OPERATIONS)
        await in_thread(two.open_lab)

        def act() -> None:
            assert status(one, COUNTER, commandId="early", delta=1) == 428
            with one.open_stream() as mine, two.open_stream() as theirs:
                mine.read_until(b'"count":0,"serverCount":0')
                theirs.read_until(b'"serverCount":0')
                assert status(one, COUNTER, commandId="early", delta=1) == 202
                assert status(two, COUNTER, commandId="a", delta=41) == 202
                assert status(one, COUNTER, commandId="a", delta=41) == 202, "a repeat"
                for stream in (mine, theirs):
                    stream.read_until(b'"serverCount":42}')
                assert status(one, COUNTER, commandId="b", delta=-100) == 202
                for stream in (mine, theirs):
                    stream.read_until(b'"serverCount":0}')
                for wrong in (0, 101, -101, "1", 1.5, True, None):
                    assert status(one, COUNTER, commandId="c", delta=wrong) == 400, wrong
                assert status(one, COUNTER, delta=1) == 400
                assert status(one, COUNTER, commandId="", delta=1) == 400
                assert status(one, COUNTER, commandId="x" * 129, delta=1) == 400
                assert status(one, COUNTER, commandId="c", delta=7) == 202, "no refused one counts"
                mine.read_until(b'"serverCount":7}')

        await in_thread(act)
        await until(lambda: len(site.web.demos.counters) == 0)


async def test_without_scripts_the_number_stands_on_the_page() -> None:  # SITE-19, SITE-103
    async with open_whole_site() as site:
        visitor = await lab(site)

        def act() -> list[str]:
            found = []
            for delta in ("1", "1", "-1", "100", "nothing"):
                page = visitor.page("/lab").text
                part = page.partition('action="/demo/counter"')[2].partition("</form>")[0]
                fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', part))
                answer = visitor.form(COUNTER, {**fields, "delta": delta})
                shown = re.search(r'<output id="demo-count"[^>]*>(\d+)<', visitor.page("/lab").text)
                assert shown
                found.append(f"{answer.status} {shown[1]}")
            return found

        assert await in_thread(act) == ["303 1", "303 2", "303 1", "422 1", "422 1"]


def fields_of(page: str) -> dict[str, str]:
    """What the form that the buttons of the errands belong to sends."""
    found = re.search(r'<button [^>]*form="([a-z-]+)" formaction="/demo/', page)
    own = "demo-errands" if found is None else found[1]
    part = page.partition(f'<form id="{own}"')[2].partition("</form>")[0]
    # The name of a button is sent only by that button.
    return dict(re.findall(r'<input [^>]*name="(\w+)" value="([^"]*)"', part))


def said_on(page: str) -> tuple[str, str]:
    """What a page of the errands says: what is done, and what became of the others."""
    texts = dict(re.findall(r'id="demo-(message|status)"[^>]*>([^<]*)<', page))
    return texts["message"], texts.get("status", "")


GUARDED, CANCEL, ERRANDS = "/demo/guarded", "/demo/cancel", "/demo/errands"


@pytest.fixture
def long_errands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none end by itself while a test fills the queue behind it."""
    monkeypatch.setattr(desk, "RUN_S", FOR_EVER_S)
    monkeypatch.setattr(desk, "PLAIN_RUN_S", FOR_EVER_S)


@pytest.mark.usefixtures("long_errands")
async def test_without_scripts_a_page_says_what_runs_and_another_form_cancels_it() -> None:
    # SITE-19, SITE-101, SITE-102, SITE-104, SITE-105
    async with open_whole_site() as site:
        visitor, other = await lab(site), await lab(site)

        def click(path: str, page: str) -> Answer:
            answer = visitor.form(path, fields_of(page))
            assert (answer.status, answer.headers["location"]) == (303, ERRANDS)
            assert answer.body == b""
            return visitor.get(ERRANDS)

        def act() -> None:
            assert said_on(visitor.get(ERRANDS).text) == (ORIGINAL, "")
            work = visitor.get("/work/command-sse").text
            page = click(GUARDED, work).text
            assert said_on(page) == ("Working on #1 …", "running #1")
            assert said_on(visitor.get(ERRANDS).text)[1] == "running #1", "it is looked at again"
            page = click(GUARDED, page).text
            assert said_on(page)[1] == "running #1 · queued #2"
            again = page
            page = click(CANCEL, page).text
            assert said_on(page) == ("Working on #3 …", "cancelled #1 · running #3 · queued #2")
            page = click(CANCEL, again).text
            assert "running #3" in said_on(page)[1], "a repeat changes nothing"
            assert said_on(other.get(ERRANDS).text) == (ORIGINAL, ""), "they are another's"
            lab_page = visitor.page("/lab").text
            assert "running #" not in lab_page, "with scripts it is the page's own errands"
            assert 'href="/demo/errands"' in lab_page

        await in_thread(act)


@pytest.mark.usefixtures("long_errands")
async def test_without_scripts_too_many_are_refused_and_nonsense_says_so() -> None:
    # SITE-19, SITE-104
    async with open_whole_site() as site:
        visitor = await lab(site)

        def act() -> None:
            for _ in range(WAITING_MAX + 1):
                assert visitor.form(GUARDED, fields_of(visitor.get(ERRANDS).text)).status == 303
            page = visitor.get(ERRANDS).text
            full = visitor.form(GUARDED, fields_of(page))
            assert (full.status, full.headers["retry-after"]) == (429, "10")
            assert "<h1" in full.text, "a page tells it"
            assert said_on(visitor.get(ERRANDS).text) == said_on(page), "nothing was changed"
            fine = fields_of(page)
            for wrong, status_ in (
                ({**fine, "commandId": ""}, 422),
                ({**fine, "commandId": "x" * 129}, 422),
                ({"sseTabId": fine["sseTabId"], "csrf": fine["csrf"]}, 422),
                ({**fine, "sseTabId": "nonsense"}, 400),
            ):
                for path in (GUARDED, CANCEL):
                    assert visitor.form(path, wrong).status == status_, (path, wrong)
            # Of a browser that does not say where a form comes from.
            kind = {"content-type": "application/x-www-form-urlencoded"}
            for token, expected in (("forged", 403), ("", 403), (fine["csrf"], 429)):
                body = urlencode({**fine, "csrf": token}).encode()
                assert visitor.request("POST", GUARDED, body, kind).status == expected
            assert said_on(visitor.get(ERRANDS).text) == said_on(page), "nothing was changed"

        await in_thread(act)


async def test_nobody_makes_errands_without_end_and_a_look_makes_nothing() -> None:
    # SITE-19, SITE-106
    async with open_whole_site() as site:
        visitor = await lab(site)

        def desks() -> list[str]:
            actors = trio.from_thread.run_sync(site.directory.tree.snapshot).actors
            return [one.path for one in actors if one.parent == "site/desks"]

        def act() -> None:
            for _ in range(3):
                assert visitor.get(ERRANDS).status == 200
            assert desks() == []
            answers = []
            for _ in range(ASKED_PER_SESSION_MAX + 2):
                page = visitor.get(ERRANDS).text
                answers.append(visitor.form(CANCEL, fields_of(page)).status)
            assert answers[:ASKED_PER_SESSION_MAX] == [303] * ASKED_PER_SESSION_MAX
            assert answers[ASKED_PER_SESSION_MAX:] == [429, 429]
            assert len(desks()) == 1, "all pages of a browser share one"

        await in_thread(act)


@pytest.mark.usefixtures("long_errands")
async def test_errands_are_of_one_page_and_too_many_are_refused() -> None:
    # SITE-102, SITE-104, SITE-105
    async with open_whole_site() as site:
        visitor = await lab(site)

        def act() -> None:
            assert status(visitor, "/demo/guarded", commandId="1") == 428
            with visitor.open_stream() as stream:
                stream.read_until(f'"demoMessage":"{ORIGINAL}"'.encode())
                for number in range(WAITING_MAX + 1):
                    assert status(visitor, "/demo/guarded", commandId=f"g{number}") == 202
                last = f'queued #{WAITING_MAX + 1}"'.encode()
                stream.read_until(last)
                refused = send(visitor, "/demo/guarded", commandId="one more")
                assert (refused.status, refused.headers["retry-after"]) == (429, "1")
                stream.read_until(b'"transportErrorSource":"demos"', b'"transportErrorStatus":429')
                assert status(visitor, "/demo/guarded", commandId="g0") == 202, "a repeat"
                assert status(visitor, "/demo/cancel", commandId="c1") == 202
                told = stream.read_until(b"cancelled #")
                assert b"queued #12" not in told
                assert status(visitor, "/demo/guarded", commandId="") == 400
                assert status(visitor, "/demo/cancel") == 400
            with visitor.open_stream() as stream:
                stream.read_until(f'"demoMessage":"{ORIGINAL}"'.encode())
                assert status(visitor, "/demo/guarded", commandId="back again") == 202
                stream.read_until(b'"demoStatus":"running #1"')

        await in_thread(act)
        desks = site.directory.tree
        await until(lambda: not [n for n in desks.snapshot().actors if n.parent == "site/desks"])


async def ask(visitor: Visitor, panel: str, choice: str = "") -> str:
    def asked() -> str:
        with visitor.open_stream() as stream:
            stream.read_until(b"serverCount")
            answer = send(visitor, f"/demo/panels/{panel}", choice=choice)
            assert answer.status == 202
            stream.read_until(f"demo-{panel}-result".encode())
            return stream.read_until(b"</ol>").decode()

    return await in_thread(asked)


BOUNDARIES = {
    "cut in the middle": "form",
    "a number for a text": "command",
    "nothing but blanks": "domain",
    "a room that is not there": "storage",
    "a fine post": "nobody",
}


async def test_each_layer_refuses_what_is_its_own_and_nobody_asks_without_end() -> None:
    # SITE-19, SITE-106
    async with open_whole_site() as site:
        visitor = await lab(site)
        for choice, layer in BOUNDARIES.items():
            path = f"/demo/panels/boundary-check?choice={choice.replace(' ', '+')}"
            page = await in_thread(partial(visitor.get, path))
            rows = dict(re.findall(r"<dt>([^<]+)</dt><dd><bdi>([^<]+)</bdi>", page.text))
            assert rows["refused by"].startswith(layer)
            order = ["form", "command", "domain", "storage"]
            passed = order.index(layer) if layer in order else len(order)
            assert [rows[name] == "passed" for name in order] == [at < passed for at in range(4)]
            assert all(rows[name] == "not asked" for name in order[passed + 1 :])
        assert (await in_thread(partial(visitor.get, "/demo/panels/nothing"))).status == 404
        free = partial(visitor.get, "/demo/panels/db-check?choice=ada@example.org")
        assert (await in_thread(free)).status == 400

        def often() -> list[int]:
            return [visitor.get("/demo/panels/ping").status for _ in range(57)]

        assert (await in_thread(often))[-3:] == [200, 429, 429]


async def test_panels_show_a_visitor_themselves_and_this_requests_trace() -> None:
    # SITE-106, SITE-131
    async with open_whole_site() as site:
        member = await register(site)
        await form(member, "/login", email="ada@example.org", password=PASSWORD)
        member.panel = OPERATIONS
        await in_thread(member.open_lab)
        shown = {
            name: await ask(member, name, *panel.choices[:1]) for name, panel in PANELS.items()
        }
        assert "server time" in shown["ping"]
        assert all(word in shown["auth-status"] for word in ("ada", "since", "expires"))
        assert "<dt>open tabs</dt><dd><bdi>1</bdi>" in shown["session-status"]
        assert "127.0.0.0" in shown["request-meta"] or "masked" in shown["request-meta"]
        assert "demo@example.com" in shown["db-check"]
        everything = "".join(shown.values())
        secrets = [*member.cookies.values(), "ada@example.org", "127.0.0.1"]
        assert not [secret for secret in secrets if secret and secret in everything]
        visitor = member.cookies[cookie_name("visitor", is_https=False)].partition(".")[0]
        assert visitor not in everything
        for html in shown.values():
            assert "request.start" in html
        # Nothing else can be asked, and nobody else's tab is told.
        with await in_thread(member.open_stream):
            wrong = partial(status, member, "/demo/panels/db-check", choice="ada@example.org")
            assert await in_thread(wrong) == 400
            assert await in_thread(partial(status, member, "/demo/panels/nothing")) == 404
            other = await lab(site)
            other.tab = member.tab
            assert await in_thread(partial(status, other, "/demo/panels/ping")) == 428
