"""One record is one line, whatever the values hold, and no line ever hurts whoever writes it."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given

from actors.runtime import Context, Log, Secret, edge_context
from actors.runtime.telling.log import LOST, lost, one_line
from tests.any_text import any_text
from tests.patience import PATIENCE_S
from web.observability import configure_logging
from web.settings import LogFormat, LogLevel, Settings, read_settings
from web.wiring.composition import Secrets

PLANTED = "hunter2-canary"

log = structlog.get_logger()
every_format = pytest.mark.parametrize("log_format", list(LogFormat))


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    # What other tests have lost is told here, and nowhere below.
    configure_logging(LogFormat.JSON, LogLevel.ERROR, io.StringIO())
    log.error("told")
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


@given(any_text())
def test_a_text_is_shown_on_one_line(text: str) -> None:  # SITE-132 SEC-132
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown


@every_format
def test_values_forge_no_lines(log_format: LogFormat) -> None:  # SITE-132
    output = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, output)
    log.info("room.restarted", path="a\nroom.stolen level=error\x1b[31m", **{"a\nb": 1})
    assert output.getvalue().count("\n") == 1
    assert "\x1b[31m" not in output.getvalue()


@every_format
def test_a_line_names_what_it_belongs_to(log_format: LogFormat) -> None:  # WEB-10
    output = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, output)
    Log("a").info("outside")
    with edge_context(Context("the-request")):
        Log("a").info("inside")
        log.info("another", correlation_id="its-own")
    outside, inside, another = output.getvalue().splitlines()
    assert "correlation_id" not in outside
    assert "the-request" in inside
    assert "its-own" in another
    assert "the-request" not in another


@every_format
def test_a_line_of_a_node_says_which(log_format: LogFormat) -> None:  # CLU-40
    output = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, output, node="left")
    Log("a").info("its own")
    logging.getLogger("foreign").warning("of a library")
    log.info("of another", node="right")
    own, foreign, another = output.getvalue().splitlines()
    assert "left" in own
    assert "left" in foreign
    assert "right" in another
    assert "left" not in another


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class TwoLines:
    def __repr__(self) -> str:
        return "one\ntwo \x1b[31m"


ODD = [
    Unprintable(),
    TwoLines(),
    [TwoLines()],
    {(1, 2): "x"},
    {"deep": {"er": Unprintable()}},
    float("nan"),
    float("-inf"),
    "\ud800",
    b"\xff\n",
    OSError("a\nb"),
    Secret(PLANTED),
    None,
    True,
    1 << 80,
]


@every_format
@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_any_value_is_one_line(log_format: LogFormat, value: object) -> None:  # SITE-132 SEC-131
    output = io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii")
    configure_logging(log_format, LogLevel.INFO, output)
    total = lost.total
    log.info("room.restarted", value=value)
    (line,) = raw.getvalue().decode("ascii").splitlines()
    assert "\x1b" not in line
    assert PLANTED not in line
    assert lost.total == total
    if log_format is LogFormat.JSON:
        json.loads(line, parse_constant=pytest.fail)


class Writes(io.StringIO):
    """Remembers what was written at once, as threads that share an output see it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.error: BaseException | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        self.parts.append(text)
        return super().write(text)


@every_format
def test_no_other_thread_comes_between_a_line_and_its_end(log_format: LogFormat) -> None:
    # SITE-132
    output = Writes()
    configure_logging(log_format, LogLevel.INFO, output)
    log.info("room.restarted", restarts=3)
    (line,) = output.parts
    assert line.endswith("\n")


def test_json_lines_carry_time_level_and_event() -> None:  # OBS-5
    output = io.StringIO()
    configure_logging(LogFormat.JSON, LogLevel.INFO, output)
    log.warning("room.restarted", restarts=3)
    log.debug("not.printed")
    (record,) = [json.loads(line) for line in output.getvalue().splitlines()]
    assert record["level"] == "warning"
    assert record["event"] == "room.restarted"
    assert record["restarts"] == 3
    assert record["timestamp"].endswith("Z")


# -- what cannot be written ------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed")])
def test_a_line_that_cannot_be_written_is_counted_and_told(
    log_format: LogFormat, error: BaseException
) -> None:
    # SITE-132
    output = Writes()
    configure_logging(log_format, LogLevel.ERROR, output)
    output.error = error
    log.error("not written")
    Log("other").error("not written")
    logging.getLogger("foreign").error("not written")
    output.error = None
    log.error("written")
    first, told = output.parts
    assert "written" in first
    assert LOST in told
    assert "3" in told
    assert type(error).__name__ in told


