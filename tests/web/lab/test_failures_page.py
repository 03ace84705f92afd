"""The lab's page about failures: what is left alone, dead letters, what one's sandbox lost."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from functools import partial
from typing import cast, get_args
from urllib.parse import quote
from uuid import uuid4

import pytest
import trio

from actors.persistence import NewDeadLetter
from actors.runtime import message
from storage.memory import MemoryDeadLetters
from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import form, get
from tests.web.accounts.test_operating import operator
from tests.web.lab.test_lab_site import a_guest
from tests.web.observability.operating.test_outside_page import SETTINGS
from tests.web.whole_site import in_thread, open_whole_site
from web.lab.panels.failures import COUNTED_FOR_S
from web.lab.sandbox.cast import Messages, Numbered, Work
from web.lab.sandbox.words import Place
from web.mail.routes.amazon import SNS
from web.routing import paths
from web.settings import LabMode

SECRET = "for ada@example.org alone"


async def _away() -> None:
    raise TimeoutError


def _unknown(name: str) -> Messages:
    made: type[object] = type(name, (), {})
    return cast("Messages", message(made)())


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
            row = re.search(r"<code>rooms-room-2</code>.*?</li>", page.text, re.DOTALL)
            assert row is not None
            # How often, the chain, and where: class, text, place in the program.
            assert "crashed 2 times, last at" in row[0]
            assert "somebody pressed Crash" in row[0]
            assert "(web.lab.sandbox.cast:" in row[0]
            assert SECRET not in page.text
            assert "/ops/" not in page.text, "what is not for them is not shown to them"
            other = await get(site.visitor(), paths.LAB_FAILURES)
            assert "Nothing yet" in other.text
            assert "rooms-room-2" not in other.text
            # LAB-40: the newest hundred rows.
            unknown = [_unknown(f"Odd{n}") for n in range(101)]
            for odd in unknown:
                site.web.sandboxes._tell(guest.sandbox, Place("rooms-room-2"), odd)
            found = site.web.failures
            await until(lambda: len(found.letters_in(guest.sandbox)) > len(unknown))
            rows = [one.message_type for one in found.lost(guest.sandbox).rows]
            assert rows == [f"Odd{n}" for n in range(100, 0, -1)]
        grace = await operator(site)
        own = (await get(grace, paths.LAB_FAILURES)).text
        assert all(f'href="{path}"' in own for path in (paths.OPS_OUTSIDE, paths.OPS_DEAD))
        assert SECRET not in own, "it is read with a fresh proof only"


def _letters(text: str) -> list[str]:
    return re.findall(r'name="again" value="(\d+)"', text)


@pytest.mark.slow
async def test_a_visitor_settles_what_was_lost_in_their_sandbox_once() -> None:
    # LAB-40
    async with (
        open_whole_site(settings=SETTINGS, has_documents=False) as site,
        a_guest(site) as guest,
    ):
        room = Place("rooms-room-2")

        async def settle(letter: str, action: str, **more: str) -> Answer:
            return await form(guest.visitor, paths.LAB_FAILURES, **{action: letter}, **more)

        async def crash(place: Place, letter: Messages) -> str:
            """Have the next letter of an actor be its last; the number of what was lost."""
            before = len(_letters((await get(guest.visitor, paths.LAB_FAILURES)).text))
            count = len(guest.sandbox.stories.kept)
            guest.sandbox.props.cracks[place] = None
            site.web.sandboxes._tell(guest.sandbox, place, letter)
            await until(lambda: len(guest.sandbox.stories.kept) == count + 1)
            await until(lambda: guest.status(place) == "running")
            found = _letters((await get(guest.visitor, paths.LAB_FAILURES)).text)
            assert len(found) >= max(1, before)
            return found[0]

        def handled(place: Place) -> int:
            actor = site.web.sandboxes.cell(guest.sandbox, place)
            assert actor is not None
            return site.web.sandboxes.system.stats(actor.ref).handled or 0

        first = await crash(room, Work())
        got = handled(room)
        other = await form(site.visitor(), paths.LAB_FAILURES, again=first)
        assert other.status == 404, "it is nobody else's"
        assert (await settle("0", "again")).status == 404
        assert (await settle(first, "sell")).status == 422, "it knows no such field"
        none = await form(guest.visitor, paths.LAB_FAILURES, number="1")
        assert [none.status, (await settle(first, "again", discard=first)).status] == [400, 400]
        changed = await settle(first, "edit", number="3")
        assert (changed.status, "A Work has nothing to change" in changed.text) == (400, True)
        assert handled(room) == got, "nothing was done so far"
        answer = await settle(first, "again")
        assert (answer.status, answer.headers["location"]) == (303, "/lab/failures?said=again")
        await until(lambda: handled(room) == got + 1)
        for action in ("again", "all", "discard"):
            answer = await settle(first, action)
            assert answer.headers["location"] == "/lab/failures?said=before"
        assert handled(room) == got + 1
        page = (await get(guest.visitor, "/lab/failures?said=before")).text
        assert "A duplicate" in page
        assert "<span>1 told again</span><strong>3 duplicates</strong>" in page
        looked = (await get(guest.visitor, f"/lab/failures?letter={first}")).text
        assert "<strong>Told again</strong>" in looked
        assert 'name="reason"' not in looked
        # Of several the newest alone, then what is left of them.
        await crash(room, Work())
        newest, got = await crash(room, Work()), handled(room)
        assert (await settle(newest, "again")).status == 303
        await until(lambda: handled(room) == got + 1)
        assert (await settle(newest, "all")).headers["location"].endswith("said=all")
        await until(lambda: handled(room) == got + 2)
        # One that has something in it is changed, and says what is wrong with the change.
        sink = Place("feed-sink")
        lost = await crash(sink, Numbered(7))
        for number in ("", "0", "1e3", "-1", "10000000", "²"):
            answer = await settle(lost, "edit", number=number)
            assert (answer.status, "Number is a whole number" in answer.text) == (400, True)
        doubled = guest.sandbox.props.doubled
        looked = (await get(guest.visitor, f"/lab/failures?letter={lost}")).text
        assert re.search(r'name="number"[^>]* value="7"', looked), "as it is"
        for fact in ("Message id", "Correlation id", "Numbered(number=7)"):
            assert fact in looked
        assert (await get(site.visitor(), f"/lab/failures?letter={lost}")).status == 404
        assert (await settle(lost, "edit", number="1")).status == 303
        await until(lambda: guest.sandbox.props.doubled == doubled + 1)
        page = (await get(guest.visitor, paths.LAB_FAILURES)).text
        assert "<bdi>Numbered(number=7) → Numbered(number=1)</bdi>" in page
        # Given up with why, one or all of its kind.
        odd = _unknown("Odd")
        for _ in range(2):
            site.web.sandboxes._tell(guest.sandbox, room, odd)
        rows = partial(site.web.failures.lost, guest.sandbox)
        await until(lambda: rows().rows[0].count == 2)
        second = str(rows().rows[0].letter)
        first = str(int(second) - 1)
        for why in ("two\nlines", "w" * 201):
            answer = await settle(second, "discard", reason=why)
            assert (answer.status, "A reason is one line" in answer.text) == (400, True)
        assert (await settle(second, "discard", reason="it came <b>twice")).status == 303
        page = (await get(guest.visitor, paths.LAB_FAILURES)).text
        assert "<span>1 waiting</span><span>1 given up</span><bdi>it came &lt;b&gt;twice" in page
        assert (await settle(second, "discard-all")).headers["location"].endswith("discard-all")
        assert (await settle(first, "discard-all")).headers["location"].endswith("before")
        # A supervisor takes nothing: said on the page, and settled is nothing.
        site.web.sandboxes._tell(guest.sandbox, Place("rooms"), odd)
        await until(lambda: rows().rows[0].place == "rooms")
        above = str(rows().rows[0].letter)
        answer = await settle(above, "again")
        assert (answer.status, "rooms cannot take it now" in answer.text) == (409, True)
        assert rows().rows[0].waiting == 1
        site.web._lab_switch._set = LabMode.READONLY
        assert (await settle(lost, "discard")).status == 503
        deeds = [one for one in await guest.recorded() if one.action.startswith("letters ")]
        deeds = deeds[:4]
        told = [(one.action, one.place, one.count, one.outcome) for one in deeds]
        assert told == [
            ("letters again", room, 1, "done"),
            ("letters again", room, 1, "done"),
            ("letters all", room, 1, "done"),
            ("letters edit", sink, 1, "done"),
        ]


@pytest.mark.slow
async def test_an_open_page_is_sent_what_its_own_sandbox_loses_and_nothing_twice() -> None:
    # LAB-40, LAB-1
    async with (
        open_whole_site(settings=SETTINGS, has_documents=False) as site,
        a_guest(site) as guest,
    ):
        readers = site.web.failures_readers

        async def opened(visitor: Visitor) -> OpenStream:
            """The stream of a page that says what it was rendered with."""
            page = await get(visitor, paths.LAB_FAILURES)
            marks = re.findall(r'data-holds="(failures-\w+)" data-mark="([\w-]+)"', page.text)
            assert [name for name, _ in marks] == ["failures-lost", "failures-facts"]
            tab = str(uuid4())
            signals = json.dumps({"sseTabId": tab, "ssePage": "failures", "roomName": ""})
            holds = {"x-page-holds": ";".join("=".join(one) for one in marks)}
            path = f"/events?datastar={quote(signals)}"
            stream = await in_thread(lambda: visitor.open_stream_at(path, **holds))
            assert stream.status == 200
            await in_thread(lambda: stream.read_until(b'"sseConnected":true'))
            return stream

        async def sent(stream: OpenStream, *parts: bytes) -> str:
            return (await in_thread(lambda: stream.read_until(*parts))).decode()

        def lose() -> None:
            site.web.sandboxes._tell(guest.sandbox, Place("rooms-room-2"), odd)

        own, other = await opened(guest.visitor), await opened(site.visitor())
        odd = _unknown("Odd")
        with own, other:
            lose()
            text = await sent(own, b"1 waiting", b"\n\n")
            # The first that came: a page is not sent what it was rendered with.
            assert text.count("datastar-patch-elements") == 1
            assert text.count('id="failures-lost"') == 1
            assert 'name="csrf"' not in text, "what is sent holds no form"
            (row,) = set(re.findall(r'<li id="(lost-[\w-]+)"', text))
            lose()
            text = await sent(own, b"2 waiting", b"\n\n")
            assert f'<li id="{row}"' in text
            (letter,) = _letters(text)
            for _ in range(2):
                answer = await form(guest.visitor, paths.LAB_FAILURES, discard=letter)
                assert answer.status == 303
            text = await sent(own, b"1 duplicate", b"\n\n")
            assert "1 waiting" in text
            # Its feed begins anew, and sends everybody everything, once.
            feed = site.directory.failures_feed()
            feed.kill()
            text = await sent(own, b'id="failures-facts"', b'id="failures-lost"', b"\n\n")
            assert "1 duplicate" in text
            everything = await sent(other, b'id="failures-facts"', b'id="failures-lost"', b"\n\n")
            assert "lost-" not in everything.replace("lost-title", ""), "of nobody else's sandbox"
        await until(lambda: not readers)


def test_every_message_of_a_sandbox_with_something_in_it_can_be_changed() -> None:
    # LAB-40
    has_fields = {one for one in get_args(Messages) if fields(one)}
    assert has_fields == {Numbered}, "a class of its own needs its own way to be changed"
    assert [one.name for one in fields(Numbered)] == ["number"]


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
