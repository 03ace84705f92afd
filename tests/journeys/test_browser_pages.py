"""The pages in a browser: the stage on the home page, the documents, one page after another."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.checks import CHECKS, MEMBERS, PATHS, become_moderator, until_it_lives
from tests.journeys.kinds import OpenContext, OpenPage, moving
from tests.journeys.site_process import SiteProcess
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@moving
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
    # The router crashed; that who stands behind it was restarted too is no crash.
    expect(page.locator("#proof dd").nth(3)).to_have_text(str(before + 1))


@moving
def test_a_crash_is_told_also_by_a_page_that_saw_the_process_before(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """The next process makes another sandbox, which counts its crashes from one again."""
    home, lab = new_page(), new_page()
    home.goto(site.url)
    lab.goto(f"{site.url}/lab")
    for page, times in ((home, 2), (lab, 2)):
        for number in range(1, times + 1):
            crash_sink(page)
            expect(page.locator("#stories > li[data-shown]")).to_have_attribute(
                "data-number", str(number)
            )
            expect(page.locator("#stories > li[data-shown][data-took]")).to_be_visible()
    assert site.stop() == 0
    site.restart()
    for page in (home, lab):
        # What was told is of actors that are no more.
        expect(page.locator("#stories > li:not([data-number='0'])")).to_have_count(0)
        crash_sink(page)
        story = page.locator("#stories > li[data-shown][data-took]")
        expect(story).to_have_attribute("data-number", "1")
        expect(story).to_be_visible()


def crash_sink(page: Page) -> None:
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    if page.locator("#home-crash").count():
        page.locator("#home-crash").click()
        return
    expect(page.locator("#stage-state")).to_have_attribute("data-access", "open")
    page.locator("#chip-feed-sink").click()
    page.get_by_role("button", name=re.compile("^Crash c")).click()


_TOUCHING = """() => [...document.querySelectorAll(".prose > p:not(.trail) + *")]
  .filter((one) => one.getBoundingClientRect().top
    - one.previousElementSibling.getBoundingClientRect().bottom < 8)
  .map((one) => one.textContent.slice(0, 60))"""


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
    # What follows a paragraph stands apart from it.
    page.goto(f"{site.url}/docs/how_to/overflow-policy")
    assert page.evaluate(_TOUCHING) == []


def test_a_learning_path_is_begun_and_ticked_off(
    site: SiteProcess, new_page: OpenPage, browser: Browser
) -> None:
    """DOC-5: the browser remembers it, the list of pages tells it, and no script is needed."""
    page = new_page()
    page.goto(f"{site.url}/docs/learn/first-steps")
    status = page.locator(".learned")
    expect(status).to_have_text(re.compile("begin with the first line"))
    ticks = page.get_by_role("checkbox")
    expect(ticks).to_have_count(8)
    page.get_by_role("checkbox", name="Done: Your first actor").check()
    page.get_by_role("checkbox", name="Done: Exercise: the shelf").press("Space")
    expect(status).to_have_text("2 of 8 done.")
    assert page.evaluate(CHECKS) == []
    page.reload()
    expect(status).to_have_text("2 of 8 done.")
    expect(page.get_by_role("checkbox", name="Done: Your first actor")).to_be_checked()
    page.goto(f"{site.url}/docs")
    line = page.locator(".all-pages li").filter(has_text="Learn: first steps")
    expect(line).to_contain_text("2 of 8 done")
    page.goto(f"{site.url}/docs/learn/first-steps")
    for tick in ticks.all():
        tick.check()
    expect(status).to_have_text("You have walked it.")
    page.get_by_role("link", name="Your first actor").first.click()
    expect(page.get_by_role("checkbox")).to_have_count(0)
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{site.url}/docs/learn/first-steps")
    expect(plain.locator(".prose > ol > li")).to_have_count(8)
    expect(plain.get_by_role("checkbox")).to_have_count(0)
    context.close()


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1440, 900), ("dark", 320, 640)])
def test_pages_can_be_used_by_everybody(
    site: SiteProcess,
    new_context: OpenContext,
    scheme: Literal["light", "dark"],
    width: int,
    height: int,
) -> None:
    """SITE-20: names, order, contrast, reach and width, in both themes and on small windows."""
    page = new_context(width, height).new_page()
    page.emulate_media(color_scheme=scheme)
    told = []
    for path in PATHS:
        page.goto(site.url + path)
        if page.locator("#connection-pill").count():
            expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
        if path == "/lab":
            expect(page.locator("#stage-state")).to_have_attribute("data-access", "open")
            expect(page.locator(".chip.tone-good")).to_have_count(13)
        told += [f"{path}: {problem}" for problem in page.evaluate(CHECKS)]
    assert told == []


def test_pages_of_members_can_be_used_by_everybody(
    site: SiteProcess, new_context: OpenContext
) -> None:
    """SITE-20, SITE-70: the queue, the audit, the account, and forms that were refused."""
    page = new_context(320, 640).new_page()
    page.emulate_media(color_scheme="dark")
    become_moderator(page, site, "vera")
    told = []
    for path in MEMBERS:
        page.goto(site.url + path)
        until_it_lives(page)
        told += [f"{path}: {problem}" for problem in page.evaluate(CHECKS)]
    assert told == []
    # A table is scrolled here, not broken into letters; on a desk it is whole.
    broken = """() => [...document.querySelectorAll(".audit td:not(:last-child)")].filter((one) => {
      const words = document.createRange();
      words.selectNodeContents(one);
      return words.getBoundingClientRect().height > 32;
    }).length"""
    assert page.evaluate(broken) == 0
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.querySelector('.audit').scrollWidth") <= 1280 - 64
    page.goto(f"{site.url}/demo/chat/moderation")
    until_it_lives(page)
    page.context.set_offline(True)
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "reconnecting")
    # SITE-98: what the pill says then takes no room from the name, and no second line of the badge
    name, nav = page.locator(".viewer"), page.locator(".masthead nav")
    assert name.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    heights = nav.locator("a").evaluate_all("(all) => all.map((one) => one.offsetHeight)")
    assert len(set(heights)) == 1, heights
    page.context.set_offline(False)
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    expect(page.locator(".waiting .body").first).to_be_visible()


def test_the_focus_is_always_seen(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-20: whatever the Tab key comes to is marked, and it comes to the content at once."""
    page = new_page()
    for path in ("/", "/docs/start/first-actor", "/work/command-sse"):
        page.goto(site.url + path)
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the content")
        for _ in range(12):
            page.keyboard.press("Tab")
            marked = page.evaluate(
                "() => getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            )
            assert marked, (path, page.evaluate("() => document.activeElement.outerHTML"))


@moving
def test_the_five_minute_path_can_be_walked_by_a_guest(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """SITE-18: each step as the home page links it."""
    page = new_page()
    page.goto(site.url)
    steps = page.locator("#five-minutes a")
    expect(steps).to_have_count(5)

    def go(number: int) -> None:
        page.goto(site.url)
        steps.nth(number).click()
        expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")

    go(0)
    expect(page.locator("#inspector-body h3")).to_contain_text("sink")
    go(1)
    expect(page.locator("#chip-feed-sink")).to_have_attribute("data-status", "running")
    page.get_by_role("button", name=re.compile("^Crash c")).click()
    expect(page.locator("#chip-feed-sink")).to_have_attribute("data-incarnation", "2")
    go(2)
    page.locator(".pane-demo textarea").fill("walked by")
    page.locator(".pane-demo").get_by_role("button", name="Send").click()
    expect(page.locator("#chat-you-log")).to_contain_text("walked by")
    go(3)
    page.locator("#burst-count").fill("100")
    page.locator("#burst-start").click()
    expect(page.locator("[data-figure=ok]")).to_have_text("100")
    go(4)
    expect(page.locator("#network-log-target")).to_contain_text("request.end")


def test_without_scripts_the_lab_is_a_snapshot_of_all_its_panels(
    site: SiteProcess, browser: Browser
) -> None:
    """LAB-82: each says its time; what is a visitor's own is there from the second look on."""
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.goto(f"{site.url}/lab")
    page.goto(f"{site.url}/lab")
    assert page.locator("#stage [role=treeitem]").count() == 13
    for words in ("router", "Supervision tree of the site", "RoomsSupervisor", "Demo Bot"):
        expect(page.get_by_text(words).first).to_be_visible()
    expect(
        page.locator("#operations-surface .flow-title", has_text="GET /lab").first
    ).to_be_visible()
    panels = {
        ".lab >": "a snapshot of",
        "#operations-surface": "Your newest requests as of",
        "#request-burst-demo": "your bucket holds 5000 of 5,000 tokens",
        "#connections": "this browser has 0 pages and sockets open",
        "#sign-ins": "this browser is the guest",
    }
    for panel, words in panels.items():
        told = page.locator(f"{panel} noscript p").first
        expect(told).to_contain_text(words)
        expect(told).to_contain_text(re.compile(r"\b\d\d:\d\d:\d\d UTC"))
        expect(told).to_be_visible()
    # Its styles are there, though a page with scripts loads them later.
    expect(page.locator("#operations-surface .flow").first).to_have_css("display", "flex")
    context.close()
    narrow = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = narrow.new_page()
    page.goto(f"{site.url}/lab")
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= 390
    narrow.close()
