"""No shielded scope without a time limit: one that never ends keeps a process alive (REL-10)."""

import ast
from pathlib import Path

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]
LIMITED = frozenset({"move_on_after", "move_on_at", "fail_after", "fail_at"})


def endless_shields(modules: list[Module]) -> list[str]:
    """List the places that shield without a limit."""
    found: set[tuple[str, int]] = set()
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _shields(node) and _name(node.func) not in LIMITED:
                found.add((module.name, node.lineno))
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Attribute) and target.attr == "shield"
                for target in node.targets
            ):
                found.add((module.name, node.lineno))
    return [f"{name}:{line}" for name, line in sorted(found)]


def _shields(call: ast.Call) -> bool:
    return any(
        keyword.arg == "shield"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_every_shield_has_a_limit() -> None:  # REL-10
    modules = read_modules(ROOT)
    assert len(modules) > 100
    assert endless_shields(modules) == []


def test_planted_shields_are_found(tmp_path: Path) -> None:  # REL-10
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.py").write_text(
        "import trio\n"
        "with trio.CancelScope(shield=True): pass\n"
        "with trio.move_on_after(1, shield=True): pass\n"
        "scope.shield = True\n"
    )
    assert endless_shields(read_modules(tmp_path)) == ["web.x:2", "web.x:4"]
