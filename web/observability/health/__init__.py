"""Whether a program can serve: named components, each checked, and the report of all of them.

    from web.observability.health import Component, degraded, healthy

    async def printer() -> Finding:
        pages = await count_waiting()
        return degraded("many pages wait", pages=pages) if pages > 100 else healthy(pages=pages)

    plan = SitePlan(health=lambda site: [Component("printer", printer)])

Read `words.py` (what a check answers, and what is shown of it), then `health.py` (who runs the
checks, and for how long an answer counts). `of_store.py` and `of_tree.py` are the components that
a site has of its event store and of its actors, `of_guards.py` those of what it calls.
"""

from web.observability.health.health import CHECK_S_MAX, KEPT_S, Health, HealthActor
from web.observability.health.words import (
    Check,
    Checked,
    Component,
    Finding,
    HealthReport,
    Status,
    degraded,
    healthy,
    unhealthy,
)

__all__ = [
    "CHECK_S_MAX",
    "KEPT_S",
    "Check",
    "Checked",
    "Component",
    "Finding",
    "Health",
    "HealthActor",
    "HealthReport",
    "Status",
    "degraded",
    "healthy",
    "unhealthy",
]
