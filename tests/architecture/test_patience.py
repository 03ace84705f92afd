"""No test depends on the speed of the machine: its commonest ways to do so are red (REL-2)."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]
TESTS = ("tests.", "storage.testing", "actors.testing")
BENCHMARKS = "tests.bench"
# With it a test's time is virtual, and as exact as a count.
VIRTUAL = "autojump_clock"
CLOCKS = frozenset({"current_time", "monotonic", "perf_counter", "time"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


def impatient(modules: list[Module]) -> list[str]:
    """List limits of seconds in figures or in rounds, and asserts of speed, in real time."""
    found: set[tuple[str, int]] = set()
    for module in modules:
        if module.name.startswith(TESTS) and not module.name.startswith(BENCHMARKS):
            found |= {(module.name, line) for line in _in_real_time(module.tree)}
    return [f"{name}:{line}" for name, line in sorted(found)]


def _in_real_time(node: ast.AST) -> Iterator[int]:
    if isinstance(node, Function) and any(one.arg == VIRTUAL for one in node.args.args):
        return
    if isinstance(node, ast.Call) and _is_limit_in_figures(node):
        yield node.lineno
    if isinstance(node, ast.Compare) and _was_fast(node):
        yield node.lineno
    yield from _waits_in_rounds(node)
    for child in ast.iter_child_nodes(node):
        yield from _in_real_time(child)


def _is_limit_in_figures(call: ast.Call) -> bool:
    return _name(call.func) == "fail_after" and any(
        isinstance(argument, ast.Constant) for argument in call.args
    )


def _waits_in_rounds(node: ast.AST) -> Iterator[int]:
    """Find what is tried so many times, however fast, and is an error then."""
    found: object = getattr(node, "body", None)
    body = found if isinstance(found, list) else []
    for at, one in enumerate(body):
        if isinstance(one, ast.For) and _counts_rounds(one):
            behind = one.orelse or body[at + 1 : at + 2]
            if behind and isinstance(behind[0], ast.Raise):
                yield one.lineno


def _counts_rounds(loop: ast.For) -> bool:
    """Tell whether a loop counts to a figure without a name, and leaves off before that."""
    is_counted = (
        isinstance(loop.iter, ast.Call)
        and _name(loop.iter.func) == "range"
        and isinstance(loop.iter.args[-1], ast.Constant)
    )
    is_unnamed = isinstance(loop.target, ast.Name) and loop.target.id == "_"
    leaves = any(isinstance(one, ast.Break | ast.Return) for one in ast.walk(loop))
    return is_counted and is_unnamed and leaves


def _was_fast(compared: ast.Compare) -> bool:
    """Tell whether a time that went by has to be below something; above it may be."""
    sides = [compared.left, *compared.comparators]
    return any(
        (_is_duration(left) and isinstance(operator, ast.Lt | ast.LtE))
        or (_is_duration(right) and isinstance(operator, ast.Gt | ast.GtE))
        for left, operator, right in zip(sides, compared.ops, sides[1:], strict=False)
    )


def _is_duration(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and isinstance(node.left, ast.Call)
        and _name(node.left.func) in CLOCKS
    )


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_no_test_is_in_a_hurry() -> None:  # REL-2
    modules = read_modules(ROOT, ["tests", "storage", "actors"])
    assert sum(module.name.startswith("tests.") for module in modules) > 100
    assert impatient(modules) == []


def test_planted_hurry_is_found(tmp_path: Path) -> None:  # REL-2
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "x.py").write_text(
        "async def test_a():\n"
        "    with trio.fail_after(5): pass\n"
        "    with trio.fail_after(PATIENCE_S): pass\n"
        "    assert time.monotonic() - began < 1.0\n"
        "    assert 0.4 <= trio.current_time() - began\n"
        "    assert 2 > trio.current_time() - began > 1\n"
        "async def test_b(autojump_clock):\n"
        "    with trio.fail_after(5): pass\n"
        "    assert trio.current_time() - began <= 1.0\n"
        "def test_c():\n"
        "    for _ in range(100):\n"
        "        if is_so(): break\n"
        "    else:\n"
        "        raise AssertionError\n"
        "    for _ in range(9):\n"
        "        if is_so(): return\n"
        "    raise AssertionError\n"
        "def test_d():\n"
        "    for _ in range(9): pass\n"
        "    raise AssertionError\n"
    )
    found = impatient(read_modules(tmp_path, ["tests"]))
    assert found == [f"tests.x:{n}" for n in (2, 4, 6, 11, 15)]
