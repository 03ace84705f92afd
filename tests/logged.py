"""What the packages log, as a test wants it: kept to be looked at, or not written at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import EventDict


@contextmanager
def configured_for(level: int) -> Iterator[None]:
    """Log as in a program that has configured structlog for `level` and above."""
    before, was_configured = structlog.get_config(), structlog.is_configured()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    yield
    structlog.configure(**before)
    if not was_configured:
        structlog.reset_defaults()


@contextmanager
def captured() -> Iterator[list[EventDict]]:
    """What is logged from warnings on."""
    with configured_for(logging.WARNING), structlog.testing.capture_logs() as lines:
        yield lines


@contextmanager
def silenced() -> Iterator[None]:
    """Crashes on purpose need no lines."""
    with configured_for(logging.CRITICAL):
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)
