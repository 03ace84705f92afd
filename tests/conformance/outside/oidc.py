"""An OpenID provider that we did not write: the certified `oidc-provider` of npm (AUTH-14).

The whole site runs here, on the store in memory; the provider is a process of Node on loopback, and
its person is a client that fills in the forms it shows.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import trio

from actors.accounts.ways.provider.judging import judge_return, secrets_of
from actors.accounts.ways.provider.words import Exchange, Kind, NotShown, Provider
from actors.runtime import Secret
from tests.conformance.outside.lines import BUILD, ROOT, Line, judged, not_run
from tests.journeys.visitor import Visitor
from tests.patience import until
from tests.processes.ports import free_port, wait_for_port
from tests.web.accounts.test_entering import form, get
from tests.web.whole_site import WholeSite, open_whole_site
from web.accounts.ways.provider.asking import AskedProvider
from web.settings import Settings

NAME = "oidc-provider"
HOME = BUILD / "oidc-provider"
SCRIPT = ROOT / "tests" / "conformance" / "outside" / "provider" / "serve.mjs"
CLIENT, SECRET = "greenroom", "a secret: +/&"
RUN_S_MAX = 180.0
STEPS_MAX = 12


class Fault(Exception):
    """Raised when something was otherwise than it must be; the text says what."""


def check(what: str, *, is_so: bool) -> None:
    """Call this with what must be so; raises `Fault`."""
    if not is_so:
        raise Fault(what)


async def run() -> Line:
    """Call this to run all of it."""
    # AUTH-14
    node = shutil.which("node")
    if node is None or not (HOME / "node_modules" / NAME).is_dir():
        return not_run(NAME, "node, or the package")
    (HOME / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    port, done = free_port(), list[str]()
    issuer = f"http://127.0.0.1:{port}"
    # It names a second secret of a client nowhere: what it is told stands in its script.
    mine = Provider("example", "Example", Kind.OIDC, issuer, CLIENT, Secret(SECRET))
    settings = Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000, providers=(mine,)
    )
    problems: list[str] = []
    try:
        with trio.fail_after(RUN_S_MAX):
            async with open_whole_site(settings=settings) as site:
                await _play(site, node, port, done)
    except* (Fault, trio.TooSlowError, httpx.HTTPError, NotShown, RuntimeError) as group:
        problems.append(f"{_first(group)}; passed before: {', '.join(done) or 'nothing'}")
    return judged(NAME, problems, ", ".join(done))


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return f"{type(one).__name__} {one}".strip()


async def _play(site: WholeSite, node: str, port: int, done: list[str]) -> None:
    assert site.web.providers is not None
    asked = site.web.providers.asked["example"]
    with opened(node, port, site.url, "one"):
        ada, person = site.visitor(), Person()
        back = await person.agrees(await begins(ada))
        check("it says who it is", is_so="iss=" in back)
        came = await get(ada, path_of(back))
        check(f"signed in by a code ({came.status})", is_so=came.status == 303)
        done += ["code with PKCE", "nonce", "iss"]
        again = await get(ada, path_of(back))
        check("a state is good once", is_so=again.status == 400)
        done.append("replay refused here")
        await _code_twice(site, asked, done)
        await _renews(site, asked, done)
        out = await form(ada, "/logout")
        check("led to where one leaves", is_so=out.headers["location"] == "/logout/example")
        url = (await get(ada, "/logout/example?go=1")).headers["location"]
        other = site.visitor()
        check("signed in anew", is_so=await signs_in(other, person))
        left = await person.leaves(url)
        check(f"led back from there ({left})", is_so=left == f"{site.url}/")
        done.append("end_session")
        await until(lambda: not site.accounts.database.sign_ins)
        gone = await get(other, "/protected")
        check("who left is signed out", is_so=gone.status == 303)
        done.append("back-channel logout")
    with opened(node, port, site.url, "two"):
        asked.looked_at = float("-inf")  # a minute later
        asked.caller.reset()
        check("signed in with other keys", is_so=await signs_in(site.visitor(), Person()))
        done.append("rotated keys")


async def _code_twice(site: WholeSite, asked: AskedProvider, done: list[str]) -> None:
    """Exchange one code twice, past our own guard of states: the provider refuses the second."""
    endpoints, flow, state = await asked.endpoints(), "f" * 43, "s" * 43
    back = await Person().agrees(asked.authorize_url(endpoints, secrets_of(flow, state), state))
    query = [(name, one) for name, ones in parse_qs(urlsplit(back).query).items() for one in ones]
    exchange: Exchange = judge_return(query, secrets_of(flow, state))
    shown = await asked.show(exchange)
    check("an address that it has verified", is_so=shown.email.endswith("@elsewhere.org"))
    check("a session that it names", is_so=bool(shown.session))
    try:
        await asked.show(exchange)
    except NotShown:
        done.append("replayed code refused there")
        return
    raise Fault("a code was taken twice")


async def _renews(site: WholeSite, asked: AskedProvider, done: list[str]) -> None:
    (row,) = site.accounts.database.identities.values()
    check("a refresh token came", is_so=row.tokens is not None and row.tokens.refresh is not None)
    assert row.tokens is not None
    renewed = await asked.renew(row.tokens)
    check("another access token", is_so=renewed.access.reveal() != row.tokens.access.reveal())
    check("still one to renew with", is_so=renewed.refresh is not None)
    done.append("refresh")


async def begins(visitor: Visitor) -> str:
    """Call this for where somebody is sent to."""
    answer = await get(visitor, "/api/v1/auth/oauth/example/authorize?redirect_to=/lab")
    check(f"sent to the provider ({answer.status})", is_so=answer.status == 302)
    return answer.headers["location"]


async def signs_in(visitor: Visitor, person: Person) -> bool:
    """Call this for whether somebody gets in."""
    back = await person.agrees(await begins(visitor))
    return (await get(visitor, path_of(back))).status == 303


def path_of(url: str) -> str:
    """Call this for what of an address is asked of its host."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@dataclass
