"""One record is one line, whatever the values hold."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from actors.runtime.telling.log import one_line
from web.observability import configure_logging
from web.settings import LogFormat, LogLevel

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@given(st.text())
def test_a_text_is_shown_on_one_line(text: str) -> None:  # SITE-132 SEC-132
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_values_forge_no_lines(log_format: LogFormat) -> None:  # SITE-132
    output = io.StringIO()
    configure_logging(log_format, LogLevel.INFO, output)
    log.info("room.restarted", path="a\nroom.stolen level=error\x1b[31m")
    assert output.getvalue().count("\n") == 1
    assert "\x1b[31m" not in output.getvalue()


class Writes(io.StringIO):
    """Remembers what was written at once, as threads that share an output see it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return super().write(text)


@pytest.mark.parametrize("log_format", list(LogFormat))
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
