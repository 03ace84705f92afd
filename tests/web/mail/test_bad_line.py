"""A mail server behind a bad line: slow, cut at each place, reset, away (REL-80, REL-86)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio

from storage.testing import ToxicProxy
from tests.web.mail.mail_server import SILENT, MailServer, mail_server
from tests.web.mail.test_smtp import may, outgoing, sending
from web.mail.answers import Verdict
from web.mail.senders.port import AnswerLost, ServerAway
from web.mail.senders.smtp import SmtpSender


@dataclass
class Far:
    """A mail server, the line to it, and who sends through it."""

    box: MailServer
    line: ToxicProxy
    sender: SmtpSender

    async def arrives(self, number: int) -> None:
        assert (await self.sender.send(outgoing(number=number), may)).verdict is Verdict.SENT

    def ids(self) -> list[str]:
        return [str(mail["Message-ID"]) for mail in self.box.mails()]


@asynccontextmanager
async def far() -> AsyncIterator[Far]:
    with mail_server() as box:
        async with trio.open_nursery() as nursery:
            reach = partial(trio.open_tcp_stream, "127.0.0.1", box.port)
            line: ToxicProxy = await nursery.start(ToxicProxy(reach, seed=17).serve)
            async with sending(line.port) as sender:
                yield Far(box, line, sender)
            nursery.cancel_scope.cancel()


async def test_a_late_line_that_brings_crumbs_only_takes_longer() -> None:
    # REL-80, REL-86
    async with far() as town:
        for toxic in (town.line.up, town.line.down):
            toxic.latency_s, toxic.jitter_s, toxic.slice_bytes = 0.002, 0.002, 150
        await town.arrives(1)
        assert len(town.ids()) == 1


async def test_wherever_the_line_ends_a_mail_is_there_once_or_its_answer_is_lost() -> None:
    # REL-80, REL-86, MAIL-5: the second attempt has the same id, so one of two is known again
    async with far() as town:
        size = len(outgoing().data)
        places: list[tuple[str, int, type[Exception]]] = [
            ("down", 0, ServerAway),  # nothing is heard at all
            ("down", 10, ServerAway),  # in the greeting
            ("up", 30, ServerAway),  # in the envelope
            # In the data: whoever was cut off there cannot know what the server made of it.
            ("up", 100 + size // 2, AnswerLost),
        ]
        for number, (way, limit, error) in enumerate(places, start=1):
            # A line of its own: the one of before stays open for the next mail.
            town.line.reset_all()
            getattr(town.line, way).limit_bytes = limit
            with pytest.raises(error):
                await town.sender.send(outgoing(number=number), may)
            assert len(town.ids()) == number - 1, "what was cut on its way is no mail"
            getattr(town.line, way).limit_bytes = None
            await town.arrives(number)
        assert len(set(town.ids())) == len(town.ids()) == 4


async def test_a_line_that_is_reset_behind_the_data_says_that_it_is_not_known() -> None:
    # REL-86, MAIL-5
    async with far() as town:
        town.box.at_data.append(SILENT)
        async with trio.open_nursery() as nursery:

            async def strike() -> None:
                await trio.to_thread.run_sync(town.box.silent.wait)
                assert town.line.reset_all() == 1

            nursery.start_soon(strike)
            with pytest.raises(AnswerLost):
                await town.sender.send(outgoing(), may)
        await town.arrives(1)


async def test_nobody_there_is_a_server_that_is_away_until_it_is_back() -> None:
    # REL-86
    async with far() as town:
        town.line.is_refusing = True
        for _ in range(3):
            with pytest.raises(ServerAway):
                await town.sender.send(outgoing(), may)
        town.line.is_refusing = False
        await town.arrives(1)
