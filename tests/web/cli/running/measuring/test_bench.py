"""`greenroom bench`: each measure has its figure, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest
import trio

from storage.errors import EmbeddedFailed
from storage.postgres import Database
from storage.postgres.embedded import server
from tests.web.cli.commanding import Commands, fetch
from web.cli.commands import main
from web.cli.parser import MEASURES
from web.cli.running.measuring import command, scratch
from web.cli.running.measuring.words import Measure, Round, Turn, figure_of, p99, spelt

QUICKLY = ("--seconds", "0.1")
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'greenroom%' ORDER BY 1"


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0.0, 0.0))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as a person's shell leaves it, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def connected(url: str, name: str) -> Iterator[None]:
    """Another program, that calls itself so."""
    with asyncio.Runner() as runner:
        settings = {"application_name": name}
        connection = runner.run(asyncpg.connect(url, server_settings=settings))
        yield
        runner.run(connection.close())


def planted(turn: Turn, *, needs_database: bool = False) -> Measure:
    """A measure of which a test says what is done."""

    @asynccontextmanager
    async def opened(_: Database | None) -> AsyncIterator[Turn]:
        yield turn

    return Measure("ask", "a turn", "us", opened, needs_database=needs_database)


# What is measured.


@pytest.mark.slow
def test_each_measure_has_its_figure_and_leaves_nothing(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    # Of a bench that was killed, of one that is at work, and of somebody who likes the name.
    left, others = f"{scratch.PREFIX}{'0' * 12}", [f"{scratch.PREFIX}{'1' * 12}", "greenroom_bench"]
    for name in (left, *others):
        fetch(database_url, f"CREATE SCHEMA {name}")
    run = Commands(database_url, capsys)
    with connected(database_url, f"greenroom:bench-{'1' * 12}"):
        told = run.one("bench", *QUICKLY)
    assert told["is_whole"] is True
    assert told["left_out"] == {}
    assert [one["name"] for one in _figures(told)] == list(MEASURES)
    for one in _figures(told):
        assert (one["rounds"], one["unit"] in ("us", "ms")) == (command.ROUNDS, True)
        assert _number(one["least"]) <= _number(one["median"]) <= _number(one["most"])
        assert _number(one["p99"]) > 0 < _number(one["per_second"])
    machine = told["machine"]
    assert isinstance(machine, dict)
    assert {"cores", "python", "versions", "load", "postgres"} <= set(machine)
    assert machine["load"] == 0.25
    assert [name for (name,) in fetch(database_url, SCHEMAS)] == sorted(others)
    assert fetch(database_url, "SELECT count(*) FROM public.events") == [(0,)]


def _figures(told: dict[str, object]) -> list[dict[str, object]]:
    figures = told["figures"]
    assert isinstance(figures, list)
    return figures


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value


@pytest.mark.slow
def test_without_a_server_it_is_an_embedded_one_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    left = tmp_path / f"{scratch.FOLDER_PREFIX}killed"
    left.mkdir()
    words = ("bench", "--only", "append-postgres", *QUICKLY, "--state-dir", str(tmp_path))
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("append-postgres")
    assert ", embedded" in err
    assert list(tmp_path.iterdir()) == []


def test_it_goes_on_without_a_database_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    def missing() -> Path:
        raise EmbeddedFailed("it is not installed")

    monkeypatch.setattr(server, "_package", missing)
    words = ("bench", "--only", "append-postgres", *QUICKLY, "--state-dir", str(tmp_path))
    assert main([*words, "--only", "ask", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["figures"]] == ["ask"]
    assert "not installed" in told["left_out"]["append-postgres"]
    assert main(words) == 5
    assert "no database to be measured" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_named_one_that_is_away_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    monkeypatch.setenv("DATABASE_WAIT_SECS", "0")
    away = ("--database-url", "postgresql://nobody:hunter2@127.0.0.1:1/none")
    assert main(["bench", *QUICKLY, *away]) == 5
    out, err = capsys.readouterr()
    assert "nothing was measured" in out
    assert "hunter2" not in out + err
    # What needs none asks for none.
    assert main(["bench", "--only", "ask", *QUICKLY, *away]) == 0


def test_where_no_schema_may_be_made_it_is_refused(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6
    fetch(database_url, "CREATE ROLE lodger LOGIN")
    try:
        url = database_url.replace("//postgres@", "//lodger@")
        assert main(["bench", "--only", "append-postgres", *QUICKLY, "--database-url", url]) == 4
        assert "no schema of its own can be made there" in capsys.readouterr().err
    finally:
        fetch(database_url, "DROP ROLE lodger")


def test_what_would_be_written_elsewhere_is_not_begun(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-6: a pooler drops the setting that names the schema
    monkeypatch.setattr(scratch, "_of_schema", lambda url, _: url)
    words = ("bench", "--only", "append-postgres", *QUICKLY, "--database-url", database_url)
    assert main(words) == 4
    assert "a schema of its own but of public" in capsys.readouterr().err
    assert fetch(database_url, "SELECT count(*) FROM events") == [(0,)]
    assert fetch(database_url, SCHEMAS) == []


# What is asked for.


def test_a_measure_that_is_not_there_is_told_with_those_like_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--only", "tel"]) == 3
    assert "nothing is measured as 'tel'. There is tell." in capsys.readouterr().err
    assert main(["bench", "--only", "x\x1b"]) == 3
    assert ", ".join(MEASURES) in capsys.readouterr().err
    assert [one.name for one in command.chosen(())] == list(MEASURES)


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "nan", "inf", "", "soon", "1e9"])
def test_seconds_have_bounds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--seconds", seconds])
    assert ended.value.code == 2
    assert "--seconds: must be" in capsys.readouterr().err


def test_a_busy_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--only", "ask", "--only", "reducer", *QUICKLY]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "ask", "reducer"]
    assert "busy" not in err
    monkeypatch.setattr(os, "getloadavg", lambda: (4096.0, 0.0, 0.0))
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "busy, a load of 4096.0" in err
    assert json.loads(out)["machine"]["load"] == 4096.0


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("interruptible")
def test_what_was_measured_is_told_when_it_is_interrupted(
    number: signal.Signals, database_url: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # CLI-6
    turns = itertools.count()

    async def turn() -> None:
        # The first warms up, the second is round one.
        if next(turns) == 2:
            signal.raise_signal(number)
            await trio.sleep_forever()

    async def nothing(_: Database) -> int:
        return 0

    _by_its_own_clock(monkeypatch)
    monkeypatch.setattr(command, "_ALL", (planted(turn, needs_database=True),))
    monkeypatch.setattr(scratch, "migrate", nothing)
    assert main(["bench", "--json", "--database-url", database_url]) == 130
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["is_whole"], err) == (False, "")
    assert [one["rounds"] for one in told["figures"]] == [1]
    assert fetch(database_url, SCHEMAS) == []


def test_what_was_measured_is_told_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = itertools.count()

    async def turn() -> None:
        if next(turns) == 2:
            raise EmbeddedFailed("it went away")

    _by_its_own_clock(monkeypatch)
    monkeypatch.setattr(command, "_ALL", (planted(turn),))
    assert main(["bench"]) == 5
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "ask"]
    assert "it went away" in err


def _by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute goes by with each look: every slice is over behind its first turn."""
    clock: Callable[[], float] = itertools.count(0.0, 60.0).__next__
    monkeypatch.setattr(command, "perf_counter", clock)


