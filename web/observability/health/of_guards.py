"""The components that a program makes of its guards: what is answered in the place of a dependency.

weather = cached_fallback("weather", max_age=600.0)
plan = SitePlan(health=lambda site: [fallback_component(weather)])
"""

from typing import TypeVar

from supervision import Fallback
from web.observability.health.words import Component, Finding, degraded, healthy

T = TypeVar("T")


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
