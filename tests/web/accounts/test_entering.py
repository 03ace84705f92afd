"""People register, sign in and sign out, by plain forms, on the whole site."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from argon2 import PasswordHasher
from structlog.testing import capture_logs

from actors.accounts import Member, Role, SessionId
from storage.errors import StoreUnavailable
from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.logged import configured_for
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.accounts.hashing import Verified
from web.accounts.identity import digest_of
from web.observability.alerts import Alert

pytestmark = pytest.mark.slow

Who = Callable[[bytes], Awaitable[Member | None]]

PASSWORD = "x9 qv, tz! "
ADA = {"username": "Ada", "email": "ada@example.org", "password": PASSWORD}


async def form(visitor: Visitor, path: str, **fields: str) -> Answer:
    return await in_thread(partial(visitor.form, path, fields))


async def get(visitor: Visitor, path: str) -> Answer:
    return await in_thread(partial(visitor.get, path))


async def register(site: WholeSite, **fields: str) -> Visitor:
    visitor = site.visitor()
    await get(visitor, "/lab")
    answer = await form(visitor, "/register", **{**ADA, **fields})
    assert answer.status == 303, answer.text
    return visitor


def problems(answer: Answer) -> dict[str, str]:
    found = re.findall(r'<p id="\w+-(\w+)-problem" class="problem">([^<]+)</p>', answer.text)
    return dict(found)


async def test_a_registration_signs_in_and_a_logout_out() -> None:
    # SITE-33, SITE-38, SITE-40, SEC-11, SEC-22
    async with open_whole_site() as site:
        visitor = site.visitor()
        gate = await get(visitor, "/protected")
        assert (gate.status, gate.headers["location"]) == (
            303,
            "/login?next=%2Fprotected",
        )  # SITE-41
        answer = await form(visitor, "/register", **ADA, next="/lab")
        assert (answer.status, answer.headers["location"]) == (303, "/lab")
        assert re.search(
            r"gr_auth=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000",
            answer.headers["set-cookie"],
        )
        page = await get(visitor, "/protected")
        assert page.status == 200
        assert page.headers["cache-control"] == "no-store"
        assert "<bdi>ada</bdi>" in page.text
        assert visitor.cookies["gr_auth"] not in page.text
        token, seen = visitor.cookies["gr_auth"], visitor.cookies["gr_visitor"]
        assert (await get(visitor, "/login?next=/lab")).headers["location"] == "/lab"
        assert (await get(visitor, "/logout")).status == 405
        out = await form(visitor, "/logout")
        assert (out.status, out.headers["location"]) == (303, "/")
        assert out.headers["clear-site-data"] == '"storage"'
        assert visitor.cookies["gr_auth"] == ""
        assert visitor.cookies["gr_visitor"] != seen  # SITE-43
        # SEC-15: what was a key opens nothing any more
        visitor.cookies |= {"gr_auth": token, "gr_visitor": seen}
        assert (await get(visitor, "/protected")).status == 303
        assert visitor.cookies["gr_auth"] == ""
        assert visitor.cookies["gr_visitor"] != seen
        assert (await form(visitor, "/logout")).status == 303


async def test_a_login_makes_a_new_sign_in_and_the_old_id_is_dead() -> None:
    # SITE-34, SEC-13
    async with open_whole_site() as site:
        visitor = await register(site)
        first = dict(visitor.cookies)
        answer = await form(
            visitor, "/login", email=" ADA@example.org ", password=PASSWORD, next="//evil.example"
        )
        assert (answer.status, answer.headers["location"]) == (303, "/protected")  # SITE-42
        assert visitor.cookies["gr_auth"] != first["gr_auth"]
        again = Visitor(site.url, first)
        assert (await get(again, "/protected")).status == 303
        assert (await get(visitor, "/protected")).status == 200


async def test_a_refused_form_comes_back_with_what_was_typed() -> None:
    # SITE-33, SITE-34, SITE-19
    async with open_whole_site() as site:
        await register(site)
        guest = site.visitor()
        bad = await form(guest, "/register", username="<b>", email="nowhere", password="football")
        assert bad.status == 422
        assert set(problems(bad)) == {"username", "email", "password"}
        assert 'value="&lt;b&gt;"' in bad.text
        assert "football" not in bad.text
        for field, taken in (("username", "username"), ("email", "email")):
            fields = {**ADA, "username": "eve", "email": "eve@example.org", field: ADA[field]}
            answer = await form(guest, "/register", **fields, next="/lab?a=1")
            assert (answer.status, set(problems(answer))) == (409, {taken})
            assert PASSWORD not in answer.text
            assert 'name="next" value="/lab?a=1"' in answer.text
        blank = await form(guest, "/login", email="ada@example.org")
        assert (blank.status, set(problems(blank))) == (422, {"password"})
        assert 'value="ada@example.org"' in blank.text
        assert (await form(guest, "/login")).status == 422
        assert "gr_auth" not in guest.cookies


async def test_an_unknown_address_is_answered_as_a_wrong_password() -> None:
    # SITE-34, SITE-35, SEC-77
    async with open_whole_site() as site:
        await register(site)
        told = []
        for email in ("ada@example.org", "eve@example.org", "no address", "a\0b@example.org"):
            visitor, before = site.visitor(), site.passwords.made
            answer = await form(visitor, "/login", email=email, password="wrong words")
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Session"
            assert site.passwords.made == before + 1
            shown = re.sub(r'"[\w=-]{88}"|nonce="[^"]+"|<bdi>[^<]+</bdi>', "", answer.text)
            told.append(re.sub(r'value="[^"]*"', "", shown))
        assert len(set(told)) == 1


async def test_tries_are_limited_and_a_good_one_counts_not() -> None:
    # SITE-48, SEC-76
    async with open_whole_site() as site:
        visitor = await register(site)
        for _ in range(4):
            answer = await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
            assert answer.status == 303
        statuses = []
        for number in range(11):
            answer = await form(visitor, "/login", email=f"{number}@x.org", password="wrong words")
            statuses.append(answer.status)
        assert statuses == [401] * 10 + [429]
        answer = await form(visitor, "/login", email="one@x.org", password="wrong words")
        assert 800 < int(answer.headers["retry-after"]) <= 900
        assert "try again in 15 minutes" in answer.text
        right = await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
        assert right.status == 429


async def test_accounts_from_one_address_are_limited() -> None:
    # SITE-48
    async with open_whole_site() as site:
        for number in range(5):
            await register(site, username=f"ada{number}", email=f"{number}@example.org")
        guest = site.visitor()
        answer = await form(guest, "/register", **{**ADA, "username": "one more"})
        assert answer.status == 429
        assert "retry-after" in answer.headers


async def test_the_store_away_is_503_and_never_a_guests_page() -> None:
    # SITE-51
    async with open_whole_site() as site:
        visitor = await register(site)
        site.accounts.fail_next(StoreUnavailable("gone for a test"), times=2)
        for path in ("/protected", "/lab"):
            answer = await get(visitor, path)
            assert answer.status == 503
            assert "Sign in" not in answer.text.partition("<main")[2]
        assert (await get(visitor, "/protected")).status == 200
        site.accounts.fail_next(StoreUnavailable("gone for a test"))
        with capture_logs() as lines:
            away = await form(site.visitor(), "/login", email="ada@example.org", password=PASSWORD)
        # SITE-155: answered by a form of its own, and logged like any other
        told = [line["kind"] for line in lines if line["event"] == "request.unavailable"]
        assert told == ["StoreUnavailable"]
        assert (away.status, away.headers["retry-after"]) == (503, "1")
        assert 'value="ada@example.org"' in away.text
        assert (await get(visitor, "/health")).status == 200


async def test_an_invented_token_is_never_adopted() -> None:
    # SITE-37, SEC-21, AUTH-42
    async with open_whole_site() as site:
        for token in ("x", "A" * 43, "\u00e9".encode().decode("latin-1"), "A" * 4000):
            visitor = Visitor(site.url, {"gr_auth": token})
            answer = await get(visitor, "/protected")
            assert answer.status == 303
            assert visitor.cookies["gr_auth"] == ""
        assert site.accounts.database.sign_ins == {}
        # SEC-137: of the form of a token is one of four, and that may be one that is over.
        assert site.web.alerts.counts()[Alert.FORGED_TOKENS] == 3


async def test_a_form_of_no_known_browser_needs_its_token() -> None:
    # SITE-44, SEC-30, SEC-32
    async with open_whole_site() as site:
        visitor = await register(site)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        page = await get(visitor, "/protected")
        token = re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]

        def post(body: str, **more: str) -> Answer:
            return visitor.request("POST", "/logout", body.encode(), {**headers, **more})

        assert (await in_thread(partial(post, ""))).status == 403
        foreign = {"sec-fetch-site": "cross-site"}
        assert (await in_thread(partial(post, f"csrf={token}", **foreign))).status == 403
        guest = await get(site.visitor(), "/login")
        other = re.findall(r'name="csrf" value="([^"]+)"', guest.text)[0]
        assert (await in_thread(partial(post, f"csrf={other}"))).status == 403
        assert (await get(visitor, "/protected")).status == 200
        assert (await in_thread(partial(post, f"csrf={token}"))).status == 303
        wrong = {"content-type": "text/plain", "sec-fetch-site": "same-origin"}
        answer = await in_thread(partial(visitor.request, "POST", "/login", b"a=b", wrong))
        assert answer.status == 415  # SEC-33


async def test_a_sign_in_and_its_end_close_what_was_open() -> None:
    # SITE-40, SITE-43, SEC-15, SEC-44
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        page = await get(visitor, "/lab")
        viewer = re.findall(r'data-holds="viewer" data-mark="([^"]+)"', page.text)[0]
        with await in_thread(visitor.open_stream) as stream:
            await in_thread(partial(stream.read_until, b'"sseConnected":true'))
            assert (await form(visitor, "/register", **ADA)).status == 303
            await in_thread(stream.response.read)  # to its end
        # The page that is still open is asked to load again.
        old = {"x-page-holds": f"viewer={viewer}"}
        with await in_thread(partial(visitor.open_stream, **old)) as stream:
            assert stream.status == 409
        await in_thread(visitor.open_lab)
        with await in_thread(visitor.open_stream) as stream:
            await in_thread(partial(stream.read_until, b'"sseConnected":true'))
            # As by another process.
            await site.accounts.sign_out(await member_session(site, visitor))
            await in_thread(stream.response.read)


async def test_a_role_that_is_granted_is_seen_on_the_open_page() -> None:
    # SITE-49: as by the command line, in another process; within a second, and by nobody else
    async with open_whole_site() as site:
        ada, grace = (
            await register(site),
            await register(site, username="Grace", email="g@example.org"),
        )
        with await opened(ada) as at_ada, await opened(grace) as at_grace:
            page = await get(ada, "/lab")
            assert "/demo/chat/moderation" not in page.text
            viewer = re.findall(r'data-holds="viewer" data-mark="([^"]+)"', page.text)[0]
            assert await site.accounts.grant("ada", Role.MODERATOR) is Role.USER
            await in_thread(at_ada.response.read)  # to its end
            # The page asks for another stream, and is told to load itself again.
            asked = partial(ada.open_stream, **{"x-page-holds": f"viewer={viewer}"})
            with await in_thread(asked) as stream:
                assert stream.status == 409
            page = await get(ada, "/lab")
            assert "/demo/chat/moderation" in page.text
            with await opened(ada) as again:
                assert await site.accounts.grant("ada", Role.MODERATOR) is Role.MODERATOR
                assert (await in_thread(partial(grace.post, "still here"))).status == 202
                await in_thread(partial(again.read_until, b"still here"))
                await in_thread(partial(at_grace.read_until, b"still here"))


async def test_only_pages_for_all_are_told_what_was_known_lately(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # PERF-40, SEC-13: whatever is decided by who asks, a stream first of all, is asked anew
    async with open_whole_site() as site:
        visitor = await register(site)
        asked: list[str] = []
        for name in ("who", "who_lately"):
            method = getattr(site.accounts, name)

            async def note(digest: bytes, name: str = name, method: Who = method) -> Member | None:
                asked.append(name)
                return await method(digest)

            monkeypatch.setattr(site.accounts, name, note)

        async def told(path: str, method: str = "GET") -> list[str]:
            asked.clear()
            await in_thread(partial(visitor.request, method, path))
            return asked[:1]

        for path in ("/", "/lab", "/lab?room=lobby"):
            assert await told(path) == await told(path, "HEAD") == ["who_lately"], path
        for path in ("/account", "/protected", "/demo/chat/history", "/no-such-page", "/events"):
            assert await told(path) == ["who"], path
        assert await told("/", "POST") == await told("/demo/chat/messages", "POST") == ["who"]
        visitor.cookies["gr_auth"] = "x" * 42
        assert await told("/") == []


async def opened(visitor: Visitor) -> OpenStream:
    await in_thread(visitor.open_lab)
    stream = await in_thread(visitor.open_stream)
    await in_thread(partial(stream.read_until, b'"sseConnected":true'))
    return stream


async def member_session(site: WholeSite, visitor: Visitor) -> SessionId:
    member = await site.accounts.who(digest_of(visitor.cookies["gr_auth"]))
    assert member is not None
    return member.session_id


async def test_a_lost_visitor_cookie_is_given_again() -> None:
    # SITE-37: a browser that was closed keeps its sign-in, and is the same visitor
    async with open_whole_site() as site:
        visitor = await register(site)
        known = visitor.cookies.pop("gr_visitor")
        assert (await get(visitor, "/protected")).status == 200
        assert visitor.cookies["gr_visitor"] == known
        other = site.visitor()
        await get(other, "/lab")
        visitor.cookies["gr_visitor"] = other.cookies["gr_visitor"]
        assert (await get(visitor, "/protected")).status == 200
        assert visitor.cookies["gr_visitor"] == known


async def test_an_address_that_is_too_long_to_come_back_to_is_forgotten() -> None:  # SITE-42
    async with open_whole_site() as site:
        guest = site.visitor()
        for path in ("/protected", "/account", "/demo/chat/moderation", "/demo/chat/audit"):
            for mark, is_kept in (("x" * 100, True), ("%25" * 500, False), ("x" * 4000, False)):
                answer = await get(guest, f"{path}?before={mark}")
                assert (answer.status, "next=" in answer.headers["location"]) == (303, is_kept)
        for form_path in ("/login", "/register"):
            answer = await get(guest, f"{form_path}?next=/lab%3Fx={'%2525' * 600}")
            assert answer.status == 200


async def test_a_weaker_hash_is_renewed_at_the_login() -> None:
    # SITE-36, SEC-74
    async with open_whole_site() as site:
        visitor = await register(site)
        (user,) = [one for one in site.accounts.database.users.values() if one.password_hash]
        user.password_hash = PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
        await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
        renewed = user.password_hash
        assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
        assert user.password_hash == renewed


async def test_a_password_that_is_changed_during_a_login_opens_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # SEC-17: whoever knows the former one is not in, and whose hash was only renewed is
    async with open_whole_site() as site:
        await register(site)
        (user,) = (one for one in site.accounts.database.users.values() if one.username == "ada")
        compare = site.passwords.verify
        for changed_to, status in ((PASSWORD, 303), ("another one", 401)):
            hash_of = await site.passwords.hash(changed_to)

            async def verify(kept: str | None, typed: str, new: str = hash_of) -> Verified:
                found = await compare(kept, typed)
                user.password_hash = new
                return found

            monkeypatch.setattr(site.passwords, "verify", verify)
            answer = await form(
                site.visitor(), "/login", email=ADA["email"], password=ADA["password"]
            )
            assert answer.status == status


async def test_every_page_tells_who_is_signed_in() -> None:
    # SITE-4
    async with open_whole_site() as site:
        visitor, guest = await register(site), site.visitor()
        for path in ("/", "/lab", "/protected", "/nothing-here"):
            page = await get(visitor, path)
            assert "<bdi>ada</bdi>" in page.text, path
            assert 'action="/logout"' in page.text
            assert "/register" not in page.text
        for path in ("/", "/lab", "/nothing-here"):
            page = await get(guest, path)
            assert 'action="/logout"' not in page.text
            assert 'href="/login' in page.text
            assert 'href="/register' in page.text
        for path in ("/login", "/register", "/protected", "/nothing-here"):
            assert 'id="stream"' not in (await get(visitor, path)).text
        assert (await get(guest, "/lab")).text.count('href="/login?next=%2Flab"') == 3  # SITE-9
        assert "under your own name" not in (await get(visitor, "/lab")).text
        login = await get(guest, "/login")
        assert "unsafe-inline" not in login.headers["content-security-policy"]  # SITE-50
        assert "server" not in login.headers


async def test_every_try_is_a_line_without_what_was_typed() -> None:
    # SEC-130, SEC-131, SEC-132
    with configured_for(logging.INFO), capture_logs() as lines:
        async with open_whole_site() as site:
            visitor = await register(site)
            await form(visitor, "/login", email="ada@example.org", password="wrong words")
            await form(visitor, "/register", **ADA)
            await form(visitor, "/logout")
    told = [line for line in lines if line["event"].startswith("accounts.")]
    acts = [(line["event"], line["outcome"], line.get("reason")) for line in told]
    assert acts == [
        ("accounts.register", "accepted", None),
        ("accounts.sign_in", "refused", "wrong"),
        ("accounts.register", "refused", "username_taken"),
        ("accounts.sign_out", "accepted", None),
    ]
    for line in told:
        assert (line["address"], line["method"]) == ("127.0.*.*", "password")
        assert line["request_id"]
    text = str(lines)
    for secret in (PASSWORD, "wrong words", "ada@example.org", *visitor.cookies.values()):
        assert not secret or secret not in text
