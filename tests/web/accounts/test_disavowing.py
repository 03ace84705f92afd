""" "This was not me", from the mail to the account that is its owner's again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from actors.accounts import NO_PASSWORD
from actors.accounts.kept.disavowals import DISAVOWAL_KEPT, DISAVOWALS_PER_ADDRESS_MAX
from actors.accounts.words import Method
from actors.runtime import Secret
from actors.testing import FixedClock
from storage.errors import StoreUnavailable
from storage.memory import MemoryDisavowals
from tests.journeys.visitor import Visitor
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import PASSWORD, form, get, member_session, opened, register
from tests.web.accounts.test_links import ASK, OPEN, Post, open_post, token_in
from tests.web.accounts.test_second_factors import ticket_of, with_app
from tests.web.whole_site import in_thread
from web.accounts.own.mending.disavowing import NotMe, digest_of
from web.server import Tickets
from web.server.edge.visitor import Key

pytestmark = pytest.mark.slow

ADA, NEW_PASSWORD = "ada@example.org", "another tz! 4"
NOT_ME = "/account/not-me"


async def told_link(post: Post, visitor: Visitor, number: int = 1) -> str:
    """Change the password of who is signed in, and give the link of the mail that tells of it."""
    changed = await form(
        visitor, "/account/password", current_password=PASSWORD, new_password=NEW_PASSWORD
    )
    assert changed.status == 303, changed.text
    return await post.link_to(ADA, number)


async def test_one_click_ends_all_and_its_owner_comes_in_by_a_link() -> None:
    # AUTH-16, SEC-73, SEC-77, SEC-84: no session needed; looking does nothing
    async with open_post() as post:
        site = post.site
        thief = await register(site)
        owner = site.visitor()
        await form(owner, "/login", email=ADA, password=PASSWORD)
        link = await told_link(post, thief, 2)  # the first told of a new device
        assert link.startswith(f"{site.url}{NOT_ME}?token=")
        path, token = link.removeprefix(site.url), token_in(link)
        for _ in range(3):
            page = await get(site.visitor(), path)
            assert page.status == 200
            assert token in page.text
            assert page.text.count('action="/account/not-me"') == 1
        assert len(site.accounts.database.sign_ins) == 2
        reader = site.visitor()
        await get(reader, path)
        sessions = [await member_session(site, one) for one in (thief, owner)]
        stream = await opened(thief)
        with captured() as lines:
            done = await form(reader, NOT_ME, token=token)
        assert (done.status, done.headers["location"]) == (303, f"{NOT_ME}?done=1")
        assert token not in str(lines)
        assert site.accounts.database.sign_ins == {}
        assert set(await site.ends.ended(sessions)) == set(sessions)
        with stream:
            await in_thread(stream.response.read)  # to its end
        assert "by a link to your address" in (await get(reader, done.headers["location"])).text
        assert (await get(thief, "/account")).status == 303
        for password in (PASSWORD, NEW_PASSWORD, NO_PASSWORD):
            refused = await form(site.visitor(), "/login", email=ADA, password=password)
            assert refused.status == 401
        await until(lambda: len(post.sender.outbox_of(ADA)) == 3)
        told = post.sender.outbox_of(ADA)[2].mail.text
        assert "this was not me" in told
        assert "http" not in told
        token = await post.ask(reader, ADA, 4)
        assert (await form(reader, OPEN, token=token)).status == 303
        assert "Give yourself a password" in (await get(reader, "/account")).text


async def test_it_is_good_once_however_it_is_written_and_nobody_makes_one() -> None:
    # AUTH-16, SEC-81: one answer for used, unknown and forged, and nothing is done
    async with open_post() as post:
        site = post.site
        visitor = await register(site)
        token = token_in(await told_link(post, visitor))
        other = site.visitor()
        forged = ("B" if token.startswith("A") else "A") + token[1:]
        wrong = ["", "x", token[:-4], forged, "A" * 2000, token + "\N{SNOWMAN}"]
        answers = [await form(other, NOT_ME, token=one) for one in wrong]
        assert len(site.accounts.database.sign_ins) == 1
        assert (await form(other, NOT_ME, token=token)).status == 303
        again = [await form(other, NOT_ME, token=one) for one in (token, f"{token}=", f"{token}!")]
        assert {one.status for one in answers + again} == {401}
        told = {tuple(re.findall(r"This does nothing any more", one.text)) for one in again}
        assert told == {("This does nothing any more",)}
        refused = [row for row in site.accounts.database.audit if row.action == "account.disavow"]
        assert [row.is_success for row in refused].count(True) == 1
        site.accounts.database.attempts.clear()
        for _ in range(DISAVOWALS_PER_ADDRESS_MAX):
            assert (await form(other, NOT_ME, token="x")).status == 401
        late = await form(other, NOT_ME, token="x")
        assert (late.status, "retry-after" in late.headers) == (429, True)


async def test_while_the_store_is_away_nothing_is_done_and_it_stays_good() -> None:
    # AUTH-16, SITE-51
    async with open_post() as post:
        site = post.site
        visitor = await register(site)
        token = token_in(await told_link(post, visitor))
        twin = site.web.accounts.disavowals
        assert isinstance(twin, MemoryDisavowals)
        twin.fail_next(StoreUnavailable("planted"))
        away = await form(visitor, NOT_ME, token=token)
        assert (away.status, token in away.text) == (503, True)
        assert len(site.accounts.database.sign_ins) == 1
        assert (await form(visitor, NOT_ME, token=token)).status == 303
        assert visitor.cookies["gr_auth"] == "", "this browser was signed in as well"


async def test_a_second_factor_is_asked_for_behind_the_link() -> None:
    # AUTH-16, SEC-85: the mailbox alone removes none, and a password with it opens nothing
    async with open_post() as post:
        site = post.site
        _, app, codes = await with_app(site)
        token = token_in(await post.link_to(ADA))
        owner = site.visitor()
        # Half way in with the password, before: the half is void as well.
        half = await form(owner, "/login", email=ADA, password=PASSWORD)
        assert (await form(owner, NOT_ME, token=token)).status == 303
        late = await form(owner, "/login/second", ticket=ticket_of(half), code=app.code())
        assert late.status == 401
        asked = await form(owner, OPEN, token=await post.ask(owner, ADA, 3))
        assert 'action="/login/second"' in asked.text
        spent = await form(owner, "/login/second", ticket=ticket_of(asked), code=codes[0])
        assert spent.status == 401, "recovery codes are void"
        entered = await form(owner, "/login/second", ticket=ticket_of(asked), code=app.code())
        assert entered.status == 303
        assert (await get(owner, "/account")).status == 200


async def test_without_links_the_password_stays() -> None:
    # AUTH-16
    async with open_post(sign_in_methods=[Method.PASSWORD]) as post:
        site = post.site
        visitor = await register(site)
        token = token_in(await told_link(post, visitor))
        assert (await form(visitor, NOT_ME, token=token)).status == 303
        done = await get(visitor, f"{NOT_ME}?done=1")
        assert "change your password" in done.text
        assert (await get(visitor, ASK)).status == 404
        assert (await form(visitor, "/login", email=ADA, password=NEW_PASSWORD)).status == 303


def test_it_is_over_after_seven_days() -> None:
    # AUTH-16
    clock = FixedClock(datetime(2025, 3, 1, tzinfo=UTC))
    tickets = Tickets(Key("tickets", Secret(b"k" * 32), None), clock.now)
    said = NotMe(uuid4(), 1_740_000_000, "nonce", "mailbox")
    made = tickets.make(said, "", DISAVOWAL_KEPT)
    for so_long, found in (
        (DISAVOWAL_KEPT - timedelta(seconds=1), said),
        (timedelta(seconds=1), None),
    ):
        clock.advance(so_long)
        assert tickets.open(NotMe, made, "") == found
    other = NotMe(said.user_id, said.told_at, "another", "mailbox")
    assert digest_of(said) != digest_of(other)
