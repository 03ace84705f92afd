"""The site as a process: what survives a kill, how it stops, how it refuses to start."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.journeys.kinds import StartSite
from tests.journeys.site_process import ROOT, SiteProcess
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow

MANY = {"CHAT_POSTS_PER_AUTHOR_MAX": "1000", "CHAT_POSTS_PER_ADDRESS_MAX": "1000"}


def post_until_acknowledged(visitor: Visitor, text: str, client_id: str) -> None:
    """As a client with a queue does: the same id again until the server said 202."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = visitor.post(text, client_id)
            if answer.status == 202:
                return
            if answer.status == 412:
                visitor.open_lab_until_shown()
        except OSError:
            pass
        time.sleep(0.05)  # the server is down; its next process comes in real time
    raise AssertionError(f"{text} was never acknowledged")


class StepTold(msgspec.Struct):
    step: str
    phase: str
    attempt: int


class SagaTold(msgspec.Struct):
    id: str
    status: str
    steps: list[StepTold]

    @property
    def under_way(self) -> list[str]:
        return [one.step for one in self.steps if one.phase == "started"]


class LabTold(msgspec.Struct):
    sagas: list[SagaTold]


def press(visitor: Visitor, path: str, **more: object) -> None:
    """Press a button of the panel of sagas, on a page that was just opened."""
    visitor.open_lab()
    with visitor.open_stream() as stream:
        stream.read_until(b'"sseConnected":true')
        fields = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab, **more}
        assert visitor.command(f"/api/lab/sagas{path}", fields).status == 202


def wait_for_saga(visitor: Visitor, is_so: Callable[[SagaTold], bool]) -> SagaTold:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        told = msgspec.json.decode(visitor.get("/api/lab/tree").body, type=LabTold)
        found = [saga for saga in told.sagas if is_so(saga)]
        if found:
            return found[0]
        time.sleep(0.05)  # the site is another process
    raise AssertionError("there was no such saga")


def history(visitor: Visitor) -> list[str]:
    """Read the bodies the lab page shows in the visitor's own pane."""
    page = visitor.page("/lab").text
    start = page.index('id="chat-you-list"')
    pane = page[start : page.index("</ol>", start)]
    return [part.partition("</p>")[0] for part in pane.split('<p class="body" dir="auto">')[1:]]


