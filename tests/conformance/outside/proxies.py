"""The site behind nginx and HAProxy, set up as docs/how_to/deploy.md says, word for word.

Of the page's blocks only the port to listen on and the site's address are replaced. What must hold:
streams and sockets pass unbuffered, the client's address is the one that counts, a drain is told
through the proxy, the proxy answers while the site is away, and a client program misses nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from tests.conformance.outside.lines import ROOT, Line, find, judged, not_run
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.processes.ports import free_port
from web.client import ClientSettings, Gap, connect

PAGE = ROOT / "docs" / "how_to" / "deploy.md"
# What a proxy answers while the site behind it is away.
AWAY = (502, 503)
_QUICK = ClientSettings(delay_s_first=0.1, delay_s_max=0.5, restart_spread_s=0.2)

Write = Callable[[str, Path], str]


def write_nginx(block: str, folder: Path) -> str:
    """The block, in a file of its own that touches nothing of the machine's nginx."""
    paths = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {folder / 'pid'}; error_log {folder / 'log'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{block}}}\n"
    )


def write_haproxy(block: str, folder: Path) -> str:
    """The block as it is."""
    del folder
    return block


# name -> how its file is written, and its command behind the program's path
PROXIES: dict[str, tuple[Write, Callable[[Path, Path], list[str]]]] = {
    "nginx": (write_nginx, lambda file, folder: ["-p", str(folder), "-c", str(file)]),
    "haproxy": (write_haproxy, lambda file, folder: ["-db", "-f", str(file)]),
}


def block_of(name: str) -> str:
    """Call this for what the page says of a proxy."""
    (found,) = re.findall(rf"```{name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


@contextmanager
def running(name: str, program: str, port: int, site_port: int, folder: Path) -> Iterator[None]:
    """Run the proxy on `port` before the site."""
    block = block_of(name)
    for said, meant in (
        (":80\n", f"127.0.0.1:{port}\n"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:3000", f"127.0.0.1:{site_port}"),
    ):
        block = block.replace(said, meant)
    write, command = PROXIES[name]
    file = folder / "proxy.conf"
    file.write_text(write(block, folder))
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [program, *command(file, folder)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


async def run(name: str) -> Line:
    """Call this to try one of `PROXIES`."""
    program = find(name, name.upper())
    if program is None:
        return not_run(name, name)
    with _open_folder(name) as made:
        folder, port, site_port = Path(made), free_port(), free_port()
        site = await trio.to_thread.run_sync(partial(_start, folder / "state", site_port, port))
        try:
            with running(name, program, port, site_port, folder):
                problems = await _tried(site, f"http://127.0.0.1:{port}")
        finally:
            await trio.to_thread.run_sync(site.end)
    return judged(name, problems, "streams, sockets, addresses, drain, away and back")


@contextmanager
def _open_folder(name: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as made:
        Path(made).chmod(0o755)  # nginx's workers are another user
        yield made


def _start(state: Path, site_port: int, port: int) -> SiteProcess:
    return SiteProcess(
        state,
        PORT=str(site_port),
        PUBLIC_ORIGIN=f"http://127.0.0.1:{port}",
        TRUSTED_PROXIES="127.0.0.0/8",
        CHAT_POSTS_PER_AUTHOR_MAX="1000",
        CHAT_POSTS_PER_ADDRESS_MAX="1000",
    )


async def _tried(site: SiteProcess, url: str) -> list[str]:
    problems: list[str] = []
    try:
        with trio.fail_after(PATIENCE_S):
            await _answers(url, 200)
            problems += await trio.to_thread.run_sync(partial(_addresses, url))
            problems += await trio.to_thread.run_sync(partial(_stream, url))
            problems += await _through_a_restart(site, url)
    except Exception as error:  # noqa: BLE001 - every end is a line of the report
        problems.append(f"it ended in {error!r}")
    return problems


def _addresses(url: str) -> list[str]:
    """An operator's own machine is told more by `/ready`; so one sees for whom a request counts."""
    visitor = Visitor(url)
    near = json.loads(visitor.get("/ready").body)
    far = json.loads(
        visitor.request("GET", "/ready", None, {"X-Forwarded-For": "203.0.113.7"}).body
    )
    problems = []
    if set(near) == set(far):
        problems.append("the address in X-Forwarded-For did not count")
    return problems


def _stream(url: str) -> list[str]:
    """A post is read on an open stream, which a proxy that gathers would hold back."""
    reader, writer = Visitor(url), Visitor(url)
    for one in (reader, writer):
        one.open_lab()
    with reader.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        if writer.post("through the proxy").status != 202:
            return ["a post was not taken"]
        stream.read_until(b"through the proxy")
    return []


async def _through_a_restart(site: SiteProcess, url: str) -> list[str]:
    """A client listens and posts while the site is stopped and started again."""
    address = url.replace("http", "ws") + "/ws"
    problems: list[str] = []
    heard: list[object] = []
    reader = Visitor(url)
    await trio.to_thread.run_sync(reader.open_lab)
    stream = await trio.to_thread.run_sync(reader.open_stream)
    with stream:
        async with (
            connect(address, settings=_QUICK) as client,
            client.subscribe("room:lobby") as events,
        ):
            await client.wait_open()
            for number in range(30):
                if number == 10:
                    if await trio.to_thread.run_sync(site.stop) != 0:
                        problems.append("the site had to cut something when it stopped")
                    # The stream ends with the drain.
                    await trio.to_thread.run_sync(stream.response.read)
                    await _answers(url, *AWAY)
                    await trio.to_thread.run_sync(site.restart)
                    await _answers(url, 200)
                fields = {"body": f"message {number}", "client_id": f"c{number}"}
                post = {"PostMessage": fields}
                await client.command(post, topic="room:lobby", timeout_s=PATIENCE_S)
                event = await anext(events)
                if isinstance(event, Gap):
                    problems.append(f"a gap before message {number}")
                    event = await anext(events)
                if not isinstance(event, Gap):
                    heard.append(event.fields["body"])
    if heard != [f"message {number}" for number in range(30)]:
        problems.append(f"heard were {heard}")
    return problems


async def _answers(url: str, *statuses: int) -> None:
    """Wait until the proxy answers with one of these."""
    while True:
        try:
            answer = await trio.to_thread.run_sync(partial(Visitor(url).get, "/"))
        except OSError:
            pass  # it does not listen yet
        else:
            if answer.status in statuses:
                return
        await trio.sleep(0.05)
