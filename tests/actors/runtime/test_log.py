"""Log lines: where they go, and that none of them ever hurts whoever writes it."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import structlog
import trio
from hypothesis import given
from trio.testing import MockClock

from actors.runtime import Log, System
from actors.runtime.telling.lines import LineWriter
from actors.runtime.telling.log import LOST, failure_of, indented, lost, one_line
from actors.testing import Do, Note, Puppet
from tests.actors.runtime.kit import Recorder
from tests.any_text import any_text
from tests.patience import PATIENCE_S

Record = MutableMapping[str, object]
log = Log("tests")


class Broken:
    """A structlog configuration that raises until it is mended, and keeps what it gets then."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error
        self.records: list[Record] = []
        structlog.configure(processors=[self], cache_logger_on_first_use=False)

    def __call__(self, _logger: object, _method: str, record: Record) -> Record:
        if self.error is not None:
            raise self.error
        self.records.append(record)
        raise structlog.DropEvent

    @property
    def events(self) -> list[object]:
        return [record["event"] for record in self.records]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What this process had configured is so again after each test."""
    before = structlog.get_config() if structlog.is_configured() else None
    log.error("told here: what other tests have lost")
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if before is not None:
        structlog.configure(**before)


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("ascii", "\ud800", 0, 1, "surrogates not allowed"),
    RecursionError(),
    asyncio.CancelledError(),
    BaseException("somebody's own"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_lost_line_is_counted_and_told_later(error: BaseException) -> None:
    # ACT-103
    broken = Broken(error)
    total = lost.total
    for level in (log.debug, log.info, log.warning, log.error, log.exception):
        level("not written")
    assert lost.total == total + 5
    broken.error = None
    log.info("written")
    log.info("written too")
    assert broken.events == ["written", LOST, "written too"]
    told = broken.records[1]
    assert (told["count"], told["error"]) == (5, type(error).__name__)


def test_what_is_lost_while_it_is_told_is_told_again() -> None:
    broken = Broken(OSError())
    log.info("not written")
    seen: list[object] = []

    def write_one(_logger: object, _method: str, record: Record) -> Record:
        seen.append(record["event"])
        if record["event"] == LOST and seen.count(LOST) == 1:
            raise OSError
        seen.append(record.get("count"))
        raise structlog.DropEvent

    structlog.configure(processors=[write_one])
    log.info("first")
    log.info("second")
    assert seen == ["first", None, LOST, "second", None, LOST, 1]
    assert broken.records == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_end_of_a_program_is_no_failure_of_a_log(error: BaseException) -> None:
    # ACT-5
    Broken(error)
    with pytest.raises(type(error)):
        log.info("not written")


def test_a_log_that_logs_itself_is_guarded_once() -> None:
    calls: list[str] = []

    def processor(_logger: object, _method: str, record: Record) -> Record:
        calls.append(str(record["event"]))
        if record["event"] == "outer":
            log.info("inner")
        raise OSError

    structlog.configure(processors=[processor])
    total = lost.total
    log.info("outer")
    assert calls == ["outer", "inner"]
    assert lost.total == total + 1


def test_threads_lose_no_count() -> None:
    broken = Broken(OSError())

    def write() -> None:
        for _ in range(200):
            log.info("x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broken.error = None
    log.info("x")
    assert broken.records[-1]["count"] == 800


# -- where a line goes -----------------------------------------------------------------------


@contextmanager
def no_handlers() -> Iterator[None]:
    """As in a program that has set up nothing; pytest has put handlers of its own there."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


def test_a_program_that_set_up_nothing_sees_warnings_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with no_handlers():
        log.debug("quiet")
        log.info("quiet")
        log.warning("aloud", note=None, what=Unprintable(), text="two\nlines\x1b[31m")
        try:
            raise OSError("why")
        except OSError:
            log.exception("crashed")
    printed = capsys.readouterr()
    assert printed.out == ""
    first, *rest = printed.err.splitlines()
    assert first.startswith("[warning] aloud what=<Unprintable: its text failed with ZeroDivision")
    assert "note" not in first
    assert [line for line in rest if not line.startswith("    ")] == ["[error] crashed"]
    assert "    OSError: why" in rest
    assert "quiet" not in printed.err
    assert "\x1b" not in printed.err


def test_a_program_with_the_libraries_logging_has_the_lines_there(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("quiet")
    log.warning("aloud", path="a", percent="%s %d")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("tests", "aloud path=a percent=%s %d")
    ]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("how", ["closed", "missing"])
def test_standard_error_that_is_not_there_is_a_lost_line(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    stream.close()
    total = lost.total
    with no_handlers(), monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream if how == "closed" else None)
        log.error("not written")
    assert lost.total == total + 1
    again = io.StringIO()
    with no_handlers(), monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", again)
        log.error("written")
    assert again.getvalue().splitlines()[0] == "[error] written"
    assert LOST in again.getvalue()


