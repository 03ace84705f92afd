"""The control socket: who answers, who may ask, and what becomes of who misbehaves (CLI-20)."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from supervision import ChildSpec, Flags, Plan, Supervisor, open_system
from tests.logged import captured
from web.observability.ending import Code, CommandFailed
from web.observability.operating.control import place
from web.observability.operating.control.asking import ask
from web.observability.operating.control.place import LOCK_NAME, SOCKET_NAME, connect, hold
from web.observability.operating.control.serving import (
    AGAIN_S,
    CONNECTIONS_MAX,
    LINE_S_MAX,
    QUESTION_S_MAX,
    ControlServer,
    Tell,
)
from web.observability.operating.control.words import QUESTION_BYTES_MAX, Question


async def twice(words: Mapping[str, object], tell: Tell) -> None:
    await tell({"said": words.get("word")})
    await tell({"said": 'again\n"'})


async def for_ever(words: Mapping[str, object], tell: Tell) -> None:
    await tell("it goes on")
    await trio.sleep_forever()


async def flood(words: Mapping[str, object], tell: Tell) -> None:
    while True:
        await tell("x" * 100_000)


async def broken(words: Mapping[str, object], tell: Tell) -> None:
    raise RuntimeError("postgresql://ada:hunter2@example.org")


COMMANDS = {"twice": twice, "for_ever": for_ever, "flood": flood, "broken": broken}


class Root(Supervisor):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def plan(self) -> Plan:
        return Plan(Flags(), [ChildSpec("control", partial(ControlServer, self._folder, COMMANDS))])


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[None]:
    async with open_system(Root, folder, name="site"):
        await there(folder)
        yield


async def there(folder: Path) -> None:
    """Wait until somebody answers."""
    while True:
        with suppress(CommandFailed):
            connect(folder).close()
            return
        await trio.sleep(0.01)


async def asked(folder: Path, name: str, **words: object) -> list[object]:
    rows: list[object] = []

    async def take(row: object) -> None:
        rows.append(row)

    await ask(folder, Question(name, words), take)
    return rows


async def refusal(folder: Path, name: str) -> CommandFailed:
    with pytest.raises(CommandFailed) as raised:
        await asked(folder, name)
    return raised.value


@asynccontextmanager
async def raw(folder: Path, data: bytes = b"") -> AsyncIterator[trio.SocketStream]:
    found = connect(folder)
    found.setblocking(False)
    async with trio.SocketStream(trio.socket.from_stdlib_socket(found)) as stream:
        await stream.send_all(data)
        yield stream


async def said_to(folder: Path, data: bytes) -> bytes:
    async with raw(folder, data) as stream:
        return b"".join([part async for part in stream])


async def test_a_question_has_its_rows_and_an_end(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20
    async with serving(tmp_path):
        found = (tmp_path / SOCKET_NAME).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        rows = await asked(tmp_path, "twice", word="ü\x00")
        assert rows == [{"said": "ü\x00"}, {"said": 'again\n"'}]
        unknown = await refusal(tmp_path, "nobody")
        assert unknown.code is Code.UNKNOWN
        assert "twice" in unknown.hint
        with captured() as lines:
            failed = await refusal(tmp_path, "broken")
        assert (failed.code, failed.words) == (Code.FAILED, "it failed because of RuntimeError")
        assert [line["event"] for line in lines] == ["control.failed"]
        assert await asked(tmp_path, "twice"), "it goes on"
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_nonsense_is_told_so_and_silence_ends(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20
    async with serving(tmp_path):
        for nonsense in (
            b"\n", b"{}\n", b"tree\n", b'{"ask": 7}\n', b'{"ask": "twice", "with": 3}\n',
            b"\xff\xfe\n", b"[" * 50_000 + b"\n",
        ):  # fmt: skip
            answer = await said_to(tmp_path, nonsense)
            assert answer.startswith(b'{"end":2,'), nonsense[:20]
            assert answer.count(b"\n") == 1
        with suppress(trio.BrokenResourceError):  # it was not read to its end
            assert b"bytes at most" in await said_to(tmp_path, b"x" * (QUESTION_BYTES_MAX + 5000))
        began = trio.current_time()
        assert b"no question came" in await said_to(tmp_path, b'{"ask": "tw')
        assert trio.current_time() - began == pytest.approx(QUESTION_S_MAX)
        async with raw(tmp_path, b'{"ask": "twice"') as stream:
            await stream.send_eof()
            assert await stream.receive_some() == b"", "who leaves in the middle is told nothing"
        assert await asked(tmp_path, "twice")


async def test_who_does_not_read_holds_nobody_up_and_is_let_go(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20
    async with serving(tmp_path), raw(tmp_path, b'{"ask": "flood"}\n') as stream:
        assert await asked(tmp_path, "twice")
        await trio.sleep(LINE_S_MAX + 1)
        read = b"".join([part async for part in stream])
        assert len(read) < 10_000_000, "it was ended"
        assert b'"end"' not in read, "half a line has no end behind it"


async def test_so_many_may_ask_at_once_and_who_leaves_makes_room(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20
    async with serving(tmp_path):
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS_MAX):
                stream = await nursery.start(_hold_open, tmp_path)
                assert stream is None
            assert (await refusal(tmp_path, "twice")).code is Code.REFUSED
            nursery.cancel_scope.cancel()
        while True:
            with suppress(CommandFailed):
                assert await asked(tmp_path, "twice")
                break
            await trio.sleep(0.01)


async def _hold_open(
    folder: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with raw(folder, b'{"ask": "for_ever"}\n') as stream:
        await stream.receive_some()
        task_status.started()
        await trio.sleep_forever()


async def test_who_is_being_told_something_hears_of_the_stop(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20, REL-20
    told = trio.Event()
    ends: list[CommandFailed] = []

    async def listen() -> None:
        async def take(row: object) -> None:
            told.set()

        with pytest.raises(CommandFailed) as raised:
            await ask(tmp_path, Question("for_ever"), take)
        ends.append(raised.value)

    async with trio.open_nursery() as nursery, serving(tmp_path):
        nursery.start_soon(listen)
        await told.wait()
    assert (ends[0].code, ends[0].words) == (Code.UNREACHABLE, "the site has stopped")


async def test_of_two_sites_on_one_folder_one_answers_and_then_the_other(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # CLI-20, REL-24
    first = trio.Event()

    async def be_first(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with serving(tmp_path):
            task_status.started()
            await first.wait()

    with captured() as lines:
        async with trio.open_nursery() as nursery:
            await nursery.start(be_first)
            inode = (tmp_path / SOCKET_NAME).stat().st_ino
            async with serving(tmp_path):
                await trio.sleep(3 * AGAIN_S)
                assert (tmp_path / SOCKET_NAME).stat().st_ino == inode, "it was left to the first"
                assert await asked(tmp_path, "twice")
                first.set()
                await trio.sleep(2 * AGAIN_S)
                assert await asked(tmp_path, "twice")
    told = [line["error"] for line in lines if line["event"] == "control.not_there"]
    assert told == ["another process answers"]


async def test_one_that_crashed_answers_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_system(Root, tmp_path, name="site") as root:
        await there(tmp_path)
        cell = root.system.at("site/control")
        assert cell is not None
        with captured():
            cell.ref.kill()
            await trio.sleep(1)
            await there(tmp_path)
        assert await asked(tmp_path, "twice")


def test_a_socket_that_a_dead_process_left_is_nobodys(tmp_path: Path) -> None:
    # CLI-20
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET_NAME))
    left.close()
    (tmp_path / LOCK_NAME).touch()
    with pytest.raises(CommandFailed) as refused:
        connect(tmp_path)
    assert refused.value.code is Code.UNREACHABLE
    held = hold(tmp_path)
    connect(tmp_path).close()
    with pytest.raises(place.PlaceTaken):
        hold(tmp_path)
    held.close()
    held.close()
    hold(tmp_path).close()


def test_a_path_too_long_for_the_system_is_reached_all_the_same(tmp_path: Path) -> None:
    # CLI-20
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    held = hold(folder)
    connect(folder).close()
    held.close()


def test_what_belongs_to_another_user_is_asked_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-20
    held = hold(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    os_stat = (tmp_path / SOCKET_NAME).lstat()
    if os_stat.st_uid == 0:
        os.chown(tmp_path / SOCKET_NAME, 4712, -1)
    with pytest.raises(CommandFailed) as refused:
        connect(tmp_path)
    assert refused.value.code is Code.REFUSED
    held.close()
    (tmp_path / SOCKET_NAME).write_text("no socket")
    with pytest.raises(CommandFailed) as refused:
        connect(tmp_path)
    assert refused.value.code is Code.REFUSED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
def test_who_may_not_look_into_a_folder_is_told_so(tmp_path: Path) -> None:
    # CLI-6: not that no site runs there, which nobody has seen
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(CommandFailed, match="not for you to look into") as refused:
            connect(tmp_path)
    finally:
        os.seteuid(0)
    assert refused.value.code is Code.REFUSED


class Peer:
    def __init__(self, uid: int) -> None:
        self._uid = uid

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return struct.pack("3i", 1, self._uid, 1)


@pytest.mark.parametrize(
    ("own", "peer", "is_ours"), [(7, 7, True), (7, 0, True), (7, 8, False), (0, 8, True)]
)
def test_who_asks_is_of_the_sites_user_or_the_systems(
    own: int, peer: int, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-20
    monkeypatch.setattr(os, "geteuid", lambda: own)
    assert place.is_ours(Peer(peer)) is is_ours
