"""Two visitors side by side: what one posts, both see once, in order; a crash loses nothing."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.journeys.kinds import OpenPage, StartSite
from tests.journeys.site_process import SiteProcess

HEADING = Path(__file__).parents[2] / "build" / "heading" / "heading.ttf"
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def open_lab(page: Page, site: SiteProcess, panel: str = "chat-demo") -> Page:
    page.goto(f"{site.url}/lab#{panel}")
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    return page


def send(page: Page, text: str, pane: str = "demo") -> None:
    draft = page.locator(f"#chat-{pane}-draft")
    draft.fill(text)
    draft.press("Enter")
    expect(draft).to_have_value("")


def bodies(page: Page, pane: str = "you") -> list[str]:
    return page.locator(f"#chat-{pane}-list > li .body").all_text_contents()


def test_two_pages_converge(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-7 SITE-9 SITE-74: a guest chats at once; both panes of both pages agree."""
    left, right = open_lab(new_page(), site), open_lab(new_page(), site)
    texts = [f"hello {number} <b>not bold</b>" for number in range(6)]
    for number, text in enumerate(texts):
        send(left if number % 2 else right, text)
    for page in (left, right):
        for pane in ("you", "demo"):
            last = page.locator(f"#chat-{pane}-list > li .body").last
            expect(last).to_have_text(texts[-1])
            assert bodies(page, pane)[-6:] == texts
    name = left.locator(".viewer bdi").text_content()
    assert name
    assert re.fullmatch(r"[a-z]+ [a-z]+ \d\d", name)
    authors = right.locator("#chat-you-list .author").all_text_contents()
    assert set(authors) == {"Demo Bot"}
    # SITE-9: who speaks under a name has signed in.
    sign_in = left.locator("#chat-demo .pane-you").get_by_role("link", name="Sign in")
    expect(sign_in).to_have_attribute("href", "/login?next=%2Flab")
    expect(left.locator("#chat-you-composer")).to_have_count(0)


