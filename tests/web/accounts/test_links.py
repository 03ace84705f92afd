"""A link by mail signs in: once, for a while, where it was asked for; nobody learns who is."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import blake2b, sha256
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import trio

from actors.accounts import FRESH_FOR, NO_PASSWORD
from actors.accounts.ways.links import (
    LINK_KEPT,
    LINKS_PER_ADDRESS_MAX,
    LINKS_PER_MAILBOX_MAX,
    REDEMPTIONS_PER_ADDRESS_MAX,
    digest_of,
    mailbox_of,
)
from storage.errors import StoreUnavailable
from storage.memory.database import MemoryDatabase
from tests.journeys.visitor import Answer, Visitor
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import form, get, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.accounts.ways.links import flow_id
from web.lab.tree.picture import CROWDS
from web.mail.senders.memory import MemorySender
from web.settings import MagicLinkFlow, Settings

pytestmark = pytest.mark.slow

ADA, NEW = "ada@example.org", "new@example.org"
ASK, OPEN = "/login/link", "/login/link/open"
SENT = "/login/link?sent=1"
SEND, VERIFY = "/api/v1/auth/magic-link/send", "/api/v1/auth/magic-link/verify"


@dataclass
class Post:
    """A site that sends mail, and who reads it."""

    site: WholeSite
    sender: MemorySender

    async def link_to(self, address: str, number: int = 1) -> str:
        """Wait for somebody's mail and give the link in it."""
        await until(lambda: len(self.sender.outbox_of(address)) >= number)
        text = self.sender.outbox_of(address)[number - 1].mail.text
        (found,) = re.findall(r"https?://\S+", text)
        return str(found)

    async def ask(self, visitor: Visitor, address: str, number: int = 1, **more: str) -> str:
        """Ask for a link by the form, and give its token."""
        assert (await form(visitor, ASK, email=address, **more)).status == 303
        return token_in(await self.link_to(address, number))


@asynccontextmanager
async def open_post(**settings: object) -> AsyncIterator[Post]:
    sender = MemorySender()
    made = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, **settings)  # type: ignore[arg-type]
    async with open_whole_site(sender=sender, settings=made) as site:
        yield Post(site, sender)


def token_in(link: str) -> str:
    (token,) = parse_qs(urlsplit(link).query)["token"]
    return token


async def post(visitor: Visitor, path: str, **fields: str) -> Answer:
    headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
    data = msgspec.json.encode(fields)
    return await in_thread(partial(visitor.request, "POST", path, data, headers))


def let_limits_go(site: WholeSite) -> None:
    site.accounts.database.attempts.clear()


async def test_a_link_signs_in_where_it_was_asked_for() -> None:
    # AUTH-1, AUTH-2, SEC-82, SEC-84, SEC-13, SITE-42
    async with open_post() as post_:
        site, guest = post_.site, post_.site.visitor()
        seen = (await get(guest, "/login?next=/lab")).text
        assert 'href="/login/link?next=%2Flab"' in seen
        assert 'name="next" value="/lab"' in (await get(guest, "/login/link?next=/lab")).text
        asked = await form(guest, ASK, email=f" {NEW.upper()} ", next="/lab")
        assert (asked.status, asked.headers["location"]) == (303, "/login/link?sent=1")
        flow = guest.cookies["gr_flow"]
        assert re.fullmatch(r"[\w-]{43}", flow)
        sent = await get(guest, "/login/link?sent=1")
        assert re.search(r'class="code">\d{4} \d{4}<', sent.text)
        assert NEW not in sent.text
        link = await post_.link_to(NEW)
        assert link.startswith(f"{site.url}/login/link/open?next=%2Flab&token=")
        token = token_in(link)
        # A program that reads mails for somebody uses up nothing, nor does looking.
        for _ in range(3):
            page = await get(site.visitor(), link.removeprefix(site.url))
            assert 'name="code"' in page.text
        page = await get(guest, link.removeprefix(site.url))
        assert 'name="code"' not in page.text
        assert 'name="next" value="/lab"' in page.text
        before = guest.cookies["gr_visitor"]
        entered = await form(guest, OPEN, token=token, next="/lab")
        assert (entered.status, entered.headers["location"]) == (303, "/lab")
        assert guest.cookies["gr_visitor"] != before
        assert guest.cookies["gr_flow"] == ""
        # OBS-3: each half of the way is told, and neither says whose it was.
        told = site.spans("auth.link")
        assert [one.error for one in told] == ["", ""]
        assert len({one.trace for one in told}) == 2
        await until(lambda: bool(site.spans("mail.send")))
        (sent_,) = site.spans("mail.send")
        assert sent_.trace == told[0].trace, "the mail stands below who asked for it"
        assert not any(secret in repr(told) for secret in (NEW, token))
        account = await get(guest, "/account")
        assert (account.status, NEW in account.text) == (200, True)
        (user,) = [one for one in site.accounts.database.users.values() if one.email == NEW]
        assert user.password_hash == NO_PASSWORD
        assert re.fullmatch(r"member-\d{8}", user.username)
        again = await form(guest, OPEN, token=token)
        assert (again.status, again.headers["www-authenticate"]) == (401, "Session")


