"""What the page of troubles quotes is what is seen: each line of a program is brought about here.

What shows only while a site runs is brought about by the test that its row names, which says so.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import CodecError, EventTypes, NewEvent, StreamId
from actors.runtime import Actor, Ask, message, open_actors
from storage.memory import MemoryEventStore
from storage.testing.samples import new_events
from supervision import (
    ONCE,
    BreakerPolicy,
    Dependencies,
    DependencyPolicy,
    Supervisor,
    child,
    open_system,
)
from tests.docs.pages import ROOT
from tests.requirement_marks import marks_of
from web.app import CannotStart
from web.app.running import check_port, prepare_state_dir
from web.cli.commands import main
from web.observability import first_leaf
from web.settings import BadSettings, Settings, read_settings

PAGE = (ROOT / "docs" / "how_to" / "troubleshoot.md").read_text()
LINES, RUNNING = PAGE.split("\n## It runs")
# The first cell of a row: what is seen, with `...` where it differs from case to case.
ROWS = re.findall(r"^\| `([^`]+)` \|", LINES, re.MULTILINE)
# Of what runs: what is seen, and the test; between them how one is sure, and what to do.
SEEN = re.findall(r"^\| (.+?) \| .+? \| .+? \| `(test_\w+)` \|$", RUNNING, re.MULTILINE)


@message
class Work:
    pass


@message
class Total(Ask[int]):
    pass


class Stock(Actor[Work | Total]):
    async def on_work(self, message: Work) -> None:
        await trio.sleep_forever()

    def on_total(self, message: Total) -> int:
        return 0


class Disk(Actor[Total]):
    def on_start(self) -> None:
        raise OSError("cannot open /etc/thing")

    def on_total(self, message: Total) -> int:
        return 0


class Shop(Supervisor):
    disk = child(Disk)


async def full_mailbox() -> None:
    async with open_actors() as system:
        stock = await system.start(Stock)
        for _ in range(2000):
            stock.tell(Work())
        # One is taken in hand meanwhile; for the next there is no room.
        for _ in range(2):
            await stock.send(Work(), timeout=1.0)


async def no_answer() -> None:
    async with open_actors() as system:
        stock = await system.start(Stock)
        stock.tell(Work())
        await stock.ask(Total(), timeout=1.0)


async def nobody_there() -> None:
    async with open_actors() as system:
        stock = await system.start(Stock)
        stock.kill()
        await stock.ask(Total())


async def no_start() -> None:
    async with open_system(Shop):
        pass


async def left_alone() -> None:
    gateway = Dependencies(
        {"gateway": DependencyPolicy(retry=ONCE, breaker=BreakerPolicy(failures=1))}
    ).dependency("gateway")

    async def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await gateway.call(fail)
    await gateway.call(fail)


async def too_slow() -> None:
    policy = DependencyPolicy(deadline=2.0, attempt=2.0, retry=ONCE)
    gateway = Dependencies({"gateway": policy}).dependency("gateway")
    await gateway.call(partial(trio.sleep, 60.0))


async def mistyped() -> None:
    Dependencies({"gateway": DependencyPolicy()}).dependency("gatewy")


async def two_writers() -> None:
    store, stream = MemoryEventStore(), StreamId("order-1")
    await store.append(stream, new_events(2), expected=0)
    await store.append(stream, new_events(1), expected=0)


async def old_bytes() -> None:
    types = EventTypes()

    @types.event(name="Moved")
    class Moved:
        street: str

    stored = NewEvent(event_id=UUID(int=1), type="Moved", data=b'{"road": "1 High Street"}')
    store, stream = MemoryEventStore(event_types=types), StreamId("person-1")
    await store.append(stream, [stored])
    (read,) = [one async for one in store.load(stream)]
    types.decode(read)


IN_A_PROGRAM: list[Callable[[], Awaitable[None]]] = [
    full_mailbox, no_answer, nobody_there, no_start, left_alone, too_slow, mistyped, two_writers,
    old_bytes,
]  # fmt: skip


def is_told(said: str) -> bool:
    """Whether a row of the page quotes it: all of its pieces, in their order, from the start."""
    for row in ROWS:
        pieces = [re.escape(piece) for piece in row.split("...")]
        if re.match(".*?".join(pieces), said, re.DOTALL):
            return True
    return False


@pytest.mark.parametrize("trouble", IN_A_PROGRAM, ids=[one.__name__ for one in IN_A_PROGRAM])
def test_what_a_program_is_told(trouble: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - the page says which
        trio.run(trouble, clock=MockClock(autojump_threshold=0))
    error = first_leaf(raised.value)
    said = f"{type(error).__name__}: {error}"
    assert is_told(said), said


NO_SITE = ("--state-dir", "{empty}")
COMMANDS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "no site": (5, ("top", "--once", *NO_SITE)),
    "no store": (3, ("dlq", "list", *NO_SITE)),
    "nobody to ask": (2, ("lab", "off", *NO_SITE)),
    "a file that is there": (4, ("diagnose", "--out", "{empty}", *NO_SITE)),
    "no place for backups": (2, ("backup", "list", *NO_SITE)),
    "no server": (5, ("store", "check", "--database-url", "postgresql://ada@127.0.0.1:{free}/x")),
    "no backups": (
        4, ("backup", "restore", "--dir", "{empty}", "--backup-dir", "{empty}", *NO_SITE)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = COMMANDS[name]
    monkeypatch.setenv("DATABASE_WAIT_SECS", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    given = [word.format(empty=empty, free=free) for word in words]
    assert main(given) == code
    said = capsys.readouterr().err
    assert is_told(said), said


def test_what_a_start_says(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as bad:
        read_settings({"HOST": "0.0.0.0"})  # noqa: S104 - that it is refused
    assert all(is_told(problem) for problem in bad.value.problems), bad.value.problems
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotStart) as busy:
        check_port(Settings(port=taken.getsockname()[1]))
    assert is_told(str(busy.value)), str(busy.value)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "ada.png").touch()
    with pytest.raises(CannotStart) as others:
        prepare_state_dir(Settings(state_dir=tmp_path / "photos"))
    assert is_told(str(others.value)), str(others.value)


async def test_a_renamed_field_makes_the_bytes_of_before_unreadable() -> None:  # DOC-4
    with pytest.raises(CodecError, match=r"Moved at version 1: .*street") as caught:
        await old_bytes()
    assert is_told(f"CodecError: {caught.value}")


@pytest.fixture(scope="module")
def texts() -> Mapping[Path, str]:
    """All tests and shipped suites, and what a site says."""
    folders = ("tests", "storage", "actors", "web", "supervision")
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    shipped = (ROOT / "web" / "observability" / "shipped").glob("*.yml")
    return {file.relative_to(ROOT): file.read_text() for file in (*files, *shipped)}


@pytest.mark.parametrize(("seen", "test"), SEEN, ids=[row[1] for row in SEEN])
def test_what_shows_while_it_runs_is_brought_about_by_the_test_of_its_row(
    seen: str, test: str, texts: Mapping[Path, str]
) -> None:  # DOC-4
    files = [text for text in texts.values() if re.search(rf"def {test}\(", text)]
    assert len(files) == 1, f"{len(files)} tests are called {test}"
    assert "DOC-4" in marks_of(files[0])[1][test], f"{test} does not say that it stands there"
    product = [text for file, text in texts.items() if "tests" not in file.parts]
    for quoted, alert in re.findall(r"`([^`]+)`|\*\*(\w+)\*\*", seen):
        name = alert or quoted.split("...")[0].split('":')[0].strip('" ')
        assert any(name in text for text in product), f"nothing here says {name!r}"


def test_every_row_of_the_page_is_brought_about() -> None:  # DOC-4
    assert len(ROWS) == len(set(ROWS)) >= 12
    assert len(SEEN) == RUNNING.count("\n| ") - 1 >= 18
    tried = len(IN_A_PROGRAM) + len(COMMANDS) + 4
    assert len(ROWS) == tried, "a row without its test, or the other way round"
