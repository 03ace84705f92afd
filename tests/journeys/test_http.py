"""The routes as a client without a browser meets them."""

from __future__ import annotations

import json
import math
import re
import time
import uuid

import pytest

from actors.chat.policy import LIMIT_PERIOD_S
from tests.journeys.kinds import StartSite
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Answer, Visitor

pytestmark = pytest.mark.slow

PAGES = ["/", "/lab"]
OTHERS = ["/health", "/ready", "/static/missing.js", "/nowhere", "/events"]


def test_health_is_plain_and_without_cookie(site: SiteProcess) -> None:  # SITE-182 SITE-51
    answer = Visitor(site.url).get("/health")
    assert (answer.status, answer.body) == (200, b"OK")
    assert "set-cookie" not in answer.headers


def test_ready_tells_each_component(site: SiteProcess) -> None:  # SITE-183, WEB-20
    for path in ("/ready", "/health/ready"):
        answer = Visitor(site.url).ready(path)
        state = json.loads(answer.text)
        assert (answer.status, state["ready"], state["status"]) == (200, True, "healthy")
        parts = {"event_store", "pool", "outbox", "timers", "projections", "dead_letters"}
        ways_out = {"archive", "event_bus", "mail", "outside"}
        assert set(state["components"]) == {*parts, "supervision", "streams", "tree", *ways_out}
        assert all(component["healthy"] for component in state["components"].values())


@pytest.mark.parametrize("path", PAGES + OTHERS)
def test_every_answer_has_the_security_headers(site: SiteProcess, path: str) -> None:
    """SITE-50 SEC-60 SEC-65 SEC-69: errors too, and nothing tells the server's make."""
    answer = Visitor(site.url).get(path)
    headers = answer.headers
    is_page = headers.get("content-type", "").startswith("text/html")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert ("script-src 'nonce-" in policy) is is_page
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "permissions-policy" in headers
    assert str(uuid.UUID(headers["x-request-id"])) == headers["x-request-id"]
    assert "server" not in headers
    assert "x-powered-by" not in headers


def test_nonces_are_new_each_time(site: SiteProcess) -> None:  # SEC-60
    visitor = Visitor(site.url)
    nonces = set()
    for _ in range(20):
        answer = visitor.get("/lab")
        found = re.search(r"'nonce-([^']+)'", answer.headers["content-security-policy"])
        assert found
        assert f'nonce="{found.group(1)}"' in answer.text
        assert answer.headers["cache-control"] == "no-store"
        nonces.add(found.group(1))
    assert len(nonces) == 20


def test_unknown_paths_are_styled_pages(site: SiteProcess) -> None:  # SITE-151
    answer = Visitor(site.url).get("/nowhere")
    assert answer.status == 404
    assert answer.headers["x-request-id"] in answer.text
    assert 'href="/"' in answer.text


