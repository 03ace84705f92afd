"""Who is turned away while the loop cannot keep up: by time that a test lets pass."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.patience import until
from tests.web.server.edge_kit import Asker, Reply, edged, make_app
from tests.web.server.http2_kit import Contexts, connected, serving2
from web.server.connection.overload import Overload, OverloadSettings, Urgency
from web.server.edge.edge import REQUEST_S

SETTINGS = OverloadSettings()
STEP_S = 0.0625
# Enough for the turn to be late, and to have been so for long.
WAVE = 30


class Loop:
    """Stands for trio's loop, with a clock that goes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.overload = Overload(OverloadSettings(now=lambda: self.now))
        self.overload.before_io_wait(1)
        self.overload.after_io_wait(1)

    def turn(self, *steps: float, urgency: Urgency = Urgency.READ) -> list[bool]:
        """Read a few at once and one behind each step, in one turn; whether these are refused."""
        refused = []
        for _ in range(SETTINGS.least):
            assert not self.overload.refuses(urgency)
        for step in steps:
            self.now += step
            refused.append(self.overload.refuses(urgency))
        self.overload.before_io_wait(0)
        self.overload.after_io_wait(0)
        return refused

    def idle(self, seconds: float) -> None:
        """Wait for the kernel for so long."""
        self.overload.before_io_wait(seconds)
        self.now += seconds
        self.overload.after_io_wait(seconds)


def test_many_requests_in_one_turn_turn_the_rest_away() -> None:
    # RES-8, REL-74
    loop = Loop()
    refused = loop.turn(*[STEP_S] * WAVE)
    # Late from the second on, and then for a second.
    began = refused.index(True)
    assert STEP_S * began == pytest.approx(SETTINGS.late_s + SETTINGS.for_s, abs=2 * STEP_S)
    assert all(refused[began:])
    assert (loop.overload.is_on, loop.overload.refused) == (True, WAVE - began)
    # From now on each turn serves who is read early in it.
    assert loop.turn(0.02, 0.02, 0.02) == [False, True, True]
    assert loop.turn(0.02) == [False]
    assert loop.overload.turn_s == pytest.approx(0.02)


def test_one_handler_that_blocks_turns_nobody_away() -> None:
    # RES-8: the loop was late, but has no more to do than it can
    loop = Loop()
    for _ in range(10):
        assert loop.turn(60, 0, 0) == [False] * 3
        # While nobody comes it is forgotten.
        loop.idle(1)
    assert not loop.overload.is_on


def test_what_others_make_a_turn_long_by_is_not_for_requests_to_pay() -> None:
    # RES-8: a page that is asked for behind a long fan-out, turn after turn
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    assert loop.overload.is_on
    for _ in range(100):
        loop.now += 1.0
        assert not any(loop.overload.refuses(Urgency.READ) for _ in range(SETTINGS.least))
        loop.overload.before_io_wait(0)
        loop.overload.after_io_wait(0)
    assert not loop.overload.is_on


def test_late_turns_one_after_the_other_count_together() -> None:
    # RES-8
    loop = Loop()
    for _ in range(4):
        assert loop.turn(0.24, 0) == [False] * 2
        # A short turn between them takes nothing away but its own time.
        assert loop.turn(0.001) == [False]
    assert loop.turn(0.24, 0) == [True] * 2


def test_the_more_urgent_are_turned_away_later_and_all_come_in_again() -> None:
    # REL-74, RES-8
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    for urgency, limit in zip(Urgency, SETTINGS.begins_s, strict=True):
        assert loop.turn(limit * 0.9, limit * 0.2, urgency=urgency) == [False, True]
    assert repr(loop.overload) == f"<Overload on refused={loop.overload.refused}>"
    # Nobody was turned away for a second: the turns are short, or nobody comes.
    loop.idle(SETTINGS.for_s)
    assert loop.turn(0.01) == [False]
    assert not loop.overload.is_on
    assert loop.turn(0.06) == [False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"begins_s": (0, 0.05, 0.1)},
        {"begins_s": (0.05, 0.025, 0.1)},
        {"begins_s": (0.025, 0.05, 0.2)},
        {"late_s": 2},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="late"):
        OverloadSettings(**wrong)  # type: ignore[arg-type]