async def test_who_came_by_a_link_gives_a_password_while_it_is_fresh() -> None:
    # SEC-20, SEC-73, AUTH-2
    async with open_post() as post_:
        site, guest = post_.site, post_.site.visitor()
        token = await post_.ask(guest, NEW)
        await form(guest, OPEN, token=token)
        page = (await get(guest, "/account")).text
        assert "Give yourself a password" in page
        assert 'name="current_password"' not in page
        for path in ("/account/delete", "/account/export", "/account/prove"):
            refused = await form(guest, path, password=NO_PASSWORD, export_password=NO_PASSWORD)
            assert refused.status == 422, path
        assert 'href="/login/link?next=' in (await get(guest, "/account/prove")).text
        for row in site.accounts.database.sign_ins.values():
            row.proven_at -= FRESH_FOR
        old = await form(guest, "/account/password", new_password="x9 qv, tz! ")
        assert (old.status, "Sign in by a link once more" in old.text) == (403, True)
        token = await post_.ask(guest, NEW, 2)
        assert (await form(guest, OPEN, token=token)).status == 303
        given = await form(guest, "/account/password", new_password="x9 qv, tz! ")
        assert given.status == 303
        assert "Change your password" in (await get(guest, "/account")).text
        login = await form(site.visitor(), "/login", email=NEW, password="x9 qv, tz! ")
        assert login.status == 303


def test_the_tree_says_nothing_of_who_asks() -> None:
    # LAB-93: paths are shown and logged, and an address can be guessed from its digest
    for digest in (mailbox_of(NEW), digest_of("a token")):
        name = flow_id(digest)
        assert name == flow_id(digest)
        assert name not in digest.hex()
        assert name not in {made(digest).hexdigest()[:32] for made in (sha256, blake2b)}
    assert "site/flows" in CROWDS


async def test_in_another_browser_it_needs_the_code_that_is_shown() -> None:
    # SEC-82, SEC-81
    async with open_post() as post_:
        asking, other = post_.site.visitor(), post_.site.visitor()
        token = await post_.ask(asking, NEW)
        shown = (await get(asking, "/login/link?sent=1")).text
        (code,) = re.findall(r'class="code">(\d{4} \d{4})<', shown)
        without = await form(other, OPEN, token=token)
        wrong = await form(other, OPEN, token=token, code="0000 0000")
        assert (without.status, wrong.status) == (401, 401)
        assert 'name="code"' in without.text
        right = await form(other, OPEN, token=token, code=code.replace(" ", "-"))
        assert right.status == 303
        assert (await get(other, "/account")).status == 200
        assert (await get(asking, "/account")).status == 303


async def test_without_a_flow_it_opens_anywhere() -> None:
    # AUTH-1
    async with open_post(magic_link_bind_flow=MagicLinkFlow.OFF) as post_:
        asking, other = post_.site.visitor(), post_.site.visitor()
        token = await post_.ask(asking, NEW)
        assert "gr_flow" not in asking.cookies
        assert 'name="code"' not in (await get(other, f"{OPEN}?token={token}")).text
        assert (await form(other, OPEN, token=token)).status == 303


