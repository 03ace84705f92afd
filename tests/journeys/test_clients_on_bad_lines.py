"""Client programs on a line that falls silent, and before a server that stops to answer.

A page and a Python program stand behind the bad line; another program is beside the server and
tells what truly happened there. The page's time is moved, never waited for.
"""

from __future__ import annotations

import signal
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import pytest
import trio
from playwright.sync_api import Browser, Page

from storage.testing import ToxicProxy
from tests.journeys.bad_line import Line, bad_line
from tests.journeys.site_process import ROOT, SiteProcess
from tests.patience import PATIENCE_S
from tests.processes.ports import free_port
from web.client import Client, ClientSettings, CommandRefused, Gap, State, connect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_LOBBY = "room:lobby"
_MANY = {"CHAT_POSTS_PER_AUTHOR_MAX": "10000", "CHAT_POSTS_PER_ADDRESS_MAX": "10000"}
_FIRST, _LAST = "the first", "the last"
_THOUSAND = 1000
# 40 commands at once are within a client's limit (SEC-47): so many programs wait for nothing.
_POSTS_EACH = 40
# The times of a program, a twentieth as long: its own clock cannot be moved from here.
_QUICK = ClientSettings(
    delay_s_first=0.1, delay_s_max=0.5, restart_spread_s=0.2, ask_after_s=1.0, silence_s_max=2.0
)


class ShortCut(trio.abc.HostnameResolver):
    """Leads every name to one port of this machine: the same site, without the bad line."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as trio names it
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", self._port))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


class Program:
    """A Python client in a thread of its own; keeps what it hears of `topic`, in order."""

    def __init__(self, url: str, short_cut: ShortCut | None = None) -> None:
        self._short_cut = short_cut
        self.heard: list[str] = []
        self.gaps: list[Gap] = []
        self.acks = 0
        self._url = url.replace("http", "ws") + "/ws"
        self._is_ready = threading.Event()
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._thread = threading.Thread(target=partial(trio.run, self._run), daemon=True)
        self._thread.start()
        assert self._is_ready.wait(PATIENCE_S)

    @property
    def state(self) -> State:
        assert self._client is not None
        return self._client.state

    def post(self, texts: Sequence[str]) -> None:
        """Give commands; what is behind them is told by `acks`."""
        assert self._client is not None
        self._start(partial(self._post, self._client, texts))

    def post_as(self, name: str, texts: Sequence[str]) -> None:
        """The same, by another client of this thread, with a connection and a limit of its own."""
        self._start(partial(self._post_as, [f"{name}, {text}" for text in texts]))

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until that is so; it is looked at again whenever something was heard or answered."""
        patience = threading.Event()
        timer = threading.Timer(PATIENCE_S, patience.set)
        timer.start()
        with self._changed:
            while not is_so() and not patience.is_set():
                # How a client is connected is told by nobody, and so looked at.
                self._changed.wait(0.05)
        timer.cancel()
        assert is_so(), (self.state, len(self.heard), self.acks)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        trio.from_thread.run_sync(self._nursery.start_soon, task, trio_token=self._token)

    def end(self) -> None:
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join(PATIENCE_S)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._short_cut is not None:
            trio.socket.set_custom_hostname_resolver(self._short_cut)
        async with (
            connect(self._url, settings=_QUICK) as self._client,
            self._client.subscribe(_LOBBY) as events,
            trio.open_nursery() as self._nursery,
        ):
            await self._client.wait_open()
            self._is_ready.set()
            async for event in events:
                if isinstance(event, Gap):
                    self.gaps.append(event)
                else:
                    self.heard.append(str(event.fields["body"]))
                self._tell()

    async def _post_as(self, texts: Sequence[str]) -> None:
        async with connect(self._url, settings=_QUICK) as other:
            await self._post(other, texts)

    async def _post(self, client: Client, texts: Sequence[str]) -> None:
        for body in texts:
            action = {"PostMessage": {"body": body, "client_id": str(uuid.uuid4())}}
            is_done = False
            while not is_done:
                try:
                    await client.command(action, topic=_LOBBY, timeout_s=PATIENCE_S)
                    is_done = True
                except CommandRefused as refused:
                    # Too many at once: nothing was done, and it says when to come again.
                    if refused.retry_after_s is None:
                        raise
                    await trio.sleep(refused.retry_after_s)
            self.acks += 1
            self._tell()