def test_a_crashed_room_comes_back_with_its_history(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-63 LAB-12: the tree shows crash, cause, new incarnation, measured restart time."""
    left, right = (open_lab(new_page(), site, "site") for _ in range(2))
    send(left, "before the crash")
    row = right.locator("#tree .row", has_text="lobby").first
    before = incarnation(row.text_content() or "")
    left.get_by_role("button", name=re.compile("crash", re.IGNORECASE)).click()
    for page in (left, right):
        result = page.locator("#crash-result")
        expect(result).to_contain_text("CrashedOnPurpose")
        expect(result).to_contain_text(re.compile(r"\d+(\.\d+)? ms"))
    expect(row).to_contain_text(re.compile(rf"\b{before + 1}\b"))
    send(right, "after the crash")
    for page in (left, right):
        for pane in ("you", "demo"):
            last = page.locator(f"#chat-{pane}-list > li .body").last
            expect(last).to_have_text("after the crash")
        shown = bodies(page)
        assert shown.count("before the crash") == 1
        assert shown.count("after the crash") == 1
        assert shown == bodies(page, "demo")
    kept = bodies(left)
    branch = left.locator("#tree .row", has_text="RoomsSupervisor")
    branch.locator(".twig").click()
    left.reload()
    expect(left.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    assert bodies(left) == kept
    # LAB-10: what was folded is folded again, and nothing else.
    expect(branch).to_have_attribute("aria-expanded", "false")
    expect(left.locator("#tree [aria-expanded='false']")).to_have_count(1)
    expect(left.locator("#tree .row", has_text="lobby").first).to_be_hidden()
    branch.press("Enter")
    left.reload()
    expect(branch).to_have_attribute("aria-expanded", "true")


# What clicks send until the page has told of a give-up. Six at once: a slow machine must not give
# the supervisor its time. Behind the sixth it waits until the page has told of it, for the next
# crash overwrites it; and so long that the supervisor counts none of the six with those after
# them. All together are fewer than a visitor may send in a minute (LAB-7).
CRASHES = """async (click) => {
  const told = [];
  let tell = () => {};
  const look = () => {
    const text = document.querySelector("#crash-result").innerText;
    if (text !== told.at(-1)) tell(told.push(text));
  };
  const all = {subtree: true, childList: true, characterData: true};
  new MutationObserver(look).observe(document.body, all);
  const path = click.match(/\\/api\\/lab\\/actors\\/[^']+/)[0];
  const tab = document.querySelector("input[name=sseTabId]").value;
  const crash = () => fetch(path, {
    method: "POST",
    headers: {"content-type": "application/json", "datastar-request": "true"},
    body: JSON.stringify({commandId: crypto.randomUUID(), sseTabId: tab}),
  });
  const statuses = [];
  let accepted = 0;
  const hasEnded = () => told.some((text) => text.includes("gave up"));
  // So many at once as are too many: with pauses a slow machine would take longer than they count.
  while (!hasEnded() && statuses.length < 250) {
    const isTold = new Promise((done) => {
      tell = () => hasEnded() && done();
      setTimeout(done, 11000);  // it counts those of ten seconds
    });
    const {status} = await crash();
    statuses.push(status);
    if (status !== 202) await new Promise((done) => setTimeout(done, 20));
    else if (++accepted % 6 === 0) await isTold;
  }
  return [statuses, told];
}"""


def test_more_crashes_than_a_supervisor_bears_are_told_and_go_on(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-6 LAB-12: the button outlives its actor, and a supervisor's end is told."""
    page = open_lab(new_page(), site, "site")
    warnings: list[str] = []
    page.on("console", lambda told: warnings.append(told.text) if "Patch" in told.text else None)
    button, result = page.locator("#crash-button"), page.locator("#crash-result")
    first = button.get_attribute("data-mark") or ""
    statuses, told = page.evaluate(CRASHES, button.get_attribute("data-on:click"))
    ended = next(text for text in told if "gave up" in text)
    assert re.search(r"rooms gave up.*lobby needed \d+ restarts", ended)
    assert re.search(r"site .* decided to restart", ended)
    page.wait_for_function(
        "n => document.querySelector('#crash-button').dataset.mark !== n", arg=first
    )
    # Another actor by now, and the button is for it.
    expect(button).not_to_have_attribute("data-mark", first)
    expect(button).to_have_attribute("aria-disabled", "false")
    with page.expect_response("**/crash") as answer:
        button.click()
    expect(result).to_contain_text("CrashedOnPurpose")
    assert set(statuses) <= {202, 409}
    assert answer.value.status == 202
    assert warnings == []
    expect(page.locator("#error-target")).not_to_contain_text("Not found")


def test_a_draft_outlives_reload_and_back_and_no_one_else_sees_it(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """SITE-64: of this tab, of this composer, until it is sent."""
    page = open_lab(new_page(), site)
    you = page.locator("#chat-demo-draft")
    you.fill("half a <b>thought</b>\nof two lines")
    page.reload()
    expect(you).to_have_value("half a <b>thought</b>\nof two lines")
    page.goto(f"{site.url}/")
    page.go_back()
    expect(you).to_have_value("half a <b>thought</b>\nof two lines")
    other = open_lab(page.context.new_page(), site)
    expect(other.locator("#chat-demo-draft")).to_have_value("")
    send(page, "a whole thought")
    page.reload()
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(you).to_have_value("")
    # The next person at this browser: another name, and no draft of the one before.
    you.fill("a secret")
    page.context.clear_cookies()
    page.reload()
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(you).to_have_value("")


def incarnation(row: str) -> int:
    found = re.search(r"incarnation\D*(\d+)", row) or re.search(r"(\d+)", row)
    assert found, row
    return int(found.group(1))


TOLD = """() => {
  const signals = {
    transportErrorSource: "chat-demo", transportErrorTitle: "Slow down",
    transportErrorMessage: "That was too often: send it again in 2 s.",
    transportErrorStatus: 429, transportErrorRetryAfter: 2,
  };
  document.dispatchEvent(new CustomEvent("datastar-fetch", {detail: {
    type: "datastar-patch-signals", el: document.getElementById("stream"),
    argsRaw: {signals: JSON.stringify(signals)},
  }}));
}"""
# What a stream appends when a moderator has approved the second of three messages.
APPROVED = """() => {
  const list = document.querySelector("#chat-you-list");
  const item = list.children[list.childElementCount - 2];
  item.remove();
  list.append(item);
}"""


def test_an_approved_message_stands_at_its_place(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-69: it comes behind newer ones and belongs before them."""
    page = open_lab(new_page(), site)
    for text in ("first", "second", "third"):
        send(page, text, "demo")
    expect(page.locator("#chat-you-list > li .body").last).to_have_text("third")
    kept = bodies(page)
    page.evaluate(APPROVED)
    expect(page.locator("#chat-you-list > li .body").last).to_have_text("third")
    assert bodies(page) == kept


def test_a_long_draft_is_told_before_it_is_sent(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-61 SITE-64 SITE-67: what the composer says, and that nothing too long is sent."""
    page = open_lab(new_page(), site)
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.method) if one.method == "POST" else None)
    draft, count = page.locator("#chat-demo-draft"), page.locator("#chat-demo-count")
    draft.fill("x" * 249)
    expect(count).to_have_text("")
    draft.fill("x" * 300)
    expect(count).to_contain_text("300 characters")
    # Two halves each in a script's count, one character each for the server.
    draft.fill("\U0001f600" * 301)
    expect(count).to_contain_text("301 of 1000 characters: will wait for review")
    draft.fill("x" * 1001)
    draft.press("Enter")
    expect(count).to_have_text("at most 1000 characters; this has 1001")
    expect(draft).to_have_value("x" * 1001)
    assert sent == []
    draft.fill("x" * 1000)
    draft.press("Enter")
    expect(draft).to_have_value("")
    expect(count).to_have_text("")
    assert sent == ["POST"]


def test_a_refusal_stands_beside_its_composer_only(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-64 SITE-65 SITE-101: one message, the seconds go down, then it may be sent."""
    page = open_lab(new_page(), site)
    page.route("**/demo/chat/messages/demo", lambda route: route.fulfill(status=429))
    draft, note = page.locator("#chat-demo-draft"), page.locator("#chat-demo-note")
    draft.fill("once more")
    draft.press("Enter")
    expect(note).to_contain_text("your draft is kept")
    # What the server tells the tab's stream of a refusal.
    page.evaluate(TOLD)
    again = page.locator("#chat-demo-again")
    expect(again).to_contain_text(re.compile(r"again in [12] s"))
    expect(page.locator("#error-target .banner").first).to_be_hidden()
    expect(note).to_have_text("You may send it now.")
    expect(again).to_have_text("")
    expect(draft).to_have_value("once more")
    page.unroute("**/demo/chat/messages/demo")
    draft.press("Enter")
    expect(draft).to_have_value("")
    expect(note).to_have_text("")


def test_nothing_comes_from_another_host(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-3 SEC-60 SEC-68: every request goes to this site; the policy is never violated."""
    page = new_page()
    seen: list[str] = []
    fonts: list[str] = []
    complaints: list[str] = []

    def note(request: Request) -> None:
        seen.append(urlsplit(request.url).netloc)
        if request.resource_type == "font":
            fonts.append(urlsplit(page.url).path)

    page.on("request", note)
    page.on(
        "console", lambda entry: complaints.append(entry.text) if entry.type == "error" else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    open_lab(page, site, "tree")
    assert fonts == []  # LAB-80: its first load has no heading in it, and pays for no font
    page.goto(site.url)
    page.evaluate("document.fonts.ready")
    assert fonts == ["/"] * HEADING.is_file()
    open_lab(page, site)
    send(page, "looking around")
    assert set(seen) == {urlsplit(site.url).netloc}
    assert complaints == []


def test_hostile_text_stays_text(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-21 SEC-63: markup, expressions and overrides show as they were typed."""
    page = open_lab(new_page(), site)
    payloads = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        '" data-on:click="alert(1)',
        "{{ 7*7 }} ${7*7} $sseTabId",
        "\u202eevil\u202c \u200b",
        "</li><li id=x>",
    ]
    for text in payloads:
        send(page, text)
        expect(page.locator("#chat-you-list > li .body").last).to_have_text(text)
    assert page.locator("#chat-you-list img, #chat-you-list script, #x").count() == 0


def test_the_pill_tells_the_truth(start_site: StartSite, new_page: OpenPage) -> None:
    """SITE-98 SITE-91 REL-24: stop the server, it changes; start it, the open page works on."""
    site = start_site()
    page = open_lab(new_page(), site)
    send(page, "first life")
    site.stop()
    pill = page.locator("#connection-pill")
    expect(pill).not_to_have_attribute("data-state", "connected")
    page.locator("#chat-demo-draft").fill("kept draft")
    site.restart()
    expect(pill).to_have_attribute("data-state", "connected")
    expect(page.locator("#chat-demo-draft")).to_have_value("kept draft")
    send(page, "second life")
    expect(page.locator("#chat-you-list > li .body").last).to_have_text("second life")
    assert bodies(page) == ["first life", "second life"]


COPIED = """() => {
  const list = document.querySelector("#chat-you-list");
  const copy = list.lastElementChild.cloneNode(true);
  copy.id = "chat-you-copy";
  copy.dataset.seq = Number(copy.dataset.seq) + 1;
  copy.classList.remove("is-continued");
  list.append(copy);
}"""
OLDER = "".join(
    f'<ol id="chat-{pane}-older" hidden data-more="false">'
    + "".join(
        f'<li id="chat-{pane}-old{n}" class="message from-other" data-seq="{n}" data-mark="o{n}">'
        '<p class="message-head"><bdi class="author">ada</bdi> '
        '<time datetime="2026-01-01T00:00:00Z">0</time></p>'
        f'<p class="body">old {n}<br><br><br>x</p></li>'
        for n in range(1, 31)
    )
    + "</ol>"
    for pane in ("you", "demo")
)


def test_older_messages_come_by_scrolling_up_and_what_is_new_is_told(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """SITE-73 SITE-74: the place that is read stays, the rest is counted; one head an author."""
    writer, page = open_lab(new_page(), site), new_page()
    # More is asked for at the first message that the page has; there are few, and no older ones.
    asked: list[str] = []

    def older(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(content_type="text/html", body=OLDER)

    send(writer, "the first")
    page.route("**/partials/chat-history*", older)
    open_lab(page, site)
    log, items = page.locator("#chat-you-log"), page.locator("#chat-you-list > li")
    first = items.first.get_attribute("data-seq")
    # In one step: the server knows that there are none, and may say so at any moment.
    page.locator("#chat-you-log .older").evaluate(
        "row => { row.hidden = false; row.querySelector('button').click(); }"
    )
    expect(page.locator("#chat-you-log .older")).to_be_hidden()
    expect(page.locator("#chat-you-list > #chat-you-old1")).to_have_count(1)
    assert [f"before={first}" in url and "room=Lobby" in url for url in asked] == [True]
    expect(page.locator("#chat-demo-list > li")).to_have_count(items.count())
    assert bodies(page)[0].startswith("old 1")
    # Scrolled up: nothing moves, and the chip tells what came.
    log.evaluate("log => { log.scrollTop = 200; }")
    page.wait_for_function("document.querySelector('#chat-you-log').scrollTop === 200")
    send(writer, "below")
    chip = page.locator(".pane-you .below button")
    expect(chip).to_have_text("1 new below")
    assert log.evaluate("log => log.scrollTop") == 200
    chip.click()
    expect(chip).to_be_hidden()
    expect(items.last.locator(".body")).to_have_text("below")
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 40"
    page.wait_for_function(f"({at_end})(document.querySelector('#chat-you-log'))")
    # The line will be opened anew, and the server knows the newest only.
    expect(page.locator("#chat-you-list > [id^=chat-you-old][data-mark]")).to_have_count(0)
    # Who goes on speaking is not named again.
    page.evaluate(COPIED)
    expect(page.locator("#chat-you-copy")).to_have_class(re.compile("is-continued"))


def test_the_dock_has_three_messages_and_one_composer(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """SITE-74: beside the tree one pane of the two, chosen by a switch."""
    page = open_lab(new_page(), site, "tree")
    for number in range(4):
        send(page, f"to the dock {number}")
    shown = page.locator("#chat-demo-list > li:visible .body")
    expect(shown).to_have_text([f"to the dock {number}" for number in range(1, 4)])
    switch = page.locator(".dock-switch").get_by_role("button", name="You", exact=True)
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#chat-demo-composer")).to_be_hidden()
    expect(page.locator(".pane-you .sign-in-line")).to_be_visible()
    page.locator(".dock-head").get_by_role("link", name="All messages").click()
    for pane in ("you", "demo"):
        expect(page.locator(f"#chat-{pane}-log")).to_be_visible()
