"""API tokens of a member: made, shown once, used within their scopes, and ended (SEC-87)."""

from __future__ import annotations

import json
import re
from functools import partial
from uuid import UUID

import pytest
import trio

from actors.accounts import Role
from actors.accounts.kept.tokens import TOKENS_PER_USER_MAX, Scope
from actors.chat import LOBBY, Viewer
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S
from tests.web.accounts.test_access import declared, let_proofs_age
from tests.web.accounts.test_disavowing import NOT_ME
from tests.web.accounts.test_entering import PASSWORD, form, get, problems, register
from tests.web.accounts.test_links import open_post
from tests.web.accounts.test_recovering import links_in, mail_with
from tests.web.accounts.test_session_api import api, told
from tests.web.routing.test_sweeps import everything_logged
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from tests.web.wiring.test_tickets import closed_with, open_socket, refused
from web.accounts.identity import digest_of, new_api_token
from web.accounts.roles.access import ACCESS, requires

pytestmark = pytest.mark.slow

ALL = [scope.value for scope in Scope]


async def made(visitor: Visitor, *scopes: str, name: str = "nightly") -> dict[str, str]:
    answer = await api(visitor, "POST", "/tokens", {"name": name, "scopes": list(scopes)})
    assert answer.status == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, str] = json.loads(answer.body)
    assert answer.headers["location"] == f"/api/v1/auth/tokens/{found['id']}"
    return found


