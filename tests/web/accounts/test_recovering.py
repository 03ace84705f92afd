"""An account whose second factor is lost, from the half sign-in to the guarded day, by its site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest

from actors.accounts import Level, Method
from actors.accounts.kept.recoveries import (
    GUARDED_FOR,
    RECOVERY_KEPT,
    RECOVERY_WAIT,
    STARTS_PER_USER_MAX,
    TRIES_PER_ADDRESS_MAX,
)
from actors.accounts.ways.recovering import LookForReady
from actors.runtime import Ref
from storage.errors import StoreUnavailable
from storage.memory import MemoryRecoveries
from tests.journeys.visitor import Answer, Visitor
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_access import asked, let_proofs_age
from tests.web.accounts.test_addresses import CONFIRM
from tests.web.accounts.test_disavowing import NOT_ME
from tests.web.accounts.test_entering import PASSWORD, form, get, opened
from tests.web.accounts.test_links import ASK, OPEN, Post, let_limits_go, open_post, token_in
from tests.web.accounts.test_second_factors import half_in, sensitive, ticket_of, with_app
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.accounts.own.mending.disavowing import not_me_link
from web.accounts.own.mending.recovering import FinishesRecovery

pytestmark = pytest.mark.slow

ADA, NEW = "ada@example.org", "new@example.org"
START, STOP, FINISH = "/login/recovery", "/login/recovery/stop", "/login/recovery/finish"
OWN_STOP = "/account/recovery"
STOPPED = "The recovery of the account was stopped"


def links_in(text: str, path: str) -> list[str]:
    """The tokens of links to a path in a mail."""
    return [token_in(one) for one in re.findall(rf"http\S+{path}\?\S+", text)]


def mails_to(post: Post, address: str = ADA) -> list[str]:
    return [one.mail.text for one in post.sender.outbox_of(address)]


async def mail_with(post: Post, words: str, address: str = ADA) -> str:
    """Wait for the mail that says this."""
    await until(lambda: any(words in one for one in mails_to(post, address)))
    return next(one for one in reversed(mails_to(post, address)) if words in one)


async def by_link(post: Post, visitor: Visitor, address: str = ADA) -> Answer:
    """Ask for a link and open it."""
    before = len(_links_to(post, address))
    assert (await form(visitor, ASK, email=address)).status == 303
    await until(lambda: len(_links_to(post, address)) > before)
    return await form(visitor, OPEN, token=_links_to(post, address)[-1])


def _links_to(post: Post, address: str) -> list[str]:
    return [token for one in mails_to(post, address) for token in links_in(one, OPEN)]


async def start(post: Post, visitor: Visitor, address: str = ADA) -> tuple[str, str]:
    """Begin a recovery as who opened a link; the half ticket, and the token that stops it."""
    asked = await by_link(post, visitor, address)
    ticket = ticket_of(asked)
    begun = await form(visitor, START, ticket=ticket)
    assert (begun.status, begun.headers["location"]) == (303, START)
    said = await mail_with(post, "asked to recover", address)
    (stop,) = links_in(said, STOP)
    return ticket, stop


async def move_to_new(post: Post, owner: Visitor) -> None:
    """Give the account another address; the former one is still told what becomes of it."""
    await form(owner, "/account/address", new_email=NEW)
    (confirm,) = links_in(await mail_with(post, "confirm that you read", NEW), CONFIRM)
    assert (await form(owner, CONFIRM, token=confirm)).status == 303


async def ready(post: Post, address: str = ADA) -> str:
    """Let the day pass, and give the token of the mail that finishes it."""
    let_time_pass(post.site, RECOVERY_WAIT)
    look(post.site)
    (finish,) = links_in(await mail_with(post, "it can\nbe done now", address), FINISH)
    return finish


def recoveries(site: WholeSite) -> int:
    return len(site.accounts.database.recoveries)


def let_time_pass(site: WholeSite, so_long: timedelta) -> None:
    """Make what waits for its day older, as the store sees it."""
    for row in site.accounts.database.recoveries.values():
        row.started_at -= so_long
        row.ready_at -= so_long


def look(site: WholeSite) -> None:
    """Let the site's own teller look now."""
    teller = site.system.at("site/recoveries")
    assert teller is not None
    cast("Ref[LookForReady]", teller.ref).tell(LookForReady())