def test_a_wrong_method_names_the_right_ones(site: SiteProcess) -> None:  # SITE-1
    answer = Visitor(site.url).request("POST", "/health", b"", {"sec-fetch-site": "same-origin"})
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/", "/lab", "/health", "/ready"])
def test_head_works_where_get_does(site: SiteProcess, path: str) -> None:  # SITE-1
    answer = Visitor(site.url).page(path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_an_unknown_host_is_misdirected(site: SiteProcess) -> None:  # SEC-84
    assert Visitor(site.url).get("/", host="evil.test").status == 421


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/ready"])
def test_a_probe_may_use_any_host(site: SiteProcess, path: str) -> None:  # SEC-84
    answer = Visitor(site.url).page(path, host="10.1.2.3:3000")
    assert answer.status == 200
    assert "set-cookie" not in answer.headers


def test_who_comes_from_afar_is_not_told_why(site: SiteProcess) -> None:  # SEC-84
    answer = Visitor(site.url).ready(**{"x-forwarded-for": "203.0.113.7"})
    assert json.loads(answer.text) == {"ready": True, "status": "healthy"}


def test_the_client_cannot_choose_the_request_id(site: SiteProcess) -> None:  # SITE-156
    mine = str(uuid.uuid4())
    assert (
        Visitor(site.url).get("/health", **{"x-request-id": mine}).headers["x-request-id"] != mine
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 202),
        ({"sec-fetch-site": "none"}, 202),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "null"}, 403),
        ({"sec-fetch-site": "", "origin": "http://evil.test"}, 403),
        ({"sec-fetch-site": "", "origin": "null"}, 403),
        ({"sec-fetch-site": "", "referer": "http://evil.test/lab"}, 403),
        ({"sec-fetch-site": ""}, 403),
    ],
)
def test_foreign_posts_change_nothing(
    site: SiteProcess, headers: dict[str, str], status: int
) -> None:
    """SITE-44 SEC-30 SEC-31: judged before any handler."""
    visitor = Visitor(site.url)
    visitor.open_lab()
    text = f"from {headers} {uuid.uuid4()}"
    values: dict[str, object] = {
        "chatDemoDraftBody": text,
        "demoClientId": str(uuid.uuid4()),
        "sseTabId": visitor.tab,
    }
    kept = {
        "content-type": "application/json",
        "datastar-request": "true",
        **{name: value for name, value in headers.items() if value},
    }
    body = json.dumps(values).encode()
    answer = visitor.request("POST", "/demo/chat/messages/demo", body, kept)
    assert answer.status == status
    shown = text.rsplit(maxsplit=1)[-1] in visitor.page("/lab").text
    assert shown is (status == 202)