async def test_nobody_learns_whose_address_it_is() -> None:
    # SEC-77, AUTH-2: the same bytes, and the same work, for known, unknown and blocked
    async with open_post() as post_:
        await register(post_.site)
        mailbox = post_.site.accounts.database
        told = set[tuple[object, ...]]()
        for address in (ADA, NEW, "blocked@example.org"):
            guest = post_.site.visitor()
            answer = await form(guest, ASK, email=address)
            told.add((answer.status, answer.headers["location"], answer.body))
            api = await post(guest, SEND, email=address)
            told.add((api.status, api.text.replace(address, "")))
            await post_.link_to(address, 2)
        assert len(told) == 2
        assert post_.site.passwords.made == 1  # that of the registration
        assert len(mailbox.users) == 2, "nobody was made"


async def test_a_bad_address_is_told_at_once() -> None:
    # SEC-79, SITE-31, SEC-122
    async with open_post() as post_:
        guest = post_.site.visitor()
        for bad in (
            "",
            "ada",
            "a@b",
            "a@b.c\r\nBcc: eve@example.org",
            "demo@example.com",
            "é" * 300,
        ):
            answer = await form(guest, ASK, email=bad)
            assert answer.status == 422, bad
            assert "gr_flow" not in guest.cookies
            assert (await post(guest, SEND, email=bad)).status == 422, bad
        assert (await post(guest, SEND, email=NEW, more="x")).status == 422
        assert (await post(guest, VERIFY, token="x", transport="pigeon")).status == 422


async def test_links_are_asked_for_so_often_and_no_more() -> None:
    # AUTH-3
    async with open_post() as post_:
        guest = post_.site.visitor()
        for _ in range(LINKS_PER_MAILBOX_MAX + 1):
            assert (await form(guest, ASK, email=NEW)).status == 303
        for number in range(LINKS_PER_ADDRESS_MAX - LINKS_PER_MAILBOX_MAX - 1):
            assert (await form(guest, ASK, email=f"n{number}@example.org")).status == 303
        refused = await form(guest, ASK, email="one.more@example.org")
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 3500
        assert "Too many links" in refused.text
        limited = await post(guest, SEND, email=NEW)
        # AUTH-40: a program is told, beside the wait; a person is not
        wait = limited.headers["retry-after"]
        assert (limited.status, limited.headers["ratelimit"]) == (429, f'"link-ask";r=0;t={wait}')
        assert limited.headers["ratelimit-policy"] == '"link-ask";q=20;w=3600'
        assert "ratelimit" not in refused.headers
        last = LINKS_PER_ADDRESS_MAX - LINKS_PER_MAILBOX_MAX - 2
        await post_.link_to(f"n{last}@example.org")
        assert len(post_.sender.outbox_of(NEW)) == LINKS_PER_MAILBOX_MAX
        assert post_.sender.outbox_of("one.more@example.org") == []


async def test_links_are_tried_so_often_and_no_more() -> None:
    # AUTH-3, SEC-82: one that is good counts for nothing
    async with open_post() as post_:
        guest = post_.site.visitor()
        for number in range(REDEMPTIONS_PER_ADDRESS_MAX - 1):
            assert (await form(guest, OPEN, token=f"{number:043}")).status == 401
        last = await post(guest, VERIFY, token="1" * 43)
        # AUTH-40
        assert (last.status, last.headers["ratelimit"]) == (401, '"link-open";r=0')
        assert last.headers["ratelimit-policy"] == '"link-open";q=10;w=900'
        assert (await form(guest, OPEN, token="0" * 43)).status == 429
        assert (await post(guest, VERIFY, token="0" * 43)).status == 429
        let_limits_go(post_.site)
        for number in range(1, LINKS_PER_MAILBOX_MAX + 1):
            token = await post_.ask(guest, NEW, number)
            assert (await form(guest, OPEN, token=token)).status == 303
        kept = post_.site.accounts.database.attempts
        assert all(not row.tried_at for key, row in kept.items() if key.startswith("link-open:"))


