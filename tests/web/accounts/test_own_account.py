"""Members see and change their own account, and nobody else's."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from actors.accounts import Level, Role
from actors.accounts.kept.factors import Totp
from actors.accounts.kept.throttle import EXPORTS_PER_ACCOUNT_MAX
from actors.accounts.kept.tokens import Scope
from actors.accounts.ways.passkeys import Passkey
from actors.accounts.ways.provider.words import Identity, ProviderTokens
from actors.chat import LOBBY, Message, RoomName
from actors.runtime import Secret
from storage.errors import StoreUnavailable
from storage.memory import MemoryChatLog, MemoryHoldings
from storage.memory.database import AddressChangeRow, FactorsRow, IdentityRow, TokenRow
from tests.journeys.visitor import Answer, Visitor
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.mail import answers
from web.mail.senders.memory import MemorySender
from web.mail.senders.port import BeforeLeaving, Outgoing, ServerAway

pytestmark = pytest.mark.slow

NEW = "another 7 words"


def references(page: Answer) -> list[str]:
    found: list[str] = re.findall(
        r'sessions/revoke">[^\n]*?name="session_ref" value="([^"]+)"', page.text
    )
    return found


async def signed_in_again(site: WholeSite, password: str = PASSWORD) -> Visitor:
    other = site.visitor()
    answer = await form(other, "/login", email="ada@example.org", password=password)
    assert answer.status == 303
    return other


async def test_an_account_shows_its_sign_ins_and_ends_them() -> None:
    # SITE-45, SEC-19
    async with open_whole_site() as site:
        visitor = await register(site)
        second, third = await signed_in_again(site), await signed_in_again(site)
        page = await get(visitor, "/account")
        assert page.status == 200
        assert "ada@example.org" in page.text
        assert page.text.count("this one") == 1
        assert len(references(page)) == 2
        for cookies in (visitor.cookies, second.cookies, third.cookies):
            assert cookies["gr_auth"] not in page.text
        eve = await register(site, username="eve", email="eve@example.org")
        chosen = references(page)[0]
        for reference in (chosen, "nonsense", ""):
            answer = await form(eve, "/account/sessions/revoke", session_ref=reference)
            assert answer.status == 404
        answer = await form(visitor, "/account/sessions/revoke", session_ref=chosen)
        assert (answer.status, answer.headers["location"]) == (303, "/account")
        # LAB-82: whoever came from the lab is there again.
        page = await get(visitor, "/account?next=/lab%23sign-ins")
        assert page.text.count('name="next" value="/lab#sign-ins"') == 2
        assert '<a href="/lab#sign-ins">Back' in page.text
        for back, place in (("/lab#sign-ins", "/lab#sign-ins"), ("//evil.example", "/protected")):
            before = references(await get(visitor, "/account"))
            await signed_in_again(site)
            (last,) = set(references(await get(visitor, "/account"))) - set(before)
            answer = await form(visitor, "/account/sessions/revoke", session_ref=last, next=back)
            assert (answer.status, answer.headers["location"]) == (303, place)
        alive = [(await get(one, "/account")).status for one in (second, third)]
        assert sorted(alive) == [200, 303]
        assert (await form(visitor, "/account/sessions/revoke", others="1")).status == 303
        for one in (second, third):
            assert (await get(one, "/account")).status == 303
        page = await get(visitor, "/account")
        assert references(page) == []
        assert "End all others" not in page.text
        assert (await get(eve, "/account")).status == 200


async def test_a_password_is_changed_with_the_current_one() -> None:
    # SITE-46, SEC-17, SITE-32
    async with open_whole_site() as site:
        visitor = await register(site)
        second = await signed_in_again(site)
        wrong = {"current_password": "wrong words", "new_password": NEW}
        refused = await form(visitor, "/account/password", **wrong)
        assert (refused.status, set(problems(refused))) == (422, {"current_password"})
        common = {"current_password": PASSWORD, "new_password": "football"}
        refused = await form(visitor, "/account/password", **common)
        assert (refused.status, set(problems(refused))) == (422, {"new_password"})
        assert (await get(second, "/account")).status == 200
        token = visitor.cookies["gr_auth"]
        right = {"current_password": PASSWORD, "new_password": NEW, "end_others": "1"}
        answer = await form(visitor, "/account/password", **right)
        assert (answer.status, answer.headers["location"]) == (303, "/account")
        assert visitor.cookies["gr_auth"] != token
        assert (await get(visitor, "/account")).status == 200
        assert (await get(second, "/account")).status == 303
        old = Visitor(site.url, {**visitor.cookies, "gr_auth": token})
        assert (await get(old, "/account")).status == 303
        kept = await signed_in_again(site, NEW)
        back = {"current_password": NEW, "new_password": PASSWORD}
        assert (await form(visitor, "/account/password", **back)).status == 303
        assert (await get(kept, "/account")).status == 200


async def test_a_deleted_account_is_gone_everywhere() -> None:
    # SITE-47, SEC-16
    async with open_whole_site() as site:
        visitor = await register(site)
        second = await signed_in_again(site)
        refused = await form(visitor, "/account/delete", password="wrong words")
        assert (refused.status, set(problems(refused))) == (422, {"password"})
        answer = await form(visitor, "/account/delete", password=PASSWORD)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        assert visitor.cookies["gr_auth"] == ""
        assert (await get(second, "/account")).status == 303
        again = await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
        assert again.status == 401
        await register(site)


async def test_a_changed_password_is_mailed_to_who_has_it() -> None:
    # SEC-73, MAIL-1: once, with the change, and not for one that was refused
    sender = MemorySender()
    async with open_whole_site(sender=sender) as site:
        visitor = await register(site)
        wrong = {"current_password": "wrong words", "new_password": NEW}
        assert (await form(visitor, "/account/password", **wrong)).status == 422
        right = {"current_password": PASSWORD, "new_password": NEW, "end_others": "1"}
        assert (await form(visitor, "/account/password", **right)).status == 303
        await until(lambda: bool(sender.outbox_of("ada@example.org")))
        (got,) = sender.outbox_of("ada@example.org")
        assert "The password was changed." in got.mail.text
        (link,) = re.findall(r"http\S+", got.mail.text)
        assert link.startswith(f"{site.url}/account/not-me?token="), "none that signs in"
        assert NEW not in got.data.decode()


async def test_mail_that_does_not_work_hinders_nobody() -> None:
    # MAIL-1, REL-86: a server that is away, and an address that no mail can go to
    async with open_whole_site(sender=_Away()) as site:
        visitor = await register(site)
        right = {"current_password": PASSWORD, "new_password": NEW}
        assert (await form(visitor, "/account/password", **right)).status == 303
        odd = site.visitor()
        typed = {"username": "bob", "email": "b,o@example.org", "password": PASSWORD}
        assert (await form(odd, "/register", **typed)).status == 303
        with captured() as lines:
            assert (await form(odd, "/account/password", **right)).status == 303
        assert "accounts.not_told" in [line["event"] for line in lines]


class _Away(MemorySender):
    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> answers.Answer:
        raise ServerAway("the mail server cannot be reached (refused)")


async def test_a_password_is_not_guessed_at_an_open_browser() -> None:
    # SITE-48
    async with open_whole_site() as site:
        visitor = await register(site)
        site.hold_limits()
        statuses = []
        for _ in range(6):
            answer = await form(visitor, "/account/delete", password="wrong words")
            statuses.append(answer.status)
        assert statuses == [422] * 5 + [429]


async def test_guests_are_sent_to_sign_in_and_then_to_the_page_of_the_form() -> None:
    # SITE-41
    async with open_whole_site() as site:
        guest = site.visitor()
        for path in ("/account/password", "/account/delete", "/account/sessions/revoke"):
            answer = await form(guest, path, password=PASSWORD)
            assert (answer.status, answer.headers["location"]) == (303, "/login?next=%2Faccount")
        page = await get(guest, "/account?a=b%20c")
        assert page.headers["location"] == "/login?next=%2Faccount%3Fa%3Db%2520c"


async def test_a_member_takes_their_data_with_them() -> None:
    # SEC-136, SEC-118: before the account is deleted; nobody else's, and nothing that was removed
    async with open_whole_site() as site:
        ada = await register(site)
        grace = await register(site, username="grace", email="grace@example.org")
        await site.accounts.grant("grace", Role.MODERATOR)
        await in_thread(ada.open_lab)
        with await in_thread(ada.open_stream) as stream:
            await in_thread(partial(stream.read_until, b'id="chat-you-list"'))
            for text in ("hello <b>", "see https://example.org", "https://removed.example"):
                assert (await in_thread(partial(ada.post, text))).status == 202
        waiting = (await site.log.waiting()).messages
        (gone,) = [one.message.id for one in waiting if "removed" in one.message.body]
        decided = {"message_id": str(gone), "decision": "remove", "reason": ""}
        assert (await form(grace, "/demo/chat/moderation", **decided)).status == 303
        refused = await form(ada, "/account/export", export_password="wrong words")
        assert (refused.status, set(problems(refused))) == (422, {"export_password"})
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["cache-control"] == "no-store"
        document = json.loads(answer.text)
        assert document["profile"]["email"] == "ada@example.org"
        texts = {one["text"] for one in document["messages"]}
        assert texts == {"hello <b>", "see https://example.org"}
        for secret in ("removed.example", "grace", "$argon2id", *ada.cookies.values()):
            assert secret not in answer.text
        for _ in range(EXPORTS_PER_ACCOUNT_MAX - 1):
            assert (await form(ada, "/account/export", export_password=PASSWORD)).status == 200
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        assert (answer.status, set(problems(answer))) == (429, {"export_password"})
        assert int(answer.headers["retry-after"]) > 3500
        assert (await form(ada, "/account/delete", password=PASSWORD)).status == 303
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        assert answer.headers["location"] == "/login?next=%2Faccount"


async def test_a_document_has_the_shape_that_is_described() -> None:
    # SEC-136: each name of the page is in the document, and the other way round
    async with open_whole_site() as site:
        ada = await register(site)
        await form(ada, "/logout")
        await form(ada, "/login", email="ada@example.org", password=PASSWORD)
        await site.accounts.grant("ada", Role.MODERATOR)
        (ada_id,) = [id_ for id_, one in site.log.database.users.items() if one.username == "ada"]
        await site.log.join(LOBBY, ada_id)
        database = site.log.database
        database.passkeys[b"key"] = Passkey(
            ada_id, ada_id, b"key", b"public", 0, False, False, False, "", database.now()
        )
        database.factors[ada_id] = FactorsRow(Totp(b"s" * 20, 1, database.now()), {b"c" * 32})
        at = Identity("https://id.example.org", "ada-first")
        database.identities[at] = IdentityRow(
            ada_id, "example", ProviderTokens(Secret("t")), database.now()
        )
        asked = AddressChangeRow(
            ada_id, ada_id, "ada@example.org", "ada@new.example.org", database.now()
        )
        database.address_changes[ada_id] = asked
        database.api_tokens[b"t" * 32] = TokenRow(
            ada_id, ada_id, "s", "nightly", (Scope.CHAT_READ,), database.now(), database.now()
        )
        for row in database.sign_ins.values():
            row.level = Level.MULTI_FACTOR
        await in_thread(ada.open_lab)
        with await in_thread(ada.open_stream) as stream:
            await in_thread(partial(stream.read_until, b'id="chat-you-list"'))
            assert (await in_thread(partial(ada.post, "hello"))).status == 202
        answer = await form(ada, "/account/export", export_password=PASSWORD)
    document = json.loads(answer.text)
    page = Path(__file__).parents[3] / "docs" / "reference" / "account_export.md"
    told = set(re.findall(r"^\| `([a-z_.]+)` \|", page.read_text(), re.MULTILINE))
    found = set()
    for name, value in document.items():
        found.add(name)
        one = value[0] if isinstance(value, list) and value else value
        if isinstance(one, dict):
            found |= {f"{name}.{inner}" for inner in one}
    assert told == found


class LeavingLog(MemoryChatLog):
    """Does something when messages are read for a document."""

    leave: Callable[[], Awaitable[object]] | None = None

    async def written_by(self, user_id: UUID, room: RoomName) -> Sequence[Message]:
        if self.leave is not None:
            await self.leave()
        return await super().written_by(user_id, room)


async def test_a_store_that_goes_away_ends_a_document_in_the_middle() -> None:
    # SEC-136, SITE-155: what begins whole is either whole or seen not to be; before, it is a 503
    log = LeavingLog()

    async def leave() -> None:
        log.leave = None
        raise StoreUnavailable("away")

    async with open_whole_site(log=log) as site:
        ada = await register(site)
        holdings = site.web.accounts.holdings
        assert isinstance(holdings, MemoryHoldings)
        holdings.fail_next(StoreUnavailable("away"))
        refused = await form(ada, "/account/export", export_password=PASSWORD)
        assert refused.status == 503
        log.leave = leave  # behind the head of the document
        with pytest.raises(http.client.IncompleteRead):
            await form(ada, "/account/export", export_password=PASSWORD)
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        assert json.loads(answer.text)["version"] == 1


async def test_a_document_ends_with_the_sign_in_that_asked_for_it() -> None:
    # SEC-136, SITE-40
    log = LeavingLog()
    async with open_whole_site(log=log) as site:
        ada = await register(site)
        (row,) = site.log.database.sign_ins.values()
        log.leave = partial(site.accounts.end_sign_in, row.user_id, row.reference, by=row.reference)
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        assert '"messages":[' in answer.text
        assert '"chat_acts":[' not in answer.text
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.text)
