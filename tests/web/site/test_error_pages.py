"""The page about an error: what one can do, the way back, and the failure that is shown."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from tests.web.whole_site import in_thread, open_whole_site
from web.server import Answer
from web.site.error_pages import _ADVICE


def links(text: str) -> list[str]:
    main = text[text.index("<main") : text.index("</main>")]
    return re.findall(r'href="([^"]+)"', main)


def test_every_status_has_its_advice() -> None:  # SITE-151
    # 501 is shown as 400, and what is no table row falls back to words for anything.
    assert {answer.value.status for answer in Answer} - {501} == set(_ADVICE)


async def test_an_error_page_leads_back_to_where_one_came_from() -> None:  # SITE-151
    async with open_whole_site() as site:

        def asked(referer: str, path: str = "/no-such-page") -> list[str]:
            answer = site.visitor().request("GET", path, headers={"referer": referer})
            assert answer.status == 404
            assert answer.headers["x-request-id"] in answer.text
            return links(answer.text)

        def visit() -> None:
            assert asked(f"{site.url}/lab?a=1#b")[0] == "/lab?a=1"
            assert asked(f"{site.url}/docs/start/first-actor")[:2] == [
                "/docs/start/first-actor",
                "/",
            ]
            for nowhere in (
                "",
                "nonsense",
                f"{site.url}",
                f"{site.url}/",
                f"{site.url}/no-such-page",
                "https://elsewhere.example/lab",
                f"{site.url}@elsewhere.example/lab",
                f"{site.url}//elsewhere.example/lab",
                f"{site.url}/\\elsewhere.example",
                f'{site.url}/lab"onclick="x',
                f"{site.url}/lab?" + "a" * 3000,
                "javascript:alert(1)",
            ):
                assert asked(nowhere) == ["/", "/docs"], nowhere

        await in_thread(visit)


async def test_an_error_page_says_what_to_do_and_nothing_of_the_cause() -> None:  # SITE-151
    async with open_whole_site() as site:

        def visit() -> None:
            answer = site.visitor().get("/error-test")
            assert answer.status == 500
            assert "What you can do" in answer.text
            assert ">Copy</button>" in answer.text
            assert "Traceback" not in answer.text
            assert "FailedOnPurpose" not in answer.text

        await in_thread(visit)


@pytest.mark.parametrize("signals", ["", "{", "[]", '{"sseTabId": 7}', '{"sseTabId": "x"}'])
async def test_a_failure_asked_for_is_a_page_or_a_bare_status(signals: str) -> None:  # SITE-157
    async with open_whole_site() as site:

        def visit() -> None:
            path = "/error-test" + (f"?datastar={quote(signals)}" if signals else "")
            page = site.visitor().get(path)
            bare = site.visitor().request("GET", path, headers={"datastar-request": "true"})
            assert (page.status, bare.status, bare.body) == (500, 500, b"")
            assert "Our mistake" in page.text

        await in_thread(visit)


async def test_a_failure_is_shown_on_the_page_that_asked() -> None:  # SITE-157
    async with open_whole_site() as site:

        def visit() -> None:
            visitor = site.visitor()
            visitor.open_lab()
            with visitor.open_stream_of("home") as stream:
                stream.read_until(b"serverConnected")
                signals = quote(json.dumps({"sseTabId": visitor.tab, "other": 1}))
                bare = visitor.request(
                    "GET", f"/error-test?datastar={signals}", headers={"datastar-request": "true"}
                )
                assert (bare.status, bare.body) == (500, b"")
                shown = stream.read_until(b"error-fragment", b"Our mistake", b"Status 500")
                assert bare.headers["x-request-id"].encode() in shown

        await in_thread(visit)
