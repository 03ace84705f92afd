"""The stage in a browser: a crash from click to waterfall, a give-up, a flood, the keyboard."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.journeys.checks import CHECKS
from tests.journeys.kinds import OpenPage, moving
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_browser_accounts import register

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def open_stage(page: Page, site: SiteProcess, hash_: str = "") -> Page:
    page.goto(f"{site.url}/lab{hash_}")
    expect(page.locator("#stage-state")).to_have_attribute("data-access", "open")
    return page


def figures(page: Page) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = page.evaluate(
        """async () => {
          const answer = await (await fetch("/api/lab/tree")).json();
          return Object.fromEntries(answer.actors.map((one) => [one.id, one]));
        }"""
    )
    return found


def loses_while_somebody_types(lab: Page, site: SiteProcess) -> None:
    """LAB-40: what is lost comes by itself, and leaves words and keyboard where they are."""
    page = lab.context.new_page()
    page.goto(f"{site.url}/lab/failures")
    lost = page.locator("#failures-lost li")
    expect(lost).to_have_count(1)
    lost.get_by_role("link", name="Change or give up").click()
    why = page.locator("#letter-reason")
    why.fill("not nee")
    expect(page.locator("html")).to_have_attribute("data-connection", "connected")
    crash = """async () => (await fetch("/api/lab/actors/crew-alpha/crash", {
      method: "POST", headers: {"content-type": "application/json"},
      body: JSON.stringify({commandId: crypto.randomUUID(),
        sseTabId: document.querySelector("[name=sseTabId]").value})})).status"""
    assert lab.evaluate(crash) == 202
    expect(lost).to_have_count(2)
    expect(why).to_be_focused()
    why.press_sequentially("ded")
    page.get_by_role("button", name="Give up", exact=True).click()
    expect(page.locator("#failures-lost")).to_contain_text("1 given up")
    expect(page.locator("#failures-lost")).to_contain_text("not needed")
    page.close()


def story_of(page: Page, place: str) -> str:
    return f"#stories > li[data-place='{place}'][data-shown]"


@moving
def test_a_crash_is_seen_step_by_step_and_by_nobody_else(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-3 LAB-10 LAB-11 LAB-12 LAB-90: what is shown equals the snapshot; nothing moves."""
    page, other = open_stage(new_page(), site), open_stage(new_page(), site)
    chips = page.locator("#stage [role=treeitem]")
    assert chips.count() == len(figures(page)) == 13
    zeros = "all => all.filter((one) => /(^|\\s)0(\\s|$)/.test(one.innerText)).length"
    assert chips.evaluate_all(zeros) == 0
    before = chips.evaluate_all("all => all.map((one) => [one.id, one.offsetLeft])")
    page.locator("#chip-feed-router").click()
    expect(page.locator("#inspector-body h3")).to_contain_text("router")
    page.get_by_role("button", name=re.compile("^Crash c")).click()
    story = page.locator(story_of(page, "feed-router"))
    expect(story.locator(".waterfall li")).to_have_count(6)
    expect(story.locator(".leaves li")).to_have_text(
        ["ShelfFell: the left one", "ShelfFell: the right one"]
    )
    expect(story).to_contain_text("1 was in hand")
    expect(page.locator("#chip-feed-router")).to_have_attribute("data-incarnation", "2")
    expect(page.locator("#chip-feed-sink")).to_have_attribute("data-incarnation", "2")
    known = figures(page)
    assert [known[one]["incarnation"] for one in ("feed-source", "feed-router", "feed-sink")] == [
        1, 2, 2,
    ]  # fmt: skip
    assert chips.evaluate_all("all => all.map((one) => [one.id, one.offsetLeft])") == before
    told = page.locator("#tape-marks button")
    expect(told).to_have_text("router")
    mark, name = told.bounding_box(), page.locator("#tape-marks .is-act").bounding_box()
    assert mark is not None
    assert name is not None
    assert mark["y"] + mark["height"] <= name["y"]
    assert {one["incarnation"] for one in figures(other).values()} == {1}
    expect(other.locator("#tape-marks button")).to_have_count(0)
    loses_while_somebody_types(page, site)


