"""Client programs against the running site: what they promise holds while it is killed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import trio
from playwright.sync_api import Browser

from tests.journeys.kinds import StartSite
from tests.journeys.site_process import ROOT, SiteProcess
from tests.journeys.test_process import MANY
from tests.patience import PATIENCE_S
from web.client import Client, ClientSettings, CommandRefused, Gap, connect

pytestmark = pytest.mark.slow

# The long form is in `make soak`.
_MESSAGES = int(os.environ.get("MESSAGES", "120"))
# 1,000 posts at the 20 a second that the server takes, and two restarts.
_WAIT_S = PATIENCE_S + _MESSAGES / 10
_STRUCK_AT = (_MESSAGES // 3, 2 * _MESSAGES // 3)
# The same times, a tenth as long: a test waits for events, and these are between them.
_QUICK = ClientSettings(delay_s_first=0.1, delay_s_max=0.5, restart_spread_s=0.2)


async def _post(client: Client, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        action = {"PostMessage": {"body": text, "client_id": f"{number}-{text}"}}
        while True:
            try:
                await client.command(action, topic="room:lobby", timeout_s=PATIENCE_S)
                break
            except CommandRefused as refused:
                # 20 commands a second: nothing was done, and the server says when to come again.
                if refused.retry_after_s is None:
                    raise
                await trio.sleep(refused.retry_after_s)


class _Program:
    """Two clients of a program: one posts, the other hears. `heard_enough` is set on the way."""

    def __init__(self, site: SiteProcess) -> None:
        self.url = f"ws://127.0.0.1:{site.port}/ws"
        self.texts = [f"of the program {number}" for number in range(_MESSAGES)]
        self.heard: list[object] = []
        self.heard_enough = {count: Event() for count in _STRUCK_AT}

    def run(self) -> None:
        try:
            trio.run(self._run)
        finally:
            for enough in self.heard_enough.values():
                enough.set()

    async def _run(self) -> None:
        mine = set(self.texts)
        with trio.fail_after(_WAIT_S):
            async with (
                connect(self.url, settings=_QUICK) as listener,
                connect(self.url, settings=_QUICK) as speaker,
                listener.subscribe("room:lobby") as events,
                trio.open_nursery() as nursery,
            ):
                await listener.wait_open()
                nursery.start_soon(_post, speaker, self.texts)
                async for event in events:
                    assert not isinstance(event, Gap)
                    if event.fields["body"] not in mine:
                        continue
                    self.heard.append(event.fields["body"])
                    if (count := len(self.heard)) in self.heard_enough:
                        self.heard_enough[count].set()
                    if event.fields["body"] == self.texts[-1]:
                        break


_IN_THE_PAGE = """async ([source, texts]) => {
  const file = new Blob([source], {type: "text/javascript"});
  const { GreenroomClient } = await import(URL.createObjectURL(file));
  const client = new GreenroomClient("/ws");
  const mine = new Set(texts);
  Object.assign(window, {client, heard: [], gaps: [], acks: 0});
  client.on("gap", (gap) => gaps.push(gap));
  client.subscribe("room:lobby", ({MessagePosted: {body}}) => mine.has(body) && heard.push(body));
  await client.connect();
  const post = async (body) => {
    try {
      await client.command({PostMessage: {body, client_id: body}}, {timeout: 120000});
      acks += 1;
    } catch (error) {
      if (!error.retryAfter) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfter));
      await post(body);
    }
  };
  window.done = (async () => { for (const body of texts) await post(body); })();
}"""


@pytest.mark.browser
def test_clients_of_a_killed_site_lose_and_double_nothing(
    start_site: StartSite, browser: Browser
) -> None:
    """WEB-54 WEB-55 WEB-51 WEB-42: killed and drained in the middle, of a program and of a page.

    Each post is acknowledged, and heard once, in order.
    """
    site = start_site(**MANY)
    program = _Program(site)
    texts = [f"of the page {number}" for number in range(_MESSAGES)]
    source = (ROOT / "web" / "client" / "greenroom.js").read_text()
    context = browser.new_context(bypass_csp=True)
    with ThreadPoolExecutor(1) as pool:
        page = context.new_page()
        page.set_default_timeout(_WAIT_S * 1000)
        page.goto(site.url)
        page.evaluate(_IN_THE_PAGE, [source, texts])
        running = pool.submit(program.run)
        for count in _STRUCK_AT:
            page.wait_for_function("(count) => heard.length >= count", arg=count)
            assert program.heard_enough[count].wait(_WAIT_S)
            site.kill() if count == _STRUCK_AT[0] else site.stop()
            site.restart()
        page.wait_for_function("(all) => heard.length >= all && acks >= all", arg=_MESSAGES)
        running.result()
        assert page.evaluate("client.features") == {"ids": True, "resume": True}
        assert page.evaluate("gaps") == []
        assert page.evaluate("heard") == texts
        assert page.evaluate("acks") == len(texts)
        context.close()
    assert program.heard == program.texts