def test_a_visitor_cookie_is_signed(site: SiteProcess) -> None:  # SITE-43 SEC-10
    visitor = Visitor(site.url)
    answer = visitor.get("/lab")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("gr_visitor=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert "Secure" not in cookie
    assert "set-cookie" not in visitor.get("/lab").headers
    (name,) = visitor.cookies
    forged = Visitor(site.url, {name: visitor.cookies[name][:-2] + "xx"})
    assert "set-cookie" in forged.get("/lab").headers


class TestCommands:
    """A command answers a bare status, whatever came in (SITE-101)."""

    def test_a_post_is_202_without_body(self, site: SiteProcess) -> None:
        visitor = Visitor(site.url)
        visitor.open_lab()
        answer = visitor.post("hello")
        assert (answer.status, answer.body) == (202, b"")

    def test_a_repeat_stores_nothing(self, site: SiteProcess) -> None:  # SITE-66
        visitor = Visitor(site.url)
        visitor.open_lab()
        text, client_id = f"once {uuid.uuid4()}", str(uuid.uuid4())
        assert [visitor.post(text, client_id).status for _ in range(3)] == [202, 202, 202]
        assert visitor.page("/lab").text.count(f">{text}<") == 2  # one in each pane

    def test_an_unbound_tab_is_412(self, site: SiteProcess) -> None:  # SITE-62
        visitor = Visitor(site.url)
        visitor.open_lab()
        visitor.tab = str(uuid.uuid4())
        answer = visitor.post("hello")
        assert (answer.status, answer.body) == (412, b"")

    def test_another_visitors_tab_is_412(self, site: SiteProcess) -> None:  # SEC-55
        owner, stranger = Visitor(site.url), Visitor(site.url)
        owner.open_lab()
        stranger.open_lab()
        stranger.tab = owner.tab
        assert stranger.post("hello").status == 412

    @pytest.mark.parametrize(
        "values",
        [
            {"chatDemoDraftBody": "", "demoClientId": "a"},
            {"chatDemoDraftBody": "x" * 1001, "demoClientId": "a"},
            {"chatDemoDraftBody": "a\x00b", "demoClientId": "a"},
            {"chatDemoDraftBody": "a", "demoClientId": ""},
            {"chatDemoDraftBody": "a", "demoClientId": "x" * 129},
            {"chatDemoDraftBody": 7, "demoClientId": "a"},
            {"demoClientId": "a"},
            {"chatDemoDraftBody": "a", "demoClientId": "a", "sseTabId": "no tab"},
        ],
    )
    def test_bad_values_are_400_and_bare(
        self, site: SiteProcess, values: dict[str, object]
    ) -> None:
        visitor = Visitor(site.url)
        visitor.open_lab()
        answer = visitor.command("/demo/chat/messages/demo", {"sseTabId": visitor.tab, **values})
        assert (answer.status, answer.body) == (400, b"")  # SITE-61

    def test_broken_json_is_400(self, site: SiteProcess) -> None:
        visitor = Visitor(site.url)
        visitor.open_lab()
        headers = {
            "content-type": "application/json",
            "datastar-request": "true",
            "sec-fetch-site": "same-origin",
        }
        assert visitor.request("POST", "/demo/chat/messages/demo", b"{", headers).status == 400

    def test_a_wrong_content_type_is_415(self, site: SiteProcess) -> None:  # SEC-33
        visitor = Visitor(site.url)
        visitor.open_lab()
        headers = {"content-type": "text/plain", "sec-fetch-site": "same-origin"}
        assert visitor.request("POST", "/demo/chat/messages/demo", b"{}", headers).status == 415

    def test_a_long_body_is_413(self, site: SiteProcess) -> None:  # SEC-119
        visitor = Visitor(site.url)
        visitor.open_lab()
        assert visitor.post("x" * 70_000).status == 413

    def test_a_form_goes_back_to_the_panel(self, site: SiteProcess) -> None:  # SITE-19
        visitor = Visitor(site.url)
        visitor.open_lab()
        text = f"without script {uuid.uuid4()}"
        fields = {
            "chatDemoDraftBody": text,
            "demoClientId": str(uuid.uuid4()),
            "sseTabId": visitor.tab,
        }
        answer = visitor.form("/demo/chat/messages/demo", fields)
        assert (answer.status, answer.headers["location"]) == (303, "/lab#chat-demo")
        assert visitor.page("/lab").text.count(f">{text}<") == 2

    def test_a_guest_has_no_name_to_post_under(self, site: SiteProcess) -> None:  # SITE-9 SITE-62
        visitor = Visitor(site.url)
        page = visitor.open_lab()
        assert 'id="chat-you-composer"' not in page.text
        assert '<a href="/login?next=%2Flab">Sign in</a>' in page.text
        text = f"whose {uuid.uuid4()}"
        values = {"chatDraftBody": text, "clientId": "a", "sseTabId": visitor.tab}
        answer = visitor.command("/demo/chat/messages", dict(values))
        assert (answer.status, answer.body) == (401, b"")
        # SITE-64: the form of a page whose sign-in is over by now.
        answer = visitor.form("/demo/chat/messages", values)
        assert answer.status == 401
        assert f">{text}</textarea>" in answer.text
        assert text not in visitor.page("/lab").text
        # What cannot be read is told before who may not.
        values = {**values, "chatDraftBody": ""}
        assert visitor.command("/demo/chat/messages", dict(values)).status == 400


def test_the_sixth_post_is_refused(start_site: StartSite) -> None:
    """SITE-65: 1-5 pass, the 6th is 429 and tells when to come back."""
    site = start_site()
    answers, took_s = list[Answer](), math.inf
    while took_s >= LIMIT_PERIOD_S:  # on a machine too busy for six posts, once more
        visitor = Visitor(site.url)
        visitor.open_lab()
        began = time.monotonic()
        answers = [visitor.post(f"number {number}") for number in range(6)]
        took_s = time.monotonic() - began
    assert [answer.status for answer in answers] == [202] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert answers[-1].body == b""
    other = Visitor(site.url)
    other.open_lab()
    assert other.post("somebody else").status == 202


def test_a_pending_message_reaches_its_author_only(site: SiteProcess) -> None:  # SITE-67 SITE-68
    author, reader = Visitor(site.url), Visitor(site.url)
    for visitor in (author, reader):
        visitor.open_lab()
    text = f"see https://example.org/{uuid.uuid4()}"
    with reader.open_stream() as stream:
        assert author.post(text).status == 202
        assert reader.post("the end").status == 202
        seen = stream.read_until(b"the end")
    assert text.encode() not in seen
    assert text not in reader.page("/lab").text
    own = author.page("/lab").text
    assert own.count(text) == 2
    assert "waiting for review" in own


def test_old_chat_address_leads_to_the_lab(site: SiteProcess) -> None:
    answer = Visitor(site.url).get("/demo/chat")
    assert (answer.status, answer.headers["location"]) == (308, "/lab#chat-demo")


@pytest.mark.parametrize("tab", ["", "no-uuid", "x" * 100])
def test_a_malformed_tab_opens_no_stream(site: SiteProcess, tab: str) -> None:  # SITE-91
    visitor = Visitor(site.url)
    visitor.open_lab()
    visitor.tab = tab
    with visitor.open_stream() as stream:
        assert stream.status == 400


def test_a_stream_begins_with_signals_and_the_whole_view(site: SiteProcess) -> None:
    """SITE-91 SITE-92 SEC-52: headers at once, connected, every panel of the page."""
    visitor = Visitor(site.url)
    visitor.open_lab()
    assert visitor.post("in the window").status == 202
    with visitor.open_stream() as stream:
        assert stream.status == 200
        assert stream.header("content-type") == "text/event-stream; charset=utf-8"
        assert stream.header("cache-control") == "no-cache, no-transform, no-store"
        assert stream.header("x-accel-buffering") == "no"
        seen = stream.read_until(b'"sseConnected":true', b"in the window", b'id="tree"')
    assert b"retry: 2000" in seen


@pytest.mark.parametrize("mode", ["readonly", "off"])
def test_a_closed_lab_takes_no_actions(start_site: StartSite, mode: str) -> None:
    """LAB-6 LAB-92: the button is gone, the action is 503 and no failure, chat goes on."""
    site = start_site(LAB_MODE=mode)
    visitor = Visitor(site.url)
    assert "Crash the Lobby room" not in visitor.open_lab().text
    with visitor.open_stream() as stream:
        assert stream.status == 200
        values: dict[str, object] = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab}
        answer = visitor.command("/api/lab/actors/1/crash", values)
    assert (answer.status, answer.body) == (503, b"")
    assert visitor.post("still talking").status == 202
    site.stop()
    told = "".join(site.lines)
    assert "/api/lab/actors/1/crash" in told
    assert "request.failed" not in told  # said on purpose: nothing failed


