"""Reports of broken page policies: taken from anybody, bounded, logged without secrets (SEC-66)."""

from __future__ import annotations

import json
from dataclasses import astuple
from functools import partial

import pytest
from structlog.testing import capture_logs

from tests.journeys.visitor import Answer, Visitor
from tests.web.whole_site import in_thread, open_whole_site
from web.routing.errors import InvalidInput, RateLimited
from web.site.policy_reports import (
    LOGGED_MAX,
    LOGGED_PER_REQUEST_MAX,
    PERIOD_S,
    REPORTS_PER_ADDRESS_MAX,
    PolicyReports,
    read_reports,
)

OLD = {
    "csp-report": {
        "document-uri": "https://site.example/login?next=/secret#x",
        "violated-directive": "script-src-elem",
        "blocked-uri": "https://me:word@evil.example/a.js?token=1",
        "source-file": "https://site.example/lab?tab=1",
        "line-number": 7,
        "disposition": "enforce",
        "script-sample": "what a visitor wrote",
    }
}
NEW = [
    {
        "type": "csp-violation",
        "age": 1,
        "url": "https://site.example/",
        "body": {
            "documentURL": "https://site.example/?secret",
            "blockedURL": "inline",
            "effectiveDirective": "style-src-attr",
            "disposition": "enforce",
            "lineNumber": None,
            "sample": "what a visitor wrote",
        },
    },
    {"type": "deprecation", "body": {"id": "x"}},
    {"type": "crash"},
]


def test_both_forms_are_read_without_what_is_secret() -> None:
    (old,) = read_reports(json.dumps(OLD).encode())
    assert astuple(old) == (
        "script-src-elem",
        "https://evil.example/a.js",
        "https://site.example/login",
        "https://site.example/lab",
        7,
        "enforce",
    )
    (new,) = read_reports(json.dumps(NEW).encode())
    assert (new.directive, new.blocked, new.page) == (
        "style-src-attr",
        "inline",
        "https://site.example/",
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("data:text/html,secret", "data"),
        ("blob:https://site.example/1", "blob"),
        ("eval", "eval"),
        ("a\r\nlevel=error\u202e", "a??level=error?"),
        ("x" * 10_000, "x" * 200),
        ("//host:80/path", "//host:80/path"),
    ],
)
def test_an_address_is_one_short_line(given: str, shown: str) -> None:
    report = {"csp-report": {"blocked-uri": given}}
    (found,) = read_reports(json.dumps(report).encode())
    assert found.blocked == shown


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"7",
        b"null",
        b'"csp-report"',
        b"[1]",
        b'[{"type": 1}]',
        b'[{"type": "csp-violation", "body": 1}]',
        b'{"csp-report": {"line-number": "x"}}',
        b'{"csp-report": {"blocked-uri": "\xff"}}',
        b"[" * 16_000,
    ],
)
def test_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_reports(body)


def test_a_crowd_does_not_fill_the_log() -> None:
    at = 0.0
    reports = PolicyReports(lambda: at)
    many = read_reports(json.dumps([NEW[0]] * 50).encode())
    with capture_logs() as logged:
        for number in range(30):
            reports.admit(f"address {number}")
            reports.take(many)
        assert len(logged) == LOGGED_MAX
        at += PERIOD_S
        reports.take(many)
    assert logged[LOGGED_PER_REQUEST_MAX]["left_out"] == 40
    assert logged[LOGGED_MAX]["left_out"] == 30 * 50 - LOGGED_MAX - 9 * 40
    assert sum(entry["left_out"] for entry in logged) == 30 * 50 - LOGGED_MAX


def test_an_address_reports_ten_times_a_minute() -> None:
    reports = PolicyReports(lambda: 0.0)
    for _ in range(REPORTS_PER_ADDRESS_MAX):
        reports.admit("one")
    with pytest.raises(RateLimited):
        reports.admit("one")
    reports.admit("another")
    assert len(reports.quota) == 2


@pytest.mark.slow
async def test_a_browsers_report_is_taken_whoever_sends_it() -> None:
    async with open_whole_site() as site:

        async def send(body: bytes, media: str) -> Answer:
            # As browsers do it: without a cookie, a token or a word about where it comes from.
            headers = {"content-type": media, "sec-fetch-site": "cross-site"}
            visitor = Visitor(site.url)
            return await in_thread(partial(visitor.request, "POST", "/csp-report", body, headers))

        old, new = json.dumps(OLD).encode(), json.dumps(NEW).encode()
        with capture_logs() as logged:
            for body, media in (
                (old, "application/csp-report"),
                (new, "application/reports+json"),
                (new, "application/json; charset=utf-8"),
            ):
                answer = await send(body, media)
                assert (answer.status, answer.body) == (204, b"")
                assert "set-cookie" not in answer.headers
        told = [entry for entry in logged if entry["event"] == "page.policy_broken"]
        assert len(told) == 3
        assert "secret" not in str(told)
        assert "visitor wrote" not in str(told)
        assert (await send(b"{", "application/csp-report")).status == 400
        assert (await send(old, "text/plain")).status == 415
        assert (await send(old + b" " * 17_000, "application/csp-report")).status == 413
        for _ in range(REPORTS_PER_ADDRESS_MAX - 4):
            assert (await send(old, "application/csp-report")).status == 204
        answer = await send(old, "application/csp-report")
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
