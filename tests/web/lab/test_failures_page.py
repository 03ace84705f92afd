"""The lab's page about failures: what is left alone, dead letters, what one's sandbox lost."""

from __future__ import annotations

import re

import pytest
import trio

from actors.persistence import NewDeadLetter
from storage.memory import MemoryDeadLetters
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import get
from tests.web.accounts.test_operating import operator
from tests.web.lab.test_lab_site import a_guest
from tests.web.observability.operating.test_outside_page import SETTINGS
from tests.web.whole_site import open_whole_site
from web.lab.panels.failures import COUNTED_FOR_S
from web.mail.routes.amazon import SNS
from web.routing import paths

SECRET = "for ada@example.org alone"


async def _away() -> None:
    raise TimeoutError


@pytest.mark.slow
async def test_visitors_see_numbers_and_what_their_own_sandbox_lost() -> None:
    # RES-3, RES-12
    async with open_whole_site(settings=SETTINGS, has_documents=False) as site:
        letters = MemoryDeadLetters(site.events.database)
        for number in range(3):
            new = NewDeadLetter("outbox", "shop", str(number), SECRET, SECRET, SECRET.encode())
            await letters.add(new)
        dependency = site.web.outside.dependency(SNS)
        with captured():
            for _ in range(dependency.policy.breaker.failures):
                with pytest.raises(TimeoutError):
                    await dependency.call(_away)
        async with a_guest(site) as guest:
            for number in (1, 2):
                await until(lambda: guest.status("rooms-room-2") == "running")
                answer = await guest.act("actors/rooms-room-2/crash", f"c{number}")
                assert answer.status == 202
                await until(lambda n=number: len(guest.sandbox.stories.kept) == n)  # type: ignore[misc]
            page = await get(guest.visitor, paths.LAB_FAILURES)
            assert (page.status, page.headers["cache-control"]) == (200, "no-store")
            assert re.search(
                r"<code>sns</code></th><td><strong>left alone</strong>, \d+", page.text
            )
            assert "<td>5</td><td>5</td><td>100 %</td><td>0</td>" in page.text
            assert "3 pending" in page.text
            row = re.search(r"<code>rooms-room-2</code></th><td>crashed</td>.*", page.text)
            assert row is not None
            # How often, the chain, and where: class, text, place in the program.
            assert "<td>2</td>" in row[0]
            assert "somebody pressed Crash" in row[0]
            assert "(web.lab.sandbox.cast:" in row[0]
            assert SECRET not in page.text
            assert "/ops/" not in page.text, "what is not for them is not shown to them"
            other = await get(site.visitor(), paths.LAB_FAILURES)
            assert "Nothing yet" in other.text
            assert "rooms-room-2" not in other.text
        grace = await operator(site)
        own = (await get(grace, paths.LAB_FAILURES)).text
        assert all(f'href="{path}"' in own for path in (paths.OPS_OUTSIDE, paths.OPS_DEAD))
        assert SECRET not in own, "it is read with a fresh proof only"


@pytest.mark.slow
async def test_the_store_is_asked_rarely_and_its_absence_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # RES-12
    asked = 0
    counts = MemoryDeadLetters.counts

    async def counted(self: MemoryDeadLetters) -> object:
        nonlocal asked
        asked += 1
        return await counts(self)

    monkeypatch.setattr(MemoryDeadLetters, "counts", counted)
    async with open_whole_site(settings=SETTINGS, has_documents=False) as site:
        failures, before = site.web.failures, asked
        first = await failures.letters()
        assert first is not None
        # However many look within the two seconds, which end nowhere here.
        failures._counted = (trio.current_time() + 3600, first)
        assert [await failures.letters() for _ in range(50)] == [first] * 50
        assert asked == before + 1
        failures._counted = (trio.current_time() - COUNTED_FOR_S, first)
        site.events.database.faults.fail_next(times=1000)
        assert "Not known" in (await get(site.visitor(), paths.LAB_FAILURES)).text