_IN_THE_PAGE = """async (source) => {
  const file = new Blob([source], {type: "text/javascript"});
  const { GreenroomClient } = await import(URL.createObjectURL(file));
  // Connected is not yet subscribed, which the server may have to look up.
  const isSubscribed = new Promise((done) => {
    window.WebSocket = class extends window.WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener("message", ({data}) => data.includes('"subscribed"') && done());
      }
    };
  });
  const client = new GreenroomClient("/ws");
  Object.assign(window, {client, heard: [], gaps: [], states: [], acks: 0, refusals: []});
  client.on("gap", (gap) => gaps.push(gap));
  client.on("state", (state) => states.push(state));
  client.subscribe("room:lobby", ({MessagePosted: {body}}) => heard.push(body));
  window.post = (body) => {
    client.command({PostMessage: {body, client_id: body}}, {timeout: 3600000})
      .then(() => { acks += 1; }, (error) => refusals.push(error.code));
  };
  await client.connect();
  await isSubscribed;
}"""


class InThePage:
    """The JavaScript client in Chromium, seen from here."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE_S * 1000)
        page.clock.install()
        page.goto(url)
        page.evaluate(_IN_THE_PAGE, (ROOT / "web" / "client" / "greenroom.js").read_text())

    def post(self, *texts: str) -> None:
        self.page.evaluate("texts => texts.forEach((body) => post(body))", list(texts))

    def of(self, what: str) -> object:
        told: object = self.page.evaluate(what)
        return told

    def wait(self, condition: str, argument: object = None) -> None:
        self.page.wait_for_function(f"(it) => {condition}", arg=argument)

    def hold_time(self) -> None:
        """From here on its time stands, but for what is passed."""
        self.page.clock.pause_at(self.page.evaluate("Date.now()") / 1000 + 1)

    def pass_time(self, seconds: float) -> None:
        """Let what is due by then happen, once, as when a laptop wakes up."""
        self.page.clock.fast_forward(round(seconds * 1000))


@dataclass
class Parties:
    """A site, the line before it, a page and a program behind that, and a program beside."""

    site: SiteProcess
    line: Line
    page: InThePage
    behind: Program
    beside: Program


Reached = tuple[SiteProcess, Line, ShortCut]


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    """Start one site for all of these tests; each leaves it running, and the line good."""
    with bad_line() as (line, leads_to):
        # A name, which the program beside the site looks up in its own way.
        origin, port = f"http://localhost:{line.proxy.port}", free_port()
        leads_to(port)
        folder = tmp_path_factory.mktemp("site")
        site = SiteProcess(folder, PUBLIC_ORIGIN=origin, PORT=str(port), **_MANY)
        yield site, line, ShortCut(port)
        site.end()


@pytest.fixture
def parties(reached: Reached, browser: Browser) -> Iterator[Parties]:
    """Let both clients in, each of which has heard something: from here on nothing is missed."""
    site, line, short_cut = reached
    with ExitStack() as stack:
        context = browser.new_context(bypass_csp=True, reduced_motion="reduce")
        stack.callback(context.close)
        programs = [Program(site.url), Program(site.url, short_cut)]
        for one in programs:
            stack.callback(one.end)
        page, (behind, beside) = InThePage(context.new_page(), site.url), programs
        beside.post([_FIRST])
        for one in programs:
            one.wait(lambda one=one: one.heard == [_FIRST])  # type: ignore[misc]
        page.wait("heard.length === 1")
        try:
            yield Parties(site, line, page, behind, beside)
        finally:
            line.call(partial(_make_good, line.proxy))


def _make_good(proxy: ToxicProxy) -> None:
    proxy.is_refusing = False
    proxy.mend()
    for toxic in (proxy.up, proxy.down):
        toxic.slice_bytes, toxic.latency_s, toxic.jitter_s = None, 0.0, 0.0


def expect_the_same(parties: Parties, *, posts: int) -> None:
    """All heard what the server did: every post once, in its order, and no gap was told."""
    page, behind, beside = parties.page, parties.behind, parties.beside
    posts += 1
    beside.wait(lambda: len(beside.heard) >= posts)
    behind.wait(lambda: len(behind.heard) >= posts)
    page.wait("heard.length >= it", posts)
    # Behind everything that a doubled command could have led to.
    beside.post([_LAST])
    beside.wait(lambda: beside.heard[-1] == _LAST)
    behind.wait(lambda: behind.heard[-1] == _LAST)
    page.wait("heard.at(-1) === it", _LAST)
    assert len(beside.heard) == posts + 1 == len(set(beside.heard))
    assert behind.heard == beside.heard
    assert page.of("heard") == beside.heard
    assert (page.of("gaps"), behind.gaps, beside.gaps) == ([], [], [])
    assert page.of("refusals") == []


def test_clients_that_are_offline_for_five_minutes_miss_and_double_nothing(
    parties: Parties,
) -> None:
    """WEB-54 WEB-51 WEB-52 WEB-55: what was given before and meanwhile counts once."""
    line, page, behind, beside = parties.line, parties.page, parties.behind, parties.beside
    page.hold_time()
    line.call(line.proxy.cut_apart)
    page.post("into the silence 0", "into the silence 1")
    behind.post(["of the program"])
    beside.post([f"missed {number}" for number in range(20)])
    beside.wait(lambda: beside.acks == 1 + 20)
    behind.wait(lambda: behind.state is not State.OPEN)
    for _ in range(10):
        page.pass_time(30)
    page.post("while away 0", "while away 1")
    # 45 s until each try is given up, and a wait of 30 s at the most between them.
    assert page.of("states.filter((one) => one === 'connecting').length >= 3")
    assert page.of("client.state") in {"connecting", "waiting"}
    assert page.of("acks") == 0
    line.call(line.proxy.mend)
    page.page.clock.resume()
    page.wait("acks === 4")
    behind.wait(lambda: behind.acks == 1)
    expect_the_same(parties, posts=25)


def test_a_browser_that_says_it_is_online_again_is_believed_at_once(parties: Parties) -> None:
    """WEB-54 WEB-51: no timer of the page fires before it is connected again."""
    line, page, beside = parties.line, parties.page, parties.beside
    page.hold_time()
    line.call(partial(setattr, line.proxy, "is_refusing", True))
    line.call(line.proxy.reset_all)
    page.wait("client.state === 'waiting'")
    page.pass_time(300)
    page.wait("client.state === 'waiting'")
    beside.post(["missed"])
    line.call(partial(setattr, line.proxy, "is_refusing", False))
    page.page.context.set_offline(True)
    page.page.context.set_offline(False)
    page.wait("client.state === 'open'")
    page.page.clock.resume()
    expect_the_same(parties, posts=1)


def test_a_server_that_stops_to_answer_is_left_and_does_everything_once(parties: Parties) -> None:
    """WEB-54 WEB-52 WEB-55: its process stands still, and goes on where it stood."""
    site, page, behind = parties.site, parties.page, parties.behind
    page.hold_time()
    site.process.send_signal(signal.SIGSTOP)
    try:
        page.post("standing 0", "standing 1")
        behind.post(["standing 2"])
        page.pass_time(40)
        assert page.of("client.state") == "open"
        page.pass_time(10)
        assert page.of("states.includes('waiting')")
        behind.wait(lambda: behind.state is not State.OPEN)
    finally:
        site.process.send_signal(signal.SIGCONT)
    page.page.clock.resume()
    page.wait("acks === 2")
    behind.wait(lambda: behind.acks == 1)
    expect_the_same(parties, posts=3)


def test_a_line_that_is_slow_and_in_pieces_changes_nothing(parties: Parties) -> None:
    """WEB-54 WEB-55: every frame comes late, in pieces of 7 bytes."""
    line, page, behind = parties.line, parties.page, parties.behind
    for toxic in (line.proxy.up, line.proxy.down):
        toxic.slice_bytes, toxic.latency_s, toxic.jitter_s = 7, 0.001, 0.001
    page.post(*[f"of the page {number}" for number in range(10)])
    behind.post([f"of the program {number}" for number in range(10)])
    page.wait("acks === 10")
    behind.wait(lambda: behind.acks == 10)
    expect_the_same(parties, posts=20)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_command_whose_answer_was_lost_counts_once(parties: Parties, is_killed: bool) -> None:
    """WEB-54 WEB-41 WEB-55: it was carried out; sent again, it is acknowledged and not repeated.

    By the same process, and by the next one.
    """
    site, line, page = parties.site, parties.line, parties.page
    behind, beside = parties.behind, parties.beside
    line.call(partial(line.proxy.down.silence, True))
    page.post("of the page")
    behind.post(["of the program"])
    beside.wait(lambda: len(beside.heard) == 1 + 2)
    assert (page.of("acks"), behind.acks) == (0, 0)
    line.call(line.proxy.reset_all)
    if is_killed:
        site.kill()
        site.restart()
    line.call(line.proxy.mend)
    page.wait("acks === 1")
    behind.wait(lambda: behind.acks == 1)
    expect_the_same(parties, posts=2)


def test_a_restart_in_the_middle_of_a_thousand_events_loses_none(parties: Parties) -> None:
    """WEB-54 WEB-55 WEB-42: killed after a third of them, and drained after two thirds."""
    site, beside = parties.site, parties.beside
    for writer in range(_THOUSAND // _POSTS_EACH):
        beside.post_as(f"of {writer}", [str(number) for number in range(_POSTS_EACH)])
    for strike in (site.kill, site.stop):
        count = len(beside.heard) + _THOUSAND // 3
        beside.wait(lambda count=count: len(beside.heard) >= count)  # type: ignore[misc]
        strike()
        site.restart()
    beside.wait(lambda: beside.acks == 1 + _THOUSAND)
    expect_the_same(parties, posts=_THOUSAND)
