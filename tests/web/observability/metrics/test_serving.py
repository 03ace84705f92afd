"""Figures are given on a port of this machine, or to who shows a token; to all others nothing."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import h11
import pytest
import trio

from actors.runtime import Secret, open_actors
from actors.runtime.words.tallies import Tallies
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports
from tests.web.whole_site import in_thread, open_whole_site
from web.observability.metrics import Metrics
from web.observability.metrics.collectors import of_tallies
from web.observability.metrics.serving import CONNECTIONS_MAX, MetricsServer
from web.settings import Settings

TOKEN = "sixteen-letters-and-more"
MANY_MS = 60_000


def settings(**given: object) -> Settings:
    return Settings(port=0, overload_late_ms=MANY_MS, overload_after_ms=MANY_MS, **given)  # type: ignore[arg-type]  # whatever a test sets


async def asked(site_visitor: Visitor, **headers: str) -> tuple[int, str]:
    answer = await in_thread(partial(site_visitor.request, "GET", "/metrics", b"", headers or None))
    return answer.status, answer.text


async def test_without_a_token_there_is_no_such_page() -> None:
    # OBS-1, SEC-124: also to who has none to compare with
    async with open_whole_site(settings=settings()) as site:
        for shown in ("", "Bearer ", "Bearer None", f"Bearer {TOKEN}"):
            status, text = await asked(site.visitor(), authorization=shown)
            assert status == 404, shown
            assert "greenroom_" not in text


async def test_who_shows_the_token_is_given_the_figures() -> None:  # OBS-1, SEC-124
    async with open_whole_site(settings=settings(metrics_token=Secret(TOKEN))) as site:
        nowhere = await in_thread(lambda: site.visitor().get("/nowhere"))
        for shown in ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xe9"):
            status, text = await asked(site.visitor(), authorization=shown)
            assert (status, "greenroom_" in text) == (404, False), shown
        assert nowhere.status == 404
        status, text = await asked(site.visitor(), authorization=f"bearer  {TOKEN}")
        assert status == 200
        assert 'greenroom_http_requests_total{route="none",status="4xx"}' in text
        assert TOKEN not in text
        # With somebody to read them, times are taken.
        assert 'greenroom_handle_seconds_count{kind="' in text


async def test_times_that_nobody_reads_are_not_taken() -> None:  # OBS-2
    async with open_whole_site(settings=settings()) as site:
        assert [cell for cell in site.system.cells() if cell.meter is not None] == []


async def test_the_port_of_this_machine_answers_one_scrape_after_another() -> None:  # OBS-1
    (port,) = free_ports(1)
    tallies = Tallies()
    async with open_actors() as system:
        await system.start(MetricsServer, Metrics([of_tallies(tallies)]), port)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        client = h11.Connection(h11.CLIENT)
        for number in (1, 2):
            tallies.add("timers_fired_total")
            status, body = await exchange(stream, client, "GET", "/metrics?x=1")
            assert status == 200
            assert f"greenroom_timers_fired_total {number}.0\n".encode() in body
            client.start_next_cycle()
        for method, path in (("GET", "/"), ("POST", "/metrics"), ("GET", "/metrics/")):
            assert await exchange(stream, client, method, path) == (404, b"")
            client.start_next_cycle()
        status, body = await exchange(stream, client, "HEAD", "/metrics")
        assert (status, body) == (200, b"")
        client.start_next_cycle()
        # OBS-7: what a scraper takes it may say in several lines, which are one list
        takes = "application/openmetrics-text", "text/plain;q=0.5"
        _, body = await exchange(stream, client, "GET", "/metrics", *takes)
        assert body.endswith(b"# EOF\n")
        await stream.aclose()


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02", b"GET /metrics HTTP/1.1\r\n\r\n", b"X" * 40_000, b"\r\n" * 9]
)
async def test_nonsense_ends_its_own_connection_only(nonsense: bytes) -> None:  # OBS-1
    (port,) = free_ports(1)
    async with open_actors() as system:
        ref = await system.start(MetricsServer, Metrics(), port)
        bad = await trio.open_tcp_stream("127.0.0.1", port)
        # It may be closed while we still send.
        with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            async with bad:
                await bad.send_all(nonsense)
                await bad.send_eof()
                while await bad.receive_some():
                    pass
        good = await trio.open_tcp_stream("127.0.0.1", port)
        assert (await exchange(good, h11.Connection(h11.CLIENT), "GET", "/metrics"))[0] == 200
        assert system.stats(ref).crashes == 0
        await good.aclose()


async def test_a_name_of_elsewhere_that_leads_here_is_given_nothing() -> None:
    # OBS-1, SEC-124: a page in a browser of this machine, whose own name was turned to 127.0.0.1
    (port,) = free_ports(1)
    own = ["127.0.0.1:9464", "localhost:9464", "LOCALHOST.", "[::1]:9464", "10.1.2.3", ""]
    own += ["metrics.localhost", "host.docker.internal:9464"]
    others = ["evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "x"]
    others += ["[evil.example]:9464", "evil-localhost", "evil:1:2", "127.0.0.1@evil.example"]
    async with open_actors() as system:
        await system.start(MetricsServer, Metrics([of_tallies(Tallies())]), port)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        client = h11.Connection(h11.CLIENT)
        for host in (*own, *others):
            status, body = await exchange(stream, client, "GET", "/metrics", host=host)
            told = (200, True) if host in own else (404, False)
            assert (status, b"greenroom_" in body) == told, host
            client.start_next_cycle()
        await stream.aclose()


async def test_more_than_a_few_connections_are_closed_at_once() -> None:  # OBS-1
    (port,) = free_ports(1)
    async with open_actors() as system:
        await system.start(MetricsServer, Metrics(), port)
        held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        for one in held:  # each is being served
            assert (await exchange(one, h11.Connection(h11.CLIENT), "GET", "/x"))[0] == 404
        late = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(PATIENCE_S):
            assert await late.receive_some() == b""
        await held[0].aclose()
        for one in (late, *held[1:]):
            await one.aclose()


async def exchange(
    stream: trio.SocketStream,
    client: h11.Connection,
    method: str,
    path: str,
    *accepts: str,
    host: str = "127.0.0.1",
) -> tuple[int, bytes]:
    headers = [("Host", host), *(("Accept", one) for one in accepts)]
    head = client.send(h11.Request(method=method, target=path, headers=headers))
    await stream.send_all((head or b"") + (client.send(h11.EndOfMessage()) or b""))
    status, body = 0, b""
    with trio.fail_after(PATIENCE_S):
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
