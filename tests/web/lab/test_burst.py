"""The burst's bucket and probe (SITE-140, SITE-142, LAB-60)."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.web.whole_site import in_thread, open_whole_site
from web.lab.panels.bucket import ADDRESS, SESSION, Buckets, Size
from web.routing import paths


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
