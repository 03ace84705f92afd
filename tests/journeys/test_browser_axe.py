"""axe-core on every page, tab, theme and state."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.checks import (
    MEMBERS,
    PANELS,
    PATHS,
    axe,
    become_moderator,
    found_by_axe,
    until_it_lives,
)
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize(
    ("width", "scheme", "forced"),
    [(1440, "light", "none"), (390, "dark", "none"), (1440, "light", "active")],
)
def test_axe_finds_nothing_on_any_page(
    site: SiteProcess,
    browser: Browser,
    width: int,
    scheme: Literal["light", "dark"],
    forced: Literal["active", "none"],
) -> None:
    """SITE-20, LAB-83"""
    source = axe()
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, forced_colors=forced
    )
    told = []
    member = context.new_page()
    become_moderator(member, site, f"axel-{scheme}-{forced}")
    for path in (*PATHS, *PANELS, *MEMBERS):
        page = context.new_page()
        page.goto(site.url + path)
        until_it_lives(page)
        told += [f"{path}: {problem}" for problem in found_by_axe(page, source)]
        page.close()
    told += [f"refused: {problem}" for problem in _refused(context.new_page(), site, source)]
    context.close()
    assert told == []


def _refused(page: Page, site: SiteProcess, source: str) -> list[str]:
    """What axe finds in forms that come back: fields that are wrong, and a sign-in that failed."""
    page.context.clear_cookies()
    told = []
    for path in ("/register", "/login"):
        page.goto(site.url + path)
        for field in page.locator("main form.panel input:not([type=hidden])").all():
            field.fill("x@" if field.get_attribute("name") == "email" else "x")
        page.locator("main form.panel").evaluate("(form) => { form.noValidate = true; }")
        with page.expect_navigation():
            page.locator("main form.panel button[type=submit]").click()
        told += found_by_axe(page, source)
    return told


def test_axe_finds_nothing_while_things_go_wrong(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-20, LAB-83, SITE-98: after a give-up, and while the page is not connected."""
    source = axe()
    page = new_page(1440, 900)
    page.goto(f"{site.url}/lab")
    expect(page.locator("#stage-state")).to_have_attribute("data-access", "open")
    page.locator("#chip-crew-beta").click()
    crash = page.locator(".inspector [data-act=crash]")
    known = page.locator("#stories > li[data-place='crew-beta'][data-decision]")
    for number in range(1, 7):
        expect(crash).to_have_attribute("aria-disabled", "false")
        with page.expect_response("**/crash") as answered:
            crash.click()
        assert answered.value.status == 202
        # The next one may be sent when this one is over.
        expect(known.filter(has_text=re.compile("running|gives up"))).to_have_count(number)
    expect(page.locator("#stories > li.is-give-up").first).to_be_attached()
    # What is played passes within two seconds; while it does, chips are half seen on purpose.
    expect(page.locator(".chip[data-play]")).to_have_count(0)
    expect(page.locator(".tape-marks button").first).to_be_visible()
    # A mark stands at its time, so two of one second lie over each other (WCAG 2.5.8, essential).
    assert [one for one in found_by_axe(page, source) if "li[data-story" not in one] == []
    page.context.set_offline(True)
    expect(page.locator("#stale")).to_be_visible()
    assert [one for one in found_by_axe(page, source) if "li[data-story" not in one] == []
