"""What another host may say, and what of it is read."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.web.routing.https_host import Authority, answer_of, https_hosts
from web.routing.outward import NoAnswer, ask, tls_context

NAME, OTHER = "keys.example.org", "other.example.org"
MOST = 1000


async def asked(url: str) -> tuple[int, bytes]:
    answer = await ask("GET", url, bytes_max=MOST, step_s_max=60.0)
    return answer.status, answer.body


async def test_only_who_proves_its_name_is_read_and_only_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MAIL-7, SEC-95: over real TLS, by the roots that are trusted here
    authority = Authority(tmp_path / "trusted")
    async with https_hosts(authority.roots, {NAME: authority.context(NAME)}, monkeypatch) as host:
        host.answers = {
            "/good": answer_of(b"x" * MOST),
            "/none": answer_of(b"not here", 404),
            "/huge": answer_of(b"x" * (MOST + 1)),
            # It says nothing of its size, and goes on for ever.
            "/endless": b"HTTP/1.1 200 x\r\n\r\n" + b"x" * 100_000,
            "/led": answer_of(b"", 302, f"location: https://{NAME}/good"),
            "/packed": answer_of(b"x", 200, "content-encoding: gzip"),
            "/cut": answer_of(b"x" * 10)[:-1],
            "/torn": b"HTTP/1.1 200 x\r\ncontent-le",
            "/nonsense": b"220 mail.example.org ESMTP\r\n",
        }
        assert await asked(f"https://{NAME}/good") == (200, b"x" * MOST)
        assert await asked(f"https://{NAME}/none") == (404, b"not here")
        for path in ("huge", "endless", "led", "packed", "cut", "torn", "nonsense", "silent"):
            with pytest.raises(NoAnswer):
                await asked(f"https://{NAME}/{path}")
        assert host.asked["/good"] == 1, "where one is led to is not gone to"
        with pytest.raises(NoAnswer):
            await asked("https://" + "x" * 300 + "/")
    assert tls_context() is tls_context(), "roots are read once"


async def test_nobody_else_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MAIL-7, SEC-95: no word is said to a host that cannot prove who it is
    trusted, stranger = Authority(tmp_path / "trusted"), Authority(tmp_path / "stranger")
    for context in (stranger.context(NAME), trusted.context(OTHER)):
        async with https_hosts(trusted.roots, {NAME: context}, monkeypatch) as host:
            host.answers["/"] = answer_of(b"hello")
            with pytest.raises(NoAnswer, match="ConnectError"):
                await asked(f"https://{NAME}/")
            assert not host.asked


async def test_one_that_is_given_up_while_it_is_sent_leaves_nothing_half_used() -> None:
    # EX-49: who sends hooks is stopped in the middle of one
    body, took = b"x" * 50_000_000, trio.Event()

    async def never_reads(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        took.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, never_reads, [listener])
        with trio.CancelScope() as asking:
            async with trio.open_nursery() as inner:
                url = f"http://127.0.0.1:{port}/"
                inner.start_soon(partial(ask, "POST", url, bytes_max=1, step_s_max=60.0, body=body))
                await took.wait()
                asking.cancel()
        nursery.cancel_scope.cancel()
    # What is left half used is told as a warning, which is an error here.
    gc.collect()
    await trio.lowlevel.checkpoint()
