"""What one request has led to, over HTTP, mailboxes, the store, the outbox and a saga: one tree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from actors.runtime import Context, Log, Secret, edge_context
from actors.runtime.telling.spans import CORRELATION, NAME, SpanRead, is_sampled
from actors.runtime.words.tallies import SECONDS
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.web.accounts.test_entering import form, get, register
from tests.web.accounts.test_operating import operator
from tests.web.lab.test_lab_site import a_guest, told_of
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from tests.web.wiring.test_open_sockets import open_socket
from web.observability.logs import configure_logging
from web.observability.metrics.scraping import Scrape
from web.observability.operating.recent import RECENT
from web.observability.operating.traces.kept import Kept
from web.observability.operating.traces.presenting import in_order
from web.routing import paths
from web.settings import LogFormat, LogLevel, Settings, Tracing

pytestmark = pytest.mark.slow

# Kept by its id, and not.
SAMPLED, OTHER = f"{'a' * 24}{10:08x}", f"{'b' * 24}{11:08x}"
SPAN = "00f067aa0ba902b7"
TOKEN = "sixteen-letters-and-more"
# From the request of a checkout to the last of its steps.
ROAD = (
    "http.request", "actor.handle", "outbox.send", "actor.handle", "outbox.send", "actor.handle",
    "outbox.send", "saga.step", "actor.handle", "store.append",
)  # fmt: skip


def read(site: WholeSite) -> list[SpanRead]:
    spans = site.web.traces.spans
    assert spans is not None
    return [spans.read(one) for one in spans.ring]


def roads(spans: Sequence[SpanRead]) -> set[tuple[str, ...]]:
    """Of each span the names down to it, from the top."""
    found, road = set(), list[str]()
    for depth, one in in_order(sorted(spans, key=lambda one: one.began)):
        road[depth:] = [one.name]
        found.add(tuple(road))
    return found


async def test_a_checkout_is_one_tree_from_its_request_to_its_last_step() -> None:
    # OBS-3
    async with open_whole_site(has_documents=False) as site, a_guest(site) as guest:

        def found() -> list[SpanRead]:
            spans = read(site)
            asked = [one for one in spans if ("route", paths.LAB_SAGAS) in one.fields]
            return [one for one in spans if asked and one.trace == asked[0].trace]

        await guest.act("sagas", "c1")
        await until(lambda: ROAD in roads(found()))
        assert [one.name for one in found() if not one.parent] == ["http.request"]
        assert len({one.correlation_id for one in found()}) == 1
        steps = [dict(one.fields)["step"] for one in found() if one.name == "saga.step"]
        assert steps[:3] == ["place", "reserve", "pay"]
        stored = next(one for one in found() if one.name == "store.append")
        assert {"stream", "expected_version", "events"} == dict(stored.fields).keys()
        # Nothing that names a person, and nothing to act with.
        session = guest.visitor.cookies and str(site.web.streams.all()[0].key.session)
        assert session
        assert session not in repr(read(site))


def trace_with(spans: Sequence[SpanRead], name: str) -> list[SpanRead]:
    """All of the newest trace in which something of a name was done."""
    traces = [one.trace for one in spans if one.name == name]
    return [one for one in spans if traces and one.trace == traces[-1]]


async def ways_in(site: WholeSite) -> None:
    """Each tries to enter, by nonsense: its span says that, and stands below its request."""
    who, posted = site.visitor(), {"email": "ada@example.org", "password": "hunter2"}
    await get(who, "/lab")
    for flow, path, fields in (
        ("password", paths.LOGIN, posted),
        ("passkey", paths.LOGIN_PASSKEY, {"credential": "{}"}),
        ("second", paths.LOGIN_SECOND, {"ticket": "none", "code": "123456"}),
    ):
        assert (await form(who, path, **fields)).status in {400, 401, 422}, path
        spans = trace_with(read(site), f"auth.{flow}")
        assert ("http.request", f"auth.{flow}") in roads(spans), flow
        tried = next(one for one in spans if one.name == f"auth.{flow}")
        # Who guesses must not have each try kept as a failure.
        assert tried.error == "", flow
        assert dict(tried.fields)["refused"] == "NotEntered", flow
        assert "hunter2" not in repr(spans)


async def test_a_post_a_sign_in_and_a_command_of_a_socket_are_trees_of_their_own() -> None:
    # OBS-3
    async with open_whole_site(has_documents=False) as site, a_guest(site) as guest:
        await register(site)
        entered = roads(trace_with(read(site), "auth.register"))
        assert ("http.request", "auth.register") in entered
        await ways_in(site)
        path = f"/ws?client={uuid4()}"
        async with open_socket(site, path) as socket:
            await socket.send_message('{"type":"subscribe","id":"s","topics":["room:lobby"]}')
            await told_of(socket, "subscribed")
            assert (await in_thread(partial(guest.visitor.post, "from the page"))).status < 300
            await until(lambda: bool(trace_with(read(site), "ws.event")))
            posted = roads(trace_with(read(site), "ws.event"))
            stored = next(one for one in posted if one[-1] == "store.append")
            assert (stored[0], stored[-2]) == ("http.request", "actor.handle")
            heard = next(one for one in posted if one[-1] == "ws.event")
            assert heard[: len(stored) - 1] == stored[:-1], "the room tells who hears it"
            await socket.send_message(
                '{"type":"command","id":"c","topic":"room:lobby",'
                '"action":{"PostMessage":{"body":"from the socket","client_id":"p"}}}'
            )
            await until(lambda: bool(trace_with(read(site), "ws.command")))
            sent = trace_with(read(site), "ws.command")
            assert ("actor.handle", "ws.command", "actor.handle", "store.append") in {
                one[:2] + one[-2:] for one in roads(sent)
            }
            assert [one.name for one in sent if not int(one.parent or "0", 16)] == ["actor.handle"]
            assert "from the" not in repr(read(site))


async def test_the_owner_and_operators_see_a_trace_and_nobody_else() -> None:
    # OBS-4, OBS-8
    assert (is_sampled(SAMPLED), is_sampled(OTHER)) == (True, False)
    async with open_whole_site(has_documents=False) as site:
        ada, eve = site.visitor(), site.visitor()
        for visitor in (ada, eve):
            await in_thread(visitor.open_lab)
        for trace in (SAMPLED, OTHER):
            asked = partial(ada.get, "/lab", traceparent=f"00-{trace}-{SPAN}-01")
            assert (await in_thread(asked)).status == 200
        await until(lambda: site.web.traces.kept.maybe(SAMPLED) is not None)
        # Nothing went wrong in it, and its id is not one of ten.
        assert site.web.traces.kept.maybe(OTHER) is None
        path = f"/lab/traces/{SAMPLED}"
        own = await get(ada, "/lab/traces?route=/lab")
        assert f'href="{path}"' in own.text
        shown = await get(ada, path)
        assert shown.headers["cache-control"] == "no-store"
        assert "<strong>http.request</strong>" in shown.text
        kept = site.web.traces.kept.maybe(SAMPLED)
        assert kept is not None
        assert kept.owner
        assert kept.owner not in shown.text
        assert path not in (await get(eve, "/lab/traces")).text
        assert (await get(eve, path)).status == 404
        assert (await get(ada, f"/lab/traces/{OTHER}")).status == 404
        assert (await get(ada, "/lab/traces/%3Cb%3E")).status == 404
        assert (await get(ada, "/ops/traces?error=1")).status == 404
        grace = await operator(site)
        assert path in (await get(grace, "/ops/traces?min=0&error=0&route=lab")).text
        for query in ("min=900000", "error=1", "route=/chat"):
            assert path not in (await get(grace, f"/ops/traces?{query}")).text
        for query in ("min=x", "min=-1", "min=nan", "error=2", f"route={'x' * 101}"):
            assert (await get(grace, f"/ops/traces?{query}")).status == 400
        assert "http.request" in (await get(grace, path)).text
        await sees_the_lines(grace, ada, path, kept.records[0][CORRELATION])


async def sees_the_lines(operator_: Visitor, owner: Visitor, path: str, flow: str) -> None:
    """Of the trace that is shown, and of no other; who is no operator sees none."""
    # OBS-5, OBS-8
    assert "None of the newest" in (await get(operator_, path)).text
    configure_logging(LogFormat.JSON, LogLevel.INFO, recent=RECENT)
    for trace in (SAMPLED, OTHER):
        with edge_context(Context("c-1", traceparent=f"00-{trace}-{SPAN}-01")):
            Log("test").info(f"noted.{trace[0]}", password="hunter2")
            Log("test").info("noted.elsewhere", correlation_id=flow)
    # As the report of a supervisor says it, which has no message in hand.
    RECENT.add(f"supervision_report correlation_id={flow}")
    shown = (await get(operator_, path)).text
    assert f"&#34;event&#34;:&#34;noted.{SAMPLED[0]}&#34;" in shown.replace(": ", ":")
    assert f"noted.{OTHER[0]}" not in shown
    assert shown.count("noted.elsewhere") == 1, "not what names another trace"
    assert f"supervision_report correlation_id={flow}" in shown
    assert "hunter2" not in shown
    assert "noted." not in (await get(owner, path)).text


async def test_a_site_that_records_nothing_says_so() -> None:
    # OBS-2
    off = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, tracing=Tracing.OFF)
    async with open_whole_site(has_documents=False, settings=off) as site:
        ada = site.visitor()
        await in_thread(ada.open_lab)
        assert site.web.traces.spans is None
        assert "Nothing is recorded" in (await get(ada, "/lab/traces")).text
        assert (await get(ada, f"/lab/traces/{SAMPLED}")).status == 404


def names_in(kept: Kept | None) -> set[str]:
    return set() if kept is None else {one[NAME] for one in kept.records}


async def test_from_the_slowest_bucket_one_comes_to_a_trace() -> None:
    # OBS-7
    with_token = Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000, metrics_token=Secret(TOKEN)
    )
    async with open_whole_site(has_documents=False, settings=with_token) as site:
        ada = site.visitor()
        await in_thread(ada.open_lab)
        for trace in (SAMPLED, OTHER):
            await in_thread(partial(ada.get, "/lab", traceparent=f"00-{trace}-{SPAN}-01"))
        draft: dict[str, object] = {
            "chatDemoDraftBody": "weighed",
            "demoClientId": "c",
            "sseTabId": ada.tab,
        }
        post = partial(ada.command, "/demo/chat/messages/demo", draft)
        assert (await in_thread(partial(post, traceparent=f"00-{SAMPLED}-{SPAN}-01"))).status < 300
        kept = site.web.traces.kept
        await until(lambda: "store.append" in names_in(kept.maybe(SAMPLED)))
        headers = {"authorization": f"Bearer {TOKEN}"}
        plain = await in_thread(partial(ada.request, "GET", "/metrics", b"", headers))
        assert "trace_id" not in plain.text
        headers["accept"] = "application/openmetrics-text"
        told = (await in_thread(partial(ada.request, "GET", "/metrics", b"", headers))).text
        found = {
            (one.name, one.labels.get("route", ""), one.exemplar.labels["trace_id"])
            for family in text_string_to_metric_families(told)  # type: ignore[no-untyped-call]
            for one in family.samples
            if one.exemplar is not None
        }
        assert ("greenroom_http_request_seconds_bucket", "/lab", SAMPLED) in found
        # Where something was counted: the store's own time is shorter than its span's.
        scrape = Scrape()
        scrape.put_buckets("store_append_seconds", SECONDS, [1] * (len(SECONDS) + 1), 1.0, "ok")
        site.web.figures.metrics.put_examples(scrape)
        (appends,) = scrape.buckets["store_append_seconds"].values()
        assert {trace for _, trace in appends.examples.values()} == {SAMPLED}
        # Each leads somewhere: one that is not kept is no example.
        for _, _, trace in found:
            assert site.web.traces.kept.maybe(trace) is not None
            assert (await get(ada, f"/lab/traces/{trace}")).status in {200, 404}
        assert (await get(ada, f"/lab/traces/{SAMPLED}")).status == 200