def test_acknowledged_messages_survive_kill_9(start_site: StartSite) -> None:
    """SITE-62 SITE-63 SITE-66 REL-91: each acknowledged message is there exactly once."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    print(f"SEED={seed}")
    rng = random.Random(seed)
    posts_before, delay_s = rng.randrange(5, 45), rng.uniform(0, 0.02)
    site = start_site(**MANY)
    visitor = Visitor(site.url)
    visitor.open_lab()
    texts = [f"message {number} of {seed}" for number in range(50)]
    is_time = threading.Event()

    def kill_and_restart() -> None:
        is_time.wait(PATIENCE_S)
        time.sleep(delay_s)  # the random moment is the point of this test
        site.kill()
        site.restart()

    killer = threading.Thread(target=kill_and_restart, daemon=True)
    killer.start()
    for number, text in enumerate(texts):
        if number == posts_before:
            is_time.set()
        post_until_acknowledged(visitor, text, str(uuid.uuid4()))
    killer.join()
    assert history(visitor) == texts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_and_leaves_nothing(start_site: StartSite, number: signal.Signals) -> None:
    """SITE-185 REL-20 REL-21 RES-10: in order, exit 0, no process left, nothing stored lost."""
    site = start_site()
    visitor = Visitor(site.url)
    visitor.open_lab()
    # A saga under way, whose steps go through the outbox, and a post whose record waits there.
    press(visitor, "", choice="well")
    with open_socket(site.port) as program, visitor.open_stream() as stream:
        assert stream.status == 200
        # A client program listens, and its own post is in hand when the signal comes.
        visitor.post("on its way")
        heard: list[bytes] = []
        listens = threading.Thread(target=lambda: heard.append(hear(program)), daemon=True)
        listens.start()
        program.sendall(text_frame(LAST_POST))
        code = site.stop(number)
        rest = stream.response.read()
        listens.join(PATIENCE_S)
        said = frames_in(heard[0])
    # Its command has one answer, whichever: what was stored is acknowledged, else it is told to
    # come again. The last it hears is the close, and nothing is cut off before it.
    answers = [text for kind, text in said if kind == TEXT and b'"id":"c1"' in text]
    assert len(answers) == 1, said
    assert b'"type":"ack"' in answers[0] or b"SHUTTING_DOWN" in answers[0], answers
    assert [kind for kind, _ in said].count(CLOSE) == 1, said
    assert said[-1][0] == CLOSE, said
    assert said[-1][1][:2] == (1001).to_bytes(2, "big"), said
    assert (code, "Traceback" in "\n".join(site.lines)) == (0, False), site.lines
    assert b"serverConnected" in rest
    steps = re.findall(r"(?:drain|stop)_step.* step=(?:'([^']+)'|(\S+))", "\n".join(site.lines))
    assert [two or one for two, one in steps] == [
        "listeners", "tell streams", "finish commands", "finish sending", "close streams",
        "close sockets", "connections", "actors", "database server",
    ], site.last_words()  # fmt: skip
    assert not list((site.state_dir / "postgres").glob("**/postmaster.pid"))


TEXT, CLOSE = 1, 8
LAST_POST = (
    b'{"type":"command","id":"c1","topic":"room:lobby",'
    b'"action":{"PostMessage":{"body":"last","client_id":"p1"}}}'
)


def open_socket(port: int, protocol: str = "greenroom.v1") -> socket.socket:
    """A socket of a client program, by hand: what is on it is what was sent."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    offer = f"sec-websocket-protocol: {protocol}\r\n" if protocol else ""
    opened.sendall(
        f"GET /ws HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: upgrade\r\n"
        f"upgrade: websocket\r\nsec-websocket-version: 13\r\n{offer}"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += opened.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return opened


def text_frame(text: bytes) -> bytes:
    """A frame of a client: its mask of zeros leaves the text as it is."""
    assert len(text) < 126, "longer ones have another head"
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def read_to_end(opened: socket.socket) -> bytes:
    told = b""
    try:
        while piece := opened.recv(65_536):
            told += piece
    except ConnectionResetError:
        pass  # how one is cut that does not answer the close
    return told


def hear(opened: socket.socket) -> bytes:
    """All that is said until the end; the close is answered, as a client does."""
    told, is_open = b"", True
    while piece := opened.recv(65_536):
        told += piece
        if is_open and any(kind == CLOSE for kind, _ in whole_frames(told)):
            opened.sendall(bytes([0x88, 0x82]) + bytes(4) + (1001).to_bytes(2, "big"))
            is_open = False
    return told


def frames_in(told: bytes) -> list[tuple[int, bytes]]:
    """The kinds and contents of the frames of a server; what is half is a failure."""
    found = list(whole_frames(told))
    heads = sum(2 if len(text) < 126 else 4 if len(text) < 65_536 else 10 for _, text in found)
    assert heads + sum(len(text) for _, text in found) == len(told), "the last frame was cut"
    return found


def whole_frames(told: bytes) -> Iterator[tuple[int, bytes]]:
    while len(told) >= 2:
        kind, size, start = told[0] & 15, told[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(told[2:start], "big")
        if len(told) < start + size:
            return
        yield kind, told[start : start + size]
        told = told[start + size :]


def test_a_stalled_reader_does_not_delay_the_stop(start_site: StartSite) -> None:
    """SITE-96 SITE-185 REL-21: a client that stopped reading is cut, and the site ends."""
    site = start_site(**MANY)
    stalled = Visitor(site.url)
    stalled.open_lab()
    with stall(stalled):
        writer = Visitor(site.url)
        writer.open_lab()
        for number in range(120):
            assert writer.post(f"{number} " + "x" * 280).status == 202
        code = site.stop()
    # Whoever does not read is reset, by its own deadline or by the drain's; no work is lost by it.
    assert code == 0, site.lines
    assert "server.reader_cut" in "\n".join(site.lines)


def stall(visitor: Visitor) -> socket.socket:
    """Open the visitor's stream and never read from it."""
    sock = socket.socket()
    # Before the connection is made: afterwards the kernel has promised more.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", int(visitor.url.rpartition(":")[2])))
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    signals = (
        "%7B%22sseTabId%22%3A%22" + visitor.tab + "%22%2C%22ssePage%22%3A%22lab%22%2C"
        "%22roomName%22%3A%22Lobby%22%7D"
    )
    sock.sendall(
        f"GET /events?datastar={signals} HTTP/1.1\r\nhost: {visitor.url.partition('//')[2]}\r\n"
        f"cookie: {cookie}\r\ndatastar-request: true\r\n\r\n".encode()
    )
    assert sock.recv(12) == b"HTTP/1.1 200"
    return sock


def test_a_stalled_reader_does_not_delay_the_others(start_site: StartSite) -> None:
    """SITE-96 REL-13: the others get every message while one reads nothing."""
    site = start_site(**MANY)
    stalled, reader, writer = (Visitor(site.url) for _ in range(3))
    for visitor in (stalled, reader, writer):
        visitor.open_lab()
    with stall(stalled), reader.open_stream() as stream:
        for number in range(60):
            assert writer.post(f"number {number}. " + "x" * 280).status == 202
        seen = stream.read_until(b"number 59.")
        assert all(f"number {number}.".encode() in seen for number in range(60))


class HangingSite(SiteProcess):
    module = "tests.journeys.hanging_site"


def test_what_never_ends_is_named_and_cut_at_the_budget(tmp_path: Path) -> None:
    """REL-22: a hook, a thread and the database's server hang, and all are gone at the budget."""
    cut: list[str] = []
    # A busy machine may take a second to come to the rooms: then with more.
    for budget_s in (1, 4, 16, 64):
        site = stopped_while_all_hangs(tmp_path / f"state-{budget_s}", budget_s)
        last = json.loads(site.lines[-1])
        assert (last["event"], last["was_forced"]) == ("site.stopped", True)
        cut = last["cut"]
        assert "actors" in cut
        if "site/rooms/support hangs" in site.lines:
            break
    assert "actor site/rooms/support" in cut


def stopped_while_all_hangs(state_dir: Path, budget_s: int) -> HangingSite:
    site = HangingSite(
        state_dir, HANGS="hook thread", DRAIN_BUDGET_SECS=str(budget_s), LOG_FORMAT="json"
    )
    (pid_file,) = (site.state_dir / "postgres").glob("**/postmaster.pid")
    postmaster = int(pid_file.read_text().split()[0])
    # What the site reads at its start is read: else that is what hangs, and first.
    Visitor(site.url).open_lab()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        assert site.stop() == 1
    finally:
        os.kill(postmaster, signal.SIGCONT)
    return site


def run_serve(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "web.cli", "serve"],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_bad_settings_are_told_before_anything_is_opened(tmp_path: Path) -> None:
    """SITE-180: every problem on a line of its own, exit 2, nothing made."""
    state = tmp_path / "state"
    ended = run_serve({"PORT": "x", "LOG_LEVEL": "loud", "STATE_DIR": str(state)})
    assert ended.returncode == 2
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["PORT", "LOG_LEVEL"]
    assert not state.exists()


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    """REL-25: what began before it is undone; no server of the database stays."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_serve({"PORT": port, "STATE_DIR": str(tmp_path / "state")})
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("PORT: ")
    assert port in line
    assert not [*(tmp_path / "state").glob("**/postmaster.pid")]


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    # REL-25: no setting is wrong, so the exit code is 1, and not 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"postgresql://user:hunter2@127.0.0.1:{port}/none"
    state = str(tmp_path / "state")
    settings = {"PORT": "0", "DATABASE_URL": url, "DATABASE_WAIT_SECS": "1", "STATE_DIR": state}
    ended = run_serve(settings)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("DATABASE_URL: ")]
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert line
    # OBS-5: said as soon as it begins to wait, not when it gives up
    assert ended.stderr.index("store.database_awaited") < ended.stderr.index("DATABASE_URL: ")
    assert f"database=127.0.0.1:{port}/none" in ended.stderr


def test_a_second_site_on_the_same_state_is_refused(start_site: StartSite, tmp_path: Path) -> None:
    site = start_site()
    ended = run_serve({"PORT": "0", "STATE_DIR": str(site.state_dir)})
    assert ended.returncode == 2
    assert ended.stderr.startswith("STATE_DIR: ")
    assert Visitor(site.url).get("/health").status == 200


def test_the_database_is_kept_between_runs(start_site: StartSite) -> None:
    site = start_site(**MANY)
    visitor = Visitor(site.url)
    visitor.open_lab()
    assert visitor.post("kept").status == 202
    site.stop()
    site.restart()
    visitor.url = site.url
    assert history(visitor) == ["kept"]


def test_the_site_serves_after_a_restart_of_a_killed_process(tmp_path: Path) -> None:
    """A killed process leaves its database server behind; the next start copes with it.

    A checkout that waits for its visitor is theirs again, and goes on (LAB-35, SAGA-6).
    """
    site = SiteProcess(tmp_path / "state")
    try:
        visitor = Visitor(site.url)
        press(visitor, "", choice="well")
        before = wait_for_saga(visitor, lambda saga: "confirm" in saga.under_way)
        site.kill()
        site.restart()
        visitor.url = site.url
        assert visitor.page("/ready").status == 200
        again = wait_for_saga(visitor, lambda saga: saga.id == before.id)
        assert again.under_way == before.under_way
        press(visitor, f"/{again.id}/confirm")
        on = wait_for_saga(visitor, lambda saga: saga.under_way != before.under_way)
        # Sent when the killed process has no parts of the outbox any more: its lease is 15 s.
        assert [(one.phase, one.attempt) for one in on.steps[:4]] == [("done", 1)] * 4
        assert on.status in ("running", "completed")
        # Whoever is at the machine sees it too.
        assert on.id in site.run("saga", "list", "--kind", "lab_checkout")
    finally:
        site.end()


def test_a_socket_that_never_answers_the_close_is_no_loss(start_site: StartSite) -> None:
    """REL-21 REL-43: it is told 1001, cut after the close timeout, and the stop is a clean one."""
    site = start_site()
    port = site.port
    with open_socket(port, "") as mute:
        code = site.stop()
        told = read_to_end(mute)
    assert (code, b"the server restarts" in told) == (0, True), site.lines


def test_what_the_rooms_survived_is_counted_over_all_runs(start_site: StartSite) -> None:
    """LAB-75: after a stop and after a kill the count goes on."""
    site = start_site(**MANY)
    for survived, ends in ((1, site.stop), (2, site.kill), (3, site.kill)):
        visitor = Visitor(site.url)
        found = re.search(r"/api/lab/actors/(\w+)/crash", visitor.open_lab().text)
        assert found
        visitor.panel = "site"
        with visitor.open_stream() as stream:
            stream.read_until(b"sseConnected")
            values: dict[str, object] = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab}
            assert visitor.command(found[0], values).status == 202
            word = "crash" if survived == 1 else "crashes"
            line = f"The rooms survived <b>{survived}</b> {word}, <b>0</b> messages lost"
            # What is shown is stored: a kill at once takes nothing of it back.
            stream.read_until(line.encode())
        ends()
        site.restart()
    # What was before is read behind the start: who comes at once is shown nothing of it yet.
    line = "The rooms survived <b>3</b> crashes, <b>0</b> messages lost"
    deadline = time.monotonic() + PATIENCE_S
    while line not in Visitor(site.url).page("/").text:
        assert time.monotonic() < deadline, "what was survived is not shown"
        time.sleep(0.1)
