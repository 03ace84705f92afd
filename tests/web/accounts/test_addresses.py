"""A member's address, changed by mail and taken back, through the site."""

from __future__ import annotations

import re

import pytest

from actors.accounts import FRESH_FOR
from actors.accounts.kept.addresses import CHANGES_PER_USER_MAX, CONFIRM_KEPT, TRIES_PER_ADDRESS_MAX
from storage.errors import StoreUnavailable
from storage.memory import MemoryAddresses
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_access import let_proofs_age
from tests.web.accounts.test_disavowing import NOT_ME
from tests.web.accounts.test_entering import ADA as TYPED
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.accounts.test_links import OPEN, Post, let_limits_go, open_post, token_in
from tests.web.whole_site import open_whole_site

pytestmark = pytest.mark.slow

ADA, NEW = "ada@example.org", "new@example.org"
ASK, CONFIRM, BACK = "/account/address", "/account/address/confirm", "/account/address/back"


def emails(post: Post) -> set[str]:
    users = post.site.accounts.database.users.values()
    return {one.email for one in users if one.password_hash is not None}


async def test_an_address_changes_by_its_link_and_both_are_told() -> None:
    # AUTH-11, SEC-73, SEC-84: takes effect only when the new one confirmed
    async with open_post() as post:
        site = post.site
        visitor = await register(site)
        assert "Change your address" in (await get(visitor, "/account")).text
        asked = await form(visitor, ASK, new_email=f" {NEW.upper()} ")
        assert (asked.status, asked.headers["location"]) == (303, "/account?address=asked")
        assert "a link is on its way" in (await get(visitor, "/account?address=asked")).text
        link = await post.link_to(NEW)
        assert link.startswith(f"{site.url}{CONFIRM}?token=")
        back = await post.link_to(ADA)
        assert back.startswith(f"{site.url}{BACK}?token=")
        assert NEW not in post.sender.outbox_of(ADA)[0].mail.text
        # Programs that read mails change nothing, wherever they look.
        for one in (link, back, link, back):
            page = await get(site.visitor(), one.removeprefix(site.url))
            assert (page.status, token_in(one) in page.text) == (200, True)
        assert emails(post) == {ADA}
        phone = site.visitor()
        with captured() as lines:
            done = await form(phone, CONFIRM, token=token_in(link))
        assert (done.status, done.headers["location"]) == (303, f"{CONFIRM}?done=1")
        assert token_in(link) not in str(lines)
        assert NEW not in str(lines)
        assert "Your address is changed" in (await get(phone, done.headers["location"])).text
        assert emails(post) == {NEW}
        assert NEW in (await get(visitor, "/account")).text, "the sign-in goes on"
        again = await form(phone, CONFIRM, token=token_in(link))
        assert (again.status, "does nothing any more" in again.text) == (401, True)
        await until(lambda: len(post.sender.outbox_of(ADA)) == 2)
        await until(lambda: len(post.sender.outbox_of(NEW)) == 2)
        assert "changed to another one" in post.sender.outbox_of(ADA)[1].mail.text
        assert f"{site.url}{BACK}?token=" in post.sender.outbox_of(ADA)[1].mail.text
        assert f"{site.url}{NOT_ME}?token=" in post.sender.outbox_of(NEW)[1].mail.text
        assert (await form(phone, "/login", email=ADA, password=PASSWORD)).status == 401
        assert (await form(phone, "/login", email=NEW, password=PASSWORD)).status == 303


