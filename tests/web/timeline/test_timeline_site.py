"""The timeline of a whole site: what a visitor's own requests have caused, and nobody else's."""

from __future__ import annotations

import json
import re
from functools import partial

from actors.accounts import Role
from actors.timeline import Kind
from tests.patience import until
from tests.web.accounts.test_entering import PASSWORD, form, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.lab.stage.actions import OPERATIONS

MARKER = "m4rker-of-a-secret"


def kinds_of(site: WholeSite, request_id: str) -> list[str]:
    entries = site.web.timeline.diagnostic(request_id=request_id)
    return [str(entry.kind) for entry in sorted(entries, key=lambda entry: entry.at)]


async def test_a_post_shows_what_it_has_caused_to_its_sender_only() -> None:
    # SITE-120, SITE-122, SITE-125, SITE-127, SITE-131
    async with open_whole_site() as site:
        visitor, other = site.visitor(), site.visitor()
        visitor.panel = other.panel = OPERATIONS
        await in_thread(visitor.open_lab)
        await in_thread(other.open_lab)
        stream = await in_thread(visitor.open_stream)
        foreign = await in_thread(other.open_stream)
        with stream, foreign:
            await until(lambda: len(site.web.timeline_viewers) == 2)
            posted = await in_thread(lambda: visitor.post(f"hello {MARKER}"))
            request_id = posted.headers["x-request-id"]
            # The first that was shown is chosen, and stays so.
            chosen: dict[str, object] = {"sseTabId": visitor.tab, "activeFlowId": request_id}
            await in_thread(lambda: visitor.command("/api/operations/filter", chosen))
            shown = await in_thread(lambda: stream.read_until(b"chat.message.broadcast"))
            await until(lambda: kinds_of(site, request_id).count("request.end") == 1)
            assert set(kinds_of(site, request_id)) == {
                "request.start",
                "chat.message.incoming",
                "chat.message.broadcast",
                "sse.patch",
                "request.end",
            }
            flow = site.web.timeline.maybe_flow(request_id)
            assert flow is not None
            assert (flow.tab, flow.sender, flow.status) == (visitor.tab, "demo", 202)
            assert request_id.partition("-")[0].encode() in shown
            # A choice of theirs shows nothing of it.
            await in_thread(
                lambda: other.command(
                    "/api/operations/filter",
                    {"sseTabId": other.tab, "activeFlowId": request_id},
                )
            )
            await until(lambda: kinds_of(site, request_id) != [])
            seen = await in_thread(lambda: foreign.read_until(b"network-log-target"))
            assert b"POST /demo" not in seen
        entries = site.web.timeline.diagnostic(session=flow.session)
        assert all(MARKER not in str(entry.values) for entry in entries)


async def test_a_crash_shows_exit_restart_and_patch_in_order() -> None:  # LAB-30
    async with open_whole_site() as site:
        visitor = site.visitor()
        page = await in_thread(visitor.open_lab)
        found = re.search(r"/api/lab/actors/([0-9a-f]+)/crash", page.text)
        assert found
        with await in_thread(visitor.open_stream):
            await until(lambda: len(site.web.timeline_viewers) == 1)
            values: dict[str, object] = {"commandId": "c", "sseTabId": visitor.tab}
            path = f"/api/lab/actors/{found[1]}/crash"
            crashed = await in_thread(lambda: visitor.command(path, values))
            request_id = crashed.headers["x-request-id"]
            wanted = [str(Kind.ACTOR_EXITED), str(Kind.ACTOR_RESTARTED), str(Kind.SSE_PATCH)]

            def told() -> list[str]:
                return [kind for kind in kinds_of(site, request_id) if kind in wanted]

            # A patch may show the exit before the restart is over.
            await until(lambda: set(told()) == set(wanted))
            assert told()[0] == wanted[0]


async def test_a_page_that_shows_another_panel_is_sent_nothing_of_it() -> None:  # LAB-1
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        with await in_thread(visitor.open_stream) as stream:
            await until(lambda: len(site.web.timeline_viewers) == 1)
            # A frame of later, so whatever the feed had to send is before it.
            await in_thread(lambda: visitor.post("behind it"))
            seen = await in_thread(lambda: stream.read_until(b"behind it", b"ClientId"))
            assert b"operations-flows" not in seen


