"""A generator of a stream holds nothing open while it waits for its reader (REL-36).

It goes on in whatever task asks it for the next piece: a context variable that it set there, and a
span or nursery that it opened, would be that task's own from then on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]
# What these decorators make of a generator is entered and left by one task.
MANAGERS = frozenset({"asynccontextmanager", "contextmanager"})


def held_across_yields(modules: list[Module]) -> list[str]:
    """List the lines of async generators that open a context around a `yield`, or keep a token."""
    found: set[tuple[str, int]] = set()
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.AsyncFunctionDef) or _is_manager(node):
                continue
            own = list(_own(node))
            if any(isinstance(one, ast.Yield) for one in own):
                found |= {(module.name, line) for line in _held(own)}
    return [f"{name}:{line}" for name, line in sorted(found)]


def _held(own: list[ast.AST]) -> Iterator[int]:
    for one in own:
        if isinstance(one, ast.With | ast.AsyncWith):
            if any(isinstance(inner, ast.Yield) for inner in _own(one)):
                yield one.lineno
            continue
        value = one.value if isinstance(one, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "set":
            yield value.lineno


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Give what stands in a function or block, not in functions of their own inside of it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _own(child)


def _is_manager(node: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id in MANAGERS for one in node.decorator_list)


def test_no_generator_holds_a_context_or_a_token_across_a_yield() -> None:  # REL-36
    # Streams are made in `web`; what the store is read by, one task goes through to the end.
    modules = [one for one in read_modules(ROOT) if one.name.startswith("web.")]
    generators = [
        node
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AsyncFunctionDef)
        and not _is_manager(node)
        and any(isinstance(one, ast.Yield) for one in _own(node))
    ]
    assert len(generators) >= 2, "the streams' own are seen"
    assert held_across_yields(modules) == []


def test_planted_ones_are_found(tmp_path: Path) -> None:  # REL-36
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.py").write_text(
        "async def stream():\n"
        "    token = name.set('mine')\n"
        "    with span('answer'):\n"
        "        yield b''\n"
        "    async with lock:\n"
        "        pass\n"
        "@asynccontextmanager\n"
        "async def opened():\n"
        "    async with lock:\n"
        "        yield\n"
    )
    assert held_across_yields(read_modules(tmp_path)) == ["web.x:2", "web.x:3"]