@dataclass
class Attack:
    """A thief who saw somebody's link, and who has one of their own in another browser.

    `digest` is what the store keeps of the link: a dump of it opens nothing.
    """

    token: str
    digest: bytes
    thief: Visitor
    own_token: str
    own_code: str

    def with_flow(self, nonce: str) -> dict[str, str]:
        """The link, in a browser whose cookie is made up."""
        self.thief.cookies["gr_flow"] = nonce
        return {"token": self.token}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# AUTH-43: one client, every wrong way; none of them changes anything.
WRONG_WAYS: dict[str, Callable[[Attack], dict[str, str]]] = {
    "nothing": lambda _: {},
    "empty": lambda _: {"token": ""},
    "unknown": lambda _: {"token": "A" * 43},
    "cut": lambda one: {"token": one.token[:-1]},
    "longer": lambda one: {"token": one.token + "A"},
    "mutated": lambda one: {"token": ("B" if one.token[0] == "A" else "A") + one.token[1:]},
    "in other letters": lambda one: {"token": one.token.swapcase()},
    "blanks": lambda one: {"token": f" {one.token}"},
    "NUL": lambda one: {"token": one.token[:-1] + "\0"},
    "huge": lambda one: {"token": one.token * 500},
    "of no alphabet": lambda _: {"token": "é" * 43},
    "what is kept of it": lambda one: {"token": _text(one.digest)},
    "stolen": lambda one: {"token": one.token},
    "stolen, into another flow": lambda one: one.with_flow(one.own_token),
    "stolen, with a flow of its own": lambda one: one.with_flow(one.token),
    "stolen, with a flow of As": lambda one: one.with_flow("A" * 43),
    "stolen, with an empty flow": lambda one: one.with_flow(""),
    "stolen, code guessed": lambda one: {"token": one.token, "code": "12345678"},
    "stolen, with a code of another": lambda one: {"token": one.token, "code": one.own_code},
    "stolen, code of signs": lambda one: {"token": one.token, "code": "' OR 1=1 --"},
    "stolen, code of digits elsewhere": lambda one: {"token": one.token, "code": "１" * 8},
    "the own one, with another's code": lambda one: {"token": "A" * 43, "code": one.own_code},
}


@pytest.mark.parametrize("by_api", [False, True])
async def test_every_wrong_way_is_one_answer_and_changes_nothing(by_api: bool) -> None:
    # AUTH-43, SEC-81, SEC-21, SEC-131
    with captured() as lines:
        async with open_post() as post_:
            site, owner = post_.site, post_.site.visitor()
            token = await post_.ask(owner, ADA)
            database, answers = site.accounts.database, set()
            (kept,) = [row.digest for row in database.sign_in_links.values()]
            other = site.visitor()
            own = await post_.ask(other, NEW)
            code = re.findall(r'class="code">(\d{4} \d{4})<', (await get(other, SENT)).text)[0]
            before = _but_for_tries(database)
            assert len(WRONG_WAYS) >= 20
            for name, made in WRONG_WAYS.items():
                let_limits_go(site)
                thief = site.visitor()
                fields = made(Attack(token, kept, thief, own, code))
                if by_api:
                    fields.pop("code", None)
                    answer = await post(thief, VERIFY, **{"token": "", **fields})
                    body = re.sub(
                        r'"(request_id|correlation_id|timestamp)":"[^"]+"', "", answer.text
                    )
                    answers.add((answer.status, body))
                else:
                    answer = await form(thief, OPEN, **fields)
                    answers.add((answer.status, *re.findall(r'role="alert">([^<]+)<', answer.text)))
                assert answer.status == 401, name
                assert "gr_auth" not in thief.cookies, name
                assert (len(database.users), database.sign_ins) == (1, {}), name
                assert _but_for_tries(database) == before, name
            assert len(answers) == 1
            let_limits_go(site)
            assert (await form(owner, OPEN, token=token)).status == 303, "it is as good as before"
            used, flow = token, owner.cookies["gr_auth"]
    text = str(list(lines))
    assert used not in text
    assert flow not in text
    assert ADA not in text


def _but_for_tries(database: MemoryDatabase) -> str:
    return re.sub(r"wrong_codes=\d+", "", repr(database.sign_in_links))


