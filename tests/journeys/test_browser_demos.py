"""The demos in a browser: two tabs in step, errands, and a panel's result beside the timeline."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess
from tests.patience import PATIENCE_S

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
        "for (let at = 0; at < 3; at += 1) document.querySelector('[formaction$=cancel]').click()"
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


@pytest.mark.parametrize("path", ["/work/command-sse", "/lab"])
def test_without_scripts_errands_are_run_looked_at_and_cancelled(
    site: SiteProcess, browser: Browser, path: str
) -> None:
    # SITE-19, SITE-104, SITE-105
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.goto(f"{site.url}{path}")
    form = page.locator("#demo-errands")
    expect(form.get_by_role("button", name="Only here")).to_be_hidden()
    form.get_by_role("button", name="Wait your turn").click()
    page.wait_for_url("**/demo/errands")
    # How much of them is over is a matter of speed; each is told in its order.
    expect(page.locator("#demo-status")).to_have_text(re.compile("^(running|finished) #1$"))
    page.get_by_role("button", name="Wait your turn").click()
    expect(page.locator("#demo-status")).to_contain_text("#2")
    page.get_by_role("button", name="Cancel, then run").click()
    expect(page.locator("#demo-counts")).to_have_text(
        re.compile("^started [23], cancelled [01], finished [012]$")
    )
    expect(page.locator("#demo-message")).to_have_text("Working on #3 …")
    page.get_by_role("link", name="Load this page again").click()
    expect(page.locator("#demo-status")).to_contain_text("#3")
    page.get_by_role("link", name="Back to the lab").click()
    page.get_by_role("link", name="What you have running").click()
    expect(page.locator("#demo-status")).to_contain_text("#3")
    context.close()
