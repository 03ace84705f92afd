"""The components that a program has of its actors: who gave up, and who is not there."""

from collections.abc import Callable, Iterable
from functools import partial

from actors.runtime import System
from supervision import tree_of
from web.observability.health.words import Component, Finding, degraded, healthy, unhealthy

# A line names so many; the number of all of them stands in the details.
PATHS_MAX = 3


def supervision_component(system: Callable[[], System]) -> Component:
    """Call this for the supervisors of a tree: one that gave up and is not back is unhealthy.

    Those below a dynamic supervisor are not looked at: there one of many is missed by whoever
    asked for it, and by nobody else.
    """
    return Component("supervision", partial(_check_supervision, system))


def tree_component(system: Callable[[], System], names: Callable[[], Iterable[str]]) -> Component:
    """Call this for actors that routes ask by their `names`: each must be there."""
    return Component("tree", partial(_check_tree, system, names))


def _check_supervision(system: Callable[[], System]) -> Finding:
    absent = tree_of(system()).absent()
    numbers = {"gave_up": len(absent.gave_up), "waiting": len(absent.waiting)}
    if absent.gave_up:
        return unhealthy(f"gave up and is not back: {_paths(absent.gave_up)}", **numbers)
    if absent.waiting:
        return degraded(f"waits to be restarted: {_paths(absent.waiting)}", **numbers)
    return healthy(**numbers)


def _check_tree(system: Callable[[], System], names: Callable[[], Iterable[str]]) -> Finding:
    found = system()
    away = [name for name in names() if found.whereis(name) is None]
    if away:
        return unhealthy(f"an actor is away: {_paths(away)}", away=len(away))
    return healthy()


def _paths(paths: Iterable[str]) -> str:
    known = sorted(paths)
    more = len(known) - PATHS_MAX
    return ", ".join(known[:PATHS_MAX]) + (f" and {more} more" if more > 0 else "")
