"""Sign-ins by passkey without a browser: what is judged and stored, and how many a second (AUTH-7).

An embedded server of its own with fsync on. What a browser and its device do is timed with it: it
signs in this process. 32 members sign in at once, each anew when they are in. In further runs
somebody says something in the chat 20 times a second meanwhile: through the same database, from the
asking until it is kept.

Then the same at a running site, a process of its own, by HTTP: two requests a sign-in. What this
process does for its members takes as much as the site does, so on two cores the site's own time for
one is told beside what was reached.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import trio

from actors.accounts import NewAccount, NewSignIn, Origin, SessionId
from actors.accounts.ways.passkeys import (
    Added,
    BeginPasskey,
    Ceremony,
    EnterByPasskey,
    MadeAnswer,
    NewChallenge,
    NewPasskey,
    Party,
    PasskeyEnvironment,
    PasskeyFlow,
    UseAnswer,
    challenge_digest,
)
from actors.accounts.ways.passkeys.checks import handle_of
from actors.accounts.ways.passkeys.flow import EnteredBy
from actors.chat import LOBBY
from actors.runtime import Secret
from storage.keyring import SubjectKeyring
from storage.postgres import (
    PostgresAccounts,
    PostgresChatLog,
    PostgresPasskeys,
    PostgresSubjectKeys,
    migrate,
    open_database,
)
from storage.postgres.embedded.server import start
from storage.testing.chat_log import draft
from tests.bench.rows import RUNS_MIN, Row, row
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.passkeys import Authenticator, unb64
from web.accounts.ways.passkeys.answers import MadeCredential, UseCredential, read_credential
from web.accounts.ways.passkeys.verifying import WebauthnVerifier

MEMBERS, EACH = 32, 30
# So that a run of some seconds has enough for its hundredth part, and is no load of its own.
CHAT_PER_S = 20
ADDRESS = "http://localhost:3000"
PARTY = Party("localhost", frozenset({ADDRESS}))
BOUND, ORIGIN = b"b" * 32, Origin(method="passkey")


def _sign_in(digest: bytes) -> NewSignIn:
    return NewSignIn(uuid4(), digest, SessionId(str(uuid4())), "Firefox on Linux")


async def _with_passkey(accounts: PostgresAccounts, env: PasskeyEnvironment) -> Authenticator:
    device, digest, challenge = _device(), os.urandom(32), os.urandom(32)
    account = NewAccount(uuid4(), f"m{uuid4()}", f"{uuid4()}@example.org", "$x")
    assert await accounts.register(account, _sign_in(digest), ORIGIN) is None
    member = await accounts.who(digest)
    assert member is not None
    posted = json_of(device.make(challenge, handle_of(account.user_id)))
    answer: MadeAnswer = read_credential(MadeCredential, posted).answer()
    made = await env.verifier.made(answer, challenge, PARTY)
    new = NewPasskey(
        uuid4(), account.user_id, made.credential_id, made.public_key, member.reference,
        os.urandom(32), ends_others=False,
    )  # fmt: skip
    assert await env.passkeys.add(new, ORIGIN) is Added.DONE
    return device


def _device() -> Authenticator:
    return Authenticator(PARTY.rp_id, ADDRESS, counts=False)


def json_of(posted: object) -> str:
    """What the page's script puts into the form."""
    return json.dumps(posted)


async def _enter(env: PasskeyEnvironment, device: Authenticator) -> None:
    challenge = os.urandom(32)
    flow = PasskeyFlow("one", env)
    made = NewChallenge(challenge_digest(challenge), Ceremony.SIGN_IN, BOUND)
    assert await flow.on_begin_passkey(BeginPasskey(made)) is None
    answer: UseAnswer = read_credential(UseCredential, json_of(device.use(challenge))).answer()
    asked = EnterByPasskey(answer, BOUND, PARTY, _sign_in(os.urandom(32)), ORIGIN)
    assert isinstance(await flow.on_enter_by_passkey(asked), EnteredBy)


