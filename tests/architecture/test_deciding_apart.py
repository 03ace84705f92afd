"""Whoever decides reads no projection: modules of sagas and aggregates import none (SAGA-8)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from actors.persistence import ProjectionStore
from actors.reducers import Environment
from actors.sagas import Facts, SagaParts
from tests.architecture.layers import parsed

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "web", "docs/examples")
# A class with one of these bases decides.
DECIDERS = {"Saga", "Aggregate"}
READERS = "projections"
READER_NAMES = {
    "ProjectionStore",
    "ProjectionRunner",
    "live_collection",
    "inline_collection",
    "wait_until",
    "PostgresProjections",
    "MemoryProjections",
    "RedisProjections",
    "ScanningSearch",
    "SearchProjections",
    "CachedProjections",
}


def decides(tree: ast.Module) -> bool:
    """Whether a module defines a saga or an aggregate."""
    bases = [
        base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases
    ]
    names = {
        base.value.id
        for base in bases
        if isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name)
    }
    return bool(names & DECIDERS)


def reads(tree: ast.Module) -> Iterator[str]:
    """What a module imports of that which reads projections."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if READERS in (node.module or "").split("."):
                yield node.module or ""
            yield from (one.name for one in node.names if one.name in READER_NAMES)
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if READERS in one.name.split("."))


def test_no_module_that_decides_imports_what_reads_projections() -> None:
    # SAGA-8
    looked_at = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = parsed(path)
            if decides(tree):
                looked_at.append(path.name)
                assert list(reads(tree)) == [], path
    assert {"checkout.py", "aggregate.py"} <= set(looked_at)


@pytest.mark.parametrize(
    "line",
    [
        "from actors.persistence import ProjectionStore",
        "from actors.persistence.projections.store import ParkedEvent",
        "import actors.persistence.projections.waiting",
        "from storage.postgres import PostgresProjections",
        "def f():\n    from actors.persistence import wait_until",
    ],
)
@pytest.mark.parametrize("base", ["Saga[Order]", "Aggregate[S, C, E]"])
def test_a_planted_import_is_found(line: str, base: str) -> None:
    # SAGA-8
    tree = ast.parse(f"{line}\nclass One({base}):\n    pass\n")
    assert decides(tree)
    assert list(reads(tree))


def test_what_a_decision_is_handed_has_no_read_model() -> None:
    # SAGA-8
    for handed in (Environment, Facts, SagaParts):
        assert ProjectionStore not in get_type_hints(handed).values()
