"""What a provider, an owner or an operator ends at one process is over at another at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPResponse
from urllib.parse import urlencode, urlsplit

import pytest

from tests.journeys.site_process import SiteProcess
from tests.journeys.test_browser_providers import running_provider
from tests.journeys.test_process import MANY
from tests.journeys.test_two_processes import (
    PASSWORD,
    SESSION_ENDED,
    at,
    closed_with,
    ended_with,
    registered,
)
from tests.journeys.visitor import Answer, Visitor
from tests.processes.prepared import start_prepared
from tests.web.accounts.provider.lying import CLIENT, SECRET, LyingProvider

pytestmark = pytest.mark.slow

Pair = tuple[SiteProcess, SiteProcess, LyingProvider]
AUTH = "/api/v1/auth"
BEGIN = f"{AUTH}/oauth/example/authorize?redirect_to=/account"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two processes on one database, and a provider that both know."""
    folder = tmp_path_factory.mktemp("ends")
    server, sites = start_prepared(folder / "database"), list[SiteProcess]()
    with running_provider() as provider:
        settings = {
            "DATABASE_URL": server.url,
            "OAUTH_EXAMPLE_ISSUER": provider.issuer,
            "OAUTH_EXAMPLE_CLIENT_ID": CLIENT,
            "OAUTH_EXAMPLE_CLIENT_SECRET": SECRET,
            "RISK": "off",  # programs and browsers of one address, all new
            **MANY,
        }
        try:
            sites.extend(SiteProcess(folder / "state", **settings) for _ in range(2))
            yield sites[0], sites[1], provider
        finally:
            for site in sites:
                site.end()
            server.stop()


def ask(visitor: Visitor, method: str, path: str, value: object = None, **more: str) -> Answer:
    headers = {"content-type": "application/json", "sec-fetch-site": "same-origin", **more}
    return visitor.request(method, AUTH + path, json.dumps(value or {}).encode(), headers)


def with_token(site: SiteProcess) -> tuple[Visitor, str, str, str]:
    """Register somebody who makes a token; their browser, their name, its id, and the token."""
    visitor = registered(site)
    name = visitor.get("/account").text.partition("@example.org")[0].rpartition(">")[2]
    made = ask(visitor, "POST", "/tokens", {"name": "n", "scopes": ["account:read", "chat:read"]})
    assert made.status == 201, made.text
    found = json.loads(made.body)
    return visitor, name, found["id"], found["token"]


def bearer_ends(site: SiteProcess, token: str, end: Callable[[], object]) -> None:
    """Hear on a socket by a token until something ends it, and find it good for nothing."""
    program, by = Visitor(site.url), f"Bearer {token}"
    assert program.get(f"{AUTH}/tokens", authorization=by).status == 200
    assert ended_with(site, [(b"authorization", by.encode())], end) == SESSION_ENDED
    assert program.get(f"{AUTH}/tokens", authorization=by).status == 401


def test_who_leaves_the_provider_is_out_at_every_process(town: Pair) -> None:
    # AUTH-13, SEC-44: the provider tells one process, the page and the socket are at another
    one, other, provider = town
    provider.session = "s1"
    visitor = Visitor(one.url)
    back = urlsplit(provider.agree(visitor.get(BEGIN).headers["location"]))
    assert visitor.get(f"{back.path}?{back.query}").headers["location"] == "/account"
    there = at(other, visitor)
    assert there.get("/account").status == 200
    there.open_lab()
    body = urlencode({"logout_token": provider.logout_token(sid="s1")}).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    said = partial(
        Visitor(one.url).request, "POST", f"{AUTH}/oauth/example/backchannel-logout", body, form
    )
    with there.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        assert closed_with(other, there, said) == SESSION_ENDED
        to_the_end(stream.response)
    assert there.get("/account").status == 303
    # A logout token is taken once, wherever it comes to.
    again = Visitor(other.url).request(
        "POST", f"{AUTH}/oauth/example/backchannel-logout", body, form
    )
    assert again.status == 400


def test_a_token_that_its_owner_revokes_is_over_at_every_process(town: Pair) -> None:
    # SEC-16, SEC-87, SEC-44
    one, other, _ = town
    visitor, _, id_, token = with_token(one)
    bearer_ends(other, token, partial(ask, visitor, "DELETE", f"/tokens/{id_}"))
    assert visitor.get("/account").status == 200, "the sign-in goes on"


def test_an_operator_ends_a_token_and_then_all_of_somebody(town: Pair) -> None:
    # SEC-16, SEC-18: by commands beside two running processes
    one, other, _ = town
    visitor, name, id_, token = with_token(one)
    end = partial(one.run, "tokens", "revoke", id_, "--user", name, "--yes")
    bearer_ends(other, token, end)
    assert visitor.get("/account").status == 200
    visitor, name, _, token = with_token(other)
    all_of = partial(one.run, "sessions", "revoke", "--user", name, "--yes")
    there = at(other, visitor)
    there.open_lab()
    with there.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        bearer_ends(other, token, all_of)
        to_the_end(stream.response)
    assert there.get("/account").status == 303


def test_a_deleted_account_is_over_at_every_process(town: Pair) -> None:
    # SEC-16: two sign-ins with streams and sockets, and a token
    one, other, _ = town
    visitor, name, _, token = with_token(one)
    second = Visitor(other.url)
    login = {"email": f"{name}@example.org", "password": PASSWORD}
    assert second.form("/login", login).status == 303
    second.open_lab()
    delete = partial(visitor.form, "/account/delete", {"password": PASSWORD})
    with second.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        bearer_ends(other, token, partial(closed_with, other, second, delete))
        to_the_end(stream.response)
    assert second.get("/account").status == 303
    assert at(other, visitor).get("/account").status == 303


def to_the_end(response: HTTPResponse) -> None:
    response.read()