async def _chat(log: PostgresChatLog, took: list[float]) -> None:
    """Say something at each time that was set before, however long the one before took."""
    began = trio.current_time()

    async def say(due: float) -> None:
        await log.post(replace(draft(client_id=str(uuid4())), created_at=datetime.now(UTC)))
        took.append((trio.current_time() - due) * 1000)

    async with trio.open_nursery() as nursery:
        for number in count():
            due = began + number / CHAT_PER_S
            await trio.sleep_until(due)
            nursery.start_soon(say, due)


async def _measure(url: str) -> tuple[list[float], list[float]]:
    rates, beside = list[float](), list[float]()
    async with open_database(url) as database:
        await migrate(database)
        env = PasskeyEnvironment(PostgresPasskeys(database), WebauthnVerifier())
        accounts = PostgresAccounts(database)
        devices = [await _with_passkey(accounts, env) for _ in range(MEMBERS)]

        async def again_and_again(device: Authenticator) -> None:
            for _ in range(EACH):
                await _enter(env, device)

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for device in devices:
                    nursery.start_soon(again_and_again, device)

        for _ in range(RUNS_MIN):
            began = time.perf_counter()
            await all_at_once()
            rates.append(MEMBERS * EACH / (time.perf_counter() - began))
        keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
        log = PostgresChatLog(database, keyring)
        await log.ensure_rooms([LOBBY])
        for _ in range(RUNS_MIN):
            took: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_chat, log, took)
                await all_at_once()
                nursery.cancel_scope.cancel()
            beside.append(statistics.quantiles(took, n=100)[98])
    return rates, beside


def passkeys() -> Sequence[Row]:
    """Call this for how many sign-ins by passkey there are a second, and for the chat meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            rates, beside = trio.run(_measure, server.url)
        finally:
            server.stop()
    return [
        row("sign-ins by passkey, challenge and signature too", "/s", rates, target=">= 300"),
        row(
            "the same, a post in the chat meanwhile, p99",
            "ms",
            beside,
            target="<= 250",
            is_lower_better=True,
        ),
    ]


# -- by HTTP ------------------------------------------------------------------------------------

API = "/api/v1/auth/passkey"
HEADERS = {"content-type": "application/json", "sec-fetch-site": "same-origin"}


class _Line:
    """One connection of a client program that asks again and again."""

    def __init__(self, port: int, stream: trio.SocketStream) -> None:
        self._port, self._stream = port, stream
        self._read = b""
        self._cookies: dict[str, str] = {}

    async def post(self, path: str, value: object) -> bytes:
        """Ask, from another address each time: those have limits of their own."""
        body, number = json.dumps(value).encode(), int.from_bytes(os.urandom(3), "big")
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        cookies = "; ".join(f"{name}={kept}" for name, kept in self._cookies.items())
        head = (
            f"POST {API}{path} HTTP/1.1\r\nhost: localhost:{self._port}\r\n"
            f"content-type: application/json\r\nx-forwarded-for: {address}\r\n"
            f"sec-fetch-site: same-origin\r\ncookie: {cookies}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        await self._stream.send_all(head.encode() + body)
        while b"\r\n\r\n" not in self._read:
            self._read += await self._more()
        told, _, rest = self._read.partition(b"\r\n\r\n")
        first, *lines = told.decode().split("\r\n")
        length = 0
        for name, _, said in (one.partition(": ") for one in lines):
            if name.lower() == "content-length":
                length = int(said)
            elif name.lower() == "set-cookie":
                cookie, _, more = said.partition("=")
                self._cookies[cookie] = more.partition(";")[0]
        while len(rest) < length:
            rest += await self._more()
        self._read = rest[length:]
        if " 200 " not in first:
            raise RuntimeError(f"{path} was answered {first} {rest[:200]!r}")
        return rest[:length]

    async def _more(self) -> bytes:
        data = await self._stream.receive_some()
        if not data:
            raise RuntimeError("the site hung up")
        return bytes(data)


def _member(site: SiteProcess, number: int) -> Authenticator:
    """Register somebody with a passkey, by the page's own way."""
    visitor, by = Visitor(site.url), Authenticator("localhost", _origin(site), counts=False)
    typed = {"username": f"m{number}", "email": f"m{number}@example.org", "password": "x9 qv, tz!"}
    from_there = {
        **HEADERS,
        "content-type": "application/x-www-form-urlencoded",
        "x-forwarded-for": f"192.0.2.{number}",
    }
    body = urlencode(typed).encode()
    assert visitor.request("POST", "/register", body, from_there).status == 303
    begun = json.loads(_asked(visitor, "/register/begin", {"device_name": "x"}))
    credential = by.make(unb64(begun["challenge"]), unb64(begun["user"]["id"]))
    _asked(visitor, "/register/complete", {"credential": credential, "device_name": "x"})
    return by


