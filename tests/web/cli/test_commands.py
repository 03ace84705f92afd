"""What the command line answers when things go wrong."""

import argparse
import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
import structlog
import trio

from actors.runtime.telling import lines
from tests.patience import PATIENCE_S, until
from tests.signals import as_a_person_starts_it
from web.app import CannotStart
from web.cli import commands
from web.cli.answering import Teller, answer
from web.cli.opening import confirm
from web.cli.parser import build_parser
from web.cli.running import serving
from web.observability import CommandFailed
from web.settings import Settings


def ends_with(error: BaseException) -> Callable[[Settings], Awaitable[int]]:
    async def run(_: Settings) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CannotStart("PORT: taken"), 2, "PORT: taken"),
        (
            ExceptionGroup("g", [ExceptionGroup("g", [CannotStart("PORT: taken")])]),
            2,
            "PORT: taken",
        ),
        (ExceptionGroup("site gave up", [OSError("disk")]), 1, "OSError('disk')"),
        (CannotStart("X: p://u:hunter2@h\x1b[31m"), 2, "X: p://u:***@h\\u001b[31m"),
        (OSError("p://u:hunter2@h\n\x1b[31m"), 1, "p://u:***@h"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_ending_has_its_code_and_its_line(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(serving, "run_site", ends_with(error))
    assert serving.serve({"LOG_LEVEL": "error", "LOG_FORMAT": "json"}) == code
    structlog.reset_defaults()
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert "Traceback" not in "".join(lines)
    assert len(lines) == bool(words)
    assert words in "".join(lines)
    assert "hunter2" not in "".join(lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), 4, "/a/b: Permission denied. Run it as"),
        (OSError(5, "I/O error", "/a\x1b[31m"), 1, "/a\\u001b[31m: I/O error. Name another"),
        (OSError(5, "I/O error"), 1, "failed because of OSError(5, 'I/O error'); --debug shows"),
    ],
)
def test_what_the_system_refuses_is_told_with_its_path_and_what_to_do(
    error: OSError, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    async def fail(_parsed: object, _environment: object, _teller: Teller) -> int:
        raise ExceptionGroup("a nursery", [error])

    assert answer(fail, build_parser().parse_args(["streams"]), {}) == code
    assert capsys.readouterr().err.startswith(f"greenroom: {words}")


def test_a_state_folder_that_cannot_be_looked_at_is_named_and_hides_nothing_from_the_doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-6
    monkeypatch.delenv("DATABASE_URL", raising=False)
    nowhere = tmp_path / ("a" * 300)
    assert commands.main(["streams", "--state-dir", str(nowhere)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"greenroom: {nowhere}")
    assert "File name too long. Name another" in said
    assert commands.main(["doctor", "--json", "--state-dir", str(nowhere)]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"folder", "disk", "files", "database"} <= {row["check"] for row in rows}
    (wrong,) = [row for row in rows if row["check"] == "database"]
    assert "File name too long" in wrong["found"]


def test_bad_settings_open_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "run_site", ends_with(AssertionError("nothing is run")))
    assert serving.serve({"PORT": "x"}) == 2
    assert capsys.readouterr().err.startswith("PORT: ")


def test_options_stand_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def remember(environment: dict[str, str]) -> int:
        seen.append(environment)
        return 0

    monkeypatch.setattr(serving, "serve", remember)
    monkeypatch.setenv("STATE_DIR", "there")
    assert commands.main(["serve", "--state-dir", "here", "--database-url", "postgres://x/y"]) == 0
    assert seen[0]["STATE_DIR"] == "here"
    assert seen[0]["DATABASE_URL"] == "postgres://x/y"


def test_no_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main([])
    assert ended.value.code == 2


def test_help_loads_no_more_than_it_needs() -> None:
    # CLI-6: what takes long is the loading, of the runtime, a database's driver, the site
    program = (
        "import sys\nfrom web.cli.commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "ours = {'actors', 'supervision', 'storage', 'trio', 'asyncpg', 'quart', 'structlog'}\n"
        "assert not ours & set(sys.modules), sorted(ours & set(sys.modules))\n"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_a_command_on_the_store_loads_no_web_server() -> None:
    # CLI-3, CLI-6: what it loads is most of the time until its first line
    program = (
        "import sys\nimport web.cli.reading.replay, web.cli.beside_log, web.cli.projections\n"
        "site = {'quart', 'hypercorn', 'jinja2', 'httpx', 'web.server', 'web.app'}\n"
        "assert not site & set(sys.modules), sorted(site & set(sys.modules))\n"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Ctrl-C in the moment in which a module is looked for, or when the command has ended.
_STRUCK = """
import atexit, os, signal, sys

moment = sys.argv.pop(1)

def strike():
    os.kill(os.getpid(), signal.SIGINT)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            strike()

sys.meta_path.insert(0, Finder())
if moment == "the end":
    atexit.register(strike)
from web.cli.commands import main
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "moment"),
    [
        ("projection list", "argparse"),
        ("projection list", "trio"),
        ("projection list", "asyncpg"),
        ("projection list", "the end"),
        ("serve", "web.app"),
    ],
)
def test_ctrl_c_is_no_traceback_in_whatever_moment(
    command: str, moment: str, tmp_path: Path
) -> None:
    # CLI-6
    words = [sys.executable, "-c", _STRUCK, moment, *command.split(), "--state-dir", str(tmp_path)]
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        preexec_fn=as_a_person_starts_it,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    if moment != "the end":
        assert (done.stdout, done.stderr) == ("", "")


def test_ctrl_c_leaves_no_nursery_open(capsys: pytest.CaptureFixture[str]) -> None:
    # CLI-6: raised between the opening of a nursery and the `try` around it, it ended trio itself
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended: list[str] = []

    async def command(*_: object) -> int:
        opening = trio.open_nursery()
        nursery = await opening.__aenter__()
        nursery.start_soon(trio.sleep_forever)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await trio.sleep_forever()
        except BaseException as error:
            ended.append(type(error).__name__)
            nursery.cancel_scope.cancel()
            await opening.__aexit__(type(error), error, error.__traceback__)
            raise

    try:
        assert answer(command, build_parser().parse_args(["doctor"]), {}) == 130
    finally:
        signal.signal(signal.SIGINT, before)
        structlog.reset_defaults()
    assert (ended, capsys.readouterr().err) == (["KeyboardInterrupt"], "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_closes_what_it_has_opened(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6: a copy of all the data stayed behind where a job of `backup verify` was stopped
    before = signal.signal(number, signal.SIG_DFL)
    seen: list[object] = []

    async def command(parsed: object, environment: object, teller: Teller) -> NoReturn:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                seen.append("closed")
            # A second one does not wait for that.
            seen.append(signal.getsignal(number))

    async def quick(parsed: object, environment: object, teller: Teller) -> int:
        taken_over = signal.getsignal(number)
        with teller._interruptibly():
            # Nor does a pager that reads no more.
            seen.append(signal.getsignal(number))
        assert signal.getsignal(number) is taken_over is not signal.SIG_DFL
        return 0

    async def passed_over(parsed: object, environment: object, teller: Teller) -> int:
        seen.append(signal.getsignal(number))
        return 0

    parsed = build_parser().parse_args(["doctor"])
    try:
        assert answer(command, parsed, {}) == 128 + number
        assert answer(quick, parsed, {}) == 0
        assert signal.signal(number, signal.SIG_IGN) is signal.SIG_DFL
        # Whoever started us has it passed over, as `nohup` does.
        assert answer(passed_over, parsed, {}) == 0
    finally:
        signal.signal(number, before)
        structlog.reset_defaults()
    assert seen == ["closed", signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_a_command_whose_reader_reads_no_more() -> None:
    # CLI-6
    program = (
        "import sys\nfrom web.cli.answering import answer\n"
        "from web.cli.parser import build_parser\n"
        "async def command(parsed, environment, teller):\n"
        "    while True:\n        teller.at_once({}, ['a line' * 100])\n"
        "sys.exit(answer(command, build_parser().parse_args(['doctor']), {}))\n"
    )
    words = [sys.executable, "-c", program]
    reading, writing = os.pipe()
    with subprocess.Popen(
        words,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_a_person_starts_it,  # noqa: PLW1509 - it only resets two signals
    ) as process:
        assert process.stderr is not None
        trio.run(until, lambda: _is_full(writing) and _state(process.pid) == "S")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read() == ""
    os.close(reading)
    os.close(writing)


def _is_full(pipe: int) -> bool:
    return not select.select([], [pipe], [], 0)[1]


def _state(pid: int) -> str:
    """Of a process: R while it runs or would, S while it waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _ask(said: str, monkeypatch: pytest.MonkeyPatch) -> str:
    asked = _Terminal()
    monkeypatch.setattr(sys, "stdin", _Terminal(said))
    monkeypatch.setattr(sys, "stderr", asked)
    trio.run(confirm, build_parser().parse_args(["store", "renumber"]), "do it")
    return asked.getvalue()


def test_a_person_is_asked_and_only_a_yes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLI-20
    for yes in ("yes\n", "Y\n"):
        assert "This will do it" in _ask(yes, monkeypatch)
    for no in ("no\n", "\n", "", "yesterday\n"):
        with pytest.raises(CommandFailed, match="nothing was done"):
            _ask(no, monkeypatch)


class _Struck(_Terminal):
    """A terminal on which Ctrl-C comes where the answer should."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed
        os.kill(os.getpid(), signal.SIGINT)
        self.is_over.wait(PATIENCE_S)
        return ""


def test_whoever_is_asked_and_strikes_ctrl_c_is_told_that_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # CLI-20
    async def command(parsed: argparse.Namespace, *_: object) -> int:
        await confirm(parsed, "do it")
        raise AssertionError("it was done")

    person, told = _Struck(), _Terminal()
    monkeypatch.setattr(sys, "stdin", person)
    monkeypatch.setattr(sys, "stderr", told)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert answer(command, build_parser().parse_args(["store", "renumber"]), {}) == 130
    finally:
        person.is_over.set()
        signal.signal(signal.SIGINT, before)
        structlog.reset_defaults()
    assert "interrupted; nothing was done" in told.getvalue()


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # CLI-20
    parsed = build_parser().parse_args(["store", "renumber"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(CommandFailed, match="Say --yes"):
        trio.run(confirm, parsed, "do it")
    trio.run(confirm, build_parser().parse_args(["store", "renumber", "--yes"]), "do it")


def test_an_answer_is_whole_however_slowly_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # CLI-6: a log line is left out where nobody reads, and what was asked for is not
    class Pager:
        """Not ready, but for whoever waits as long as it takes."""

        def register(self, descriptor: int, events: int) -> None: ...

        def poll(self, timeout_ms: float | None = None) -> list[int]:
            return [1] if timeout_ms is None else []

    monkeypatch.setattr(lines, "select", SimpleNamespace(poll=Pager, POLLOUT=0))
    with (tmp_path / "answer").open("w") as written:
        monkeypatch.setattr(sys, "stdout", written)
        teller = Teller(is_json=True)
        teller.rows([{"n": 1}, {"n": 2}], "")
        teller.write()
    assert (tmp_path / "answer").read_text() == '{"n":1}\n{"n":2}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("is_long", [False, True])
def test_an_answer_that_cannot_be_written_is_no_success(
    is_long: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    async def command(*words: object) -> int:
        teller = words[-1]
        assert isinstance(teller, Teller)
        if is_long:
            teller.at_once({"n": 1}, [])
        teller.rows([{"n": 1}], "")
        return 0

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert answer(command, build_parser().parse_args(["outbox", "list", "--json"]), {}) == 1
    assert "answer could not be written (No space left on device)" in capsys.readouterr().err
    structlog.reset_defaults()
