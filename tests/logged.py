"""What the packages log, as a test wants it: kept to be looked at, or not written at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import structlog
from structlog.typing import EventDict, WrappedLogger


@contextmanager
def configured_for(level: int) -> Iterator[None]:
    """Log as in a program that has configured structlog for `level` and above."""
    before, was_configured = structlog.get_config(), structlog.is_configured()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.configure(**before)
        if not was_configured:
            structlog.reset_defaults()


class _OfTheProgram(structlog.testing.LogCapture):
    """Keeps every line but the watchdog's: how long a turn takes tells of the machine only."""

    def __call__(self, logger: WrappedLogger, method_name: str, event_dict: EventDict) -> NoReturn:
        if event_dict["event"] == "loop_blocked":
            raise structlog.DropEvent
        super().__call__(logger, method_name, event_dict)


@contextmanager
def captured() -> Iterator[list[EventDict]]:
    """What is logged from warnings on."""
    capture = _OfTheProgram()
    with configured_for(logging.WARNING):
        structlog.configure(processors=[capture])
        yield capture.entries


@contextmanager
def silenced() -> Iterator[None]:
    """Crashes on purpose need no lines."""
    with configured_for(logging.CRITICAL):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
