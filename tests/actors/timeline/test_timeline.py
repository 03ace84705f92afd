"""What is remembered of requests, for how long, and what of it may be seen."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from datetime import UTC, datetime, timedelta

import pytest

from actors.timeline import (
    DIAGNOSTIC_ENTRIES_MAX,
    FILTER_TERM_LENGTH_MAX,
    FILTER_TERMS_MAX,
    FLOWS_MAX,
    KEPT_S,
    LIVE_ENTRIES_MAX,
    STAGE_OF,
    Kind,
    ShownFlow,
    Stage,
    Timeline,
    flows_shown,
    is_hidden,
    json_record,
    newest_flows,
    parse_filter,
    shown_flow,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
MINE, OTHER = "session-a", "session-b"
TAB, SECOND_TAB = "tab-1", "tab-2"


def moment(at: float) -> datetime:
    return AT + timedelta(seconds=at)


class Site:
    """A timeline and its clock, and short words for what happens."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.timeline = Timeline(lambda: self.now, **limits)
        self.changed: list[str] = []
        self.timeline.on_change = self.changed.append

    def request(
        self,
        name: str,
        session: str = MINE,
        path: str = "/lab",
        *,
        method: str = "GET",
        status: int = 200,
        tab: str | None = None,
        is_new: bool = False,
    ) -> None:
        self.timeline.begin(name, session, method, path, is_new=is_new)
        if tab is not None:
            self.timeline.tell_tab(name, tab)
        self.timeline.end(name, status, 0.01, is_member=False)

    def flows(self, session: str = MINE, tab: str = TAB, terms: str = "") -> list[ShownFlow]:
        return flows_shown(self.timeline.live(session), tab, parse_filter(terms), moment)

    def titles(self, session: str = MINE, tab: str = TAB, terms: str = "") -> list[str]:
        return [flow.title for flow in self.flows(session, tab, terms)]


def test_every_kind_has_a_stage() -> None:  # SITE-122
    assert set(STAGE_OF) == set(Kind)
    assert {STAGE_OF[kind] for kind in Kind} == set(Stage)


def test_a_record_has_its_time_level_target_and_ordered_fields() -> None:  # SITE-120
    site = Site()
    site.request("r-1", method="POST", path="/demo/chat/messages", tab=TAB)
    start, end = site.timeline.diagnostic(request_id="r-1")
    record = json_record(end, moment)
    assert list(record) == ["time", "level", "target", "message", "fields"]
    assert record["time"] == "2026-01-01T00:00:00.010Z"
    assert (record["level"], record["target"], record["message"]) == (
        "info",
        "request",
        "request.end",
    )
    fields = record["fields"]
    assert isinstance(fields, dict)
    assert list(fields) == [
        "request_id",
        "session_id",
        "tab_id",
        "correlation",
        "method",
        "path",
        "sender",
        "status",
        "latency_ms",
    ]  # no user: absent values are absent
    started = json_record(start, moment)["fields"]
    assert isinstance(started, dict)
    assert "status" not in started


def test_a_record_says_which_message_and_which_trace_it_belongs_to() -> None:  # SITE-120
    site, trace = Site(), "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    site.timeline.begin("r", MINE, "GET", "/x", is_new=False, traceparent=trace)
    site.timeline.note("r", Kind.SSE_PATCH, {"event": "e", "causation": 7})
    records = [json_record(entry, moment) for entry in site.timeline.diagnostic(request_id="r")]
    fields = [record["fields"] for record in records]
    assert all(isinstance(one, dict) and one["traceparent"] == trace for one in fields)
    assert [isinstance(one, dict) and one.get("causation") for one in fields] == [None, 7]
    flow = site.timeline.maybe_flow("r")
    assert flow is not None
    assert "causation" not in str(shown_flow(flow, moment)), "visitors are not shown it"


def test_what_nobody_can_be_shown_any_more_is_gone_at_once() -> None:  # SITE-130
    """Without a collection of garbage: that of a site with many streams is long."""
    site = Site()
    site.request("first")
    flow = site.timeline.maybe_flow("first")
    assert flow is not None
    kept = weakref.ref(flow)
    del flow
    gc.disable()
    try:
        for number in range(1100):
            site.request(f"r-{number}")
        assert kept() is None
    finally:
        gc.enable()


def test_a_patch_belongs_to_what_its_readers_can_see() -> None:  # LAB-30
    site, other = Site(), "another session"
    for name, session in (("tree", MINE), ("mine", MINE), ("theirs", other)):
        site.timeline.begin(name, session, "POST", "/api/lab", is_new=False)
        site.timeline.exited(name, {"path": name}, is_own=name != "tree")

    def patched() -> list[str]:
        return [
            name
            for name in ("tree", "mine", "theirs")
            if any(
                entry.kind is Kind.SSE_PATCH for entry in site.timeline.diagnostic(request_id=name)
            )
        ]

    site.timeline.patched({"event": "e"}, MINE)
    assert patched() == ["mine"]
    site.timeline.patched({"event": "e"})
    assert patched() == ["tree", "mine"], "the site's tree shows nobody a sandbox"
    site.timeline.patched({"event": "e"}, other)
    assert patched() == ["tree", "mine", "theirs"]


