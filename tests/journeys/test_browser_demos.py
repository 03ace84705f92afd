"""The demos in a browser: two tabs in step, errands, and a panel's result beside the timeline."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def open_operations(page: Page, site: SiteProcess) -> Page:
    page.goto(f"{site.url}/lab#operations")
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    return page


def click(page: Page, words: str) -> None:
    page.evaluate(
        """(words) => {
          const [less, more] = document.querySelectorAll("#demo-counter button");
          for (const word of words) (word === "+" ? more : less).click();
        }""",
        words,
    )


def test_two_tabs_converge_and_a_panel_shows_its_trace(
    site: SiteProcess, new_page: OpenPage
) -> None:
    # SITE-103, SITE-105, SITE-106
    one = open_operations(new_page(), site)
    two = open_operations(one.context.new_page(), site)
    click(one, "+" * 50)
    for page in (one, two):
        expect(page.locator("#demo-count")).to_have_text("50")
    # Never at the floor, so any order gives the same; each tab guesses by itself meanwhile.
    for page, words in ((one, "++-+-" * 10), (two, "-+--+" * 10)):
        click(page, words)
    for page in (one, two):
        expect(page.locator("#demo-server-count")).to_have_text("50")
        expect(page.locator("#demo-count")).to_have_text("50")

    one.evaluate(
        "for (let at = 0; at < 3; at += 1) document.querySelector('[data-run=cancel]').click()"
    )
    # How many were cancelled is a matter of speed; in the end none runs any more.
    expect(one.locator("#demo-counts")).to_have_text(
        re.compile("started 3, cancelled (0, finished 3|1, finished 2|2, finished 1)")
    )
    expect(one.locator("#demo-message")).to_have_text("Nothing is running.")
    expect(two.locator("#demo-counts")).to_have_text("")

    one.click("#demo-ping button")
    result = one.locator("#demo-ping-result")
    expect(result.locator(".round-trip")).to_have_text(re.compile(r"^\d+\.\d ms$"))
    expect(result.locator(".flow-events")).to_contain_text("request.end")
    expect(one.locator("#operations-flows")).to_contain_text("POST /demo/panels/ping")
    one.select_option("#demo-boundary-check select", "nothing but blanks")
    one.click("#demo-boundary-check button")
    expect(one.locator("#demo-boundary-check-result")).to_contain_text("domain")