def _asked(visitor: Visitor, path: str, value: object) -> bytes:
    answer = visitor.request("POST", API + path, json.dumps(value).encode(), HEADERS)
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{path} was answered {answer.status} {answer.text}")
    return answer.body


def _origin(site: SiteProcess) -> str:
    return f"http://localhost:{site.port}"


async def _enter_by_http(line: _Line, by: Authenticator) -> None:
    begun = json.loads(await line.post("/login/begin", {}))
    credential = by.use(unb64(begun["challenge"]))
    await line.post("/login/complete", {"credential": credential, "transport": "body"})


def _say(visitor: Visitor, took: list[float]) -> None:
    began = time.perf_counter()
    status = visitor.post(str(uuid4())).status
    took.append((time.perf_counter() - began) * 1000)
    if status != 202:
        raise RuntimeError(f"a post was answered {status}")


async def _at_site(
    site: SiteProcess, members: Sequence[Authenticator], visitor: Visitor
) -> tuple[list[float], list[float], list[float]]:
    rates, spent, beside = list[float](), list[float](), list[float]()

    async def again_and_again(by: Authenticator) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        async with stream:
            line = _Line(site.port, stream)
            for _ in range(EACH):
                await _enter_by_http(line, by)

    async def chat(took: list[float]) -> None:
        while True:
            await trio.to_thread.run_sync(_say, visitor, took)
            await trio.sleep(1 / CHAT_PER_S)

    for _ in range(RUNS_MIN):
        took, count_ = list[float](), len(members) * EACH
        began, used = time.perf_counter(), _cpu_s(site.process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat, took)
            async with trio.open_nursery() as all_of_them:
                for by in members:
                    all_of_them.start_soon(again_and_again, by)
            nursery.cancel_scope.cancel()
        rates.append(count_ / (time.perf_counter() - began))
        spent.append((_cpu_s(site.process.pid) - used) / count_ * 1000)
        beside.append(statistics.quantiles(took, n=100)[98])
    return rates, spent, beside


def _cpu_s(pid: int) -> float:
    """What a process has used of the processors until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def passkeys_by_http() -> Sequence[Row]:
    """Call this for the same at a running site, with posts in its chat meanwhile."""
    settings = {
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "RISK": "observe",
        "CHAT_POSTS_PER_AUTHOR_MAX": "100000",
        "CHAT_POSTS_PER_ADDRESS_MAX": "100000",
    }
    with tempfile.TemporaryDirectory() as folder:
        site = SiteProcess(Path(folder) / "state", **settings)
        try:
            members = [_member(site, number) for number in range(MEMBERS)]
            visitor = Visitor(site.url)
            visitor.open_lab()
            with visitor.open_stream():
                rates, spent, beside = trio.run(_at_site, site, members, visitor)
        finally:
            site.end()
    return [
        row("sign-ins by passkey at the site, by HTTP", "/s", rates, target=">= 300"),
        row("the site's own time for one", "ms", spent, is_lower_better=True),
        row(
            "a post in its chat meanwhile, p99", "ms", beside, target="<= 250", is_lower_better=True
        ),
    ]


benchmarks = [passkeys, passkeys_by_http]
