"""What a browser does, over HTTP and over a socket, is one tree of spans each at a collector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from playwright.sync_api import sync_playwright

from actors.runtime.telling import spans as telling
from tests.journeys.conftest import CHROMIUM_ARGUMENTS, PATIENCE_MS, chromium_path
from tests.patience import until
from tests.web.observability.operating.test_exporting import Received, receiving
from tests.web.whole_site import in_thread, open_whole_site
from web.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Subscribes, posts as the page's composer does, and by the socket when that was heard.
BOTH_WAYS = """(patience) => new Promise((done, failed) => {
  const place = location.origin.replace("http", "ws");
  const socket = new WebSocket(`${place}/ws?client=${crypto.randomUUID()}`);
  const say = (value) => socket.send(JSON.stringify(value));
  const tab = document.querySelector("[name=sseTabId]").value;
  setTimeout(() => failed("nothing came"), patience);
  socket.onclose = ({code}) => failed(`closed by ${code}`);
  socket.onopen = () => say({type: "subscribe", id: "s", topics: ["room:lobby"]});
  socket.onmessage = ({data}) => {
    if (data.includes('"subscribed"')) {
      fetch("/demo/chat/messages/demo", {
        method: "POST",
        headers: {"content-type": "application/json"},
        body: JSON.stringify(
          {chatDemoDraftBody: "from the page", demoClientId: "c", sseTabId: tab}),
      });
    } else if (data.includes("from the page")) {
      say({type: "command", id: "c", topic: "room:lobby",
           action: {PostMessage: {body: "from the socket", client_id: "p"}}});
    } else if (data.includes("from the socket")) {
      done();
    }
  };
})"""


def browse(url: str, path: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=CHROMIUM_ARGUMENTS, timeout=PATIENCE_MS
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{url}/lab")
        page.evaluate(BOTH_WAYS, PATIENCE_MS)
        browser.close()


def roads(found: Sequence[Received], name: str) -> list[tuple[str, ...]]:
    """From the root down to each span of a name, where all that is above has come."""
    by_id = {one.id: one for one in found}
    whole: list[tuple[str, ...]] = []
    for last in found:
        if last.name == name:
            road = [last]
            while (over := by_id.get(road[0].parent)) is not None:
                road.insert(0, over)
            if not int(road[0].parent or "0", 16):
                whole.append(tuple(one.name for one in road))
    return whole


async def test_a_post_of_a_page_and_one_of_its_socket_are_trees_at_a_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # OBS-3, OBS-9
    path = chromium_path()
    if path is None:
        pytest.skip("CHROMIUM IS MISSING: no browser test was run; install it or set CHROMIUM")
    # A browser cannot choose the id of its trace, by which one of ten is kept.
    monkeypatch.setattr(telling, "SAMPLED_ONE_IN", 1)
    async with receiving() as receiver:
        settings = Settings(
            port=0,
            overload_late_ms=60_000,
            overload_after_ms=60_000,
            otlp_endpoint=f"http://127.0.0.1:{receiver.port}",
        )
        async with open_whole_site(settings=settings) as site:
            await in_thread(partial(browse, site.url, path))

            def trees() -> set[tuple[str, str, str]]:
                names = ("store.append", "ws.event")
                found = [road for name in names for road in roads(receiver.spans, name)]
                return {
                    (road[0], "ws.command" if "ws.command" in road else "", road[-1])
                    for road in found
                }

            await until(
                lambda: (
                    trees()
                    >= {
                        (top, way, name)
                        for top, way in (("http.request", ""), ("actor.handle", "ws.command"))
                        for name in ("store.append", "ws.event")
                    }
                )
            )
        assert "from the" not in repr([one.told for one in receiver.spans])
