"""h2spec on our HTTP/2, over TLS, which is the only way we speak it (REL-53)."""

from __future__ import annotations

import re
import subprocess
from functools import partial
from pathlib import Path

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.conformance.outside.lines import BUILD, Line, find, judged, not_run
from tests.web.server.certificate import make_context
from tests.web.server.serving_kit import answer, with_lifespan
from web.server import ServerSettings, serve

NAME = "h2spec"
RUN_S_MAX = 900.0


async def told(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer when the request is whole.

    The edge would refuse most of what h2spec sends before that, and the stream would be over when
    the broken frame comes: it is ignored then (RFC 9113 5.1), and h2spec waits for its error.
    """
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        if not message["more_body"]:
            await answer(send, b"a page" * 200)
            return


async def run() -> Line:
    """Call this to run all of it."""
    program = find("h2spec", "H2SPEC")
    if program is None:
        return not_run(NAME, "h2spec")
    folder = BUILD / "h2spec"
    settings = ServerSettings(port=0, tls=make_context(folder))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, with_lifespan(told), settings))
        command = [program, "-t", "-k", "-h", "127.0.0.1", "-p", str(server.port), "-o", "5"]
        with (folder / "log").open("wb") as log, trio.move_on_after(RUN_S_MAX):
            await trio.run_process(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        await server.drain()
    return read(folder / "log")


def read(log: Path) -> Line:
    """Call this to judge what it said."""
    text = log.read_text(errors="replace")
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", text)
    if found is None:
        return judged(NAME, [f"it came to no end; see {log}"], "")
    total, passed, skipped, failed = map(int, found.groups())
    problems = [f"{failed} of {total} failed; see {log}"] if failed else []
    return judged(NAME, problems, f"{total} tests, {passed} passed, {skipped} skipped")