class Crowd:
    """Connections that ask all at once, so that the server reads them in one turn."""

    def __init__(self, ask: Asker) -> None:
        self._ask = ask
        self._sockets: list[socket.socket] = []

    async def wave(self, line: str, headers: str = "") -> list[Reply]:
        """Ask over new connections; the answers, in no order."""
        before = len(self._ask.server.connections)
        ours = [socket.create_connection(("127.0.0.1", self._ask.port)) for _ in range(WAVE)]
        await until(lambda: len(self._ask.server.connections) == before + WAVE)
        await trio.testing.wait_all_tasks_blocked()
        host = f"Host: 127.0.0.1:{self._ask.port}\r\nConnection: close\r\n"
        for client in ours:
            client.sendall(f"{line} HTTP/1.1\r\n{host}{headers}\r\n".encode())
        found = []
        for client in ours:
            client.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
            found.append(Reply(b"".join([piece async for piece in stream])))
            await stream.aclose()
        return found


class Pace:
    """The clock of a server, which goes on when work is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settings = OverloadSettings(now=lambda: self.now)

    def work(self) -> None:
        """Do what takes its time."""
        self.now += STEP_S


async def test_a_site_that_cannot_keep_up_says_so_at_once() -> None:
    # REL-74, RES-8: over HTTP/1.1, with and without a body
    pace = Pace()
    async with edged(connections_max=9999, overload=pace.settings) as ask:
        ask.app.work = pace.work
        crowd = Crowd(ask)
        told = []
        with capture_logs() as logged:
            for line, headers in (
                ("GET /work", ""),
                ("GET /api/work", ""),
                ("POST /work", "Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n"),
            ):
                replies = await crowd.wave(line, headers)
                served = [reply for reply in replies if reply.status == 200]
                refused = [reply for reply in replies if reply.status == 503]
                assert served
                assert refused
                assert len(served) + len(refused) == WAVE
                for reply in refused:
                    assert reply.headers["retry-after"] == "1"
                    assert reply.headers["x-content-type-options"] == "nosniff"
                    assert "content-security-policy" in reply.headers
                    assert int(reply.headers["content-length"]) == len(reply.body)
                    is_api = line == "GET /api/work"
                    assert ("x-correlation-id" in reply.headers) == is_api
                    if not is_api:
                        assert reply.headers["x-request-id"].encode() in reply.body
                    assert "set-cookie" not in reply.headers
                # Each is told once, under its own id.
                told = [span for span in ask.spans if span.status == 503]
                ids = {reply.headers["x-request-id"] for reply in refused}
                assert ids == {span.request_id for span in told[-len(refused) :]}
                assert {span.address for span in told} == {"127.0.0.1"}
        assert ask.app.edge.overloads == ask.server.overload.refused == len(told)
        assert [one["event"] for one in logged].count("request.overload") == 1
        # Probes and files are no work, and never turned away.
        for line in ("GET /probe", "GET /file"):
            assert {reply.status for reply in await crowd.wave(line)} == {200}


async def test_over_http2_too(contexts: Contexts) -> None:
    # REL-74
    pace = Pace()
    app = make_app("https://x", [], REQUEST_S, [], 1000, WAVE)
    app.work = pace.work
    async with (
        serving2(contexts, app, overload=pace.settings) as server,
        connected(server, contexts) as client,
    ):
        asked = []
        for _ in range(WAVE):
            number = client.frames.get_next_available_stream_id()
            pairs = [(":method", "GET"), (":scheme", "https"), (":authority", "x")]
            client.frames.send_headers(number, [*pairs, (":path", "/work")], end_stream=True)
            asked.append(number)
        await client.flush()
        await client.until(lambda: client.ended.issuperset(asked))
        assert {client.status[number] for number in asked} == {"200", "503"}
        refused = [number for number in asked if client.status[number] == "503"]
        assert server.overload.refused == len(refused)
        for number in refused:
            assert client.headers[number][b"retry-after"] == b"1"
            assert b"content-security-policy" in client.headers[number]
        last = await client.ask("/work")
        await client.until(lambda: last in client.ended)
        assert client.status[last] == "200"
