"""A bad line between a page or a program and the site: a proxy in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.nodes.lines import Line, Lines

__all__ = ["Line", "bad_line"]


@contextmanager
def bad_line() -> Iterator[tuple[Line, Callable[[int], None]]]:
    """A line to a port that is named later."""
    ports: list[int] = []
    with Lines() as lines:
        yield lines.to_port(lambda: ports[0]), ports.append