def by(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_token_is_shown_once_listed_and_revoked() -> None:
    # SEC-87, SEC-12, SEC-130, SEC-131
    with everything_logged() as lines:
        async with open_whole_site() as site:
            ada, program = await register(site), site.visitor()
            one = await made(ada, "account:read", "account:read")
            assert set(one) == {"id", "token", "name", "scopes", "expires_at"}
            token = one["token"]
            assert re.fullmatch(r"grt_[A-Za-z0-9_-]{43}", token)
            assert " ".join(one["scopes"]) == "account:read"
            listed = await api(program, "GET", "/tokens", token=token)
            (row,) = json.loads(listed.body)["tokens"]
            assert (row["id"], row["name"]) == (one["id"], "nightly")
            assert row["last_used"] is not None
            assert token not in listed.text + (await get(ada, "/account")).text
            assert program.cookies == {}
            assert set(site.accounts.database.api_tokens) == {digest_of(token)}
            assert token not in repr(site.accounts.database)
            revoked = await api(ada, "DELETE", f"/tokens/{one['id']}")
            assert told(revoked) == {"message": "Token revoked."}
            over = await api(program, "GET", "/tokens", token=token)
            assert (over.status, told(over)["code"]) == (401, "UNAUTHORIZED")
            assert (await api(ada, "DELETE", f"/tokens/{one['id']}")).status == 404
    shown = [line for line in lines if "accounts.token_" in line]
    acts = [re.search(r"accounts\.token_\w+", line) for line in shown]
    assert [act[0].removeprefix("accounts.token_") for act in acts if act] == [
        "add", "use", "revoke", "use", "revoke",
    ]  # fmt: skip
    assert one["id"] in shown[1]
    assert "127.0.0.1" not in repr(shown)
    assert token not in repr(lines)


async def test_scopes_say_what_a_token_may_and_all_else_is_refused() -> None:
    # SEC-87: scopes x routes; SEC-21, AUTH-23
    async with open_whole_site() as site:
        ada, program = await register(site), site.visitor()
        await site.accounts.grant("ada", Role.ADMIN)
        tokens = {scope: (await made(ada, scope, name=scope))["token"] for scope in ALL}
        swept = 0
        for path, method, access in declared():
            if not (path.startswith("/api/") or path == "/events"):
                continue
            concrete = re.sub(r"<[^>]+>", "x", path)
            for scope, token in tokens.items():
                ask = partial(program.request, method, concrete, b"", by(token))
                answer = await in_thread(ask)
                swept += 1
                if scope == access.scope:
                    assert answer.status not in (401, 403), (method, path, scope)
                else:
                    assert answer.status == 403, (method, path, scope)
        assert swept > 100
        assert len(site.accounts.database.api_tokens) == 3, "none made or ended another"
        assert await site.accounts.sign_ins(await _id(site)), "nor ended a sign-in"
        # Pages look at cookies alone, and there a token is none.
        assert (
            await in_thread(partial(program.get, "/account", **by(tokens[ALL[0]])))
        ).status == 303
        thief = Visitor(site.url, {"gr_auth": tokens[ALL[0]]})
        assert (await get(thief, "/account")).status == 303


async def _id(site: WholeSite) -> UUID:
    found = await site.accounts.named("ada")
    assert found is not None
    return found[0]


def test_a_scope_opens_nothing_that_is_sensitive() -> None:
    # SEC-87
    scoped = [one for methods in ACCESS.values() for one in methods.values() if one.scope]
    assert {one.scope for one in scoped} == {Scope.ACCOUNT_READ, Scope.CHAT_READ}
    assert not any(one.is_sensitive or one.is_fresh or one.role for one in scoped)
    for needs in ({"fresh": True}, {"sensitive": True}, {"role": Role.ADMIN}):
        with pytest.raises(ValueError, match="API token"):
            requires(scope=Scope.CHAT_READ, **needs)


async def test_its_owner_hears_of_it_and_undoes_it_by_the_mail() -> None:
    # SEC-73, SEC-87, AUTH-16: whoever made it, and without a sign-in; what it opens is over
    async with open_post() as post:
        site = post.site
        thief, program = await register(site), site.visitor()
        one = await made(thief, "account:read")
        said = await mail_with(post, "An API token was made")
        assert one["token"] not in said
        (not_me,) = links_in(said, NOT_ME)
        assert (await api(program, "GET", "/tokens", token=one["token"])).status == 200
        assert (await form(site.visitor(), NOT_ME, token=not_me)).status == 303
        assert (await api(program, "GET", "/tokens", token=one["token"])).status == 401
        assert (await get(thief, "/account")).status == 303


async def test_a_token_in_an_address_is_refused() -> None:
    # SEC-87: 400, a good one and one that nobody has
    async with open_whole_site() as site:
        ada = await register(site)
        token = (await made(ada, *ALL))["token"]
        for one in (token, new_api_token()[0], f"%67{token[1:]}"):
            for path in ("/", "/api/lab/tree", "/api/v1/auth/session", "/nothing"):
                for name in ("token", "access_token", "ticket", "q"):
                    answer = await get(ada, f"{path}?{name}={one}")
                    assert answer.status == 400, (path, name)
                    assert token not in answer.text
            for query in (f"?token={one}", f"?ticket={one}"):
                assert (await refused(site, query, **by(token))).status_code == 400
        assert (await api(ada, "GET", "/tokens")).status == 200
        # It outlives the sign-in that made it.
        assert (await api(ada, "POST", "/logout/all")).status == 200
        assert (await api(site.visitor(), "GET", "/tokens", token=token)).status == 200
        assert (await get(ada, "/?token=grt_short")).status == 200


async def test_a_token_needs_a_fresh_proof_a_name_and_scopes() -> None:
    # SEC-87, SEC-20
    async with open_whole_site() as site:
        ada = await register(site)
        wrong: tuple[tuple[dict[str, object], set[str]], ...] = (
            ({"name": "", "scopes": ["chat:read"]}, {"name"}),
            ({"name": "x" * 41, "scopes": []}, {"name", "scopes"}),
            ({"name": "a\nb", "scopes": ["chat:read"]}, {"name"}),
        )
        for value, fields in wrong:
            answer = await api(ada, "POST", "/tokens", value)
            assert answer.status == 422, value
            assert {one["field"] for one in json.loads(answer.body)["details"]} == fields
        shapeless: tuple[dict[str, object], ...] = (
            {"name": "n", "scopes": ["all"]}, {"name": "n"}, {"scopes": ["chat:read"]},
        )  # fmt: skip
        for value in shapeless:
            assert (await api(ada, "POST", "/tokens", value)).status == 422, value
        token = await made(ada, "chat:read")
        let_proofs_age(site)
        for method, path in (("POST", "/tokens"), ("DELETE", f"/tokens/{token['id']}")):
            stale = await api(ada, method, path, {"name": "n", "scopes": ["chat:read"]})
            assert (stale.status, told(stale)["code"]) == (403, "STEP_UP_REQUIRED")
        assert len(site.accounts.database.api_tokens) == 1


async def test_of_too_many_none_is_made() -> None:
    # SEC-87
    async with open_whole_site() as site:
        ada = await register(site)
        for number in range(TOKENS_PER_USER_MAX):
            await made(ada, "chat:read", name=str(number))
        over = await api(ada, "POST", "/tokens", {"name": "n", "scopes": ["chat:read"]})
        assert (over.status, told(over)["code"]) == (409, "CONFLICT")
        page = await form(ada, "/account/tokens", token_name="n", scope="chat:read")
        assert (page.status, problems(page)) == (409, {})
        assert len(site.accounts.database.api_tokens) == TOKENS_PER_USER_MAX


async def test_tokens_are_made_and_revoked_on_the_page_of_the_account() -> None:
    # SEC-87
    async with open_whole_site() as site:
        ada, program = await register(site), site.visitor()
        eve = await register(site, username="eve", email="eve@example.org")
        refused_ = await form(ada, "/account/tokens", token_name="", scope="nothing")
        assert (refused_.status, set(problems(refused_))) == (422, {"token_name"})
        assert "Choose what it may do" in refused_.text
        long = await form(ada, "/account/tokens", token_name="x" * 41, scope="chat:read")
        assert "x" * 41 in long.text
        assert re.findall(r'value="([^"]+)" checked> Hear', long.text) == ["chat:read"]
        page = await form(ada, "/account/tokens", token_name="<b>mine</b>", scope="account:read")
        assert (page.status, page.headers["cache-control"]) == (200, "no-store")
        assert "<b>mine</b>" not in page.text
        (token,) = re.findall(r"<code>(grt_[\w-]{43})</code>", page.text)
        assert (await api(program, "GET", "/devices", token=token)).status == 200
        page = await get(ada, "/account")
        assert token not in page.text
        assert "account:read, since" in page.text
        (reference,) = re.findall(r'name="token" value="([^"]+)"', page.text)
        for id_ in (reference, "nonsense", ""):
            assert (await form(eve, "/account/tokens/revoke", token=id_)).status == 404
        assert (await form(ada, "/account/tokens/revoke", token=reference)).status == 303
        assert (await api(program, "GET", "/devices", token=token)).status == 401


async def test_on_a_socket_it_hears_and_posts_as_its_scopes_say() -> None:
    # SEC-87, SITE-107, WEB-44
    async with open_whole_site() as site:
        ada = await register(site)
        reads = (await made(ada, "chat:read", name="r"))["token"]
        writes = (await made(ada, "chat:write", name="w"))["token"]
        neither = (await made(ada, "account:read", name="n"))["token"]
        assert (await refused(site, "", **by(neither))).status_code == 403
        action = {"PostMessage": {"body": "by a program", "client_id": "c1"}}
        answers = []
        for token in (reads, writes):
            async with open_socket(site, "", **by(token)) as socket:
                for said in (
                    {"type": "subscribe", "topics": ["room:lobby"]},
                    {"type": "command", "id": "1", "action": action},
                ):
                    await socket.send_message(json.dumps(said))
                await socket.send_message('{"type":"ping"}')
                with trio.fail_after(PATIENCE_S):
                    heard = ""
                    while '"pong"' not in heard or ("c1" not in heard and "may not" not in heard):
                        heard += str(await socket.get_message())
                answers.append(heard)
        assert '"topics":["room:lobby"]' in answers[0]
        assert "You may not send commands" in answers[0]
        assert '"topics":[]' in answers[1]
        history = await site.log.history(LOBBY, Viewer())
        assert [message.author_name for message in history.messages] == ["ada"]


async def test_what_a_token_has_open_ends_with_it_and_with_its_user() -> None:
    # SEC-16: sockets and streams, of that token alone until the account is gone
    async with open_whole_site() as site:
        ada = await register(site)
        tokens = [await made(ada, "chat:read", name=name) for name in ("one", "two")]
        one, two = (token["token"] for token in tokens)
        path = "/events?topic=room:lobby"
        streams = [
            await in_thread(partial(site.visitor().open_stream_at, path, **by(token)))
            for token in (one, two)
        ]
        with streams[0], streams[1]:
            async with (
                open_socket(site, "", **by(one)) as first,
                open_socket(site, "", **by(two)) as second,
            ):
                assert (await api(ada, "DELETE", f"/tokens/{tokens[0]['id']}")).status == 200
                assert (await closed_with(first))[0] == 4401
                await in_thread(streams[0].response.read)
                assert (await refused(site, "", **by(one))).status_code == 401
                await second.send_message('{"type":"ping"}')
                assert await second.get_message() == '{"type":"pong"}'
                assert (await form(ada, "/account/delete", password=PASSWORD)).status == 303
                assert (await closed_with(second))[0] == 4401
                await in_thread(streams[1].response.read)
        assert (await refused(site, "", **by(two))).status_code == 401
        assert site.accounts.database.api_tokens == {}


async def test_while_the_store_is_away_a_token_is_neither_good_nor_bad() -> None:
    # SEC-3
    async with open_whole_site() as site:
        ada, program = await register(site), site.visitor()
        token = (await made(ada, *ALL))["token"]
        tokens = site.web.accounts.tokens
        tokens.fail_next()  # type: ignore[attr-defined]
        away: Answer = await api(program, "GET", "/tokens", token=token)
        assert (away.status, told(away)["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (await api(program, "GET", "/tokens", token=token)).status == 200


async def test_tokens_are_in_the_export_without_what_opens_with_them() -> None:
    # SEC-136, SEC-87
    async with open_whole_site() as site:
        ada = await register(site)
        one = await made(ada, "chat:read", "account:read")
        answer = await form(ada, "/account/export", export_password=PASSWORD)
        (held,) = json.loads(answer.body)["api_tokens"]
        assert set(held) == {"id", "name", "scopes", "created_at", "expires_at", "used_at"}
        assert (held["id"], held["scopes"]) == (one["id"], ["account:read", "chat:read"])
        assert one["token"] not in answer.text