async def test_the_former_address_takes_the_account_back() -> None:
    # AUTH-11, AUTH-16: by the link of the wish or of the change, once
    async with open_post() as post:
        site = post.site
        thief = await register(site)
        await form(thief, ASK, new_email=NEW)
        first = await post.link_to(ADA)
        await form(thief, CONFIRM, token=token_in(await post.link_to(NEW)))
        second = await post.link_to(ADA, 2)
        await until(lambda: len(post.sender.outbox_of(NEW)) == 2)
        not_me = token_in(re.findall(r"https?://\S+", post.sender.outbox_of(NEW)[1].mail.text)[0])
        guest = site.visitor()
        taken = await form(guest, "/register", username="eve", email=ADA, password=PASSWORD)
        assert (taken.status, set(problems(taken))) == (409, {"email"})
        owner = site.visitor()
        done = await form(owner, BACK, token=token_in(first))
        assert (done.status, done.headers["location"]) == (303, f"{BACK}?done=1")
        assert "signed out everywhere" in (await get(owner, f"{BACK}?done=1")).text
        assert emails(post) == {ADA}
        assert site.accounts.database.sign_ins == {}
        assert (await form(owner, BACK, token=token_in(second))).status == 401
        assert (await form(thief, NOT_ME, token=not_me)).status == 401, (
            "a thief has no say any more"
        )
        refused = await form(thief, "/login", email=ADA, password=PASSWORD)
        assert refused.status == 401
        await until(lambda: len(post.sender.outbox_of(NEW)) == 3)
        assert "http" not in post.sender.outbox_of(NEW)[2].mail.text
        assert (await form(owner, OPEN, token=await post.ask(owner, ADA, 4))).status == 303
        assert ADA in (await get(owner, "/account")).text


async def test_who_asks_is_answered_alike_whoever_has_the_address() -> None:
    # AUTH-11, SEC-77
    async with open_post() as post:
        site = post.site
        await register(site, username="bob", email="bob@example.org")
        visitor = await register(site)
        answers = [await form(visitor, ASK, new_email=email) for email in ("bob@example.org", NEW)]
        told = [
            (one.status, one.body, one.headers["location"], set(one.headers)) for one in answers
        ]
        assert told[0] == told[1]
        await post.link_to(NEW)
        await until(lambda: len(post.sender.outbox_of(ADA)) == 2)
        texts = {
            one.mail.text.partition("http")[0].partition("When")[0]
            for one in post.sender.outbox_of(ADA)
        }
        assert len(texts) == 1, "the former address is told either way"
        assert post.sender.outbox_of("bob@example.org") == []


async def test_it_needs_a_fresh_sign_in_and_a_good_address() -> None:
    # AUTH-11, SEC-20, SITE-31, SITE-51: and what was typed comes back
    async with open_post() as post:
        site = post.site
        guest = await form(site.visitor(), ASK, new_email=NEW)
        assert guest.headers["location"] == "/login?next=%2Faccount"
        visitor = await register(site)
        for typed in ("", "nowhere", "a@b", f"{NEW}\nbcc:x@y.org", "demo@example.com", ADA):
            refused = await form(visitor, ASK, new_email=typed)
            assert (refused.status, set(problems(refused))) == (422, {"new_email"}), typed
        twin = site.web.accounts.addresses
        assert isinstance(twin, MemoryAddresses)
        twin.fail_next(StoreUnavailable("planted"))
        away = await form(visitor, ASK, new_email=NEW)
        assert (away.status, f'value="{NEW}"' in away.text) == (503, True)
        let_limits_go(site)
        for number in range(CHANGES_PER_USER_MAX):
            assert (await form(visitor, ASK, new_email=f"n{number}@example.org")).status == 303
        late = await form(visitor, ASK, new_email=NEW)
        assert (late.status, "retry-after" in late.headers) == (429, True)
        # One that waits is void behind another; and each is over after ten minutes.
        tokens = [token_in(await post.link_to(f"n{number}@example.org")) for number in range(5)]
        assert (await form(visitor, CONFIRM, token=tokens[0])).status == 401
        for row in site.accounts.database.address_changes.values():
            row.asked_at -= CONFIRM_KEPT
        assert (await form(visitor, CONFIRM, token=tokens[4])).status == 401
        let_limits_go(site)
        for _ in range(TRIES_PER_ADDRESS_MAX):
            assert (await form(visitor, BACK, token="x")).status == 401
        assert (await form(visitor, CONFIRM, token="x")).status == 429
        let_proofs_age(site, FRESH_FOR)
        stale = await form(visitor, ASK, new_email=NEW)
        assert (stale.status, "Prove it is you" in stale.text) == (403, True)


async def test_without_mail_there_is_nothing_of_it() -> None:
    # AUTH-11
    async with open_whole_site() as site:
        visitor = await register(site, **TYPED)
        assert "Change your address" not in (await get(visitor, "/account")).text
        for path in (ASK, CONFIRM, BACK):
            assert (await form(visitor, path, new_email=NEW)).status == 404
