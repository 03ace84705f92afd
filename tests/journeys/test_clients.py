"""Client programs against the running site: what they promise holds while it is killed."""

from __future__ import annotations

import json
import os

import pytest
import trio
from playwright.sync_api import Browser

from tests.journeys.kinds import StartSite
from tests.journeys.site_process import ROOT
from tests.journeys.test_process import MANY
from tests.patience import PATIENCE_S
from web.client import Client, ClientSettings, CommandRefused, Gap, connect

pytestmark = pytest.mark.slow

# The long form is in `make soak`.
_MESSAGES = int(os.environ.get("MESSAGES", "120"))
# 1,000 posts at the 20 a second that the server takes, and two restarts.
_WAIT_S = PATIENCE_S + _MESSAGES / 10
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


async def test_a_killed_site_loses_and_doubles_nothing(start_site: StartSite) -> None:
    """WEB-55 WEB-42: each post is acknowledged, and heard once, in order."""
    site = start_site(**MANY)
    texts = [f"message {number}" for number in range(_MESSAGES)]
    heard: list[object] = []
    url = f"ws://127.0.0.1:{site.port}/ws"
    with trio.fail_after(_WAIT_S):
        async with (
            connect(url, settings=_QUICK) as listener,
            connect(url, settings=_QUICK) as speaker,
            listener.subscribe("room:lobby") as events,
            trio.open_nursery() as nursery,
        ):
            await listener.wait_open()
            nursery.start_soon(_post, speaker, texts)
            async for event in events:
                assert not isinstance(event, Gap)
                heard.append(event.fields["body"])
                if len(heard) == _MESSAGES // 3:
                    await trio.to_thread.run_sync(site.kill)
                    await trio.to_thread.run_sync(site.restart)
                if len(heard) == 2 * _MESSAGES // 3:
                    await trio.to_thread.run_sync(site.stop)
                    await trio.to_thread.run_sync(site.restart)
                if event.fields["body"] == texts[-1]:
                    break
    assert heard == texts


_IN_THE_PAGE = """async ([source, texts]) => {
  const file = new Blob([source], {type: "text/javascript"});
  const { GreenroomClient } = await import(URL.createObjectURL(file));
  const client = new GreenroomClient("/ws");
  Object.assign(window, {client, heard: [], gaps: [], acks: []});
  client.on("gap", (gap) => gaps.push(gap));
  client.subscribe("room:lobby", (action) => heard.push(action.MessagePosted.body));
  await client.connect();
  window.done = (async () => {
    for (const body of texts) {
      acks.push(await client.command({PostMessage: {body, client_id: body}}, {timeout: 120000}));
    }
  })();
}"""


@pytest.mark.browser
def test_a_page_that_loses_the_site_misses_nothing(start_site: StartSite, browser: Browser) -> None:
    """WEB-54 WEB-51 WEB-42: killed and drained in the middle; a browser's own socket."""
    site = start_site(**MANY)
    texts = [f"message {number}" for number in range(60)]
    source = (ROOT / "web" / "client" / "greenroom.js").read_text()
    context = browser.new_context(bypass_csp=True)
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(site.url)
        page.evaluate(_IN_THE_PAGE, [source, texts])
        page.wait_for_function("heard.length >= 15")
        site.kill()
        site.restart()
        page.wait_for_function("heard.length >= 30")
        site.stop()
        site.restart()
        page.wait_for_function("heard.length >= 60 && acks.length >= 60")
        assert page.evaluate("client.features") == {"ids": True, "resume": True}
        assert page.evaluate("gaps") == []
        assert page.evaluate("heard") == texts
        assert len(json.loads(page.evaluate("JSON.stringify(acks)"))) == len(texts)
    finally:
        context.close()
