"""The component that a program has of its mail: degraded while its server is away.

Nobody waits for a mail, so a program that cannot send any serves on; what was not sent waits in the
outbox.
"""

from collections.abc import Callable, Mapping

from web.observability.health.words import Component, Finding, degraded, healthy


def mail_component(
    trouble: Callable[[], str], counts: Callable[[], Mapping[str, int]]
) -> Component:
    """Call this with what the way out fails with, empty while it works, and what was sent."""

    def check() -> Finding:
        words = trouble()
        return degraded(words, **counts()) if words else healthy(**counts())

    return Component("mail", check)
