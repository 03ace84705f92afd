"""A site of one's own, as `docs/examples/own_site.py` has it: on both stores, on real sockets."""

from __future__ import annotations

import gzip
import json
import re
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Never
from urllib.parse import quote

import msgspec
import pytest
import trio
import trio_websocket
from quart import Blueprint, Response

from actors.persistence import AggregateActor, EventStore
from actors.runtime import Actor, Secret
from docs.examples import own_site
from storage.memory import MemoryDatabase, MemoryEventStore
from supervision import (
    BREAKERS,
    ONCE,
    BreakerChange,
    BreakerPolicy,
    ChildSpec,
    DependencyPolicy,
    StartFailed,
)
from tests.journeys.test_database_away import wait_ready
from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports
from tests.web.cli.commanding import Commands
from tests.web.whole_site import in_thread
from web.app import (
    CannotStart,
    NothingBeside,
    OwnSite,
    Panel,
    PanelOf,
    SitePlan,
    Speaker,
    Topic,
    command,
    open_site,
)
from web.client import Client, CommandRefused, TopicEvent, connect
from web.observability.operating.control.asking import ask
from web.observability.operating.control.words import Question
from web.server import Answer as Row
from web.server import ErrorTable
from web.settings import Settings
from web.views.moderation import OverviewView
from web.wiring.frame import panels as live_panels

# As many end a supervisor of five restarts in ten seconds.
FAILURES = 6


def memory() -> MemoryEventStore:
    return MemoryEventStore(MemoryDatabase())


def open_own(
    plan: SitePlan = own_site.PLAN, store: EventStore | None = None
) -> AbstractAsyncContextManager[OwnSite]:
    return open_site(plan, Settings(port=0), store=store or memory())


@pytest.fixture(params=["memory", "postgres"])
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> AsyncIterator[OwnSite]:
    if request.param == "memory":
        async with open_own() as opened:
            yield opened
        return
    settings = Settings(port=0, database_url=Secret(database_url), state_dir=tmp_path / "state")
    async with open_site(own_site.PLAN, settings) as opened:
        yield opened


async def test_figures_and_the_tree_are_told_as_of_our_own_site(
    tmp_path: Path, database_url: str
) -> None:
    # OBS-1, CLI-20
    (port,), state = free_ports(1), tmp_path / "state"
    settings = Settings(
        port=0, database_url=Secret(database_url), state_dir=state,
        metrics_port=port, metrics_token=Secret("scraper-of-the-shop"),
    )  # fmt: skip
    plan = replace(own_site.PLAN, outside={"gateway": DependencyPolicy()})
    async with open_site(plan, settings) as site:
        visitor = Visitor(site.url)
        assert (await in_thread(partial(visitor.get, "/"))).status == 200
        # With a wrong token there is no such page, as there is none without a token.
        assert (await in_thread(partial(visitor.get, "/metrics"))).status == 404
        near = await in_thread(partial(_scraped, f"http://127.0.0.1:{port}/metrics", ""))
        far = await in_thread(partial(_scraped, f"{site.url}/metrics", "scraper-of-the-shop"))
        for text in (near, far):
            assert 'greenroom_http_requests_total{route="/",status="2xx"} 1.0' in text
            assert "greenroom_store_head_position 0.0" in text
            assert 'greenroom_actors{kind="OwnActors"} 1.0' in text
            assert 'greenroom_breaker_state{name="gateway"} 0.0' in text
        rows, root = await _asked(state, "tree"), own_site.PLAN.name
        paths = {row["path"] for row in rows}
        assert {f"{root}/actors", f"{root}/metrics", f"{root}/control"} <= paths