class TestCrashAction:
    """What the crash button's command answers (LAB-6)."""

    def crash(self, visitor: Visitor, target: str, **changed: object) -> int:
        values = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab, **changed}
        return visitor.command(f"/api/lab/actors/{target}", values).status

    def test_refusals(self, site: SiteProcess) -> None:
        visitor = Visitor(site.url)
        page = visitor.open_lab().text
        found = re.search(r"/api/lab/actors/(\w+)/crash", page)
        assert found
        target = found.group(1)
        assert self.crash(visitor, f"{target}/crash") == 428
        with visitor.open_stream() as stream:
            assert stream.status == 200
            assert self.crash(visitor, f"{target}/melt") == 400
            assert self.crash(visitor, f"{target}/crash", commandId="") == 400
            assert self.crash(visitor, "1/crash") == 404
            once = str(uuid.uuid4())
            assert self.crash(visitor, f"{target}/crash", commandId=once) == 202
            stream.read_until(b"CrashedOnPurpose", b"running after")
            assert self.crash(visitor, f"{target}/crash", commandId=once) == 202  # SITE-102
        restarts = re.search(r"lobby</bdi>.*?restarts <b>(\d+)</b>", visitor.page("/lab").text)
        assert restarts
        assert restarts.group(1) == "1"
