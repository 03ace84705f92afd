"""What must hold for every route there is; the routes are those of the application."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
import structlog

from actors.accounts import Origin, Role, SessionId
from actors.accounts.kept.tokens import ApiToken, NewToken, Scope
from actors.accounts.ways.passkeys import NewPasskey
from actors.accounts.ways.provider.identities import Linking, NewIdentity
from actors.accounts.ways.provider.words import (
    Identity,
    Kind,
    Provider,
    ProviderTokens,
    Shown,
)
from actors.runtime import Secret
from storage.memory import MemoryIdentities
from tests.journeys.visitor import Answer, Visitor
from tests.logged import configured_for
from tests.patience import until
from tests.web.accounts.test_entering import form, get, register
from tests.web.routing.test_routes_complete import SAMPLES, routes_of
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.routing import paths
from web.settings import Settings

pytestmark = pytest.mark.slow

# Names of what everybody may look at: nobody's, so another visitor sees the same.
EVERYBODYS = {
    paths.WORK_PAGE, paths.DOCS_PAGE, paths.STATIC, paths.DEMO_PANEL, paths.DEV_MAIL_ONE,
    # A place in the own sandbox: of another's there is no name.
    paths.LAB_ACTION,
    # Of operators: to nobody else is any of them there.
    paths.OPS_LETTER,
}  # fmt: skip
ANSWERED_BY_THE_EDGE = {paths.STATIC, paths.FAVICON, paths.ROBOTS, *paths.PROBES}
FORM = "application/x-www-form-urlencoded"


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """All lines, of any level, as one text each."""
    capture, lines = structlog.testing.LogCapture(), list[str]()
    with configured_for(logging.DEBUG):
        structlog.configure(processors=[capture])
        yield lines
    lines.extend(repr(entry) for entry in capture.entries)


async def send(visitor: Visitor, method: str, path: str, **fields: str) -> Answer:
    """Ask as a page, or below `/api` as a program does."""
    if method == "GET":
        return await get(visitor, f"{path}?{urlencode(fields)}" if fields else path)
    is_form = not path.startswith("/api")
    body = urlencode(fields) if is_form else json.dumps(fields)
    kind = FORM if is_form else "application/json"
    headers = {"content-type": kind, "sec-fetch-site": "same-origin"}
    return await in_thread(partial(visitor.request, method, path, body.encode(), headers))


def told(answer: Answer) -> tuple[int, str]:
    """What an answer says, but for what is new in each."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", answer.text)
    return answer.status, re.sub(r'(nonce|value)="[^"]*"|nonce-[\w-]+', "", text)


# -- ids of others ------------------------------------------------------------------------------


async def passkey_of(site: WholeSite, name: str) -> str:
    found = await site.accounts.named(name)
    assert found is not None
    (sign_in,) = await site.accounts.sign_ins(found[0])
    (digest,) = (
        key for key, row in site.accounts.database.sign_ins.items() if row.user_id == found[0]
    )
    new = NewPasskey(uuid4(), found[0], b"key", b"public", sign_in.reference, digest, name="own")
    await site.web.accounts.passkeys.add(new, Origin())
    return str(new.id)


async def trace_of(site: WholeSite, visitor: Visitor) -> str:
    trace = f"{'a' * 24}{10:08x}"  # one of those that are kept by their id
    told = f"00-{trace}-{'b' * 16}-01"
    await in_thread(partial(visitor.get, "/lab", traceparent=told))
    await until(lambda: site.web.traces.kept.maybe(trace) is not None)
    assert (await in_thread(partial(visitor.get, f"/lab/traces/{trace}"))).status == 200
    return trace


A_PROVIDER = Provider(
    "example", "Example", Kind.OIDC, "https://idp.example", "us", Secret("s" * 40)
)