def test_flows_are_twenty_at_most_newest_activity_first() -> None:  # SITE-123
    site = Site()
    for number in range(30):
        site.now = float(number)
        site.request(f"{number:08x}-x", path=f"/page/{number}", method="POST", status=404)
    site.timeline.note(f"{25:08x}-x", Kind.CHAT_INCOMING, {"direction": "in"})
    site.now += 1
    site.timeline.note(f"{26:08x}-x", Kind.CHAT_INCOMING, {"direction": "in"})
    flows = site.flows()
    assert len(flows) == FLOWS_MAX
    assert flows[0].title == "POST /page/26"
    assert flows[0].short_id == f"{26:08x}"
    assert flows[0].status == 404
    assert [entry.stage for entry in flows[0].entries] == ["request", "request", "backend"]


def test_only_the_own_session_and_tab_is_seen() -> None:  # SITE-125
    site = Site()
    site.request("load")
    site.request("mine", path="/a", method="POST", tab=TAB)
    site.request("beside", path="/b", method="POST", tab=SECOND_TAB)
    site.request("foreign", OTHER, path="/c", method="POST", tab=TAB)
    site.timeline.note(None, Kind.DB_QUERY, {"statement": "SELECT 1"})
    site.timeline.note("nobody", Kind.DB_QUERY, {"statement": "SELECT 1"})
    assert sorted(site.titles()) == ["GET /lab", "POST /a"]
    assert sorted(site.titles(tab=SECOND_TAB)) == ["GET /lab", "POST /b"]
    assert site.titles(OTHER) == ["POST /c"]


@pytest.mark.parametrize(
    "path", ["/", "/events", "/api/operations/filter", "/static/app.js", "/health", "/ready"]
)
def test_some_paths_are_nothing_for_visitors(path: str) -> None:  # SITE-126, SITE-127
    site = Site()
    site.request("load")
    site.changed.clear()
    site.request("hidden", path=path)
    assert is_hidden(path)
    assert site.titles() == ["GET /lab"]
    assert site.changed == []
    assert len(site.timeline.diagnostic(request_id="hidden")) == 2


def test_a_filter_is_read_as_it_is_typed() -> None:  # SITE-128
    assert parse_filter(" /events,  POST , , /HEALTH ") == ("/events", "post", "/health")
    assert len(parse_filter(",".join(map(str, range(99))))) == FILTER_TERMS_MAX
    assert parse_filter("x" * 9999) == ("x" * FILTER_TERM_LENGTH_MAX,)
    assert parse_filter(",,, ,") == ()


@pytest.mark.parametrize("term", ["aaaa", "post", "404", "db.query", "select", "backend"])
def test_a_filter_looks_at_all_that_is_shown(term: str) -> None:  # SITE-128
    site = Site()
    site.request("aaaa-1", path="/gone", method="POST", status=404)
    site.timeline.note("aaaa-1", Kind.DB_QUERY, {"statement": "SELECT n FROM rooms"})
    site.request("bbbb-1")
    assert site.titles(terms=f" {term.upper()} ") == ["GET /lab"]
    assert len(site.titles(terms="nothing of it")) == 2


def test_the_newest_flows_of_a_session_are_found_from_the_end() -> None:  # SITE-125, SITE-130
    site = Site()
    site.request("old", path="/old")
    site.now = KEPT_S
    for name in ("first", "second"):
        site.request(name, path=f"/{name}")
    site.request("hidden", path="/static/x.js")
    site.request("other", OTHER)
    site.timeline.note("first", Kind.DB_QUERY_COMPLETE, {"rows": 1})
    site.now = KEPT_S + 1

    def titles(most: int, session: str = MINE) -> list[str]:
        flows = newest_flows(site.timeline.flows_of(session), most, moment)
        return [flow.title for flow in flows]

    assert titles(5) == ["GET /first", "GET /second"]
    assert titles(1) == ["GET /first"]
    assert titles(5, "nobody") == []
    # No more are looked at than are wanted.
    asked = site.timeline.flows_of(MINE)
    assert len(newest_flows(asked, 1, moment)) == 1
    assert len(list(asked)) == len(site.timeline.live(MINE)) - 1


