"""The example of a site of one's own, as a process of its own, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import OwnProcess
from tests.journeys.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnProcess]:
    running = OwnProcess(tmp_path / "state")
    yield running
    running.end()


def shows(page: Page, *lines: str) -> None:
    expect(page.locator("#panel-votes li")).to_have_text([*lines])


def test_a_vote_shows_in_another_window_also_behind_a_restart(
    own: OwnProcess, new_page: OpenPage
) -> None:
    heard: list[str] = []
    pages = [new_page(), new_page(width=390, height=844)]
    desk, phone = pages
    for page in pages:
        page.on("pageerror", lambda error: heard.append(str(error)))
        with page.expect_response(lambda response: "/live" in response.url):
            page.goto(own.url)
        shows(page, "tea: 0", "coffee: 0")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.get_by_role("button", name="coffee").click()
    for page in pages:
        shows(page, "tea: 0", "coffee: 1")

    # The same browser again: told beside the form, and nothing was counted.
    phone.get_by_role("button", name="tea").click()
    expect(phone.get_by_role("status")).to_have_text("One vote each, for tea or for coffee.")
    shows(phone, "tea: 0", "coffee: 1")

    # A page that stays open goes on with the next process, without a reload.
    desk.evaluate("window.isTheSamePage = true")
    expect(desk.locator("#stale")).to_be_hidden()
    assert own.stop() == 0
    # Meanwhile it says that it is not live, and since when.
    expect(desk.locator("#stale")).to_be_visible()
    expect(desk.locator("#connection-pill")).to_contain_text("reconnecting")
    own.restart()
    shows(desk, "tea: 0", "coffee: 1")
    expect(desk.locator("#stale")).to_be_hidden()
    assert Visitor(own.url).form("/", {"drink": "tea"}).status == 303
    shows(desk, "tea: 1", "coffee: 1")
    assert desk.evaluate("window.isTheSamePage")
    assert heard == []


def test_many_tabs_of_one_browser_leave_connections_for_pages_and_votes(
    own: OwnProcess, browser: Browser
) -> None:
    """A browser has six connections a host: the oldest pages give theirs up, and say so."""
    context = browser.new_context(reduced_motion="reduce")
    try:
        pages = [context.new_page() for _ in range(8)]
        for page in pages:
            page.goto(own.url)
            expect(page.locator("html")).to_have_attribute("data-connection", "connected")
        expect(pages[0].locator("#connection-pill")).to_contain_text("too many tabs")
        pages[-1].get_by_role("button", name="tea").click()
        shows(pages[-1], "tea: 1", "coffee: 0")
        # Asked for, it is live again, and another gives way.
        pages[0].get_by_role("button", name="try now").click()
        shows(pages[0], "tea: 1", "coffee: 0")
        expect(pages[0].locator("#stale")).to_be_hidden()
    finally:
        context.close()


def test_the_form_works_without_script(own: OwnProcess, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.goto(own.url)
        page.get_by_role("button", name="tea").click()
        shows(page, "tea: 1", "coffee: 0")
    finally:
        context.close()