async def test_what_ones_own_site_calls_outside_is_seen_left_alone_and_called_again(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # RES-3, RES-9, OBS-11
    state, policy = tmp_path / "state", DependencyPolicy(retry=ONCE, breaker=BreakerPolicy(1))
    settings = Settings(port=0, database_url=Secret(database_url), state_dir=state)
    plan = replace(own_site.PLAN, outside={"gateway": policy})
    run, heard = Commands(database_url, capsys), Heard()
    async with open_site(plan, settings) as site:
        site.system.topics.subscribe(BREAKERS, heard)
        assert site.environment.outside is site.outside, "effects are run through it by name"
        with pytest.raises(ConnectionError):
            await site.outside.dependency("gateway").call(_refused)
        assert heard.changes == [("gateway", "closed", "open")]
        (row,) = await _asked(state, "breakers")
        assert (row["name"], row["state"], row["failures"]) == ("gateway", "open", 1)
        ready = await in_thread(partial(Visitor(site.url).get, "/ready?verbose=1"))
        assert "left alone for now: gateway" in ready.text

        seen = msgspec.convert((await _asked(state, "top", once=True))[0], OverviewView)
        assert ([one.state for one in seen.breakers], seen.nodes) == (["open"], None)
        # The embedded server keeps no statistics: what the site itself ran is told.
        assert seen.statements is not None
        assert seen.statements.is_own
        assert seen.statements.found

        words = ("breakers", "reset", "gateway", "--yes", "--reason", "it is back")
        assert await in_thread(lambda: run(*words, "--state-dir", str(state))) == 0, run.err
        (row,) = await _asked(state, "breakers")
        assert row["state"] == "closed"
        await site.outside.dependency("gateway").call(partial(trio.sleep, 0))


class Heard:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []

    def deliver(self, message: object, /) -> None:
        assert isinstance(message, BreakerChange)
        self.changes.append((message.name, message.before, message.state))


async def _refused() -> None:
    raise ConnectionError("nobody answers")


async def _asked(state: Path, name: str, **words: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    async def take(row: object) -> None:
        rows.append(msgspec.convert(row, dict[str, object]))

    await ask(state, Question(name, words), take)
    return rows


def _scraped(url: str, token: str) -> str:
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as answer:
        return str(answer.read().decode())


async def vote(visitor: Visitor, drink: str) -> Answer:
    return await in_thread(partial(visitor.form, "/", {"drink": drink}))


def live_path(page: Answer) -> str:
    found = re.search(r"@get\('([^']+)'", page.text)
    assert found, page.text
    return found[1].replace("&amp;", "&")


@asynccontextmanager
async def watching(site: OwnSite) -> AsyncIterator[OpenStream]:
    """Have a page open as another visitor's browser has it."""
    visitor = Visitor(site.url)
    page = await in_thread(partial(visitor.get, "/"))
    stream = await in_thread(partial(visitor.open_stream_at, live_path(page)))
    try:
        assert stream.status == 200
        yield stream
    finally:
        stream.__exit__()


async def test_page_form_panel_topic_and_store_are_one_site(site: OwnSite) -> None:
    visitor = Visitor(site.url)
    page = await in_thread(partial(visitor.get, "/"))
    assert page.status == 200
    assert "<li>tea: 0</li>" in page.text
    assert "gr_visitor" in visitor.cookies

    address = site.url.replace("http://", "ws://") + "/ws"
    async with watching(site) as stream, connect(address) as client:
        first = await in_thread(partial(stream.read_until, b"tea: 0"))
        assert b"selector #panel-votes" in first
        async with client.subscribe("votes") as heard:
            await granted(client)
            # A vote by form is told to open pages and to programs.
            assert (await vote(visitor, "tea")).status == 303
            told = await anext(heard)
            assert isinstance(told, TopicEvent)
            assert (told.name, told.fields) == ("Counted", {"votes": {"tea": 1, "coffee": 0}})
            await in_thread(partial(stream.read_until, b"tea: 1"))
            # A vote by a program is told to open pages; a refusal of the domain to the program.
            await client.command({"Vote": {"drink": "coffee"}}, topic="votes")
            await in_thread(partial(stream.read_until, b"coffee: 1"))
            with pytest.raises(CommandRefused, match="One vote each"):
                await client.command({"Vote": {"drink": "tea"}})
        with pytest.raises(CommandRefused):
            await client.command({"Counted": {"votes": {}}}, topic="votes")
    again = await vote(visitor, "coffee")
    assert again.status == 422
    assert "One vote each" in again.text
    assert "<li>tea: 1</li><li>coffee: 1</li>" in again.text


async def test_what_was_voted_outlives_the_site() -> None:
    store = memory()
    for number in (0, 1):
        async with open_own(store=store) as site:
            visitor = Visitor(site.url)
            page = await in_thread(partial(visitor.get, "/"))
            assert f"<li>tea: {number}</li>" in page.text
            assert (await vote(visitor, "tea")).status == 303


async def test_a_memory_database_has_all_that_postgresql_has_and_a_store_alone_has_not() -> None:
    database = MemoryDatabase()
    async with open_site(own_site.PLAN, Settings(port=0), store=database) as site:
        assert (await in_thread(partial(vote_blocking, site.url))).status == 303
        assert (await site.beside.dead_letters.counts()).health == "healthy"
        assert await site.beside.outbox.lease("me", [0]) == {0: 1}
    assert len(database.events) == 1
    async with open_own() as site:
        with pytest.raises(NothingBeside, match="an event store alone"):
            _ = site.beside


def vote_blocking(url: str) -> Answer:
    return Visitor(url).form("/", {"drink": "tea"})


async def test_a_page_is_compressed_for_who_takes_it_unless_it_says_no() -> None:
    # SEC-32
    def pages(site: OwnSite) -> Blueprint:
        routes = Blueprint("pages", __name__)

        @routes.get("/<word>")
        async def home(word: str) -> Response:
            return await site.page("word " * 500 + "{{ csrf }}", is_compressed=word != "secret")

        return routes

    async with open_own(SitePlan(pages=pages)) as site:
        visitor = Visitor(site.url)
        headers = {"accept-encoding": "gzip"}
        for path, takes, encoding in (
            ("/open", headers, "gzip"),
            ("/open", {}, None),
            ("/secret", headers, None),
        ):
            page = await in_thread(partial(visitor.request, "GET", path, None, takes))
            assert page.headers.get("content-encoding") == encoding
            assert "accept-encoding" in page.headers["vary"]
            text = gzip.decompress(page.body) if encoding else page.body
            assert text.startswith(b"word word ")
            assert b'name="csrf"' in text


async def test_a_program_that_only_listens_hears_a_topic_and_what_it_missed(site: OwnSite) -> None:
    # WEB-48
    def listen(last_id: str = "") -> OpenStream:
        headers = {"last-event-id": last_id} if last_id else {}
        return Visitor(site.url)._open("/events?topic=votes", **headers)

    with await in_thread(listen) as stream:
        await in_thread(partial(stream.read_until, b'"recovered":false'))
        assert (await vote(Visitor(site.url), "tea")).status == 303
        told = await in_thread(partial(stream.read_until, b"event: Counted", b'"tea":1', b"\n\n"))
    last_id = re.findall(rb"id: (\S+)", told)[-1].decode()
    assert (await vote(Visitor(site.url), "coffee")).status == 303
    with await in_thread(partial(listen, last_id)) as stream:
        told = await in_thread(partial(stream.read_until, b'"coffee":1'))
        assert b'"recovered":true' in told
        assert told.count(b"event: Counted") == 1
    for path, status in (("/events", 400), ("/events?topic=other", 403), ("/events?topic=", 403)):
        assert (await in_thread(partial(Visitor(site.url).get, path))).status == status


async def test_the_defaults_are_safe() -> None:
    async with open_own() as site:
        visitor = Visitor(site.url)
        page = await in_thread(partial(visitor.get, "/"))
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "server" not in page.headers
        # Every script carries the nonce of the policy.
        nonce = re.search(r"'nonce-([^']+)'", page.headers["content-security-policy"])
        assert nonce is not None
        assert re.findall(r"<script[^>]*nonce=\"([^\"]+)\"", page.text) == [nonce[1]] * 2
        assert page.text.count("<script") == 2

        form = {"content-type": "application/x-www-form-urlencoded"}
        for origin in (
            {"sec-fetch-site": "cross-site"},
            {"origin": "https://evil.example"},
            {},  # a browser without either, and a form without its token
        ):
            request = partial(visitor.request, "POST", "/", b"drink=tea", {**form, **origin})
            assert (await in_thread(request)).status == 403
        token = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert token is not None
        body = f"drink=tea&csrf={token[1]}".encode()
        assert (await in_thread(partial(visitor.request, "POST", "/", body, form))).status == 303

        upgrade = {
            "upgrade": "websocket",
            "connection": "upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        foreign = {**upgrade, "origin": "https://evil.example"}
        assert await in_thread(partial(visitor.handshake, "/ws", foreign)) == 403
        own = {**upgrade, "origin": site.url}
        assert await in_thread(partial(visitor.handshake, "/ws", own)) == 101

        for path, status in (
            ("/health", 200),
            ("/ready", 200),
            ("/nowhere", 404),
            ("/static/none.js", 404),
            ("/live", 400),
            ("/live?panel=votes&tab=x", 400),
            (f"/live?panel=other&tab={uuid.uuid4()}", 400),
        ):
            assert (await in_thread(partial(visitor.get, path))).status == status, path
        wrong_host = partial(visitor.get, "/", host="evil.example")
        assert (await in_thread(wrong_host)).status == 421


async def test_a_crashed_actor_costs_one_request_and_no_reader() -> None:
    async with open_own() as site:
        visitor = Visitor(site.url)
        async with watching(site) as stream:
            await in_thread(partial(stream.read_until, b"tea: 0"))
            poll = site.ref("poll", AggregateActor)
            poll.tell(None)  # type: ignore[arg-type]  # reason: nonsense, on purpose
            site.ref("panel-feed-votes", Actor).tell(None)
            assert (await vote(visitor, "tea")).status == 303
            await in_thread(partial(stream.read_until, b"tea: 1"))


async def test_a_site_that_is_left_lets_go_of_everybody() -> None:
    async with open_own() as site:
        url = site.url
        async with watching(site) as stream:
            await in_thread(partial(stream.read_until, b"tea: 0"))
            (open_stream,) = site.streams.all()
        with trio.fail_after(PATIENCE_S):
            await open_stream.closed.wait()
        assert (len(site.streams), len(site.watched["votes"])) == (0, 0)
        visitor = Visitor(url)
        page = await in_thread(partial(visitor.get, "/"))
        kept = await in_thread(partial(visitor.open_stream_at, live_path(page)))
        await in_thread(partial(kept.read_until, b"tea: 0"))
    # The drain told it when to come back, and closed it.
    rest = await in_thread(kept.response.read)
    assert b"retry:" in rest
    kept.__exit__()
    with pytest.raises(ConnectionRefusedError):
        await in_thread(partial(visitor.get, "/"))


class Loose(msgspec.Struct):
    """A command that takes fields it does not know."""


class Broken(Actor[Never]):
    def on_start(self) -> None:
        raise RuntimeError("it cannot begin")


async def _nothing() -> str:
    return ""


async def _told(asked: Loose, speaker: Speaker) -> None:
    """Do nothing."""


def _twice(site: OwnSite) -> Blueprint:
    raise RuntimeError("the pages are not ready")


def _page_of(*panels: str) -> Callable[[OwnSite], Blueprint]:
    def pages(site: OwnSite) -> Blueprint:
        routes = Blueprint("pages", __name__)

        @routes.get("/")
        async def home() -> Response:
            names = dict.fromkeys(panel.partition(":")[0] for panel in panels)
            shown = "".join(f"{{{{ panel.{name} }}}}" for name in names)
            return await site.page(shown + "{{ live }}", panels=panels)

        return routes

    return pages


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (SitePlan(panels=lambda _: [Panel("no-name", "t", _nothing)]), "names no panel"),
        (SitePlan(panels=lambda _: [Panel("a", "t", _nothing)] * 2), "two panels are called 'a'"),
        (SitePlan(topics=lambda _: [Topic("t", [])] * 2), "two topics are called 't'"),
        (SitePlan(topics=lambda _: [Topic("t", [], [command(Loose, _told)])]), "forbid_unknown"),
        (SitePlan(tree=lambda _: [ChildSpec("twin", own_site.Booth)] * 2), "twin"),
        (SitePlan(tree=lambda _: [ChildSpec("a", Broken)]), "it cannot begin"),
        (SitePlan(pages=_twice), "pages are not ready"),
        (SitePlan(files=Path("/nowhere-at-all")), "nowhere-at-all"),
    ],
)
async def test_a_plan_that_cannot_be_is_told_at_the_start(plan: SitePlan, told: str) -> None:
    with pytest.raises((StartFailed, CannotStart), match=told):
        async with open_own(plan):
            raise AssertionError("it must not have started")


@pytest.mark.slow
async def test_actors_that_give_up_leave_the_site_up_and_are_tried_again() -> None:
    """SITE-183, SUP-33: what needs none of them goes on, and they come back by themselves."""
    is_well, begun, back = True, 0, trio.Event()

    class Loop(Actor[str]):
        def on_start(self) -> None:
            nonlocal begun
            begun += 1
            if not is_well:
                self.after(0, "crash")
            elif begun > 1:
                back.set()

        def on_message(self, message: str) -> None:
            raise RuntimeError(message)

    def pages(site: OwnSite) -> Blueprint:
        routes = Blueprint("pages", __name__)

        @routes.get("/")
        async def home() -> Response:
            return await site.page("{{ panel.well }}{{ live }}", panels=["well"])

        @routes.get("/loop")
        async def loop() -> str:
            return site.ref("loop", Loop).path

        return routes

    async def well() -> str:
        return "well"

    plan = SitePlan(
        name="own",
        tree=lambda _: [ChildSpec("loop", Loop, name="loop")],
        pages=pages,
        panels=lambda _: [Panel("well", "ticks", well)],
    )
    async with open_own(plan) as site, watching(site) as stream:
        actors = site.system.whereis("actors")
        assert actors is not None
        visitor = Visitor(site.url)
        await in_thread(partial(stream.read_until, b"elements well"))
        is_well = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.system.wait_down, actors)
            # It waits from the next turn on, and eleven crashes take more than one.
            site.ref("loop", Loop).tell("crash")
            nursery.cancel_scope.deadline = trio.current_time() + PATIENCE_S
        assert begun == 1 + plan.flags.intensity
        ready = await in_thread(partial(visitor.get, "/ready"))
        assert (ready.status, "gave up and is not back: own/actors" in ready.text) == (503, True)
        assert (await in_thread(partial(visitor.get, "/loop"))).status == 503
        assert (await in_thread(partial(visitor.get, "/"))).status == 200
        site.system.topics.publish("ticks", 1)
        await in_thread(partial(stream.read_until, b"elements well"))
        is_well = True
        with trio.fail_after(PATIENCE_S):
            await back.wait()
        assert (await in_thread(partial(visitor.get, "/loop"))).text == "own/actors/loop"
        # What a probe found is kept for a second.
        await in_thread(partial(wait_ready, visitor))