async def test_one_that_is_over_or_void_opens_nothing() -> None:
    # SEC-82, AUTH-1
    async with open_post() as post_:
        guest = post_.site.visitor()
        first = await post_.ask(guest, NEW, 1)
        second = await post_.ask(guest, NEW, 2)
        assert (await form(guest, OPEN, token=first)).status == 401
        for row in post_.site.accounts.database.sign_in_links.values():
            row.expires_at -= LINK_KEPT + timedelta(seconds=1)
        assert (await form(guest, OPEN, token=second)).status == 401


async def test_of_fifty_at_once_one_comes_in() -> None:
    # SEC-81: through the site, the actors and the store
    async with open_post() as post_:
        guest = post_.site.visitor()
        token = await post_.ask(guest, NEW)
        statuses: list[int] = []

        async def one() -> None:
            let_limits_go(post_.site)
            copy = Visitor(post_.site.url, dict(guest.cookies))
            statuses.append((await form(copy, OPEN, token=token)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert statuses.count(303) == 1
        assert set(statuses) <= {303, 401, 429}


async def test_many_at_once_never_get_each_others_account() -> None:
    # SEC-23
    async with open_post() as post_:
        site = post_.site

        async def one(number: int) -> None:
            address, visitor = f"p{number}@example.org", site.visitor()
            let_limits_go(site)
            token = await post_.ask(visitor, address)
            let_limits_go(site)
            assert (await form(visitor, OPEN, token=token)).status == 303
            page = (await get(visitor, "/account")).text
            assert re.findall(r"p\d+@example\.org", page)[0] == address

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)


async def test_a_client_program_gets_a_session() -> None:
    # AUTH-1: the answers of /api/v1/auth
    async with open_post() as post_:
        program = post_.site.visitor()
        sent = await post(program, SEND, email=NEW)
        assert msgspec.json.decode(sent.body) == {
            "message": "Magic link sent. Check your email.",
            "email": NEW,
        }
        link = await post_.link_to(NEW)
        assert link.startswith(f"{post_.site.url}{VERIFY}?token=")
        shown = await get(program, link.removeprefix(post_.site.url))
        assert (shown.status, shown.headers["location"]) == (303, f"{OPEN}?token={token_in(link)}")
        stranger = await post(post_.site.visitor(), VERIFY, token=token_in(link))
        assert (stranger.status, "Invalid or expired link" in stranger.text) == (401, True)
        came = await post(program, VERIFY, token=token_in(link))
        found = msgspec.json.decode(came.body)
        assert (came.status, set(found)) == (
            200, {"session_id", "session_token", "email", "expires_at"},
        )  # fmt: skip
        assert found["email"] == NEW
        assert "gr_auth" not in program.cookies
        holder = Visitor(post_.site.url, {"gr_auth": found["session_token"]})
        assert (await get(holder, "/account")).status == 200
        await post(program, SEND, email=NEW)
        link = await post_.link_to(NEW, 2)
        came = await post(program, VERIFY, token=token_in(link), transport="cookie")
        assert "session_token" not in msgspec.json.decode(came.body)
        assert (await get(program, "/account")).status == 200


async def test_while_the_store_is_away_nobody_comes_in() -> None:
    # SEC-3, AUTH-40
    async with open_post() as post_:
        guest, accounts = post_.site.visitor(), post_.site.accounts
        token = await post_.ask(guest, NEW)
        accounts.database.faults.fail_next(StoreUnavailable("away"), times=10)
        refused = await form(guest, OPEN, token=token)
        assert (refused.status, "gr_auth" in guest.cookies) == (503, False)
        accounts.database.faults.fail_next(times=0)
        assert (await form(guest, OPEN, token=token)).status == 303


async def test_switched_off_there_is_none() -> None:
    # AUTH-1: on by its settings, and by mail that leaves
    async with open_whole_site() as site:
        guest = site.visitor()
        assert "/login/link" not in (await get(guest, "/login")).text
        for path in (ASK, f"{OPEN}?token=x"):
            assert (await get(guest, path)).status == 404
            assert (await form(guest, path.partition("?")[0], email=NEW)).status == 404
        assert (await post(guest, SEND, email=NEW)).status == 404
