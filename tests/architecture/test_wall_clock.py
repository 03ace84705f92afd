"""Who looks at the wall clock, which may jump by an hour: nobody who waits (REL-88).

Deadlines, retries and beats count by trio's clock, the store's order by its positions. What is
left are moments that are shown or kept, and ages of days.
"""

import ast
from pathlib import Path

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]

_NAMES = frozenset({"now", "utcnow", "today", "time", "time_ns"})
_OWNERS = frozenset({"datetime", "date", "time"})

LOOKS_WITH_REASON = {
    "storage.bus.kafka": "how old a record is, by the time that its broker has noted",
    "storage.memory.database": "when a row was written, as `now()` of the other engine",
    "storage.search.projections": "a document says when it was written; for people",
    "storage.testing": "suites compare moments",
    "web.cli.backup": "what is asked for must not lie in the future",
    "web.cli.beside_log": "an operator asks what is due by now",
    "web.observability.requests": "the time of a line",
    "web.server.connection.http.answers": "the Date of an answer",
    "web.wiring.environment": "the one clock that actors are given, and ids that never fall",
}


def _looks(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in _NAMES
        and isinstance(node.value, ast.Name)
        and node.value.id in _OWNERS
        for node in ast.walk(tree)
    )


def _without_reason(modules: list[Module]) -> list[str]:
    looking = {module.name for module in modules if _looks(module.tree)}
    # What simulations put in its place is not the wall clock.
    return sorted(
        name
        for name in looking
        if not name.startswith("actors.testing.")
        and not any(name == one or name.startswith(f"{one}.") for one in LOOKS_WITH_REASON)
    )


def test_nobody_who_waits_looks_at_the_wall_clock() -> None:  # REL-88, TEST-4
    assert _without_reason(read_modules(ROOT)) == []


def test_a_look_is_found() -> None:
    tree = ast.parse("import time\nuntil = time.time() + 5")
    assert _looks(tree)
    assert not _looks(ast.parse("import trio\nuntil = trio.current_time() + 5"))


def test_every_reason_is_still_needed() -> None:
    looking = [module.name for module in read_modules(ROOT) if _looks(module.tree)]
    for reason in LOOKS_WITH_REASON:
        assert any(name == reason or name.startswith(f"{reason}.") for name in looking), reason