async def test_the_filter_is_a_command() -> None:  # SITE-101, SITE-126, SITE-128
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)

        def send(**values: object) -> int:
            sent = {"sseTabId": visitor.tab, **values}
            answer = visitor.command("/api/operations/filter", sent)
            assert answer.body == b""
            return answer.status

        assert await in_thread(lambda: send(operationsFilterQuery="/lab")) == 428
        visitor.panel = OPERATIONS
        with await in_thread(visitor.open_stream) as stream:
            await until(lambda: len(site.web.timeline_viewers) == 1)
            await in_thread(lambda: stream.read_until(b"GET /lab"))
            assert await in_thread(lambda: send(operationsFilterQuery=" /LAB ")) == 204
            await in_thread(lambda: stream.read_until(b"is not in the list"))
            assert await in_thread(lambda: send(operationsFilterQuery=7)) == 400
            assert await in_thread(lambda: send(operationsFilterQuery="x" * 5000)) == 400
            assert await in_thread(lambda: send(activeFlowId="x" * 5000)) == 400
            assert await in_thread(lambda: send(sseTabId="no tab")) == 400
        assert not any(
            entry.flow.path == "/api/operations/filter" and not entry.flow.is_hidden
            for flow in site.web.timeline._flows.values()
            for entry in flow.entries
        )
        await until(lambda: len(site.web.timeline_viewers) == 0)


async def test_only_operators_read_traces() -> None:  # SITE-133
    async with open_whole_site() as site:
        guest = site.visitor()
        page = await in_thread(guest.open_lab)
        request_id = page.headers["x-request-id"]
        # SITE-120: a trace that is well formed is told on, of anything else nothing is kept.
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        for given in (trace, trace.upper(), f"{trace}-{MARKER}"):
            told = await in_thread(partial(guest.get, "/lab", traceparent=given))
            flow = site.web.timeline.maybe_flow(told.headers["x-request-id"])
            assert flow is not None
            assert flow.traceparent is not None
            assert (flow.traceparent == trace) is (given == trace)
            assert ("a" * 32 in flow.traceparent) is (given == trace)
            assert MARKER not in flow.traceparent
        path = f"/ops/traces?request_id={request_id}"
        assert (await in_thread(lambda: guest.get(path))).status == 404
        member = await register(site)
        signed = await form(member, "/login", email="ada@example.org", password=PASSWORD)
        assert any("auth" in name for name in member.cookies), signed.headers
        assert (await in_thread(lambda: member.get(path))).status == 404
        assert await site.accounts.grant("ada", Role.ADMIN) is Role.USER
        answer = await in_thread(lambda: member.get(path))
        assert answer.status == 200
        records = [json.loads(line) for line in answer.text.splitlines()]
        assert [record["message"] for record in records] == ["request.start", "request.end"]
        assert {record["fields"]["request_id"] for record in records} == {request_id}
        unknown = "/ops/traces?request_id=00000000-0000-4000-8000-000000000000"
        assert (await in_thread(lambda: member.get(unknown))).status == 404
        both = "/ops/traces?request_id=1&session_id=2"
        assert (await in_thread(lambda: member.get(both))).status == 400


async def test_who_names_anothers_request_as_a_cause_tells_it_nothing() -> None:
    # SEC-111, WEB-10
    async with open_whole_site() as site:
        visitor, other = site.visitor(), site.visitor()
        await in_thread(visitor.open_lab)
        await in_thread(other.open_lab)
        stream = await in_thread(visitor.open_stream)
        with stream:
            posted = await in_thread(lambda: visitor.post("hello"))
            request_id = posted.headers["x-request-id"]
            await until(lambda: kinds_of(site, request_id).count("request.end") == 1)
            before = kinds_of(site, request_id)
            named = {"x-correlation-id": request_id}
            look: dict[str, object] = {"sseTabId": other.tab, "panel": OPERATIONS}
            foreign = await in_thread(lambda: other.command("/api/lab/look", look, **named))
            assert kinds_of(site, request_id) == before
            # Whoever made it may go on with it.
            look["sseTabId"] = visitor.tab
            own = await in_thread(lambda: visitor.command("/api/lab/look", look, **named))
        assert foreign.headers["x-correlation-id"] == foreign.headers["x-request-id"] != request_id
        assert own.headers["x-correlation-id"] == request_id
        for answer in (foreign, own):
            assert site.web.timeline.maybe_flow(answer.headers["x-request-id"]) is not None