async def test_a_day_after_a_link_the_account_opens_by_links_and_is_guarded() -> None:
    # AUTH-10, AUTH-22, SEC-85, SEC-73, SEC-84: announced at start and end, all sign-ins end
    async with open_post() as post:
        site = post.site
        thief, _, _ = await with_app(site)
        owner = site.visitor()
        asked = await by_link(post, owner)
        assert f'action="{START}"' in asked.text
        with captured() as lines:
            _, stop = await start(post, owner)
        assert stop not in str(lines)
        assert "Look at your mail in a day" in (await get(owner, START)).text
        said = await mail_with(post, "asked to recover")
        assert links_in(said, FINISH) == []
        assert f"{site.url}{STOP}?token=" in said
        assert "Somebody recovers this account" in (await get(thief, "/account")).text
        stream = await opened(thief)
        finish = await ready(post)
        ready_mail = await mail_with(post, "it can\nbe done now")
        assert len(links_in(ready_mail, STOP)) == 1
        for _ in range(2):  # looking does nothing
            page = await get(site.visitor(), f"{FINISH}?token={finish}")
            assert (page.status, finish in page.text) == (200, True)
        assert recoveries(site) == 1
        done = await form(owner, FINISH, token=finish)
        assert (done.status, done.headers["location"]) == (303, f"{FINISH}?done=1")
        assert "gr_auth" not in owner.cookies, "nobody is signed in by it"
        assert "Your account is recovered" in (await get(owner, f"{FINISH}?done=1")).text
        assert site.accounts.database.sign_ins == {}
        with stream:
            await in_thread(stream.response.read)  # to its end
        assert (await get(thief, "/account")).status == 303
        refused = await form(thief, "/login", email=ADA, password=PASSWORD)
        assert refused.status == 401
        told = await mail_with(post, "The account was recovered")
        assert f"{site.url}{NOT_ME}?token=" in told
        assert (await form(owner, FINISH, token=finish)).status == 401, "once"
        assert (await by_link(post, owner)).status == 303, "no second factor is asked for"
        (row,) = site.accounts.database.sign_ins.values()
        assert row.level is Level.BASIC
        page = await get(owner, "/account")
        assert "nothing can be changed that opens it" in page.text
        await _check_guarded(site, owner)


async def _check_guarded(site: WholeSite, owner: Visitor) -> None:
    own = [one for one in sensitive() if one[2].role is None]
    assert len(own) > 10
    for path, method, _ in own:
        refused = await asked(owner, method, path, password=PASSWORD)
        assert refused.status == 403, path
        assert "x-greenroom-step-up" not in refused.headers, "no proof helps"
    (user,) = (one for one in site.accounts.database.users.values() if one.email == ADA)
    assert user.guarded_until is not None
    user.guarded_until -= GUARDED_FOR
    for row in site.accounts.database.sign_ins.values():
        row.level = Level.MULTI_FACTOR  # it is held for its risk, too: the browser is a new one
    offered = await form(owner, "/account/factors/app/new")
    assert offered.status == 200
    assert "nothing can be changed" not in (await get(owner, "/account")).text


async def test_who_gave_a_password_begins_nothing_and_nobody_finishes_early() -> None:
    # AUTH-10, SEC-85: an attacker with the password, and one in the mailbox
    async with open_post() as post:
        site = post.site
        await with_app(site)
        guesser, half = await half_in(site)
        page = await form(guesser, "/login", email=ADA, password=PASSWORD)
        assert f'action="{START}"' not in page.text
        assert "can be recovered from there" in page.text
        for ticket in (half, "", "nonsense", half[:-3]):
            refused = await form(guesser, START, ticket=ticket)
            assert (refused.status, recoveries(site)) == (401, 0)
        reader = site.visitor()
        ticket, stop = await start(post, reader)
        # Of another browser it is nobody's.
        assert (await form(guesser, START, ticket=ticket)).status == 401
        (id_,) = site.accounts.database.recoveries
        made = site.web.accounts.tickets.make(FinishesRecovery(id_), "")
        for so_long in (timedelta(0), RECOVERY_WAIT - timedelta(minutes=1)):
            let_time_pass(site, so_long)
            look(site)
            assert (await form(reader, FINISH, token=made)).status == 401
        let_time_pass(site, timedelta(minutes=1))
        early = await form(reader, FINISH, token=made)
        assert early.status == 401, "nobody was told that the day is over"
        finish = await ready(post)
        for wrong in (stop, finish[:-4], "", "x", "A" * 2000, f"{finish}\N{SNOWMAN}"):
            refused = await form(reader, FINISH, token=wrong)
            assert refused.status == 401
            assert "This does nothing any more" in refused.text
        assert (await form(reader, STOP, token=finish)).status == 401
        let_time_pass(site, RECOVERY_KEPT)
        assert (await form(reader, FINISH, token=finish)).status == 401
        assert len(site.accounts.database.factors) == 1