def test_a_processor_of_somebody_else_that_raises_is_counted() -> None:
    configure_logging(LogFormat.JSON, LogLevel.INFO, io.StringIO())
    structlog.get_config()["processors"].insert(0, lambda *_: 1 / 0)
    total = lost.total
    log.info("not written")
    log.bind(a=1).exception("not written")
    assert lost.total == total + 2


def test_there_may_be_no_stream_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging(LogFormat.PRETTY, LogLevel.INFO)
        total = lost.total
        log.info("not written")
        assert lost.total == total + 1


# -- tracebacks, secrets, and what else is installed -------------------------------------------


def connect(url: str, secret: Secret[str]) -> None:
    opened = secret.reveal()
    raise OSError(f"cannot reach {url} with password={len(opened)}\nforged: line \x1b[31m")


@every_format
def test_a_traceback_shows_no_locals_and_forges_no_line(log_format: LogFormat) -> None:
    # SITE-132 SEC-131
    output = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, output)
    try:
        connect(f"postgresql://me:{PLANTED}@db/site", Secret(PLANTED))
    except OSError:
        log.exception("store.failed", url=f"postgresql://me:{PLANTED}@db/site", token=PLANTED)
    text = output.getvalue()
    assert PLANTED not in text
    assert "postgresql://me:***@db/site" in text
    assert "in connect" in text
    assert "\x1b" not in text
    first, *below = text.splitlines()
    assert "store.failed" in first
    assert all(not line or line.startswith(("    ", "=")) for line in below)
    assert bool(below) == (log_format is LogFormat.PRETTY)


def test_no_setting_shows_a_secret() -> None:  # SEC-131 SITE-180
    url = f"postgresql://me:{PLANTED}@db/site"
    settings = read_settings({"DATABASE_URL": url, "SESSION_SECRET": "c2VjcmV0" * 16})
    assert settings.database_url == Secret(url)
    made = settings.session_secret
    assert made is not None
    assert made.reveal() == b"secret" * 16
    shown = f"{settings} {settings!r} {Secrets(made, made)} {Settings(session_secret=made)}"
    assert PLANTED not in shown
    assert "secretsecret" not in shown


FOREIGN = ("rich", "better_exceptions", "colorama", "orjson", "ujson", "simplejson", "rapidjson")
NOTE = """
import os
class Anything:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self
    def __call__(self, *args, **kw):
        os.write(2, b"FOREIGN CODE WAS CALLED\\n")
        return self
    def __str__(self):
        return "FOREIGN TEXT"
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything()
"""
LINES = """
import sys, logging, structlog
from actors.runtime import Log
from web.observability import configure_logging
from web.settings import LogFormat, LogLevel
for log_format in LogFormat:
    configure_logging(log_format, LogLevel.INFO)
    structlog.get_config()["processors"][2] = lambda logger, method, record: record  # no time
    try:
        hidden = "hunter2-canary"
        raise OSError("why")
    except OSError as error:
        structlog.get_logger().exception("failed", n=1)
        Log("a").error("failed", exc_info=error)
        logging.getLogger("b").exception("failed")
"""


def run_beside(folder: Path) -> tuple[bytes, bytes]:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LINES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return ended.stdout, ended.stderr


def test_lines_look_the_same_whatever_is_installed(tmp_path: Path) -> None:
    # SITE-132 SEC-131
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    for name in FOREIGN:
        package = full / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(NOTE)
        for inner in ("console", "traceback", "pretty"):
            (package / f"{inner}.py").write_text(NOTE)
    alone, beside = run_beside(empty), run_beside(full)
    assert beside == alone
    assert alone[1].count(b"OSError: why") == 6
    assert PLANTED.encode() not in alone[1]


# -- the standard library's logging ------------------------------------------------------------


@every_format
def test_lines_of_foreign_packages_look_like_ours(log_format: LogFormat) -> None:  # SITE-132
    output, root = io.StringIO(), logging.getLogger()
    # Without those of pytest, which let nothing wrong pass.
    before, root.handlers = root.handlers, []
    try:
        configure_logging(log_format, LogLevel.WARNING, output)
        configure_logging(log_format, LogLevel.WARNING, output)
        foreign = logging.getLogger("foreign.part")
        foreign.info("quiet")
        foreign.warning("said %s", "a\nb")
        foreign.warning("said %d", "no number")
    finally:
        root.handlers = before
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert "said a" in lines[0]
    assert "foreign.part" in lines[0]
    assert "TypeError" in lines[1]
