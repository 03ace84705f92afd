"""The components that a program makes of its guards: what is left alone, what is answered instead.

weather = cached_fallback("weather", max_age=600.0)
plan = SitePlan(health=lambda site: [fallback_component(weather)])
"""

import re
from typing import TypeVar

from supervision import Dependencies, Fallback
from web.observability.health.words import Component, Finding, degraded, healthy

T = TypeVar("T")
# Names of details have fewer signs than those of dependencies.
_NOT_OURS = re.compile(r"[.-]")
# Of more dependencies the first are named.
SHOWN_MAX = 10


def fallback_component(fallback: Fallback[T]) -> Component:
    """Call this for a dependency with another answer: degraded for a minute after each use of it.

    Raises ValueError when the fallback's name is none for a component.
    """

    def check() -> Finding:
        stats = fallback.stats()
        if stats.is_degraded:
            return degraded("another answer is given for it", uses=stats.uses, calls=stats.calls)
        return healthy(uses=stats.uses, calls=stats.calls)

    return Component(fallback.name, check)


def outside_component(outside: Dependencies) -> Component:
    """Call this for all that a program calls outside of itself: degraded while one is left alone.

    Nothing that it serves by itself needs them: what must reach them waits in the outbox.
    """

    def check() -> Finding:
        stats = outside.stats()
        states = {_NOT_OURS.sub("_", one.name): one.breaker.state for one in stats[:SHOWN_MAX]}
        away = [one.name for one in stats if one.breaker.state != "closed"]
        if away:
            return degraded(f"left alone for now: {', '.join(away[:SHOWN_MAX])}", **states)
        return healthy(**states)

    return Component("outside", check)