async def provider_of(site: WholeSite, name: str) -> str:
    found = await site.accounts.named(name)
    assert found is not None
    (sign_in,) = await site.accounts.sign_ins(found[0])
    shown = Shown(
        Identity("https://idp.example", "41"), "ada@a.example", ProviderTokens(Secret("t"))
    )
    new = NewIdentity(found[0], sign_in.reference, A_PROVIDER.name, shown)
    assert await MemoryIdentities(site.accounts.database).link(new, Origin()) is Linking.DONE
    return A_PROVIDER.name


async def token_of(site: WholeSite, name: str) -> str:
    found = await site.accounts.named(name)
    assert found is not None
    (sign_in,) = await site.accounts.sign_ins(found[0])
    new = NewToken(
        uuid4(), found[0], sign_in.reference, b"t" * 32, SessionId("t"), "own", (Scope.CHAT_READ,)
    )
    made = await site.web.accounts.tokens.add(new, Origin())
    assert isinstance(made, ApiToken)
    return str(made.id)


Try = Callable[[str], Awaitable[Answer]]


async def test_what_is_another_visitors_is_as_what_is_not_there() -> None:
    # SEC-116, SEC-133
    settings = Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000, providers=(A_PROVIDER,)
    )
    async with open_whole_site(settings=settings) as site:
        ada, eve = await register(site), await register(site, username="eve", email="eve@a.example")
        for visitor in (ada, eve):
            await in_thread(visitor.open_lab)
        (sign_in,) = await site.accounts.sign_ins((await site.accounts.named("ada"))[0])  # type: ignore[index]
        passkey = await passkey_of(site, "ada")
        device = str(next(iter(site.accounts.database.devices)))
        token, provider = await token_of(site, "ada"), await provider_of(site, "ada")
        with await in_thread(ada.open_stream), await in_thread(eve.open_stream):

            def command(visitor: Visitor, path: str) -> Answer:
                return visitor.command(path, {"commandId": str(uuid4()), "sseTabId": visitor.tab})

            began = await in_thread(partial(command, ada, paths.LAB_SAGAS))
            assert began.status in {200, 202, 204}
            assert site.web.checkouts is not None
            (saga,) = await site.web.checkouts.of(_session_of(ada))
            tried: dict[str, tuple[str, Try]] = {
                paths.LAB_SAGA_ACTION: (
                    saga,
                    lambda id_: in_thread(partial(command, eve, f"/api/lab/sagas/{id_}/crash")),
                ),
                paths.LAB_DROP: (
                    ada.tab,
                    lambda id_: in_thread(partial(command, eve, f"/api/lab/streams/{id_}/drop")),
                ),
                paths.API_PASSKEY: (
                    passkey,
                    lambda id_: send(eve, "DELETE", f"/api/v1/auth/passkeys/{id_}"),
                ),
                paths.API_SESSION_ONE: (
                    str(sign_in.reference),
                    lambda id_: send(eve, "DELETE", f"/api/v1/auth/sessions/{id_}"),
                ),
                paths.API_TOKEN: (
                    token,
                    lambda id_: send(eve, "DELETE", f"/api/v1/auth/tokens/{id_}"),
                ),
                paths.LAB_TRACE: (
                    await trace_of(site, ada),
                    lambda id_: in_thread(partial(eve.get, f"/lab/traces/{id_}")),
                ),
                paths.API_DEVICE: (
                    device,
                    lambda id_: send(eve, "DELETE", f"/api/v1/auth/devices/{id_}"),
                ),
                paths.API_DEVICE_TRUST: (
                    device,
                    lambda id_: send(eve, "POST", f"/api/v1/auth/devices/{id_}/trust"),
                ),
                # What is named is a provider, and whether the own account is linked there.
                paths.ACCOUNT_PROVIDER_UNLINK: (
                    provider,
                    lambda id_: form(eve, f"/account/providers/{id_}/unlink"),
                ),
            }
            named = re.compile(r"<(?!provider>)|/unlink$")  # of providers everybody may know
            with_ids = {path for path in routes_of(site.apps[0]) if named.search(path)}
            assert with_ids == EVERYBODYS | set(tried), "a route with an id is in neither list"
            # Ids in forms.
            for path, field in (
                (paths.ACCOUNT_SIGN_INS, "session_ref"),
                (paths.ACCOUNT_SIGN_IN_NAME, "session_ref"),
                (paths.ACCOUNT_PASSKEY_REMOVE, "passkey"),
                (paths.ACCOUNT_PASSKEY_NAME, "passkey"),
                (paths.ACCOUNT_TOKEN_REVOKE, "token"),
            ):
                owns = {"session_ref": str(sign_in.reference), "token": token}
                own = owns.get(field, passkey)
                tried[path] = own, _by_form(eve, path, field)
            for path, (own, attempt) in tried.items():
                theirs, unknown = told(await attempt(own)), told(await attempt(another(own)))
                assert theirs == unknown, path
                assert theirs[0] == 404, path
        assert len(await site.accounts.sign_ins((await site.accounts.named("ada"))[0])) == 1  # type: ignore[index]
        assert len(site.accounts.database.identities) == 1
        # The site is of no tenant: whoever looks as one sees none of it.
        assert (await site.events.read_all()).events
        assert not (await site.events.for_tenant("acme").read_all()).events
        assert (await get(ada, "/account")).status == 200


