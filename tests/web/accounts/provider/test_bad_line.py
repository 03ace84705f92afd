"""A provider behind a bad line: slow, cut in its answer, reset, away (REL-80, SEC-95)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from storage.testing import ToxicProxy
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.provider.lying import LyingProvider
from tests.web.accounts.provider.town import Town, open_town
from tests.web.accounts.test_entering import get

pytestmark = pytest.mark.slow


async def signs_in(town: Town) -> None:
    """Somebody new comes in, whatever was before."""
    town.site.accounts.database.attempts.clear()
    town.asked.caller.reset()
    answer = await town.sign_in(town.site.visitor())
    assert (answer.status, answer.headers["location"]) == (303, "/lab"), answer.text


def members(town: Town) -> str:
    """Who there is and who is in; not the mails, which leave beside."""
    database = town.site.accounts.database
    return repr((database.users, database.sign_ins, database.identities))


async def test_a_bad_line_to_a_provider_costs_a_sign_in_and_nothing_else() -> None:
    # REL-80, SEC-95, AUTH-5
    proxies: list[ToxicProxy] = []
    async with trio.open_nursery() as nursery:

        async def move(provider: LyingProvider) -> None:
            reach = partial(trio.open_tcp_stream, "127.0.0.1", provider.port)
            proxies.append(await nursery.start(ToxicProxy(reach, seed=17).serve))
            provider.port = proxies[0].port

        async with open_town(move=move) as town:
            (proxy,) = proxies
            # Late, and in crumbs: it takes longer, and that is all.
            proxy.down.latency_s, proxy.down.jitter_s, proxy.down.slice_bytes = 0.005, 0.005, 200
            await signs_in(town)
            proxy.down.latency_s, proxy.down.jitter_s, proxy.down.slice_bytes = 0.0, 0.0, None

            for bad in (cut_in_the_answer, refused, reset):
                guest, before = town.site.visitor(), members(town)
                back = await town.agreed(guest)
                with captured() as lines:
                    async with bad(proxy):
                        answer = await get(guest, back)
                assert answer.status == 503, bad.__name__
                assert members(town) == before, "no half-made session, and no member"
                assert "code-example" not in str(lines), "a code is in no line"
                await signs_in(town)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def cut_in_the_answer(proxy: ToxicProxy) -> AsyncIterator[None]:
    """The line ends in the middle of the head of an answer."""
    proxy.down.limit_bytes = 40
    yield
    proxy.down.limit_bytes = None


@asynccontextmanager
async def refused(proxy: ToxicProxy) -> AsyncIterator[None]:
    proxy.is_refusing = True
    yield
    proxy.is_refusing = False


@asynccontextmanager
async def reset(proxy: ToxicProxy) -> AsyncIterator[None]:
    """It falls silent with a question under way, and is reset."""

    # Those of before are gone: what is struck is the question.
    await until(lambda: proxy.open_count == 0)

    async def strike() -> None:
        await until(lambda: proxy.open_count > 0)
        proxy.reset_all()

    proxy.cut_apart()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(strike)
        yield
    proxy.mend()