async def test_a_panel_that_hangs_keeps_what_it_shows_and_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its wait ends; who watches others, and the page itself, do not wait for it."""
    monkeypatch.setattr(live_panels, "RENDER_S_MAX", 0.1)
    is_stuck, left = False, 0
    left_twice = trio.Event()

    def both(site: OwnSite) -> list[Panel]:
        async def state() -> str:
            nonlocal left
            if is_stuck:
                try:
                    await trio.sleep_forever()
                finally:
                    left += 1
                    if left == 2:
                        left_twice.set()
            return f"answers after {left}"

        async def other() -> str:
            return "other"

        return [Panel("state", "ticks", state), Panel("other", "ticks", other)]

    plan = SitePlan(pages=_page_of("state", "other"), panels=both)
    async with open_own(plan) as site, watching(site) as stream:
        await in_thread(partial(stream.read_until, b"answers after 0"))
        feed = site.system.whereis("panel-feed-state")
        is_stuck = True
        site.system.topics.publish("ticks", 1)
        await in_thread(partial(stream.read_until, b"elements other"))
        with trio.fail_after(PATIENCE_S):
            await left_twice.wait()
        is_stuck = False
        await in_thread(partial(stream.read_until, b"answers after 2"))
        # It is the same incarnation: to be slow is no crash.
        assert feed is not None
        assert site.system.stats(feed).incarnation == 1


async def test_a_panel_is_rendered_for_all_at_once_and_only_while_somebody_looks() -> None:
    rendered = 0

    def panels(site: OwnSite) -> list[Panel]:
        async def count() -> str:
            nonlocal rendered
            rendered += 1
            return f"<b>{rendered}</b>"

        return [Panel("count", "ticks", count)]

    plan = SitePlan(pages=_page_of("count"), panels=panels)
    async with open_own(plan) as site:
        topics = site.system.topics
        for _ in range(100):
            topics.publish("ticks", "tick")
        visitor = Visitor(site.url)
        page = await in_thread(partial(visitor.get, "/"))
        assert rendered == 1, "the page's own, and none for nobody"
        with await in_thread(partial(visitor.open_stream_at, live_path(page))) as stream:
            await in_thread(partial(stream.read_until, b"<b>2</b>"))
            # All that comes while the feed has not looked is one look.
            for _ in range(5000):
                topics.publish("ticks", "tick")
            await in_thread(partial(stream.read_until, b"<b>3</b>"))
            topics.publish("ticks", "tick")
            await in_thread(partial(stream.read_until, b"<b>4</b>"))
        assert rendered == 4


async def test_of_one_panel_there_is_one_for_each_key_and_who_may_watches() -> None:
    rendered: list[str] = []

    def panels(_: OwnSite) -> list[PanelOf]:
        async def room(key: str) -> str:
            rendered.append(key)
            return f"<b>{key} {rendered.count(key)}</b>"

        async def may(key: str) -> bool:
            return key != "closed"

        return [PanelOf("room", "rooms", str, room, may)]

    async with open_own(SitePlan(pages=_page_of("room:a1", "room:b-2"), panels=panels)) as site:
        visitor, topics = Visitor(site.url), site.system.topics
        page = await in_thread(partial(visitor.get, "/"))
        assert '<div id="panel-room-a1"><b>a1 1</b></div><div id="panel-room-b-2">' in page.text
        path = live_path(page)
        for wrong in ("room", "room:", "room:closed", "room:a'", "hall:a1", "room:" + "x" * 65):
            asked = path.split("&panel=")[0] + f"&panel={quote(wrong)}"
            refused = await in_thread(partial(visitor.get, asked))
            assert refused.status == 400, wrong
        with await in_thread(partial(visitor.open_stream_at, path)) as stream:
            await in_thread(partial(stream.read_until, b"<b>b-2 2</b>"))
            # What happens in one room is told of in that one, and in none where nobody looks.
            for told in ("b-2", "c", "closed"):
                topics.publish("rooms", told)
            await in_thread(partial(stream.read_until, b"<b>b-2 3</b>"))
            topics.publish("rooms", "a1")
            await in_thread(partial(stream.read_until, b"<b>a1 3</b>"))
        assert sorted(set(rendered)) == ["a1", "b-2"]
        assert (rendered.count("a1"), rendered.count("b-2")) == (3, 3)


async def test_a_panel_whose_source_is_away_keeps_what_it_shows_and_comes_back() -> None:
    is_away = False

    def panels(site: OwnSite) -> list[Panel]:
        async def state() -> str:
            if is_away:
                site.ref("nobody", Actor)
            return "here"

        return [Panel("state", "ticks", state)]

    async with open_own(SitePlan(pages=_page_of("state"), panels=panels)) as site:
        visitor = Visitor(site.url)
        page = await in_thread(partial(visitor.get, "/"))
        is_away = True
        assert (await in_thread(partial(visitor.get, "/"))).status == 503
        with await in_thread(partial(visitor.open_stream_at, live_path(page))) as stream:
            # It was asked in vain, and asks again.
            is_away = False
            await in_thread(partial(stream.read_until, b"elements here"))


@pytest.mark.slow
async def test_a_panel_with_a_bug_stands_still_alone_and_comes_back() -> None:
    """The feed is tried again later and later, so nothing above it gives up."""
    has_bug, tries = False, trio.Event()
    failures = 0

    def panels(site: OwnSite) -> list[Panel]:
        async def state() -> str:
            nonlocal failures
            if has_bug:
                failures += 1
                # A supervisor that restarts at once is gone by now, and soon the root.
                if failures == FAILURES:
                    tries.set()
                raise ZeroDivisionError
            return "well"

        async def other() -> str:
            return "other"

        return [Panel("state", "ticks", state), Panel("other", "ticks", other)]

    async with open_own(SitePlan(pages=_page_of("state"), panels=panels)) as site:
        visitor = Visitor(site.url)
        page = await in_thread(partial(visitor.get, "/"))
        root = site.system.whereis("panel-feed-other")
        with await in_thread(partial(visitor.open_stream_at, live_path(page))) as stream:
            await in_thread(partial(stream.read_until, b"elements well"))
            has_bug = True
            site.system.topics.publish("ticks", 1)
            with trio.fail_after(PATIENCE_S):
                await tries.wait()
            # Nobody beside it was restarted, nor is the stream another one.
            assert site.system.whereis("panel-feed-other") == root
            has_bug = False
            site.system.topics.publish("ticks", 2)
            await in_thread(partial(stream.read_until, b"elements well"))
        assert (await in_thread(partial(visitor.get, "/"))).status == 200


async def test_two_sites_of_one_process_know_nothing_of_each_other() -> None:
    async with open_own() as one, open_own() as other:
        visitor = Visitor(one.url)
        assert (await vote(visitor, "tea")).status == 303
        # The cookie of one is nobody's at the other: each has a secret of its own.
        there = Visitor(other.url, dict(visitor.cookies))
        page = await in_thread(partial(there.get, "/"))
        assert "<li>tea: 0</li>" in page.text
        assert there.cookies != visitor.cookies
        assert (await vote(there, "tea")).status == 303


async def test_a_site_that_is_cancelled_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """At every step of it: what was opened until then is closed, and the port is free again."""

    def forever(_: OwnSite) -> Blueprint:
        started.set()
        return Blueprint("pages", __name__)

    class Waiting(Actor[Never]):
        async def on_start(self) -> None:
            started.set()
            await trio.sleep_forever()

    for plan in (
        SitePlan(tree=lambda _: [ChildSpec("waiting", Waiting)]),
        SitePlan(pages=forever),
    ):
        started = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def run(plan: SitePlan = plan) -> None:
                    async with open_own(plan):
                        await trio.sleep_forever()

                nursery.start_soon(run)
                await started.wait()
                scope.cancel()
        assert scope.cancelled_caught


class Sold(Exception):
    """It is not to be had any more."""


class Open(msgspec.Struct, frozen=True):
    n: int


class Hidden(msgspec.Struct, frozen=True):
    n: int


async def test_ones_own_errors_files_and_topics(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("p { color: teal }")

    def pages(site: OwnSite) -> Blueprint:
        routes = Blueprint("pages", __name__)

        @routes.get("/")
        async def home() -> Response:
            template = "<link href='{{ file_url(name) }}'><p>{{ said }}</p>"
            return await site.page(template, name="own.css", said="<b>")

        @routes.get("/sold")
        async def sold() -> str:
            raise Sold

        return routes

    def errors(table: ErrorTable) -> None:
        table.add(Sold, Row.CONFLICT, text="It is sold.")

    def topics(site: OwnSite) -> list[Topic]:
        return [
            Topic("open", events=[Open]),
            Topic("closed", events=[Open], may_hear=lambda speaker: False),
        ]

    plan = SitePlan(pages=pages, errors=errors, files=tmp_path, topics=topics)
    async with open_own(plan) as site:
        visitor = Visitor(site.url)
        page = await in_thread(partial(visitor.get, "/"))
        found = re.search(r"href='([^']+)'", page.text)
        assert found is not None
        assert "<p>&lt;b&gt;</p>" in page.text
        css = await in_thread(partial(visitor.get, found[1]))
        assert (css.status, css.text) == (200, "p { color: teal }")
        assert css.headers["content-type"].startswith("text/css")
        sold = await in_thread(partial(visitor.get, "/sold"))
        assert sold.status == 409
        assert "It is sold." in sold.text

        address = site.url.replace("http://", "ws://") + "/ws"
        async with connect(address) as client, client.subscribe("open") as heard:
            publish = site.system.topics.publish
            await granted(client)
            publish("open", Hidden(1))
            publish("open", Open(2))
            told = await anext(heard)
            assert isinstance(told, TopicEvent)
            assert told.fields == {"n": 2}
        async with trio_websocket.open_websocket_url(address) as socket:
            asked = {"type": "subscribe", "topics": ["closed"]}
            await socket.send_message(json.dumps(asked))
            answer = json.loads(await socket.get_message())
            assert (answer["type"], answer["topics"]) == ("subscribed", [])


async def granted(client: Client) -> None:
    """Wait until what was subscribed is heard: the server takes a client's words in their order.

    That its hub hears a topic says nothing: of what happens before the answer nobody is told.
    """
    with pytest.raises(CommandRefused):
        await client.command({"Nonsense": {}})