PROGRAM = """
import trio
from actors.runtime import Actor, message, open_actors

@message
class Go: ...

class Falls(Actor[Go]):
    def on_go(self, message: Go) -> None:
        raise OSError("no such room")

async def main() -> None:
    async with open_actors() as system:
        ref = await system.start(Falls)
        ref.tell(Go())
        await system.wait_down(ref)
        ref.tell(Go())

trio.run(main)
"""


def test_a_program_gets_nothing_on_standard_output_that_it_did_not_ask_for() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "[error] actor_crashed" in ended.stderr
    assert "dead_letter" in ended.stderr


# -- how a line is written -------------------------------------------------------------------


def test_a_line_is_whole_and_in_the_stream_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream:
        writer = LineWriter(stream)
        stream.write("before\n")
        writer.write("a\ud800ж")
        assert path.read_bytes() == b"before\na\\ud800\\u0436\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has such a device")
def test_a_full_disk_fails_and_leaves_nothing_to_write_later() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        with pytest.raises(OSError, match="No space"):
            LineWriter(stream).write("x")
        stream.flush()  # Nothing is left in it: Python's end, which flushes, would fail.


def test_a_closed_stream_and_a_reader_that_is_gone_fail() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        os.close(reading)
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                LineWriter(stream).write("x")
    with pytest.raises(ValueError, match="closed"):
        LineWriter(stream).write("x")
    with pytest.raises(OSError, match="closed before"):
        LineWriter(None).write("x")


def test_what_stands_in_place_of_a_stream_is_written_to_itself() -> None:
    class Notebook(io.StringIO):
        def fileno(self) -> int:
            return 2

    page = Notebook()
    LineWriter(page).write("x")
    assert page.getvalue() == "x\n"


def test_a_reader_that_does_not_read_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, "rb") as pipe:
        writer = LineWriter(stream)
        written = 0
        with suppress(BlockingIOError):
            # Any pipe is full by then; a write that waits would wait for ever.
            while True:
                writer.write("x" * 9_999)
                written += 1
        # It reads again: the line that was torn stays one line, the next is whole.
        got = pipe.read1(written * 10_000)
        writer.write("next")
        os.set_blocking(reading, False)
        got += pipe.read()
    *whole, torn, last = got.decode().splitlines()
    assert [len(line) for line in whole] == [9_999] * written
    assert set(torn) <= {"x"}
    assert last == "next"


@given(any_text())
def test_no_text_forges_a_line(text: str) -> None:
    # SITE-132
    assert len(one_line(text).splitlines()) <= 1
    assert all(line.startswith("    ") for line in indented(text).split("\n"))
    one_line(text).encode()


# -- who is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(), asyncio.CancelledError(), GeneratorExit()])
def test_a_listener_that_raises_is_given_back_as_its_error(error: BaseException) -> None:
    def listener(_: int) -> None:
        raise error

    assert failure_of(listener, 1) is error
    assert failure_of(lambda: None) is None


def test_a_listener_may_end_the_program() -> None:
    # ACT-5
    def listener() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failure_of(listener)


async def test_no_part_of_a_system_minds_a_broken_log(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-82, ACT-90: crash, dead letter, sink
    broken, before = Broken(BrokenPipeError()), lost.total
    bad, good = Recorder(), Recorder()
    bad.fails = True
    log_of_it: list[object] = []
    ref, other = await system.start(puppet), await system.start(puppet, log_of_it)
    system.topics.subscribe("t", bad)
    system.topics.subscribe("t", good)
    system.topics.publish("t", "news")
    assert good.got == ["news"]

    def fall(_: object) -> None:
        raise OSError

    ref.tell(Do(fall))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note(1))
    other.tell(Note(2))
    await trio.testing.wait_all_tasks_blocked()
    assert log_of_it == [2]
    assert len(system.reports.kept) == 1
    assert len(system.dead_letters) >= 1
    broken.error = None
    log.info("written")
    assert broken.records[-1]["count"] == lost.total - before >= 3


class Watches:
    """An observer of changes that raises."""

    def __init__(self) -> None:
        self.told = 0

    def covers(self, path: str) -> bool:
        return True

    def put(self, *_: object) -> None:
        self.told += 1
        raise asyncio.CancelledError


async def test_an_observer_that_raises_is_removed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-82
    bad = Watches()
    ref = await system.start(puppet)
    with system.changes() as changes:
        system.changes_log.add(bad)
        first = await anext(changes)
        ref.tell(Note(1))
        await trio.testing.wait_all_tasks_blocked()
        assert (await anext(changes)) != first
    assert bad.told == 1


async def test_an_observer_that_does_not_know_what_it_watches_is_removed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-82
    class Lost(Watches):
        def covers(self, path: str) -> bool:
            raise ZeroDivisionError

    bad = Lost()
    system.changes_log.add(bad)
    log_of_it: list[object] = []
    ref = await system.start(puppet, log_of_it)
    ref.tell(Note(1))
    await trio.testing.wait_all_tasks_blocked()
    assert log_of_it == [1]
    assert not system.changes_log.is_watched