def _by_form(visitor: Visitor, path: str, field: str) -> Try:
    named = {"name": "mine"} if path.endswith("/name") else {}
    return lambda id_: form(visitor, path, **{field: id_}, **named)


def another(id_: str) -> str:
    """An id of the same form, which nobody has."""
    return id_[:-1] + ("0" if id_[-1] != "0" else "1")


def _session_of(visitor: Visitor) -> UUID:
    return UUID(visitor.cookies["gr_visitor"].partition(".")[0])


# -- failures of ours ---------------------------------------------------------------------------

SECRET = "SELECT hash FROM /etc/secret/place"


async def test_a_route_that_fails_says_nothing_of_why() -> None:
    # SEC-123: each of them, and the program lives
    async with open_whole_site() as site:
        ada, grace = (
            await register(site),
            await register(site, username="grace", email="g@a.example"),
        )
        await site.accounts.grant("ada", Role.MODERATOR)
        await site.accounts.grant("grace", Role.ADMIN)
        app, asked = site.apps[0], 0
        # Refused before any route: there is no mail here, and no provider.
        switched_off = {
            paths.ADDRESS, paths.ADDRESS_CONFIRM, paths.ADDRESS_BACK, paths.LOGIN_LINK,
            paths.LOGIN_LINK_OPEN, paths.LINK_SEND, paths.LINK_VERIFY, paths.RECOVERY,
            paths.RECOVERY_STOP, paths.RECOVERY_FINISH, paths.ACCOUNT_RECOVERY,
        }  # fmt: skip

        async def fail(**_: object) -> None:
            raise RuntimeError(SECRET)

        kept = dict(app.view_functions)
        with everything_logged() as lines:
            for endpoint in kept:
                app.view_functions[endpoint] = fail  # type: ignore[assignment]
            for path, methods in routes_of(app).items():
                if path in ANSWERED_BY_THE_EDGE:
                    continue
                concrete = re.sub(r"<[^>]+>", "x", SAMPLES.get(path, path))
                for method in methods.split(","):
                    visitor = grace if path.startswith("/ops") else ada
                    answer = await send(visitor, method, concrete)
                    is_off = path in switched_off or "<provider>" in path
                    if answer.status == 404 and is_off:
                        continue
                    assert answer.status == 500, (method, path)
                    for word in ("SELECT", "secret", "Traceback", "RuntimeError", ".py"):
                        assert word not in answer.text, (method, path)
                    assert answer.headers["x-request-id"]
                    asked += 1
            app.view_functions.update(kept)
        assert (await get(ada, "/lab")).status == 200
        failed = [line for line in lines if "request.failed" in line]
        assert len(failed) == asked > 70
