"""A page and its stream: what the pill says on a bad line, with many tabs, and out of sight."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.journeys.bad_line import bad_line
from tests.journeys.kinds import OpenContext, OpenPage, StartSite
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_browser_chat import open_lab, send
from tests.processes.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# As many as a page shows connected at once (`STREAMS_MOST` in web/views/static/connection.js).
_LIVE_MOST = 4
# 2.5 beats of 15 s.
_SILENCE_MS_MAX = 37_500


def pill(page: Page) -> Locator:
    return page.locator("#connection-pill")


def expect_state(page: Page, state: str) -> None:
    expect(pill(page)).to_have_attribute("data-state", state)


def hold_time(page: Page) -> None:
    """From here on no timer of the page fires by itself; it stays connected meanwhile."""
    # A time to come, and near enough for the page not to think that it heard nothing for long.
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 20)


_NOTE_WHAT_IS_HEARD = """() => {
  window.heardLast = performance.now();
  document.addEventListener("datastar-fetch", ({ detail }) => {
    const isHeard = detail.el.id === "stream" && detail.type !== "finished";
    if (isHeard) window.heardLast = performance.now();
  });
}"""


def pass_silence(page: Page) -> None:
    """Pass the longest silence a page bears, counted from the last that was under way to it."""
    while True:
        heard = page.evaluate("heardLast")
        page.clock.fast_forward(_SILENCE_MS_MAX - 2000)
        expect_state(page, "connected")
        page.clock.fast_forward(4000)
        # What was sent before the cut may come in late: then the silence begins again.
        if page.evaluate("heardLast") == heard:
            return


def test_a_line_that_falls_silent_is_told_and_left(
    start_site: StartSite, new_page: OpenPage
) -> None:
    """SITE-98: nothing ends, nothing comes: the page says so, and is live as soon as it can be."""
    with bad_line() as (line, leads_to):
        origin = f"http://127.0.0.1:{line.proxy.port}"
        port = free_port()
        leads_to(port)
        start_site(PUBLIC_ORIGIN=origin, PORT=str(port))
        page = new_page()
        page.clock.install()
        page.goto(f"{origin}/lab")
        expect_state(page, "connected")
        hold_time(page)
        page.evaluate(_NOTE_WHAT_IS_HEARD)
        send(page, "heard")
        line.call(line.proxy.cut_apart)
        pass_silence(page)
        expect_state(page, "reconnecting")
        page.clock.fast_forward(4000)
        expect(page.locator("#stale")).to_be_visible()
        draft = page.locator("#chat-demo-draft")
        draft.fill("kept")
        draft.press("Enter")
        expect(page.locator("#chat-demo-note")).to_contain_text("your draft is kept")
        expect(draft).to_have_value("kept")
        line.call(line.proxy.mend)
        page.clock.resume()
        expect_state(page, "connected")
        expect(page.locator("#stale")).to_be_hidden()
        draft.press("Enter")
        expect(page.locator("#chat-you-list > li .body").last).to_have_text("kept")


def test_a_network_that_comes_back_is_used_at_once(
    site: SiteProcess, new_context: OpenContext
) -> None:
    """SITE-98: `offline` is believed, `online` waits for no timer."""
    context = new_context()
    page = context.new_page()
    page.clock.install()
    open_lab(page, site)
    hold_time(page)
    expect_state(page, "connected")
    context.set_offline(True)
    expect_state(page, "reconnecting")
    context.set_offline(False)
    expect_state(page, "connected")


def test_all_of_nine_tabs_load_and_the_newest_are_live(
    site: SiteProcess, new_context: OpenContext
) -> None:
    """SITE-98 SITE-93: a browser has six connections a host; pages and commands need some."""
    context = new_context()
    pages = [open_lab(context.new_page(), site) for _ in range(9)]
    for page in pages[-_LIVE_MOST:]:
        expect_state(page, "connected")
    for page in pages[:-_LIVE_MOST]:
        expect_state(page, "disconnected")
        expect(pill(page)).to_contain_text("too many tabs")
    send(pages[-1], "from the newest")
    first = pages[0]
    pill(first).get_by_role("button", name="try now").click()
    expect_state(first, "connected")
    expect_state(pages[-_LIVE_MOST], "disconnected")
    expect(first.locator("#chat-you-list > li .body").last).to_have_text("from the newest")
    send(first, "from the oldest")
    expect(pages[-1].locator("#chat-you-list > li .body").last).to_have_text("from the oldest")


_HIDE = """is_hidden => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => is_hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_page_out_of_sight_holds_no_connection(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-98: none is opened before it is shown; it is left after a while, and back."""
    page = new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(f"({_HIDE})(true)")
    page.clock.install()
    page.goto(f"{site.url}/lab")
    expect(page.locator("#chat-demo-draft")).to_be_editable()
    page.clock.fast_forward(20_000)
    assert not any("/events" in url for url in asked)
    page.evaluate(_HIDE, False)
    expect_state(page, "connected")
    page.evaluate(_HIDE, True)
    page.clock.fast_forward(6000)
    expect(page.locator("html")).not_to_have_attribute("data-connection", "connected")
    page.evaluate(_HIDE, False)
    expect_state(page, "connected")


# What is cut off in the middle of a message: one list has it, the other has not.
_HALF = """event: datastar-patch-elements
data: mode append
data: selector #chat-you-list
data: elements <li id="chat-you-half" data-mark="half">never said</li>

event: datastar-patch-elements
data: mode append
data: selector #chat-demo-list
data: elements <li id="chat-dem"""

_SHOWN = """[...document.querySelectorAll("#chat-you-list > li, #chat-demo-list > li")]
    .map((one) => `${one.id} ${one.dataset.mark} ${one.querySelector(".body")?.textContent}`)"""


def test_a_page_comes_back_from_every_loss_and_shows_what_a_new_one_does(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """REL-63, REL-37, SITE-91: refused, reset, 503, a clean end, a cut within an event."""
    writer, page = open_lab(new_page(), site), new_page()
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text))
    held: list[str] = []
    losses: list[Callable[[Route], None]] = [
        lambda route: route.abort("connectionrefused"),
        lambda route: route.abort("connectionreset"),
        lambda route: route.fulfill(status=503, body=""),
        lambda route: route.fulfill(body="retry: 2000\n\n", content_type="text/event-stream"),
        lambda route: route.fulfill(body=_HALF, content_type="text/event-stream"),
    ]

    def answer(route: Route) -> None:
        held.append(route.request.headers["x-page-holds"])
        if losses:
            losses.pop(0)(route)
        else:
            route.continue_()

    page.route(re.compile(r"/events\?"), answer)
    page.clock.install()
    page.goto(f"{site.url}/lab")
    for tries in range(1, 6):
        expect_state(page, "reconnecting")
        expect(pill(page)).to_contain_text(f"attempt {tries}")
        send(writer, f"missed {tries}")
        # The longest wait of this try: 1 s doubling, a fifth more.
        page.clock.fast_forward(1200 * 2 ** (tries - 1))
    expect_state(page, "connected")
    expect(page.locator("#chat-you-list > li .body").last).to_have_text("missed 5")
    # Another visitor, to whom the same messages are another's too.
    assert page.evaluate(_SHOWN) == open_lab(new_page(), site).evaluate(_SHOWN)
    # All but the last knew what both lists show; then they differed.
    assert all("chat=" in one for one in held[:5])
    assert "chat=" not in held[5]
    assert not any("NoTargets" in line for line in said)
