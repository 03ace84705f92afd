"""Mails that leave: how many a second by two workers, and what memory ten thousand of them take.

The outbox and what is known of each mail are in an embedded PostgreSQL with fsync on. The mail
server is one of this process, on a thread of its own, and shares its interpreter: it is timed with
it. No encryption, for there is none between processes of one machine in what is measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import trio

from actors.reducers import Environment
from actors.runtime import Secret, open_actors
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresMailStates,
    PostgresOutbox,
    migrate,
    open_database,
)
from storage.postgres.embedded.server import start
from tests.bench.rows import RUNS_MIN, Row, row
from tests.bench.site_server import resident_bytes
from tests.web.mail.mail_server import MailServer, mail_server
from web.mail.delivering import MailDelivery, MailRelay
from web.mail.mails import Mails
from web.mail.sealing import MailSeal
from web.mail.senders.smtp import SmtpSender, SmtpSettings
from web.mail.templates import SECURITY_ALERT
from web.mail.words import MailAddress, SmtpSecurity
from web.wiring.environment import SystemClock, SystemIds

MAILS, MANY = 500, 10_000
SENDER = MailAddress("greenroom@example.org")
_KEYS = count()


class _Counted(list[bytes]):
    """Mails that came, of which only the number is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.came = 0

    def append(self, one: bytes) -> None:
        self.came += 1


async def _queue(mails: Mails, how_many: int) -> None:
    async def some(number: int) -> None:
        for _ in range(number):
            key = f"k{next(_KEYS)}"
            await mails.send(f"{key}@example.org", SECURITY_ALERT, SECURITY_ALERT.sample, key)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(some, how_many // 16)


async def _sent(database: Database, server: MailServer, got: _Counted, wanted: int) -> list[int]:
    """Send all that waits; gives how much memory was held after each second."""
    env = Environment(SystemClock(), SystemIds())
    outbox, dead = PostgresOutbox(database), PostgresDeadLetters(database)
    settings = SmtpSettings("127.0.0.1", server.port, SmtpSecurity.NONE, SENDER)
    delivery = MailDelivery(
        SmtpSender(settings), SENDER, PostgresMailStates(database), env, _seal()
    )
    held: list[int] = []
    async with open_actors() as system:
        await system.start(lambda: MailRelay(outbox, delivery, env, dead))
        while got.came < wanted:
            await trio.sleep(0.02)
            held.append(resident_bytes())
    return held


def _seal() -> MailSeal:
    return MailSeal(Secret(b"k" * 32))


async def _measure(url: str) -> tuple[list[float], list[float]]:
    rates, grown = list[float](), list[float]()
    with mail_server() as server:
        got = _Counted()
        server.got = got
        async with open_database(url) as database:
            await migrate(database)
            mails = Mails(PostgresOutbox(database), seal=_seal())
            for at in range(RUNS_MIN + 1):
                await _queue(mails, MAILS)
                wanted, began = got.came + MAILS // 16 * 16, time.perf_counter()
                await _sent(database, server, got, wanted)
                if at:  # the first is a warm-up
                    rates.append(MAILS // 16 * 16 / (time.perf_counter() - began))
            before = resident_bytes()
            await _queue(mails, MANY)
            held = await _sent(database, server, got, got.came + MANY)
            third = max(1, len(held) // 3)
            for part in (held[:third], held[third : 2 * third], held[2 * third :]):
                grown.append((max(part or [before]) - before) / 2**20)
    return rates, grown


def mail() -> Sequence[Row]:
    """Call this for how many mails leave a second, and what a long queue of them takes."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            rates, grown = trio.run(_measure, server.url)
        finally:
            server.stop()
    return [
        row("mails by two workers, kept and sent", "/s", rates, target=">= 50"),
        row(
            "memory more than before, 10,000 mails queued and sent, each third",
            "MiB",
            grown,
            target="flat",
            is_lower_better=True,
        ),
    ]


benchmarks = [mail]
