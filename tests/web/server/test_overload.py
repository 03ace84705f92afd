"""Who is turned away while the loop cannot keep up: by time that a test lets pass."""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from typing import cast

import pytest
import trio
import trio.testing
from hypercorn.typing import HTTPScope
from structlog.testing import capture_logs

from tests.patience import until
from tests.web.server.edge_kit import Asker, Reply, edged, make_app
from tests.web.server.http2_kit import Contexts, connected, serving2
from tests.web.server.serving_kit import connect
from web.server.connection.overload import OVERLOAD_KEY, Overload, OverloadSettings, Urgency
from web.server.edge.answers import Rendering
from web.server.edge.edge import REQUEST_S, new_uuid

SETTINGS = OverloadSettings()
STEP_S = 0.0625
# Enough for the turn to be late, and to have been so for long.
WAVE = 30


class Loop:
    """Stands for trio's loop, with a clock that goes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked = 0.0
        self.overload = Overload(OverloadSettings(now=lambda: self.now, worked=lambda: self.worked))
        self.overload.before_io_wait(1)
        self.overload.after_io_wait(1)

    def turn(self, *steps: float, urgency: Urgency = Urgency.READ) -> list[bool]:
        """Read a few at once and one behind each step, in one turn; whether these are refused.

        To serve one takes the next step, and to refuse it takes no time.
        """
        refused: list[bool] = []
        for _ in range(SETTINGS.least):
            assert not self.overload.refuses(urgency)
        for step in steps:
            self.work(0 if refused and refused[-1] else step)
            refused.append(self.overload.refuses(urgency))
        self.end_turn()
        return refused

    def work(self, seconds: float) -> None:
        """Have the processor work for so long."""
        self.now += seconds
        self.worked += seconds

    def end_turn(self) -> None:
        """Ask the kernel, which has the next requests already."""
        self.overload.before_io_wait(0)
        self.overload.after_io_wait(0)

    def idle(self, seconds: float) -> None:
        """Wait for the kernel for so long."""
        self.overload.before_io_wait(seconds)
        self.now += seconds
        self.overload.after_io_wait(seconds)


def test_many_requests_in_one_turn_turn_the_rest_away() -> None:
    # RES-8, REL-74
    loop = Loop()
    refused = loop.turn(*[STEP_S] * WAVE)
    # A turn that is late was so from its beginning on, and this one for a second.
    began = refused.index(True)
    assert STEP_S * began == pytest.approx(SETTINGS.for_s, abs=2 * STEP_S)
    assert all(refused[began:])
    assert (loop.overload.is_on, loop.overload.refused) == (True, WAVE - began)
    # From now on each turn serves who is read early in it.
    assert loop.turn(0.02, 0.02, 0.02) == [False, True, True]
    assert loop.turn(0.02) == [False]
    told = loop.overload.load()
    assert (told.is_overloaded, told.refused) == (True, WAVE - began + 2)
    assert told.turn_s == pytest.approx(0.02)
    assert told.longest_s == pytest.approx(STEP_S * (began + 1))


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
        loop.end_turn()
    assert not loop.overload.is_on


def test_short_turns_behind_late_ones_are_no_relief_and_waiting_is() -> None:
    # RES-8: what was read in a late turn goes on in steps, a short turn each
    for idle_s, is_on in ((0.0, True), (0.5, False)):
        loop = Loop()
        for _ in range(40):
            loop.turn(*[STEP_S] * 4)
            for _ in range(3):
                loop.turn(0.05)
            loop.idle(idle_s)
            if loop.overload.is_on:
                break
        assert loop.overload.is_on is is_on


@pytest.mark.parametrize("per_s", [1000, 4500, 8000])
def test_turns_come_back_to_their_length_however_many_ask(per_s: int) -> None:
    # REL-74: at any rate at which turning away alone leaves something of the time
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    page_s, refusal_s, turn_s = 0.0005, 0.0001, 1.0
    asking = refused = 0
    for _ in range(60):
        asking, began, refused = round(per_s * turn_s), loop.now, 0
        for _ in range(asking):
            is_refused = loop.overload.refuses(Urgency.READ)
            refused += is_refused
            loop.work(refusal_s if is_refused else page_s)
        turn_s = loop.now - began
        loop.end_turn()
    lone_s = SETTINGS.begins_s[0] / (1 - per_s * refusal_s)
    assert turn_s <= lone_s * 1.2
    # What turning away leaves is all for those who are served.
    if refused:
        assert (asking - refused) * page_s >= (1 - per_s * refusal_s) * turn_s * 0.9


def test_time_in_which_the_processor_does_something_else_is_nobodys_fault() -> None:
    # RES-8: on a machine with other work a turn is long, though little was done in it
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    assert loop.overload.is_on
    for _ in range(30):
        loop.now += STEP_S
        loop.worked += STEP_S / 100
        assert not loop.overload.refuses(Urgency.READ)


def test_the_log_has_a_line_a_second_with_their_number() -> None:
    # RES-8: turned away are thousands in a second
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    before = loop.overload.refused
    with capture_logs() as logged:
        for _ in range(25):
            loop.turn(0.03, *[0] * 100)
            loop.idle(0.07)
        loop.idle(SETTINGS.for_s)
        loop.end_turn()
    assert not loop.overload.is_on
    lines = [one for one in logged if one["event"] == "request.overload"]
    assert 2 <= len(lines) <= 4
    assert sum(one["refused"] for one in lines) == loop.overload.refused - 1
    assert loop.overload.refused > before


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


def test_of_many_judged_in_one_step_as_many_are_let_in_as_a_turn_can_serve() -> None:
    # REL-74, RES-8
    loop = Loop()
    loop.turn(*[STEP_S] * WAVE)
    overload, page_s = loop.overload, 0.001

    def let_in(urgency: Urgency) -> int:
        before = overload.refused
        overload.begin_shedding()
        found = 0
        for _ in range(200):
            found += not overload.refuses(urgency)
            loop.work(page_s / 10)  # of this none is for who is served
        overload.end_shedding()
        assert overload.refused - before == 200 - found
        return found

    for _ in range(40):
        for _ in range(20):
            overload.refuses(Urgency.READ)
            loop.work(page_s)
        assert let_in(Urgency.READ) >= SETTINGS.least
        loop.end_turn()
    for urgency, limit in zip(Urgency, SETTINGS.begins_s, strict=True):
        assert let_in(urgency) == pytest.approx(limit / page_s, rel=0.1)
    # In the steps that serve them they are asked by what was worked, and not by a guess.
    loop.end_turn()
    served = 0
    while not overload.refuses(Urgency.READ):
        served += 1
        loop.work(page_s * 2)
    assert served == pytest.approx(SETTINGS.begins_s[0] / page_s / 2, abs=2)


def test_before_it_is_known_what_a_request_takes_a_few_are_let_in() -> None:
    # REL-74
    overload = Loop().overload
    overload.begin_shedding()
    assert not any(overload.refuses(Urgency.READ) for _ in range(99))
    overload.end_shedding()
    overload.is_on = True
    overload.begin_shedding()
    assert [overload.refuses(Urgency.READ) for _ in range(99)].count(False) == SETTINGS.least
    overload.end_shedding()


@pytest.mark.parametrize(
    "wrong",
    [
        {"begins_s": (0, 0.05, 0.1)},
        {"begins_s": (0.05, 0.025, 0.1)},
        {"begins_s": (0.025, 0.05, 0.2)},
        {"late_s": 2},
        {"for_s": math.inf},
        *({"least": least} for least in (0, -1, math.nan, math.inf, 2.5, True, "8")),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"late|least"):
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
        self.settings = OverloadSettings(now=lambda: self.now, worked=lambda: self.now)

    def work(self) -> None:
        """Do what takes its time."""
        self.now += STEP_S


async def test_a_site_that_cannot_keep_up_says_so_at_once() -> None:
    # REL-74, RES-8: over HTTP/1.1, with and without a body
    pace = Pace()
    # One address is as many here: its line is in test_bursts.py.
    async with edged(
        connections_max=9999, requests_per_address=WAVE, overload=pace.settings
    ) as ask:
        ask.app.work = pace.work
        crowd = Crowd(ask)
        refused_in_all = 0
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
                ids = {reply.headers["x-request-id"] for reply in refused}
                assert len(ids) == len(refused)
                refused_in_all += len(refused)
            # There may be thousands: the log of requests has none of them, and the other their
            # number, a second of theirs after the first.
            assert not [span for span in ask.spans if span.status == 503]
            assert ask.app.edge.overloads == ask.server.overload.refused == refused_in_all
            scope = cast("HTTPScope", {"state": {OVERLOAD_KEY: ask.server.overload}})
            load = ask.app.edge.load(scope)
            assert (load["overloaded"], load["refused"]) == (True, refused_in_all)
            pace.now += 1
            await crowd.wave("GET /work")
        lines = [one for one in logged if one["event"] == "request.overload"]
        assert [one["refused"] >= 1 for one in lines] == [True] * len(lines)
        assert 2 <= len(lines) <= 5
        # Probes and files are no work, and never turned away.
        for line in ("GET /probe", "GET /file"):
            assert {reply.status for reply in await crowd.wave(line)} == {200}


async def test_who_asks_the_same_again_over_a_kept_connection_is_told_the_same() -> None:
    # REL-74, WEB-10: by one task for all of them, with an id of its own each time
    pace = Pace()
    settings = OverloadSettings(now=lambda: 0.0, worked=lambda: pace.now, least=1)
    correlation = "11111111-2222-4333-8444-555555555555"
    async with edged(overload=settings) as ask:
        ask.server.overload.is_on = True
        ask.server.overload.note_refused()
        names = {b"GET /work": "", b"GET /api/work": f"X-Correlation-Id: {correlation}\r\n"}
        for line, header in names.items():
            head = f"{line.decode()} HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n{header}\r\n"
            found = []
            clients = [await connect(ask.server) for _ in range(3)]
            await until(lambda: len(ask.server._shedder) == 3)
            for _ in range(3):
                # Sent in one turn, so that they are read in one: the first of them is let in.
                for client in clients:
                    client.stream.socket._sock.send(head.encode())  # type: ignore[attr-defined]
                found += [Reply(await client.read_until(b"\r\n\r\n")) for client in clients]
                await until(lambda: len(ask.server._shedder) == 3)
            for client in clients:
                await client.stream.aclose()
            await until(lambda: not ask.server.connections)
            refused = [reply for reply in found if reply.status == 503]
            assert len(refused) == 6
            assert len({reply.headers["x-request-id"] for reply in refused}) == 6
            for reply in refused:
                assert reply.headers["retry-after"] == "1"
                assert reply.headers.get("x-correlation-id") == (correlation if header else None)
        assert ask.app.edge.overloads == 12


def test_what_is_told_who_is_turned_away_has_the_date_of_its_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # REL-74
    edge = make_app("https://x", [], REQUEST_S, [], 1000, WAVE).edge
    told = edge._keep_refusal(Rendering.PAGE, is_https=True)
    for second, word in enumerate(["00:00:01", "00:00:02", "00:00:02", "00:00:03"]):
        monkeypatch.setattr(time, "time", lambda word=word: float(word[-1]) + 0.5)
        head, _, body = told.whole(f"id-{second}").partition(b"\r\n\r\n")
        assert head.count(b"\r\ndate: Thu, 01 Jan 1970 %b GMT" % word.encode()) == 1
        assert head.count(b"id-") == head.count(b"x-request-id: id-%d" % second) == 1
        assert body.count(b"id-") == body.count(b"id-%d" % second) == 1


def test_ids_are_given_once_and_not_by_a_forked_process_too() -> None:
    # REL-74, WEB-10
    given = {new_uuid() for _ in range(1000)}
    assert len(given) == 1000
    assert {uuid.UUID(one).version for one in given} == {4}
    assert {uuid.UUID(one).variant for one in given} == {uuid.RFC_4122}
    assert {one[19] for one in given} == set("89ab")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, new_uuid().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        assert told.read() != new_uuid()


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