async def test_a_link_in_any_mail_stops_it_once_and_all_are_told() -> None:
    # AUTH-10, AUTH-11, SEC-81: the former address of an account, too, and it finishes nothing
    async with open_post() as post:
        site = post.site
        owner, _, _ = await with_app(site)
        await move_to_new(post, owner)
        reader = site.visitor()
        await start(post, reader, NEW)
        (stop,) = links_in(await mail_with(post, "asked to recover", ADA), STOP)
        finish = await ready(post, NEW)
        former = await mail_with(post, "it can\nbe done now", ADA)
        assert links_in(former, FINISH) == []
        assert len(links_in(former, STOP)) == 1
        phone = site.visitor()
        page = await get(phone, f"{STOP}?token={stop}")
        assert (page.status, recoveries(site)) == (200, 1)
        stopped = await form(phone, STOP, token=stop)
        assert (stopped.status, stopped.headers["location"]) == (303, f"{STOP}?done=1")
        assert "Nothing was changed" in (await get(phone, f"{STOP}?done=1")).text
        for address in (ADA, NEW):
            await mail_with(post, "The recovery of the account was stopped", address)
        again = await form(phone, STOP, token=stop)
        late = await form(reader, FINISH, token=finish)
        assert (again.status, late.status) == (401, 401)
        assert (await get(owner, "/account")).status == 200, "the sign-in goes on"


async def test_a_stop_by_this_was_not_me_is_told_to_all() -> None:
    # AUTH-10, AUTH-16: as any other stop; the former address has no other word of it
    async with open_post() as post:
        site = post.site
        owner, _, _ = await with_app(site)
        await move_to_new(post, owner)
        await start(post, site.visitor(), NEW)
        whose = await site.accounts.named("ada")
        assert whose is not None
        link = not_me_link(site.web.accounts, whose[0], NEW, site.web.accounts.now())
        assert (await form(site.visitor(), NOT_ME, token=token_in(link))).status == 303
        assert recoveries(site) == 0
        await until(lambda: [stops_told(post, one) for one in (ADA, NEW)] == [1, 1])
        acts = [one.action for one in site.accounts.database.audit[-2:]]
        assert acts == ["account.recovery_stop", "account.disavow"]


async def test_its_owner_stops_it_from_the_account_or_by_the_second_factor() -> None:
    # AUTH-10: a stop by the second factor is told as any other, also to a former address
    async with open_post() as post:
        site = post.site
        owner, app, _ = await with_app(site)
        await move_to_new(post, owner)
        reader = site.visitor()
        await start(post, reader, NEW)
        twin = site.web.accounts.recoveries
        assert isinstance(twin, MemoryRecoveries)
        twin.fail_next(StoreUnavailable("planted"))
        assert ((await form(owner, OWN_STOP)).status, recoveries(site)) == (503, 1)
        stopped = await form(owner, OWN_STOP)
        assert (stopped.status, stopped.headers["location"]) == (303, "/account")
        await mail_with(post, STOPPED)
        assert recoveries(site) == 0
        assert "Somebody recovers" not in (await get(owner, "/account")).text
        assert (await form(owner, OWN_STOP)).status == 303, "there is none any more"
        guest = await form(site.visitor(), OWN_STOP)
        assert guest.headers["location"] == "/login?next=%2Faccount"
        await start(post, reader, NEW)
        assert recoveries(site) == 1
        other, half = await half_in(site, email=NEW)
        assert (await form(other, "/login/second", ticket=half, code=app.code())).status == 303
        assert recoveries(site) == 0
        await until(lambda: [stops_told(post, one) for one in (ADA, NEW)] == [2, 2])
        acts = [one for one in site.accounts.database.audit if "recovery" in one.action]
        assert [one.action for one in acts] == [
            "account.recovery_start", "account.recovery_stop",
            "account.recovery_start", "account.recovery_stop",
        ]  # fmt: skip


async def test_with_a_sign_in_alone_nobody_keeps_its_owner_out() -> None:
    # AUTH-10, AUTH-23, SEC-20: a thief of a cookie, of one factor, held for its risk, or old
    async with open_post() as post:
        site = post.site
        thief, app, _ = await with_app(site)
        reader = site.visitor()
        await start(post, reader)
        (row,) = site.accounts.database.sign_ins.values()
        for level, is_limited, is_fresh in (
            (Level.BASIC, False, True),
            (Level.BASIC, True, True),
            (Level.MULTI_FACTOR, False, False),
        ):
            row.level = level
            object.__setattr__(row, "is_limited", is_limited)  # fixed: no act changes it
            if not is_fresh:
                let_proofs_age(site)
            refused = await form(thief, OWN_STOP)
            assert (refused.status, refused.headers["x-greenroom-step-up"]) == (403, "MULTIFACTOR")
            assert recoveries(site) == 1
        assert stops_told(post, ADA) == 0
        # Who has the factor shows it, and has stopped it by that.
        proven = await form(thief, "/account/prove", code=app.code(), next="/account")
        assert (proven.status, recoveries(site)) == (303, 0)
        await mail_with(post, STOPPED)


