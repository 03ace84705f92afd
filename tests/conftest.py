"""Fixtures of the whole suite: a PostgreSQL for the session, a fresh database for a test."""

import gc
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("storage.testing")
# A case that expects nothing fails here too.
pytest_plugins = ("actors.unfinished",)

from actors.runtime.telling.log import lost  # noqa: E402
from storage.postgres import Database, open_database  # noqa: E402
from storage.testing import TemporaryServer  # noqa: E402
from tests import in_memory, requirement_marks  # noqa: E402
from tests.patience import PATIENT_POOL  # noqa: E402
from tests.sharing import long_ones_first  # noqa: E402

# How long an example takes tells something about the machine only.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """What a command has set up in this process is no other test's, nor what could not be written.

    Of a log that lost lines the next line tells, whoever writes it.
    """
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
    lost.guard(lambda: None, lambda fields: None)


class FailuresAtOnce:
    """Names a failure when it happens: a run that somebody ends has told what it has seen."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        requirement_marks.OPTION,
        action="append",
        default=[],
        metavar="ID",
        help="run the tests that hold this requirement, such as SITE-143; may be given again",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None and (folder := in_memory.folder()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def _is_long(item: pytest.Item) -> bool:
    return item.get_closest_marker("long") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    requirement_marks.choose(config, items)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = long_ones_first(items, _is_long, workers)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    requirement_marks.carry(item)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: collections of garbage pass it over."""
    gc.collect()
    gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporaryServer]:
    """A PostgreSQL in a temporary folder; every worker of a parallel run has its own."""
    server = TemporaryServer.start(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres_server: TemporaryServer) -> Iterator[str]:
    """The address of a fresh database with the whole schema; removed after the test."""
    name = postgres_server.make_database()
    yield postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open `Database` on a fresh database, with as few connections as a test needs."""
    async with open_database(database_url, part="test", settings=PATIENT_POOL) as opened:
        yield opened
