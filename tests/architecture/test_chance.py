"""Who draws on chance or the machine's time below `actors`: nobody, both are handed in (CORE-6)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]

# Modules whose every function draws, and functions of others that do.
_SOURCES = frozenset({"random", "secrets"})
_FUNCTIONS = {
    "uuid": frozenset({"uuid1", "uuid4", "uuid6", "uuid7", "uuid8", "getnode"}),
    "os": frozenset({"urandom", "getrandom"}),
    "time": frozenset({"time", "time_ns", "localtime", "gmtime"}),
    "datetime": frozenset({"now", "utcnow", "today"}),
    "date": frozenset({"today"}),
}

DRAWS_WITH_REASON = {
    "actors.runtime.system.system": "the name of a system among those of all processes",
    "actors.testing": "generators that a seed makes, and what simulations put in their place",
}


def _draws(tree: ast.Module) -> Iterator[str]:
    """What a module draws on, by any of the names that it has given to it."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name in _SOURCES:
                    yield one.name
                names[one.asname or one.name] = one.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for one in node.names:
                if node.module in _SOURCES or one.name in _FUNCTIONS.get(node.module, ()):
                    yield f"{node.module}.{one.name}"
                names[one.asname or one.name] = one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            owner = names.get(owner, owner)
            if node.attr in _FUNCTIONS.get(owner, ()):
                yield f"{owner}.{node.attr}"


def _without_reason(modules: list[Module]) -> list[str]:
    return [
        f"{module.name}: {', '.join(found)}"
        for module in modules
        if (found := sorted(set(_draws(module.tree))))
        and not any(module.name.startswith(one) for one in DRAWS_WITH_REASON)
    ]


def _modules() -> list[Module]:
    return read_modules(ROOT, ("actors",))


def test_nobody_below_actors_draws_on_chance_or_the_wall_clock() -> None:  # CORE-6
    modules = _modules()
    assert len(modules) > 100
    assert _without_reason(modules) == []


@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "import random as dice",
        "from random import choice",
        "from secrets import token_hex",
        "from uuid import uuid4",
        "import uuid\nid_ = uuid.uuid4()",
        "import uuid as ids\nid_ = ids.uuid4()",
        "import os\nbytes_ = os.urandom(8)",
        "from os import urandom as noise",
        "import time\nat = time.time()",
        "from datetime import datetime\nat = datetime.now()",
        "import datetime as dt\nat = dt.datetime.now()",
        "from datetime import datetime as moment\nat = moment.now()",
    ],
)
def test_a_planted_draw_is_found(line: str) -> None:  # CORE-6
    planted = Module("actors.planted", Path("planted.py"), ast.parse(line))
    assert len(_without_reason([planted])) == 1


def test_what_is_handed_in_is_no_draw() -> None:
    lines = (
        "from uuid import UUID, uuid5\nimport os, time\nfrom datetime import datetime\n"
        "id_ = env.ids.new_id()\nat = env.clock.now()\nx = env.random.random()\n"
        "pid = os.getpid()\nspent = time.perf_counter()\n"
        "then = datetime.fromisoformat(text)"
    )
    assert list(_draws(ast.parse(lines))) == []


def test_every_reason_is_still_needed() -> None:
    drawing = [module.name for module in _modules() if list(_draws(module.tree))]
    for reason in DRAWS_WITH_REASON:
        assert any(name.startswith(reason) for name in drawing), reason
