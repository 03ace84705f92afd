"""The box office in a browser: bought by the keys alone on a telephone, seen live on a desk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.request import Request, urlopen

import pytest
import segno
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from docs.examples.ticketing.pages.front import FILES
from tests.journeys.checks import CHECKS, axe, found_by_axe
from tests.journeys.conftest import CHROMIUM_ARGUMENTS, PATIENCE_MS, chromium_path
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import ExampleProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# More stops than any of these pages has.
STOPS_MAX = 60
# Of five minutes, just begun.
_A_FEW_MINUTES = re.compile(r"[45]:[0-5]\d")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleProcess]:
    state = tmp_path_factory.mktemp("office")
    running = ExampleProcess("ticketing", "memory", state, TICKETING_TEST_LINKS="on")
    yield running
    running.end()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the camera of this module's browser sees."""
    film = tmp_path_factory.mktemp("camera") / "film.y4m"
    # Without one the browser finds no camera.
    film.write_bytes(filmed("nothing"))
    return film


@pytest.fixture(scope="module")
def browser(film: Path) -> Iterator[Browser]:
    """As that of all journeys, on a machine with a camera that everybody may use."""
    path = chromium_path()
    if path is None:
        pytest.skip("CHROMIUM IS MISSING: no browser test was run; install it or set CHROMIUM")
    camera = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=[*CHROMIUM_ARGUMENTS, *camera], timeout=PATIENCE_MS
        )
        yield chromium
        chromium.close()


def squares(code: str) -> list[list[int]]:
    """The picture of a code, as `picture_of` draws it, with what it needs around it."""
    made = segno.make_qr(code, error="m", mask=0, boost_error=False)
    return [list(row) for row in made.matrix_iter(border=4)]


