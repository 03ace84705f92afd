"""The pages of operators about dead letters, over HTTP (RES-12)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from actors.accounts import Role
from actors.persistence import DeadLetterStatus, NewDeadLetter, StreamId
from storage.memory import MemoryDeadLetters, MemoryEventStore
from storage.testing.samples import message, new_events
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.web.accounts.test_entering import form, get, register
from tests.web.accounts.test_operating import operator
from tests.web.whole_site import WholeSite, open_whole_site
from web.routing import paths

pytestmark = pytest.mark.slow

HOSTILE = "</pre><script>alert(1)</script>\u202e{{ 7 * 7 }}"


@pytest.fixture
async def site() -> AsyncIterator[WholeSite]:
    async with open_whole_site(has_documents=False) as opened:
        yield opened


class Kept:
    """The letters of a site, made as its relay makes them."""

    def __init__(self, site: WholeSite) -> None:
        self.letters = MemoryDeadLetters(site.events.database)
        self.events = MemoryEventStore(site.events.database)

    async def of_outbox(self, payload: bytes, error: str = "boom") -> int:
        sent = message(target="nowhere", payload=payload)
        await self.events.append(StreamId(f"order-{uuid4()}"), new_events(1), outbox=[sent])
        id_ = max(self.events.database.outbox)
        self.events.database.outbox[id_].is_dead = True
        return await self.letters.add(
            NewDeadLetter("outbox", "nowhere", str(id_), error, "the chain", payload)
        )

    async def status(self, id_: int) -> DeadLetterStatus:
        return (await self.letters.get(id_)).status


async def mark(visitor: Visitor, id_: int) -> str:
    page = await get(visitor, f"/ops/dead/{id_}")
    found = re.search(r'name="mark" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found[1]


async def test_an_operator_sees_edits_and_settles_letters(site: WholeSite) -> None:
    # RES-12, STORE-61
    grace, kept = await operator(site), Kept(site)
    payload = json.dumps({"to": "ada@example.org", "count": 0, "text": HOSTILE}).encode()
    first = await kept.of_outbox(payload, HOSTILE)
    second, third = await kept.of_outbox(b"{}"), await kept.of_outbox(b"{}")
    listed = await get(grace, paths.OPS_DEAD)
    assert (listed.status, listed.headers["cache-control"]) == (200, "no-store")
    assert "<script>alert" not in listed.text
    assert "3 pending" in listed.text
    page = await get(grace, f"/ops/dead/{first}")
    assert "<script>alert" not in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "ada@example.org" not in page.text
    assert "the chain" in page.text
    # An edit that cannot be read: told, and what was typed is still there.
    seen = await mark(grace, first)
    wrong = await form(grace, f"/ops/dead/{first}", action="edit", mark=seen, payload='{"count": ')
    assert wrong.status == 422
    assert "is no JSON: line 1" in wrong.text
    assert "{&#34;count&#34;: </textarea>" in wrong.text
    assert await kept.status(first) is DeadLetterStatus.PENDING
    typed = json.dumps({"to": "***", "count": 2, "text": HOSTILE})
    done = await form(grace, f"/ops/dead/{first}", action="edit", mark=seen, payload=typed)
    assert (done.status, done.headers["location"]) == (303, f"/ops/dead/{first}?said=edit")
    now = site.events.database.outbox[min(site.events.database.outbox)].message.payload
    assert json.loads(now) == {"to": "ada@example.org", "count": 2, "text": HOSTILE}
    told = (await get(grace, done.headers["location"])).text
    assert "The edit is kept" in told
    assert "count: 0 -&gt; 2" in told
    assert "Hand back" not in told, "it is settled"
    # Given up with a reason, and not without.
    bare = await form(grace, f"/ops/dead/{second}", action="discard", reason="  ")
    assert bare.status == 422
    given_up = await form(grace, f"/ops/dead/{second}", action="discard", reason="a test")
    assert given_up.status == 303
    stored = await kept.letters.get(second)
    assert (stored.status, stored.resolution_notes) == (DeadLetterStatus.DISCARDED, "a test")
    assert stored.resolved_by is not None
    assert stored.resolved_by.startswith("member ")
    assert (await form(grace, f"/ops/dead/{third}", action="retry")).status == 303
    assert await kept.status(third) is DeadLetterStatus.RESOLVED


async def test_of_two_operators_the_second_is_told(site: WholeSite) -> None:
    # RES-12
    grace, kept = await operator(site), Kept(site)
    id_ = await kept.of_outbox(b'{"n":0}')
    effect = await kept.letters.add(NewDeadLetter("effect", "t", "1", "boom", payload=b"{}"))
    early = await mark(grace, id_)
    await kept.letters.edit(id_, seen=b'{"n":0}', payload=b'{"n":1}', by="eve", notes="")
    late = await form(grace, f"/ops/dead/{id_}", action="edit", mark=early, payload='{"n":2}')
    assert late.status == 409
    assert "changed by somebody else" in late.text
    assert "{&#34;n&#34;:2}" not in late.text, "the next try would overwrite that unseen"
    assert (await kept.letters.get(id_)).letter.payload == b'{"n":1}'
    await kept.letters.discard(id_, "eve", "x")
    for action in ("retry", "discard"):
        answer = await form(grace, f"/ops/dead/{id_}", action=action, reason="y")
        assert answer.status == 409, action
    # What only its own program can repeat: told, and an edit of it is kept for that.
    assert (await form(grace, f"/ops/dead/{effect}", action="retry")).status == 409
    seen = await mark(grace, effect)
    edited = await form(grace, f"/ops/dead/{effect}", action="edit", mark=seen, payload='{"n":1}')
    assert edited.status == 409
    assert "is kept, but it was not handed back: only the program" in edited.text
    assert "nothing was done" not in edited.text
    stored = await kept.letters.get(effect)
    assert (stored.status, stored.letter.payload) == (DeadLetterStatus.PENDING, b'{"n":1}')
    # Of half a record nothing is edited: nobody could ever take it.
    half = await kept.letters.add(NewDeadLetter("bus", "t", "1", "boom", payload=b'{"n":0}'))
    seen = await mark(grace, half)
    refused = await form(grace, f"/ops/dead/{half}", action="edit", mark=seen, payload='{"n":1}')
    assert (refused.status, "nothing was done" in refused.text) == (409, True)
    assert "{&#34;n&#34;:1}</textarea>" in refused.text, "what was typed is still there"
    assert (await kept.letters.get(half)).letter.payload == b'{"n":0}'


async def test_all_are_handed_back_beside_the_page_and_nobody_starts_twice(
    site: WholeSite,
) -> None:
    # RES-12
    grace, kept = await operator(site), Kept(site)
    ids = [await kept.of_outbox(b"{}") for _ in range(60)]
    begun = await form(grace, paths.OPS_DEAD, action="retry-all", kind="outbox", source="nowhere")
    assert (begun.status, begun.headers["location"]) == (303, "/ops/dead?said=begun")
    page = await get(grace, paths.OPS_DEAD)
    assert 'http-equiv="refresh"' in page.text
    assert "of 60 handed back" in page.text or "of 0 handed back" in page.text
    again = await form(grace, paths.OPS_DEAD, action="retry-all")
    assert again.status == 409
    assert "hands letters back already" in again.text
    assert (await form(grace, paths.OPS_DEAD, action="stop")).status == 303
    retries = site.web.retries
    assert retries is not None
    progress = retries.progress
    assert progress is not None
    await until(lambda: progress.ended is not None)
    stopped = await get(grace, paths.OPS_DEAD)
    assert "Stopped" in stopped.text
    assert 'http-equiv="refresh"' not in stopped.text
    left = [id_ for id_ in ids if await kept.status(id_) is DeadLetterStatus.PENDING]
    assert len(left) == 60 - progress.handed_back > 0


async def test_nobody_else_comes_here_and_nonsense_is_refused(site: WholeSite) -> None:
    # RES-12, AUTH-23
    grace, ada, kept = await operator(site), await register(site), Kept(site)
    await site.accounts.grant("ada", Role.MODERATOR)
    id_ = await kept.of_outbox(b"{}")
    one = f"/ops/dead/{id_}"
    for path in (paths.OPS_DEAD, one):
        assert (await get(ada, path)).status == 403
        assert (await form(ada, path, action="retry")).status == 403
    for path, status in (
        ("/ops/dead/999999", 404),
        ("/ops/dead/nonsense", 404),
        ("/ops/dead/0", 404),
        ("/ops/dead/99999999999999999999", 404),
        ("/ops/dead?status=nonsense", 400),
        ("/ops/dead?kind=%3Cb%3E", 400),
        ("/ops/dead?source=%00", 400),
        (f"/ops/dead?source={'x' * 3000}", 400),
        ("/ops/dead?after=-1", 400),
        ("/ops/dead?said=%3Cscript%3E", 200),
        ("/ops/dead?status=discarded&kind=mail&source=a&after=1", 200),
    ):
        assert (await get(grace, path)).status == status, path
    for path, typed, status in (
        (paths.OPS_DEAD, {"action": "nonsense"}, 400),
        (paths.OPS_DEAD, {}, 400),
        (paths.OPS_DEAD, {"action": "retry-all", "kind": "x"}, 400),
        (paths.OPS_DEAD, {"action": "stop"}, 303),
        (one, {"action": "nonsense"}, 400),
        (one, {"action": "edit"}, 409),
        ("/ops/dead/999999", {"action": "retry"}, 404),
        ("/ops/dead/999999", {"action": "edit"}, 404),
    ):
        assert (await form(grace, path, **typed)).status == status, (path, typed)
    assert await kept.status(id_) is DeadLetterStatus.PENDING
