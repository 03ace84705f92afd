"""Sign-ins by passkey without a browser: what is judged and stored, and how many a second (AUTH-7).

An embedded server of its own with fsync on. What a browser and its device do is timed with it: it
signs in this process. 32 members sign in at once, each anew when they are in. In further runs
somebody says something in the chat 20 times a second meanwhile: through the same database, from the
asking until it is kept.
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
from tests.passkeys import Authenticator
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


benchmarks = [passkeys]
