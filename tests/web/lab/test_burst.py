"""The burst's bucket and probe (SITE-140, SITE-142, LAB-60)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import trio

from tests.journeys.visitor import Visitor
from tests.patience import FOR_EVER_S, PATIENCE_S
from tests.web.whole_site import in_thread, open_whole_site
from web.lab.panels.bucket import ADDRESS, SESSION, Buckets, Size
from web.routing import paths
from web.server import EdgeSettings, TransportSettings
from web.timeline.feed import PERIOD_S
from web.wiring.frame import serving

# As many as the page has.
WORKERS = 24


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_is_emptied_at_once_and_fills_again() -> None:  # SITE-142
    clock, session = Clock(), uuid4()
    buckets = Buckets(clock)
    taken = [buckets.take(session, "1.1.1.1") for _ in range(SESSION.capacity)]
    assert [one.left for one in taken] == list(range(SESSION.capacity - 1, -1, -1))
    refused = buckets.take(session, "1.1.1.1")
    assert (refused.left, refused.wait_s) == (0, 1 / SESSION.refill_per_s)
    assert buckets.take(uuid4(), "1.1.1.1").left == SESSION.capacity - 1, "another's is full"
    clock.now = 2.0
    assert buckets.take(session, "1.1.1.1").left == 2 * SESSION.refill_per_s - 1
    clock.now = 1e6
    assert buckets.take(session, "1.1.1.1").left == SESSION.capacity - 1


def test_an_address_has_a_bucket_too_and_a_refused_probe_takes_of_none() -> None:  # SITE-142
    clock = Clock()
    buckets = Buckets(clock, session=Size(10, 1.0), address=Size(15, 2.0))
    first, second = uuid4(), uuid4()
    assert all(buckets.take(first, "1.1.1.1").wait_s == 0 for _ in range(10))
    assert buckets.take(first, "1.1.1.1").wait_s == 1.0
    assert [buckets.take(second, "1.1.1.1").wait_s for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]
    assert buckets.take(second, "2.2.2.2").left == 4, "the five it had sent, and this one"
    assert buckets.take(None, "1.1.1.1").wait_s == 0.5, "who has no cookie is an address"
    assert (Size(5_000, 250.0), Size(20_000, 500.0)) == (SESSION, ADDRESS)


def test_who_sent_nothing_for_longest_is_forgotten() -> None:
    buckets = Buckets(Clock(), kept_max=3)
    for number in range(5):
        buckets.take(None, f"1.1.1.{number}")
    assert len(buckets) == 3
    assert buckets.take(None, "1.1.1.4").left == ADDRESS.capacity - 2


@pytest.mark.slow
async def test_the_probe_is_bare_and_says_what_it_took() -> None:  # SITE-140 LAB-60
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        answers = [
            await in_thread(lambda: visitor.get(f"{paths.BURST_PROBE}?i=1&t=2")) for _ in range(2)
        ]
        assert [(one.status, one.body) for one in answers] == [(204, b"")] * 2
        assert answers[0].headers["cache-control"] == "no-store"
        # Between the two it may have filled again.
        assert {one.headers["x-burst-tokens"] for one in answers} <= {"4999", "4998"}
        name, _, took = answers[0].headers["server-timing"].partition(";dur=")
        assert name == "app"
        assert 0 <= float(took) < 10_000
        buckets = site.web._buckets._buckets
        for bucket in filter(None, map(buckets.get, buckets)):
            bucket.tokens = -1e6  # far too few for any pause
        refused = await in_thread(lambda: visitor.get(paths.BURST_PROBE))
        assert (refused.status, refused.body) == (429, b"")
        assert int(refused.headers["retry-after"]) > 1
        assert refused.headers["x-burst-tokens"] == "0"


def send_probes(runner: Visitor, numbers: Iterator[int]) -> Counter[int]:
    """Ask for one probe after the other over one connection, as a worker of the page does."""
    told: Counter[int] = Counter()
    address = urlsplit(runner.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
    headers = {**runner._headers(), "x-request-burst": "1"}
    for number in numbers:
        connection.request("GET", f"{paths.BURST_PROBE}?i={number}&t=1", headers=headers)
        answer = connection.getresponse()
        assert answer.read() == b""
        told[answer.status] += 1
    connection.close()
    return told


@pytest.mark.slow
async def test_others_miss_nothing_while_one_visitor_sends_a_whole_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # SITE-143, SITE-142, SITE-129
    # How long a probe stands in line tells something about the machine only, and so does how long
    # a worker rests between two probes, and a reader between two pieces.
    patient = partial(EdgeSettings, request_s=FOR_EVER_S)
    monkeypatch.setattr(serving, "EdgeSettings", patient)
    resting = partial(TransportSettings, keep_alive_s=FOR_EVER_S, write_stall_s=FOR_EVER_S)
    monkeypatch.setattr(serving, "TransportSettings", resting)
    told: Counter[int] = Counter()
    numbers = iter(range(SESSION.capacity))
    heard = b""

    def send() -> None:
        told.update(send_probes(runner, numbers))

    def listen() -> None:
        nonlocal heard
        heard = at_reader.read_until(b"the last word", patience_s=FOR_EVER_S)

    def look_on() -> None:
        at_runner.read_until(b"POST /demo/chat/messages/demo", patience_s=FOR_EVER_S)

    def post_and_look(number: int) -> None:
        assert author.post(f"word {number};").status == 202
        assert [other.get(path).status for path in ("/health", "/")] == [200, 200]

    async with open_whole_site() as site:
        runner, author, reader, other = (site.visitor() for _ in range(4))
        runner.panel = "operations"
        for one in (runner, author, reader):
            await in_thread(one.open_lab)
        with (
            await in_thread(runner.open_stream) as at_runner,
            await in_thread(reader.open_stream) as at_reader,
        ):
            await in_thread(partial(at_reader.read_until, b"sseConnected"))
            await in_thread(partial(at_runner.read_until, b"GET /lab"))
            streams = site.web.streams.all()
            viewers = [site.web.timeline_viewers.maybe_viewer(one.key) for one in streams]
            (viewer,) = (one for one in viewers if one is not None and one.is_shown)
            posted, renders, began = 0, viewer.renders, trio.current_time()
            async with trio.open_nursery() as readers:
                readers.start_soon(in_thread, listen)
                readers.start_soon(in_thread, look_on)
                async with trio.open_nursery() as workers:
                    for _ in range(WORKERS):
                        workers.start_soon(in_thread, send)
                    while len(workers.child_tasks) > 0:
                        posted += 1
                        await in_thread(partial(post_and_look, posted))
                # The timeline of who runs it is drawn as seldom as ever.
                took_s = trio.current_time() - began
                assert viewer.renders - renders <= took_s / PERIOD_S + 2
                assert len(site.web.streams) == 2
                assert (await in_thread(partial(author.post, "the last word"))).status == 202
                assert (await in_thread(partial(runner.post, "a word of mine"))).status == 202
    assert told == {204: SESSION.capacity}
    # Each word, in its order; a pane and the dock show it twice, in one patch.
    words = [int(number) for number in re.findall(rb"word (\d+);", heard)]
    assert list(dict.fromkeys(words)) == list(range(1, posted + 1))