def test_a_scope_keeps_its_newest_entries() -> None:  # SITE-130
    site = Site()
    site.request("r", method="POST")
    for number in range(300):
        site.timeline.note("r", Kind.DB_QUERY_COMPLETE, {"rows": number})
    assert len(site.timeline.live(MINE)) == LIVE_ENTRIES_MAX
    kept = site.timeline.diagnostic(request_id="r")
    assert len(kept) == DIAGNOSTIC_ENTRIES_MAX == len(site.timeline.diagnostic(session=MINE))
    assert kept[-1].values == {"rows": 299}


def test_of_too_many_scopes_the_least_recently_touched_goes() -> None:  # SITE-130
    site = Site(request_scopes_max=3, session_scopes_max=2)
    for name in ("r1", "r2", "r3"):
        site.request(name, f"session-{name}")
    site.timeline.note("r2", Kind.SSE_PATCH, {"event": "x"})
    site.request("r4", "session-r2")
    site.request("r5", "session-r5")
    assert site.timeline.counts() == (3, 2)
    assert site.timeline.maybe_flow("r2") is not None
    assert site.timeline.maybe_flow("r3") is None
    assert len(site.timeline.live("session-r2")) == 5
    assert site.timeline.diagnostic(session="session-r3") == []


def test_cookies_that_are_not_kept_push_nobody_out() -> None:  # SITE-130
    site = Site(session_scopes_max=4)
    site.request("mine")
    for number in range(100):
        site.request(f"new-{number}", f"other-{number}", is_new=True)
    assert site.timeline.counts()[1] == 1
    # The first load of a real visitor is there once the cookie came back.
    site.request("again", "other-99", method="POST", path="/x")
    assert sorted(site.titles("other-99")) == ["GET /lab", "POST /x"]


def test_what_is_old_goes() -> None:  # SITE-130 SEC-134
    site = Site()
    site.request("old")
    site.now = KEPT_S + 1
    assert site.titles() == []
    site.timeline.sweep()
    assert site.timeline.counts() == (0, 0)
    site.request("new")
    assert site.titles() == ["GET /lab"]


def test_memory_is_flat() -> None:  # SITE-130
    site = Site()

    def requests(first: int, last: int) -> None:
        for number in range(first, last):
            site.request(f"r{number}", f"s{number % 2000}", path="/lab/" + "x" * 8000)
            site.timeline.note(f"r{number}", Kind.SSE_PATCH, {"event": "patch"})
        site.changed.clear()

    requests(0, 10_000)
    gc.collect()
    tracemalloc.start()
    requests(10_000, 20_000)
    gc.collect()
    # What came after the start of the measure has taken the place of as much from before it.
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert site.timeline.counts() == (1024, 512)
    assert grown < 5_000_000


def test_nothing_but_known_values_is_shown() -> None:  # SITE-131
    marker = "s3cret-marker"
    site = Site()
    site.timeline.begin("r", MINE, "POST", f"/x?password={marker}", is_new=False)
    site.timeline.note("r", Kind.DB_QUERY, {"statement": "SELECT $1", "arguments": marker})
    site.timeline.note("r", Kind.CHAT_INCOMING, {"body": marker, "sender": "you"})
    site.timeline.end("r", 200, 0.01, is_member=True)
    flow = site.timeline.maybe_flow("r")
    assert flow is not None
    told = str(shown_flow(flow, moment)) + str(
        [json_record(entry, moment) for entry in flow.entries]
    )
    assert marker not in told
    assert "'authenticated'" in told
    assert "SELECT $1" in told


def test_a_text_is_one_short_line() -> None:  # SITE-132
    site = Site()
    site.timeline.begin("r", MINE, "GET", "/a\n\x1b[31m" + "x" * 500, is_new=False)
    site.timeline.note("r", Kind.DB_QUERY, {"statement": "SELECT\n  1" + " , 2" * 500})
    flow = site.timeline.maybe_flow("r")
    assert flow is not None
    shown = shown_flow(flow, moment)
    assert shown.title.isprintable()
    assert len(shown.title) < 200
    values = dict(shown.entries[1].values)
    assert values["statement"].startswith("SELECT 1 , 2")
    assert len(values["statement"]) <= 240


def test_what_happened_is_shown_in_its_order_though_it_was_found_out_later() -> None:  # LAB-30
    site = Site()
    site.request("r", method="POST", path="/api/lab/actors/1/crash", status=202)
    site.now = 1.0
    assert site.timeline.exited("r", {"path": "site/rooms/lobby", "reason": "crashed"})
    assert not site.timeline.exited("unknown", {"path": "x"})
    site.now = 1.2
    site.timeline.patched({"event": "datastar-patch-elements"})
    site.timeline.patched({"event": "datastar-patch-elements"})
    site.timeline.note_at("r", 1.001, Kind.ACTOR_RESTARTED, {"restart_ms": 1.0})
    (flow,) = site.flows()
    assert [str(entry.kind) for entry in flow.entries] == [
        "request.start",
        "request.end",
        "actor.exited",
        "actor.restarted",
        "sse.patch",
    ]
