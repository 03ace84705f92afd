"""An identity is linked by who is signed in, and fresh; an address alone links nothing."""

from __future__ import annotations

import re

import pytest

from actors.accounts import FRESH_FOR
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.web.accounts.passkeys.test_passkeys_site import add, device
from tests.web.accounts.provider.town import Town, open_town, path_of
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.accounts.test_second_factors import App, ticket_of
from tests.web.whole_site import in_thread

pytestmark = pytest.mark.slow

ADA = "ada@example.org"
LINK, UNLINK = "/account/providers/example/link", "/account/providers/example/unlink"


async def linked(town: Town, member: Visitor) -> None:
    began = await get(member, LINK)
    assert began.status == 302, began.text
    back = await get(member, path_of(town.provider.agree(began.headers["location"])))
    assert (back.status, back.headers["location"]) == (303, "/account"), back.text


async def test_an_equal_address_is_nobody_and_is_written_to() -> None:
    # AUTH-6, SEC-93: whoever has the address at a provider is no member; who reads it there is
    async with open_town() as town:
        ada = await register(town.site)
        town.provider.email, before = "Ada@Example.org", town.site.accounts.database.identities
        eve = town.site.visitor()
        # On a device of the account: another one changes nothing for a day (AUTH-32).
        eve.cookies["gr_device"] = ada.cookies["gr_device"]
        refused = await town.sign_in(eve)
        assert refused.status == 409
        assert "There is an account with the address that Example gave" in refused.text
        assert ADA not in refused.text.lower()
        assert "gr_auth" not in eve.cookies
        assert not before
        await until(lambda: bool(town.sender.outbox_of(ADA)))
        (found,) = re.findall(r"https?://\S+", town.sender.outbox_of(ADA)[0].mail.text)
        assert found.startswith(f"{town.site.url}/login/link/open?next=%2Faccount&token=")
        token = found.rpartition("=")[2]
        # In the browser that asked; a fresh sign-in then, which links.
        entered = await form(eve, "/login/link/open", token=token, next="/account")
        assert (entered.status, entered.headers["location"]) == (303, "/account")
        assert f'href="{LINK}"' in (await get(eve, "/account")).text
        await linked(town, eve)
        assert (await town.sign_in(town.site.visitor())).status == 303
        program = await town.sign_in(town.site.visitor(), then=None)
        assert program.status == 200
        town.provider.subject = "eve-1"
        assert (await town.sign_in(town.site.visitor(), then=None)).status == 409


async def test_without_mail_nothing_is_promised() -> None:
    # AUTH-6
    async with open_town(has_mail=False) as town:
        member = await register(town.site)
        town.site.accounts.database.attempts.clear()
        town.provider.email = ADA
        refused = await town.sign_in(town.site.visitor())
        assert refused.status == 409
        await linked(town, member)


async def test_linking_needs_a_fresh_sign_in_of_the_same_browser() -> None:
    # AUTH-6, SEC-20, SEC-93
    async with open_town() as town:
        database = town.site.accounts.database
        guest = town.site.visitor()
        assert (await get(guest, LINK)).headers["location"].startswith("/login?next=")
        member = await register(town.site)
        bob = await register(town.site, username="bob", email="bob@example.org")
        # Another site leads nobody there.
        foreign = await in_thread(
            lambda: member.request("GET", LINK, None, {"sec-fetch-site": "cross-site"})
        )
        assert (foreign.status, foreign.headers["location"]) == (303, "/account")
        began = await get(member, LINK)
        back = path_of(town.provider.agree(began.headers["location"]))
        # Another member with the flow of the first; then the first, who is not fresh any more.
        bob.cookies["gr_flow"] = member.cookies["gr_flow"]
        assert (await get(bob, back)).status == 400
        for row in database.sign_ins.values():
            row.proven_at -= FRESH_FOR
        assert (await get(member, back)).status == 400
        assert not database.identities
        again = await get(member, LINK)
        assert again.status == 403
        assert f'name="next" value="{LINK}"' in again.text
        proved = await form(member, "/account/prove", password=PASSWORD, next=LINK)
        assert (proved.status, proved.headers["location"]) == (303, LINK)
        await linked(town, member)
        await until(lambda: bool(town.sender.outbox_of(ADA)))
        assert "A way to sign in was added" in town.sender.outbox_of(ADA)[0].mail.text
        # It is one account's; another one's stays what it was.
        began = await get(bob, LINK)
        assert began.status == 403
        assert (await form(bob, "/account/prove", password=PASSWORD, next=LINK)).status == 303
        began = await get(bob, LINK)
        refused = await get(bob, path_of(town.provider.agree(began.headers["location"])))
        assert (refused.status, "linked to another account" in refused.text) == (409, True)


async def test_the_last_way_in_cannot_be_unlinked() -> None:
    # AUTH-6, SEC-107, SEC-20
    async with open_town(has_mail=False) as town:
        guest = town.site.visitor()
        assert (await town.sign_in(guest)).status == 303
        page = (await get(guest, "/account")).text
        assert f'action="{UNLINK}"' in page
        refused = await form(guest, UNLINK)
        assert (refused.status, "last way to sign in" in refused.text) == (409, True)
        assert (await form(guest, UNLINK.replace("example", "nobody"))).status == 404
        given = await form(guest, "/account/password", new_password=PASSWORD)
        assert given.status == 303
        assert (await form(guest, UNLINK)).status == 303
        assert not town.site.accounts.database.identities
        assert f'href="{LINK}"' in (await get(guest, "/account")).text
        for row in town.site.accounts.database.sign_ins.values():
            row.proven_at -= FRESH_FOR
        assert (await form(guest, UNLINK)).status == 403


async def test_of_a_provider_and_a_passkey_the_last_one_stays() -> None:
    # SEC-107: one rule on both sides, and 409 from either
    async with open_town(has_mail=False) as town:
        guest, database = town.site.visitor(), town.site.accounts.database
        assert (await town.sign_in(guest)).status == 303
        assert (await add(guest, device(town.site))).status == 200
        (key,) = database.passkeys.values()
        assert (await form(guest, UNLINK)).status == 303
        refused = await form(guest, "/account/passkeys/remove", passkey=str(key.id))
        assert (refused.status, "your only way to sign in" in refused.text) == (409, True)
        await linked(town, guest)
        gone = await form(guest, "/account/passkeys/remove", passkey=str(key.id))
        assert gone.status == 303
        assert (await form(guest, UNLINK)).status == 409
        assert (len(database.passkeys), len(database.identities)) == (0, 1)


async def test_who_has_a_second_factor_is_asked_for_it() -> None:
    # AUTH-4, SEC-85
    async with open_town() as town:
        guest = town.site.visitor()
        assert (await town.sign_in(guest)).status == 303
        offered = await form(guest, "/account/factors/app/new")
        app, ticket = App(town.site, offered), ticket_of(offered)
        added = await form(guest, "/account/factors/app", ticket=ticket, code=app.code())
        assert added.status == 200
        other = town.site.visitor()
        await get(other, "/login")
        half = await town.sign_in(other)
        assert half.status == 200
        assert 'action="/login/second"' in half.text
        assert "gr_auth" not in other.cookies
        code = {"ticket": ticket_of(half), "code": app.code(), "next": "/lab"}
        entered = await form(other, "/login/second", **code)
        assert entered.status == 303, entered.text
        program = await town.sign_in(town.site.visitor(), then=None)
        assert program.status == 403
        assert b"STEP_UP_REQUIRED" in program.body
