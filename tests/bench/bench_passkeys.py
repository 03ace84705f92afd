"""Sign-ins by passkey without a browser: what is judged and stored, and how many a second (AUTH-7).

An embedded server of its own with fsync on. What a browser and its device do is timed with it: it
signs in this process. 32 members sign in at once, each anew when they are in.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
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
from storage.postgres import PostgresAccounts, PostgresPasskeys, migrate, open_database
from storage.postgres.embedded.server import start
from tests.bench.rows import RUNS_MIN, Row, row
from tests.passkeys import Authenticator
from web.accounts.ways.passkeys.answers import MadeCredential, UseCredential, read_credential
from web.accounts.ways.passkeys.verifying import WebauthnVerifier

MEMBERS, EACH = 32, 30
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


async def _measure(url: str) -> list[float]:
    rates = []
    async with open_database(url) as database:
        await migrate(database)
        env = PasskeyEnvironment(PostgresPasskeys(database), WebauthnVerifier())
        accounts = PostgresAccounts(database)
        devices = [await _with_passkey(accounts, env) for _ in range(MEMBERS)]

        async def again_and_again(device: Authenticator) -> None:
            for _ in range(EACH):
                await _enter(env, device)

        for _ in range(RUNS_MIN):
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for device in devices:
                    nursery.start_soon(again_and_again, device)
            rates.append(MEMBERS * EACH / (time.perf_counter() - began))
    return rates


def passkeys() -> Sequence[Row]:
    """Call this for how many sign-ins by passkey there are a second."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            rates = trio.run(_measure, server.url)
        finally:
            server.stop()
    return [row("sign-ins by passkey, challenge and signature too", "/s", rates, target=">= 300")]


benchmarks = [passkeys]
