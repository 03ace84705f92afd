"""Every request of the corpus, on a real connection and by the grammar alone."""

from __future__ import annotations

import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from structlog.testing import capture_logs

from tests.patience import FOR_EVER_S
from tests.web.server.http1.corpus import CASES, Case
from tests.web.server.http1.wire import Answer, split_answers
from tests.web.server.serving_kit import answer, connect, serving
from web.server import Server, TransportSettings
from web.server.reading.heads import Head, HeadLimits, Refusal
from web.server.reading.requests import RequestReader

SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# Sent at once: a case that took the time for a head would be one that nobody refused.
PATIENT = TransportSettings(head_s=FOR_EVER_S, body_s=FOR_EVER_S, linger_s=0.2)


class Recorder:
    """An application that tells which requests reached it whole, by connection."""

    def __init__(self) -> None:
        self.entered: set[tuple[int, bytes]] = set()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] != "lifespan"
        client = scope["client"]
        assert client
        if scope["type"] == "websocket":
            self.entered.add((client[1], scope["raw_path"]))
            await receive()
            if scope["path"] == "/no":
                await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
                await send(
                    {"type": "websocket.http.response.body", "body": b"", "more_body": False}
                )
                return
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await receive()
            return
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            if not message["more_body"]:
                break
        self.entered.add((client[1], scope["raw_path"]))
        await answer(send, scope["raw_path"])


async def problems_of(case: Case, server: Server, recorder: Recorder) -> list[str]:
    async with await connect(server) as client:
        port = client.stream.socket.getsockname()[1]
        # A port is given anew once the connection before has ended; what that one did is over.
        recorder.entered -= {one for one in recorder.entered if one[0] == port}
        await client.send(case.raw + SECOND)
        if case.status == 101:
            got = await client.read_until(b"\r\n\r\n")
        else:
            got = await client.read_to_end()
    method = case.raw.lstrip(b"\r\n").partition(b" ")[0]
    answers = [one for one in split_answers(got, [method, b"GET"]) if one.status != 100]
    mine = {path for number, path in recorder.entered if number == port}
    problems = []
    if answers[0].status != case.status:
        problems.append(f"answered {answers[0].status}, not {case.status}")
    if bool(mine - {b"/second"}) is not case.entered:
        problems.append(f"entered: {mine}")
    if (b"/second" in mine or len(answers) > 1) is not (not case.closes and case.status != 101):
        problems.append("the second request was served" if case.closes else "no second answer")
    if case.closes and case.status != 200 and not answers[0].closes:
        problems.append("nothing says that the connection closes")
    return [f"{case.name}: {one}" for one in problems]


@pytest.mark.usefixtures("road")
async def test_each_request_of_the_corpus_has_its_one_answer() -> None:
    # REL-50, SEC-112, REL-52: on one server, a connection each, a few at a time
    recorder = Recorder()
    problems: list[str] = []
    limiter = trio.CapacityLimiter(20)

    async def ask(case: Case) -> None:
        async with limiter:
            problems.extend(await problems_of(case, server, recorder))

    with capture_logs() as logged:
        async with serving(recorder, PATIENT) as server, trio.open_nursery() as nursery:
            for case in CASES:
                nursery.start_soon(ask, case)
    assert len(CASES) >= 120
    assert problems == []
    assert [entry for entry in logged if entry["log_level"] in ("error", "warning")] == []


@pytest.mark.parametrize("step", [1, 7])
def test_the_grammar_gives_the_same_verdict_however_the_bytes_arrive(step: int) -> None:
    # REL-50
    for case in CASES:
        reader = RequestReader(HeadLimits())
        verdict: Head | Refusal | None = None
        for at in range(0, len(case.raw), step):
            reader.feed(case.raw[at : at + step])
            verdict = _verdict(reader, verdict)
            if isinstance(verdict, Refusal):
                break
        status = verdict.status if isinstance(verdict, Refusal) else 200 if verdict else None
        assert status == (200 if case.entered else case.status), case.name


def _verdict(reader: RequestReader, before: Head | Refusal | None) -> Head | Refusal | None:
    head = before or reader.next_head()
    while isinstance(head, Head) and reader.is_in_body:
        piece = reader.next_body()
        if isinstance(piece, Refusal):
            return piece
        if not piece:
            break
    return head


@pytest.mark.usefixtures("road")
async def test_a_refused_version_tells_the_right_one() -> None:
    # RFC 6455 4.4, SITE-50
    case = next(case for case in CASES if case.name == "version 8")
    async with serving(Recorder(), PATIENT) as server, await connect(server) as client:
        await client.send(case.raw)
        found = only(await client.read_to_end())
    assert found.headers[b"sec-websocket-version"] == b"13"
    assert found.headers[b"upgrade"] == b"websocket"


def only(data: bytes) -> Answer:
    (found,) = split_answers(data, [b"GET"])
    return found
