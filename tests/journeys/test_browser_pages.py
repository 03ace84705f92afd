"""The pages in a browser: the stage on the home page, the documents, one page after another."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_home_page_crashes_an_actor_and_tells_of_it(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """SITE-5 SITE-6: nothing runs for a visitor before the wish; then it is a real crash."""
    page = new_page()
    page.goto(site.url)
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(page.locator("#stage-state")).to_have_attribute("data-access", "shared")
    before = int(page.locator("#proof dd").nth(3).inner_text())
    page.locator("#chip-feed-router").click()
    expect(page.locator("#home-crash")).to_have_text(re.compile("Crash\\s*router"))
    page.locator("#home-crash").click()
    story = page.locator("#stories > li[data-shown][data-took]")
    expect(story).to_contain_text("feed restarts it and those after it")
    expect(story.locator(".waterfall li")).to_have_count(6)
    expect(page.locator("#chip-feed-router")).to_have_attribute("data-incarnation", "2")
    expect(page.locator("#chip-feed-sink")).to_have_attribute("data-incarnation", "2")
    # The router and who stands behind it were restarted; the figure counts them all.
    expect(page.locator("#proof dd").nth(3)).to_have_text(str(before + 2))


def test_a_document_is_found_read_and_copied(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-15 SITE-17 DOC-6"""
    page = new_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site.url}/docs")
    page.get_by_role("searchbox").fill("mailbox full")
    page.keyboard.press("Enter")
    page.locator("main").get_by_role("link", name="Choose what a full mailbox does").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("full mailbox"))
    block = page.locator(".code").first
    block.hover()
    block.get_by_role("button", name="Copy").click()
    expect(block.get_by_role("button")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == block.locator("code").text_content()
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("mailbox full")