# What rounds come to.


def test_a_figure_is_the_median_of_rounds() -> None:
    measure = Measure("tell", "a message", "us", planted(trio.sleep_forever).open, 100)
    steady, slow = Round([1e-3] * 99 + [5e-3] * 2, [2e-3]), Round([4e-3], [])
    figure = figure_of(measure, [steady, slow, steady])
    # Of a hundred pieces in a turn of a millisecond each takes ten microseconds.
    assert (figure["median"], figure["least"], figure["most"]) == (10.0, 10.0, 40.0)
    assert figure["p99"] == 50.0
    assert figure["per_second"] == float(f"{101 * 100 / 0.109:.4g}")
    assert (figure["rounds"], figure["turns"], figure["loop_late_p99_ms"]) == (3, 203, 2.0)
    whole = Measure("publish", "all", "us", measure.open, 100, together=True)
    figure = figure_of(whole, [slow])
    assert (figure["median"], figure["per_second"]) == (4000.0, 25_000.0)
    assert figure["loop_late_p99_ms"] is None


@pytest.mark.parametrize(
    ("count", "found"), [(1, 1), (2, 2), (99, 99), (100, 99), (101, 100), (1000, 990)]
)
def test_the_last_of_a_hundred_is_left_out(count: int, found: int) -> None:
    assert p99(list(range(count, 0, -1))) == found


@pytest.mark.parametrize(
    ("value", "words"), [(0.9876, "0.988"), (12.34, "12.3"), (99.96, "100"), (987654.0, "988,000")]
)
def test_three_digits_are_read(value: float, words: str) -> None:
    assert spelt(value) == words