class Person:
    """Somebody with a browser at the provider, who says yes to whatever form is shown."""

    client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(trust_env=False, verify=False, timeout=30.0)
    )

    async def agrees(self, url: str) -> str:
        """Call this with where they are sent to, for where they come back to."""
        return await self._goes(url, "/callback")

    async def leaves(self, url: str) -> str:
        """Call this with where they sign out."""
        return await self._goes(url, "")

    async def _goes(self, url: str, end: str) -> str:
        own = urlsplit(url).netloc
        answer = await self.client.get(url)
        for _ in range(STEPS_MAX):
            if answer.is_redirect:
                url = urljoin(str(answer.url), answer.headers["location"])
                if urlsplit(url).netloc != own:
                    check(f"back to {end}", is_so=urlsplit(url).path.endswith(end))
                    return url
                answer = await self.client.get(url)
                continue
            check(f"a page of the provider ({answer.status_code})", is_so=answer.is_success)
            answer = await self._fills(answer)
        raise Fault("the provider leads in a circle")

    async def _fills(self, page: httpx.Response) -> httpx.Response:
        action = re.search(r'action="([^"]+)"', page.text)
        if action is None:
            raise Fault("a page without a form")
        given: dict[str, str] = {}
        for tag in re.findall(r"<(?:input|button)[^>]*>", page.text):
            name, value = (re.search(rf'{one}="([^"]*)"', tag) for one in ("name", "value"))
            if name is not None:
                given[name[1]] = unescape(value[1]) if value is not None else "ada"
        return await self.client.post(urljoin(str(page.url), unescape(action[1])), data=given)


@contextmanager
def opened(node: str, port: int, site: str, key: str) -> Iterator[None]:
    """Run the provider with a key of that name, until it is left."""
    log = HOME / f"{key}.log"
    command = [node, SCRIPT.name, str(port), site, key]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=HOME, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, process, log.read_text)
        yield
    finally:
        process.kill()
        process.wait()