async def test_it_is_begun_and_tried_a_few_times_only() -> None:
    # AUTH-10, SEC-77
    async with open_post() as post:
        site = post.site
        await with_app(site)
        reader = site.visitor()
        ticket, _ = await start(post, reader)
        for _ in range(STARTS_PER_USER_MAX - 1):
            assert (await form(reader, START, ticket=ticket)).status == 303, "it goes on"
        many = await form(reader, START, ticket=ticket)
        assert (many.status, "retry-after" in many.headers) == (429, True)
        assert (recoveries(site), len(_told(post))) == (1, 1)
        let_limits_go(site)
        for number in range(TRIES_PER_ADDRESS_MAX):
            path = (STOP, FINISH)[number % 2]
            assert (await form(reader, path, token="x")).status == 401
        for path in (STOP, FINISH):
            late = await form(reader, path, token="x")
            assert (late.status, "retry-after" in late.headers) == (429, True)


def stops_told(post: Post, address: str) -> int:
    return sum(STOPPED in one for one in mails_to(post, address))


def _told(post: Post) -> Sequence[str]:
    return [one for one in mails_to(post) if "asked to recover" in one]


async def test_while_the_store_is_away_nothing_is_done_and_the_link_stays_good() -> None:
    # AUTH-10, SITE-51
    async with open_post() as post:
        site = post.site
        await with_app(site)
        reader = site.visitor()
        twin = site.web.accounts.recoveries
        assert isinstance(twin, MemoryRecoveries)
        ticket = ticket_of(await by_link(post, reader))
        twin.fail_next(StoreUnavailable("planted"))
        assert (await form(reader, START, ticket=ticket)).status == 503
        assert recoveries(site) == 0
        assert (await form(reader, START, ticket=ticket)).status == 303
        let_time_pass(site, RECOVERY_WAIT)
        twin.fail_next(StoreUnavailable("planted"))
        with captured() as lines:
            look(site)
            await until(lambda: "accounts.recoveries_wait" in str(lines))
        finish = await ready(post)
        twin.fail_next(StoreUnavailable("planted"))
        away = await form(reader, FINISH, token=finish)
        assert (away.status, finish in away.text) == (503, True)
        assert (await form(reader, FINISH, token=finish)).status == 303


async def test_of_a_recovery_code_that_is_used_all_hear() -> None:
    # AUTH-10, AUTH-9: it stands for a factor that is lost
    async with open_post() as post:
        site = post.site
        _, _, codes = await with_app(site)
        owner, half = await half_in(site)
        assert (await form(owner, "/login/second", ticket=half, code=codes[0])).status == 303
        said = await mail_with(post, "A recovery code was used")
        assert f"{site.url}{NOT_ME}?token=" in said
        proven = await form(owner, "/account/prove", code=codes[1], next="/account")
        assert proven.status == 303
        await until(lambda: sum("A recovery code was used" in one for one in mails_to(post)) == 2)


async def test_behind_a_link_a_recovery_code_recovers_at_once() -> None:
    # AUTH-10, AUTH-9: ends all sign-ins, told, guarded; a wrong one counts and does nothing
    async with open_post() as post:
        site = post.site
        thief, app, codes = await with_app(site)
        guesser, half = await half_in(site)
        assert (await form(guesser, START, ticket=half, code=codes[0])).status == 401
        owner = site.visitor()
        ticket = ticket_of(await by_link(post, owner))
        for wrong in (app.code(), "x", codes[0][:-1], "a" * 24):
            refused = await form(owner, START, ticket=ticket, code=wrong)
            assert (refused.status, "is not right" in refused.text) == (401, True)
        assert len(site.accounts.database.sign_ins) == 1
        let_limits_go(site)
        done = await form(owner, START, ticket=ticket, code=codes[0])
        assert (done.status, done.headers["location"]) == (303, f"{FINISH}?done=1")
        assert (await form(owner, START, ticket=ticket, code=codes[1])).status == 401
        assert site.accounts.database.sign_ins == {}
        assert (await get(thief, "/account")).status == 303
        assert f"{site.url}{NOT_ME}?token=" in await mail_with(post, "The account was recovered")
        assert (await by_link(post, owner)).status == 303
        assert "nothing can be changed" in (await get(owner, "/account")).text


async def test_without_links_there_is_nothing_of_it() -> None:
    # AUTH-10
    async with open_whole_site() as site:
        assert site.system.at("site/recoveries") is None
        await with_app(site)
        other, half = await half_in(site)
        page = await form(other, "/login", email=ADA, password=PASSWORD)
        assert "be recovered from there" not in page.text
        for path in (START, STOP, FINISH, OWN_STOP):
            assert (await form(other, path, ticket=half, token="x")).status in (303, 404)
    async with open_post(sign_in_methods=[Method.PASSWORD, Method.TOTP]) as post:
        assert (await form(post.site.visitor(), START, ticket="x")).status == 404