# Crashes one actor until the page tells of a give-up, by what the button sends. Four in a row are
# too many for its supervisor; by clicks a slow machine takes longer than it counts them.
CRASHES = """async (place) => {
  const tab = document.querySelector("#chat-demo [name=sseTabId]").value;
  const pause = () => new Promise((done) => setTimeout(done, 20));
  const crash = async () => (await fetch(`/api/lab/actors/${place}/crash`, {
    method: "POST",
    headers: {"content-type": "application/json", "datastar-request": "true"},
    body: JSON.stringify({commandId: crypto.randomUUID(), sseTabId: tab}),
  })).status;
  const hasEnded = () => document.querySelector("#stories > li.is-give-up");
  const statuses = [];
  while (!hasEnded()) {
    for (let taken = 0; taken < 4;) {
      statuses.push(await crash());
      if (statuses.at(-1) === 202) taken += 1;
      else await pause();  // it is not back yet
    }
    const forgotten = performance.now() + 5500;  // it counts those of five seconds
    while (!hasEnded() && performance.now() < forgotten) await pause();
  }
  return statuses;
}"""


@moving
def test_a_supervisor_that_gives_up_has_a_scene_and_the_buttons_go_on(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-12: crashes beyond it are never a 404, and a line names both supervisors."""
    page = open_stage(new_page(), site)
    page.locator("#chip-crew-beta").click()
    statuses = page.evaluate(CRASHES, "crew-beta")
    assert set(statuses) <= {202, 409}
    count = statuses.count(202)
    known = page.locator("#stories > li[data-place='crew-beta'][data-decision]")
    done = known.filter(has_text=re.compile("running|gives up"))
    expect(done).to_have_count(count)
    line = page.locator("#stories > li.is-give-up .story-line").first
    expect(line).to_contain_text(
        re.compile(r"crew gave up \(3 in 5 s\) → desk restarted crew, 3 children back")
    )
    for number in (1, 2):
        crash = page.locator(".inspector [data-act=crash]")
        expect(crash).to_have_attribute("aria-disabled", "false")
        with page.expect_response("**/crash") as answered:
            crash.click()
        assert answered.value.status == 202
        expect(done).to_have_count(count + number)
    # What was played is over: all run again, and look like it.
    expect(page.locator(".chip[data-play], .edges .is-lit")).to_have_count(0)


def test_one_screen_holds_all_of_it(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-7: stage, inspector, composer and tape within the window, without scrolling."""
    page = open_stage(new_page(1366, 768), site, "#actor=feed/sink")
    expect(page.locator("#inspector-body h3")).to_contain_text("sink")
    for inside in ("#stage", ".inspector", "#chat-demo-draft", "#tape"):
        box = page.locator(inside).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 768, inside
    assert page.evaluate("document.documentElement.scrollHeight") == 768


def test_the_stage_is_operated_by_keyboard_and_floods(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-20 LAB-83: arrows, letters, Enter, `f`; the queue is seen, and drains by itself."""
    page = open_stage(new_page(), site)
    page.locator("#chip-desk").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#chip-feed")).to_be_focused()
    page.keyboard.type("al")
    expect(page.locator("#chip-crew-alpha")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#inspector-body")).to_have_attribute("data-place", "crew-alpha")
    page.locator("#flood-count").select_option("100")
    page.locator("#chip-crew-alpha").focus()
    page.keyboard.press("f")
    expect(page.locator("#chip-crew-alpha .queue")).to_be_visible()
    expect(page.locator("#chip-crew-alpha .spark polyline")).to_have_attribute(
        "points", re.compile(r"\d")
    )
    expect(page.locator("#chip-crew-alpha .queue")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("#inspector-body")).to_have_attribute("data-place", "")


def test_the_thirty_first_action_is_refused_with_a_countdown(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-7 LAB-6: and what is not in the own sandbox is not there at all."""
    page = open_stage(new_page(), site)
    found = page.evaluate(
        """async () => {
          const tab = document.querySelector("#chat-demo [name=sseTabId]").value;
          const act = async (path, more = {}) => (await fetch(`/api/lab/${path}`, {
            method: "POST",
            headers: {"content-type": "application/json", "datastar-request": "true"},
            body: JSON.stringify({commandId: crypto.randomUUID(), sseTabId: tab, ...more}),
          })).status;
          const wrong = [await act("actors/feed-sinks/crash"), await act("actors/1/kill"),
            await act("actors/feed-sink/melt"), await act("actors/feed-sink/flood", {count: 1001}),
            await act("actors/feed/crash")];
          const right = [];
          for (let number = 0; number < 31; number += 1) {
            right.push(await act("actors/feed-sink/flood", {count: 1}));
          }
          return [wrong, right];
        }"""
    )
    assert found == [[404, 404, 400, 400, 409], [202] * 30 + [429]]
    expect(page.locator("#lab-quota")).to_have_text(re.compile(r"next in [1-9]\d? s"))
    page.locator("#chip-feed-sink").click()
    expect(page.locator(".inspector [data-act=crash]")).to_have_attribute("aria-disabled", "true")


def test_a_checkout_is_seen_step_by_step_at_any_width(
    site: SiteProcess, new_page: OpenPage
) -> None:
    # LAB-35
    page = new_page()
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(f"{site.url}/lab#sagas")
        page.reload()  # of an address that differs in its end alone nothing is loaded
        page.get_by_role("button", name="One whose card is refused").click()
        refused = page.locator("article.saga", has_text="failed").first
        expect(refused.locator(".saga-step")).to_have_text(
            [re.compile(word) for word in ("undone", "undone", "refused", "not yet", "not yet")]
        )
        page.get_by_role("button", name="Start one that goes well").click()
        waiting = page.locator("article.saga", has_text="waits for you")
        waiting.get_by_role("button", name="Crash its actor").click()
        expect(waiting.locator("[data-incarnation]")).to_have_text("2")
        waiting.get_by_role("button", name="Confirm").click()
        expect(page.locator("article.saga", has_text="completed").first).to_be_visible()
        page.get_by_role("button", name="One whose steps you answer").click()
        asked = page.locator("article.saga", has_text="whose steps you answer").first
        asked.get_by_role("button", name="It is done").click()
        reserving = asked.get_by_role("group", name="reserve a piece")
        expect(reserving).to_be_visible()
        expect(asked.locator("[data-due]")).to_have_text(re.compile(r"^\d+ s left$"))
        assert page.evaluate(CHECKS) == []
        page.get_by_role("button", name="Clock +1 h").click()
        expect(page.locator("[data-ahead]")).to_be_visible()
        log = asked.get_by_role("group", name="Its log")
        expect(log).to_contain_text("place the order: undone")
        expect(log.locator("li").last).to_contain_text("failed")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_panel_that_is_not_seen_is_sent_nothing(site: SiteProcess, new_page: OpenPage) -> None:
    """LAB-1: and what is opened shows the present state."""
    page = open_stage(new_page(), site)
    pulse = page.locator("#pulse")
    with page.expect_response("**/look"):
        page.locator("#tab-chat").click()
    expect(page.locator("#chat-demo-draft")).to_be_visible()
    held = pulse.get_attribute("data-number")
    actors = figures(page)
    assert actors["feed-sink"]["status"] == "running"
    with page.expect_response("**/look"):
        page.locator("#tab-tree").click()
    expect(pulse).not_to_have_attribute("data-number", held or "")
    with page.expect_response("**/look"):
        page.locator("#scene-site").click()
    expect(page.locator("#tree .row", has_text="lobby").first).to_be_visible()


def test_a_crash_has_a_flow_that_stays_chosen(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-123 SITE-124 LAB-1: a closed panel is sent nothing; what is chosen survives updates."""
    page = open_stage(new_page(), site)
    page.locator("#chip-feed-sink").click()
    page.get_by_role("button", name=re.compile("^Crash c")).click()
    expect(page.locator(story_of(page, "feed-sink"))).to_have_count(1)
    assert page.locator("#operations-flows > li").count() == 0
    page.locator("#tab-operations").click()
    crash = page.locator("#operations-flows .flow", has_text="/crash")
    crash.click()
    events = page.locator("#network-log-target .flow-events")
    for kind in ("actor.exited", "actor.restarted", "sse.patch"):
        expect(events).to_contain_text(kind)
    expect(crash).to_have_attribute("aria-pressed", "true")
    # Not by their number: a request of before may be told late.
    page.evaluate("fetch('/work')")
    expect(page.locator("#operations-flows > li", has_text="GET /work")).to_have_count(1)
    expect(crash).to_have_attribute("aria-pressed", "true")
    expect(events).to_contain_text("actor.exited")


def test_a_burst_counts_every_request_also_when_it_is_stopped(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-60 SITE-140 SITE-141 SITE-8: an id inside of a panel opens it."""
    page = new_page()
    page.goto(f"{site.url}/lab#burst-count")
    panel = page.locator("#request-burst-demo")
    expect(panel).to_be_visible()
    expect(page.locator("#stage")).to_be_hidden()
    page.locator("#burst-count").fill("100")
    page.locator("#burst-start").click()
    status = page.locator("#burst-status")
    expect(status).to_have_text("Done: 100 of 100 answered, 100 OK, 0 failed.")

    def shown(name: str) -> str:
        return panel.locator(f'[data-figure="{name}"]').inner_text()

    def milliseconds(name: str) -> float:
        return float(shown(name).removesuffix(" ms"))

    assert [shown(name) for name in ("sent", "ok", "failed")] == ["100", "100", "0"]
    assert milliseconds("server-99") <= milliseconds("browser-99")
    page.locator("#burst-count").fill("5000")
    page.locator("#burst-start").click()
    page.locator("#burst-stop").click()
    expect(status).to_have_text(re.compile("^Stopped: "))
    sent, ok, failed = (int(shown(name).replace(",", "")) for name in ("sent", "ok", "failed"))
    assert (sent, failed) == (ok, 0)
    assert shown("baseline").endswith("/s")


LATE = re.compile("/(burst|panels|timeline|demos|tree|forms|crash|flows|inspector)[.]")


def open_watched(page: Page, site: SiteProcess, hash_: str = "") -> list[str]:
    """Open the lab; gives the addresses of the late files it loads, and what its console says."""
    seen: list[str] = []
    page.on("request", lambda one: seen.append(one.url) if LATE.search(one.url) else None)
    page.on("console", lambda one: seen.append(f"console: {one.text}"))
    page.on("pageerror", lambda one: seen.append(f"error: {one}"))
    if hash_:
        page.goto(f"{site.url}/lab{hash_}", wait_until="commit")
    else:
        open_stage(page, site)
    return seen


def names_of(addresses: list[str]) -> list[str]:
    return sorted(".".join(one.rsplit("/")[-1].split(".")[::2]) for one in addresses)


def test_a_panel_brings_its_own_files_when_it_is_opened(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-1 LAB-80: nothing of them before, each once, and the content policy allows them."""
    page = new_page()
    seen = open_watched(page, site)
    assert seen == []
    for tab, there in (
        ("Burst", ["burst.js", "panels.css"]),
        ("Connections", ["burst.js", "panels.css", "panels.js"]),
        ("Burst", ["burst.js", "panels.css", "panels.js"]),
    ):
        page.get_by_role("tab", name=tab).click()
        panel = page.locator(f".lab-panel[data-tab={tab.lower()}]")
        expect(panel).to_be_visible()
        expect(page.locator(".lab")).not_to_have_attribute("data-loading", "")
        assert names_of(seen) == there
    page.locator("#burst-count").fill("300")
    expect(page.locator("#burst-count-shown")).to_have_text("300")
    page.get_by_role("tab", name="Operations").click()
    expect(page.locator("#demos")).to_be_visible()
    page.get_by_role("button", name="One more").click()
    expect(page.locator("#demo-server-count")).to_have_text("1")
    expect(page.locator("#demo-count")).to_have_text("1")
    page.get_by_role("tab", name="Tree").click()
    page.locator("#scene-site").click()
    expect(page.locator("#tree")).to_be_visible()
    assert names_of(seen) == sorted(
        [*there, "timeline.css", "demos.css", "demos.js", "tree.css", "tree.js"]
    )


def test_a_panel_is_not_seen_without_its_styles(site: SiteProcess, new_page: OpenPage) -> None:
    """LAB-80: also when the page is opened there by its address; what does not come is told."""
    page = new_page()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/panels.*.css", hold)
    seen = open_watched(page, site, "#burst")
    panel = page.locator(".lab-panel[data-tab=burst]")
    expect(page.locator(".lab")).to_have_attribute("data-loading", "")
    expect(panel).to_be_hidden()
    expect(page.locator("#stage")).to_be_hidden()
    assert len(held) == 1
    held[0].continue_()
    expect(panel).to_be_visible()
    assert page.locator(".burst").evaluate("one => getComputedStyle(one).display") == "grid"
    assert names_of(seen) == ["burst.js", "panels.css"]
    page.unroute("**/panels.*.css")
    page.route("**/timeline.*.css", lambda route: route.abort())
    page.get_by_role("tab", name="Operations").click()
    expect(page.locator("#error-target")).to_contain_text("A part of this panel did not come")
    expect(page.locator("#operations-surface")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    page.unroute("**/timeline.*.css")
    page.get_by_role("tab", name="Burst").click()
    page.get_by_role("tab", name="Operations").click()
    body = page.locator(".timeline-body")
    expect(body).to_have_css("display", "grid")


def test_an_own_message_leads_to_its_flow(site: SiteProcess, new_page: OpenPage) -> None:
    """LAB-68: incoming, store, broadcast; also after a reload, and of nobody else's messages."""
    page, other = open_stage(new_page(), site), open_stage(new_page(), site)
    word = f"whose flow is this {uuid4()}"
    requests: list[str] = []
    for text in (word, f"another one {uuid4()}"):
        page.locator("#chat-demo-draft").fill(text)
        with page.expect_response("**/demo/chat/messages/demo") as answer:
            page.locator("#chat-demo-draft").press("Enter")
        requests.append(answer.value.headers["x-request-id"])
        expect(page.locator("#chat-demo-draft")).to_have_value("")
    message = page.locator("#chat-demo-list li", has_text=word)
    expect(message.locator(".flow-link")).to_have_count(1)
    expect(other.locator("#chat-demo-list li", has_text=word)).to_have_count(1)
    expect(other.locator(".flow-link")).to_have_count(0)
    for _ in range(2):
        page.get_by_role("tab", name="Chat").click()
        message.locator(".flow-link").click()
        expect(page.get_by_role("tab", name="Operations")).to_have_attribute(
            "aria-selected", "true"
        )
        flow = page.locator("#network-log-target")
        # Until it is chosen the newest may stand there, which is the other message's.
        expect(flow.locator("h3 code")).to_have_text(requests[0][:8])
        expect(flow.locator("h3")).to_contain_text("POST /demo/chat/messages/demo")
        kinds = flow.locator(".flow-events b")
        expect(kinds.filter(has_text="chat.message.incoming")).to_have_count(1)
        expect(kinds.filter(has_text="chat.message.broadcast")).to_have_count(1)
        told = kinds.all_inner_texts()
        at = [told.index(f"chat.message.{one}") for one in ("incoming", "broadcast")]
        assert "db.query" in told[at[0] : at[1]]
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-connection", "connected")
    # The address of another one's message, as a link that somebody sent.
    id_ = message.evaluate("one => one.id").removeprefix("chat-demo-")
    other.goto("about:blank")
    other.goto(f"{site.url}/lab#flow-of-{id_}")
    expect(other.locator("#error-target")).to_contain_text("Its flow is not kept any more")
    expect(other.locator("#network-log-target")).not_to_contain_text("chat.message")


def test_a_members_own_message_leads_to_its_flow(site: SiteProcess, new_page: OpenPage) -> None:
    """LAB-68: said under their own name it is theirs in each of their tabs, and nobody else's."""
    page, other = new_page(), open_stage(new_page(), site)
    register(page, site, "emmy")
    open_stage(page, site)
    second = open_stage(page.context.new_page(), site)
    word = f"as myself {uuid4()}"
    page.locator("#chat-you-draft").fill(word)
    with page.expect_response("**/demo/chat/messages") as answer:
        page.locator("#chat-you-draft").press("Enter")
    expect(page.locator("#chat-you-draft")).to_have_value("")
    mine = page.locator("#chat-you-list li", has_text=word)
    expect(mine.locator(".flow-link")).to_have_count(1)
    for who in (second, other):
        expect(who.locator("#chat-you-list li", has_text=word)).to_have_count(1)
    expect(second.locator("#chat-you-list li", has_text=word).locator(".flow-link")).to_have_count(
        1
    )
    expect(other.locator(".flow-link")).to_have_count(0)
    page.get_by_role("tab", name="Chat").click()
    mine.locator(".flow-link").click()
    flow = page.locator("#network-log-target")
    expect(flow.locator("h3 code")).to_have_text(answer.value.headers["x-request-id"][:8])
    told = flow.locator(".flow-events b")
    for kind in ("chat.message.incoming", "chat.message.broadcast"):
        expect(told.filter(has_text=kind)).to_have_count(1)


def test_the_keyboard_goes_from_the_tree_through_the_inspector_to_the_room(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-83, SITE-8, SITE-20: in the order of the page, and back."""
    page = open_stage(new_page(), site)
    page.locator("#chip-desk").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#inspector-body")).to_have_attribute("data-place", "desk")
    stops = [
        page.get_by_role("button", name="Crash"),
        page.get_by_role("button", name="Kill"),
        page.get_by_role("button", name="Flood"),
        page.locator("#flood-count"),
        *page.locator(".inspector-facets [role=tab]").all(),
        page.locator(".dock-switch button").first,
    ]
    for stop in stops:
        page.keyboard.press("Tab")
        expect(stop).to_be_focused()
    for stop in reversed(stops[:-1]):
        page.keyboard.press("Shift+Tab")
        expect(stop).to_be_focused()
    page.locator(".inspector-facets [aria-selected=true]").focus()
    chosen = page.locator(".inspector").get_attribute("data-facet")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".inspector-facets [aria-selected=true]")).to_be_focused()
    expect(page.locator(".inspector")).not_to_have_attribute("data-facet", str(chosen))


def test_a_screen_reader_hears_both_trees(site: SiteProcess, new_page: OpenPage) -> None:
    """LAB-10, LAB-83: an item is called by its own row, and stands below its supervisor."""
    page = open_stage(new_page(), site)
    trees = (
        ("tree", "#chip-desk", ("desk Desk", "feed Feed", "router Router")),
        ("site", "#tree .row", ("site Site", "rooms RoomsSupervisor", "lobby RoomActor")),
    )
    for panel, first, names in trees:
        page.goto(f"{site.url}/lab#{panel}")
        expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
        expect(page.locator(first).first).to_be_visible()  # its styles come with its first opening
        heard = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        nodes = {node["nodeId"]: node for node in heard}

        def name(node: dict[str, dict[str, object]]) -> str:
            return " ".join(str(node["name"]["value"]).split()) if "name" in node else ""

        items = [node for node in heard if node.get("role", {}).get("value") == "treeitem"]
        (at,) = (one for one in items if name(one).startswith(names[-1]))
        way = [name(at)]
        while (at := nodes[at["parentId"]])["role"]["value"] != "tree":
            way += [name(at)] if at["role"]["value"] == "treeitem" else []
        for said, own in zip(reversed(way), names, strict=True):
            assert said.startswith(own)
            assert not any(other in said for other in names if other != own)


def test_what_is_chosen_is_seen_in_forced_colours(site: SiteProcess, browser: Browser) -> None:
    """LAB-83: a high contrast theme takes all colours away; on every tab one tab differs."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, forced_colors="active")
    page = open_stage(context.new_page(), site, "#actor=crew/beta")
    marked = """all => all.filter((one) => one.offsetParent).map(
      (one) => [
        getComputedStyle(one).backgroundColor,
        one.getAttribute("aria-selected") ?? one.getAttribute("aria-current")
      ])"""
    for name in ("Tree", "Chat", "Operations", "Burst", "Connections", "Sign-ins"):
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.locator(".lab")).not_to_have_attribute("data-loading", "")
        tabs = page.locator(".lab-tabs a").evaluate_all(marked)
        colours = {chosen: {one for one, other in tabs if other == chosen} for _, chosen in tabs}
        assert len(colours["true"]) == 1
        assert not colours["true"] & colours["false"]
        assert [told for told in page.evaluate(CHECKS) if "stand out" in told] == []
    page.get_by_role("tab", name="Tree", exact=True).click()
    for strip in (".scenes a", ".inspector-facets button", "nav[aria-label=Main] a"):
        found = page.locator(strip).evaluate_all(marked)
        chosen = {colour for colour, word in found if word in ("true", "page")}
        others = {colour for colour, word in found if word not in ("true", "page")}
        assert len(chosen) == 1, strip
        assert not chosen & others, strip
    # A budget that is not used has its pips.
    assert (
        page.locator("#chip-feed .pip").first.evaluate(
            "one => getComputedStyle(one).borderTopWidth"
        )
        == "1px"
    )
    context.close()


@moving
def test_the_stage_tells_when_it_heals_and_how_much_flows(
    site: SiteProcess, new_page: OpenPage
) -> None:
    """LAB-3 LAB-20: a countdown after an action, and edges as wide as their traffic."""
    page = open_stage(new_page(), site, "#actor=crew/beta")
    expect(page.locator("#panel-tree")).to_have_attribute("data-traffic", "1")
    expect(page.locator("#lab-quota")).to_have_text("actions left 30/30")
    page.get_by_role("button", name=re.compile("^Crash c")).click()
    expect(page.locator("#lab-quota")).to_contain_text(
        re.compile(r"heals itself in [1-5]?[0-9] s · actions left 29/30")
    )
    # In one turn: the next half second writes what it counted.
    widths = page.locator("#panel-tree").evaluate(
        """panel => [1, 2, 3].map((traffic) => {
          panel.dataset.traffic = traffic;
          return getComputedStyle(panel.querySelector(".edges .flow")).strokeWidth;
        })"""
    )
    assert widths == ["2px", "3px", "4px"]