def filmed(code: str, width: int = 640, height: int = 480) -> bytes:
    """One picture of a film: a code on a grey table."""
    rows = squares(code)
    unit = height // len(rows)
    left, top = (width - unit * len(rows)) // 2, (height - unit * len(rows)) // 2
    grey = bytearray(b"\x90" * width * height)
    for y, row in enumerate(rows):
        line = b"".join((b"\x20" if is_dark else b"\xe0") * unit for is_dark in row)
        for at in range(top + y * unit, top + (y + 1) * unit):
            grey[at * width + left : at * width + left + len(line)] = line
    head = f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\nFRAME\n"
    return head.encode() + grey + b"\x80" * (width * height // 2)


def enter(page: Page, office: ExampleProcess, who: str, after: str) -> None:
    """Sign in by the link that a mail would have."""
    body = json.dumps({"email": f"{who}@example.org"}).encode()
    asked = Request(
        f"{office.url}/auth/magic-link/request", body, {"content-type": "application/json"}
    )
    with urlopen(asked) as answer:
        token = json.load(answer)["magic_link_token"]
    page.goto(f"{office.url}/sign-in/open?token={token}&next={after}")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()


def plan(page: Page, office: ExampleProcess, title: str) -> str:
    """Plan an event of six seats, and open its sales; gives its id."""
    enter(page, office, "owner", "/organise")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Venue").fill("Old Hall")
    page.get_by_label("Sections").fill("Stalls; A 1-4; 45.00\nBalcony; 2; 20.00")
    for name in ("Keep it as a draft", "Publish", "Open sales"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("[id^=panel-stand-]")).to_contain_text("Stalls")
    return page.url.rpartition("/")[2]


def walk_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it is there: what cannot be reached so, cannot be bought."""
    for _ in range(STOPS_MAX):
        page.keyboard.press("Tab")
        if wanted.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError("no key leads there")


def is_well(page: Page) -> None:
    """It has names for all, contrast, room for fingers; and nothing goes over its side."""
    assert page.evaluate(CHECKS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_ticket_is_bought_by_keys_alone_while_others_look_on(
    office: ExampleProcess, browser: Browser, new_page: OpenPage
) -> None:
    # EX-47, EX-50
    heard: list[str] = []
    desk = new_page(1440)
    show = plan(desk, office, "Nights of Jazz <b>")
    is_well(desk)
    desk.goto(f"{office.url}/events/{show}")
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", reduced_motion="reduce"
    )
    try:
        phone = context.new_page()
        for page in (desk, phone):
            page.on("pageerror", lambda error: heard.append(str(error)))
        enter(phone, office, "ann", f"/events/{show}")
        for page in (desk, phone):
            expect(page.locator("html")).to_have_attribute("data-connection", "connected")
        # Somebody chooses among the seats that another one is about to take.
        desk.get_by_text("Choose seats").first.click()
        desk.get_by_role("checkbox", name="A3").check()
        expect(desk.get_by_label("How many")).to_have_value("1")

        walk_to(phone, phone.locator("#plan-1 summary"))
        phone.keyboard.press("Enter")
        for seat in ("A1", "A2"):
            walk_to(phone, phone.get_by_role("checkbox", name=seat))
            phone.keyboard.press("Space")
        is_well(phone)
        walk_to(phone, phone.get_by_role("button", name="Hold the seats"))
        phone.keyboard.press("Enter")
        order = phone.locator("[id^=panel-reservation-]")
        expect(order).to_contain_text("Seats A1, A2, 72.00")
        expect(phone.locator("[data-left]")).to_have_text(_A_FEW_MINUTES)
        is_well(phone)

        # The other window hears of it, and keeps what was opened and chosen there.
        expect(desk.locator("#free-1")).to_contain_text("2 of 4 free, 2 held")
        expect(desk.get_by_role("checkbox", name="A1 taken")).to_be_disabled()
        expect(desk.get_by_role("checkbox", name="A3")).to_be_checked()
        is_well(desk)

        walk_to(phone, phone.get_by_role("button", name="Pay 72.00"))
        phone.keyboard.press("Enter")
        link = phone.get_by_role("link", name="Ticket for seat A1")
        expect(link).to_be_visible()
        expect(phone.get_by_role("button", name="Pay")).to_be_hidden()
        walk_to(phone, link)
        phone.keyboard.press("Enter")
        expect(phone.get_by_role("img", name="The code of this ticket")).to_be_visible()
        is_well(phone)
        code = phone.locator(".code code").text_content() or ""
    finally:
        context.close()

    # Two gates, the second a moment later; a reader types and ends with Enter.
    gate = desk.context.new_page()
    gate.set_viewport_size({"width": 390, "height": 844})
    for name, word in (("A", "Welcome"), ("B", "Already in")):
        gate.goto(f"{office.url}/gate/{show}?gate={name}")
        expect(gate.get_by_label("Code of the ticket")).to_be_focused()
        gate.keyboard.insert_text(code)
        gate.keyboard.press("Enter")
        expect(gate.locator("#verdict")).to_contain_text(word)
        is_well(gate)
    expect(gate.locator("#verdict")).to_contain_text("gate A")
    assert heard == []


# Counts what is looked at, and keeps what was opened; the browser's own reader is one that fails.
WATCHED = """
window.looks = 0; window.streams = [];
window.BarcodeDetector = class {
  static async getSupportedFormats() { return ["qr_code"]; }
  async detect() { throw new Error("no such service"); }
};
const drawn = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...part) {
  looks++;
  return drawn.apply(this, part);
};
const opened = MediaDevices.prototype.getUserMedia;
MediaDevices.prototype.getUserMedia = async function (wanted) {
  const stream = await opened.call(this, wanted);
  streams.push(stream);
  return stream;
};
"""
IS_OFF = "streams.every((one) => one.getTracks().every((track) => track.readyState === 'ended'))"


def test_a_camera_at_the_gate_reads_tickets_until_it_is_stopped(
    office: ExampleProcess, new_page: OpenPage, film: Path
) -> None:
    # EX-50, SEC-65
    page, sent = new_page(390), list[str]()
    page.add_init_script(WATCHED)
    show = plan(page, office, "Waltz")
    asks = "navigator.mediaDevices.getUserMedia({ video: true }).catch((error) => error.name)"
    assert page.evaluate(asks) == "NotAllowedError", "no other page may ask for it"
    page.goto(f"{office.url}/events/{show}")
    page.get_by_role("button", name="Hold the seats").click()
    page.get_by_role("button", name="Pay").click()
    page.get_by_role("link", name="Ticket for seat").first.click()
    film.write_bytes(filmed(page.locator(".code code").text_content() or ""))

    page.on("request", lambda request: sent.append(request.method))
    page.goto(f"{office.url}/gate/{show}?gate=A")
    says, verdict = page.locator("#scan-says"), page.locator("#verdict")
    walk_to(page, page.get_by_role("button", name="Scan with the camera"))
    page.keyboard.press("Enter")
    expect(verdict).to_contain_text("Welcome")
    expect(says).to_contain_text("next ticket")
    is_well(page)
    # It is held there still, and nobody is told that it came in already.
    page.wait_for_function(f"looks > {page.evaluate('looks') + 4}")
    assert sent.count("POST") == 1
    page.keyboard.press("Enter")
    expect(says).to_have_text("The camera is off.")
    assert page.evaluate(IS_OFF)
    assert page.evaluate("streams.length") == 1

    page.keyboard.press("Enter")
    expect(verdict).to_contain_text("gate A")
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    assert page.evaluate(IS_OFF), "nobody is watched who has left"
    # Who is signed out is told that nothing was checked.
    page.context.clear_cookies()
    page.get_by_role("button", name="Scan").click()
    expect(says).to_contain_text("It was not checked")
    assert page.evaluate(IS_OFF)


def test_who_may_not_use_the_camera_is_told_and_types(
    office: ExampleProcess, new_page: OpenPage
) -> None:
    # EX-50
    page = new_page(390)
    show = plan(page, office, "Tango")

    def refuse(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer, headers={**answer.headers, "permissions-policy": "camera=()"}
        )

    page.route("**/gate/**", refuse)
    page.goto(f"{office.url}/gate/{show}")
    scan, says = page.get_by_role("button", name="Scan with the camera"), page.locator("#scan-says")
    scan.click()
    expect(page.get_by_label("This gate")).to_be_focused()
    page.get_by_label("This gate").fill("A")
    scan.click()
    expect(says).to_contain_text("may not use the camera")
    expect(scan).to_be_visible()
    page.get_by_label("Code of the ticket").fill("x")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("no ticket of ours")
    # A browser that has none for pages, as it is without https.
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page.reload()
    expect(says).to_contain_text("type the code")
    expect(scan).to_be_hidden()


# Draws a code as a camera may see it, a pixel at a time: turned, tilted, in a shadow, out of focus.
SEEN = """async ([source, rows, views]) => {
  const file = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { read } = await import(file);
  const [side, count] = [500, rows.length];
  return views.map(({ turn = 0, tilt = 0, shade = 0, blur = 0, is_blank = false }) => {
    const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
    const far = side * 2.2;
    let grey = new Float32Array(side * side);
    for (let at = 0; at < grey.length; at++) {
      const [x, y] = [(at % side) - side / 2, Math.floor(at / side) - side / 2];
      // Back from the picture to the sheet that is tilted around its middle line.
      const v = (y * far) / (far * Math.cos(tilt) - y * Math.sin(tilt));
      const u = (x * (far + v * Math.sin(tilt))) / far;
      const unit = (side * (turn % 1.5708 ? 0.72 : 0.92)) / count;
      const [column, row] = [cos * u + sin * v, cos * v - sin * u]
        .map((one) => Math.floor(one / unit + count / 2));
      const isDark = !is_blank && rows[row]?.[column];
      grey[at] = (isDark ? 40 : 220) * (1 - (shade * (at % side)) / side) + ((at * 7919) % 23) - 11;
    }
    for (let round = 0; round < blur; round++) {
      grey = grey.map((one, at) =>
        (grey[at - side - 1] + grey[at - side] + grey[at - 1] + one) / 4 || 0);
    }
    const data = new Uint8ClampedArray(4 * grey.length);
    grey.forEach((one, at) => data.fill(one, 4 * at, 4 * at + 3));
    return read({ data, width: side, height: side });
  });
}"""
VIEWS = [
    {},
    {"turn": 1.5708},
    {"turn": 3.5},
    {"tilt": 0.35},
    {"tilt": -0.3, "turn": 0.1},
    {"shade": 0.6},
    {"blur": 2},
]


@pytest.mark.parametrize("chars", [155, 191])
def test_a_code_is_read_however_it_is_held(new_page: OpenPage, chars: int) -> None:
    # EX-50: where a browser has no reader of its own
    code = "".join("AbCdEfGhIj0123456789._-"[(at * at) % 23] for at in range(chars))
    source, rows = (FILES / "qr.js").read_text(), squares(code)
    # One that is hidden in part is mended or not read, and never read wrongly.
    stained = [[0 if 20 < y < 26 and x > 20 else one for x, one in enumerate(row)]
               for y, row in enumerate(rows)]  # fmt: skip
    page = new_page(390)
    assert page.evaluate(SEEN, [source, rows, VIEWS]) == [code] * len(VIEWS)
    assert page.evaluate(SEEN, [source, stained, [{}]]) in ([code], [None])
    assert page.evaluate(SEEN, [source, rows, [{"is_blank": True}]]) == [None]


def test_an_order_that_is_let_go_says_so_where_it_is_still_open(
    office: ExampleProcess, new_page: OpenPage
) -> None:
    # EX-47
    page = new_page(390)
    show = plan(page, office, "Blues")
    page.goto(f"{office.url}/events/{show}")
    page.get_by_role("button", name="Hold the seats").click()
    expect(page.get_by_role("button", name="Pay")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-connection", "connected")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Let the seats go").click()
    # Nobody is left with a form for seats that others have.
    expect(page.locator(".state")).to_contain_text("The seats are free for others")
    expect(page.get_by_role("button", name="Pay")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_at_the_box_office(
    office: ExampleProcess, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    source, told = axe(), list[str]()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(f"{office.url}/sign-in")
        told += found_by_axe(page, source)
        show = plan(page, office, "Swing")
        told += found_by_axe(page, source)
        page.goto(f"{office.url}/events/{show}")
        page.get_by_text("Choose seats").first.click()
        told += found_by_axe(page, source)
        page.get_by_role("button", name="Hold the seats").click()
        page.get_by_label("Card").select_option("tok_declined")
        page.get_by_role("button", name="Pay").click()
        expect(page.locator(".problem")).to_contain_text("declined")
        told += found_by_axe(page, source)
        page.get_by_role("button", name="Pay").click()
        page.get_by_role("link", name="Ticket for seat").first.click()
        told += found_by_axe(page, source)
        for path in ("/", "/tickets", "/organise", f"/gate/{show}?gate=A", "/events/none"):
            page.goto(office.url + path)
            told += [f"{path}: {one}" for one in found_by_axe(page, source)]
        page.goto(f"{office.url}/gate/{show}?gate=A")
        page.get_by_role("button", name="Scan").click()
        expect(page.locator("#verdict")).to_be_visible()
        told += found_by_axe(page, source)
    finally:
        context.close()
    assert told == []
