"""The page of errors, written from the source: `python -m tests.docs.errors`.

`docs/reference/errors.md` has every error that a front page of a package gives out: its message
with `...` for what differs, its code, whether the same call may succeed later, and its docstring.
Behind them stand the answers of the HTTP server, one a status. Nothing is imported but the table
of answers, so the text is the same whatever Python runs this.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from web.server import Answer

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = Path("docs/reference/errors.md")
COMMAND: Final = "python -m tests.docs.errors"

# The packages in the order of the page, each with what its errors are about.
PARTS: Final = {
    "actors.runtime": "Actors",
    "actors.reducers": "Reducers and effects",
    "supervision": "Supervision and guards",
    "actors.persistence": "The store, projections",
    "actors.persistence.bus": "The bus",
    "actors.sagas": "Sagas",
    "actors.cluster": "Several nodes",
    "storage.errors": "The database, backups, migrations",
    "storage.postgres": "PostgreSQL",
    "storage.redis": "Redis",
    "storage.search": "Search",
    "actors.accounts": "Accounts",
    "actors.chat": "Chat",
    "web.client": "The client for Python",
}
# A file with an error in it: its base ends so, or it says its message to the base.
_CLASS: Final = re.compile(
    r"^class \w+\(.*(?:Error|Exception|Misuse|Refused|Failed|NotCalled)|super\(\)\.__init__\(",
    re.MULTILINE,
)
_LEFT_OUT: Final = ("testing",)

_HEAD: Final = f"""# Errors

For who has one in a log and wants to know what was not done, and what to do. Written by
`{COMMAND}` from the source: mend it there. How to handle them is in
[Handle what goes wrong](../how_to/errors.md), whole lines as one sees them are in
[Find what is wrong by what you see](../how_to/troubleshoot.md).

The message stands first, with `...` for what differs from case to case. `code` is stable, for logs
and tables. *Again* says that the same call may succeed later without any change.
"""
_ANSWERS: Final = """
## Answers of the HTTP server

One a status, for pages and for client programs; these find `code` in the body
([answer client programs](../how_to/answer-client-programs.md)). `Retry-After` stands in the answer
where the last column has seconds. Codes of the WebSocket are in [its own page](websocket.md).

| status | code | title | text | again in |
|---|---|---|---|---|
"""
_COLUMNS: Final = "| error | what it says, and what to do |\n|---|---|\n"
_TAIL: Final = "\nNext: [handle what goes wrong](../how_to/errors.md).\n"


@dataclass(slots=True)
class Error:
    """One class: where it is, what it derives from, and what it says."""

    name: str
    module: str
    bases: tuple[str, ...]
    node: ast.ClassDef = field(repr=False)


@cache
def classes() -> dict[str, list[Error]]:
    """Call this for every class of the packages, by name."""
    found: dict[str, list[Error]] = {}
    for package in ("actors", "supervision", "storage", "web/client"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if any(part in _LEFT_OUT for part in path.parts):
                continue
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            text = path.read_text()
            # Most files have none, and parsing takes all the time.
            for node in ast.parse(text).body if _CLASS.search(text) else ():
                if isinstance(node, ast.ClassDef):
                    bases = tuple(_base(one) for one in node.bases)
                    found.setdefault(node.name, []).append(Error(node.name, module, bases, node))
    return found


def _base(node: ast.expr) -> str:
    named = node.value if isinstance(node, ast.Subscript) else node
    return ast.unparse(named).rpartition(".")[2]


def is_error(one: Error, known: dict[str, list[Error]]) -> bool:
    """Call this to learn whether a class is an exception, through bases of ours."""
    for base in one.bases:
        if base.endswith(("Error", "Exception")) and base not in known:
            return True
        if any(is_error(above, known) for above in known.get(base, ()) if above is not one):
            return True
    return False


@cache
def given_out(package: str) -> set[str]:
    """Call this for the names that the front page of a package gives out; of a module for all."""
    path = ROOT / package.replace(".", "/")
    if not path.is_dir():
        body = ast.parse(path.with_suffix(".py").read_text()).body
        return {one.name for one in body if isinstance(one, ast.ClassDef)}
    for node in ast.parse((path / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def listed() -> dict[str, list[Error]]:
    """Call this for the errors of each package of the page; each stands where it is found first."""
    known, seen = classes(), set[str]()
    parts: dict[str, list[Error]] = {}
    for package in PARTS:
        names = given_out(package) - seen
        top = package.partition(".")[0]
        errors = [
            one
            for name in sorted(names)
            for one in known.get(name, ())
            if one.module.startswith(f"{top}.") and is_error(one, known)
        ]
        parts[package] = errors
        seen |= {one.name for one in errors}
    return parts


def problems() -> list[str]:
    """Call this for errors that nobody finds on the page, or that say nothing there.

    Without a docstring nobody learns what to do.
    """
    known = classes()
    there = {one.name for errors in listed().values() for one in errors}
    missing = [
        f"{package} gives out {name}, which no part of {PAGE} has"
        for package in _fronts()
        for name in sorted(given_out(package) - there)
        if any(
            is_error(one, known) and one.module.startswith(package) for one in known.get(name, ())
        )
    ]
    return missing + [
        f"{one.module}.{one.name} has no docstring"
        for errors in listed().values()
        for one in errors
        if not ast.get_docstring(one.node)
    ]


def _fronts() -> Iterator[str]:
    """The front pages of the packages that a program of the user's imports from."""
    for pattern in ("actors/*", "supervision", "storage", "storage/*"):
        for path in sorted(ROOT.glob(f"{pattern}/__init__.py")):
            if not any(part in _LEFT_OUT for part in path.parts):
                yield ".".join(path.parent.relative_to(ROOT).parts)


def written() -> str:
    """Call this for the whole page."""
    known = classes()
    parts = [_HEAD]
    for package, errors in listed().items():
        if errors:
            parts.append(f"\n## {PARTS[package]}\n\nFrom `{package}`.\n\n{_COLUMNS}")
            parts += [_row(one, known) for one in errors]
    parts.append(_ANSWERS)
    for answer in Answer:
        row = answer.value
        again = "" if row.retry_after_s is None else f"{row.retry_after_s} s"
        parts.append(f"| {row.status} | `{row.code}` | {row.title} | {row.text} | {again} |\n")
    return "".join([*parts, _TAIL])


def _row(one: Error, known: dict[str, list[Error]]) -> str:
    text = " ".join(inspect.cleandoc(ast.get_docstring(one.node) or "").split())
    code, said = _code(one.node), _message(one.node)
    marks = [f"`{one.name}`", *([f"code `{code}`"] if code else [])]
    marks += ["*again*"] if _is_transient(one, known) else []
    return f"| {', '.join(marks)} | {_cell(f'“{said}” {text}' if said else text)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(node: ast.ClassDef) -> str:
    value = _constant(node, "code")
    return value if isinstance(value, str) else ""


def _is_transient(one: Error, known: dict[str, list[Error]]) -> bool:
    own = _constant(one.node, "is_transient")
    if own is not None:
        return bool(own)
    above = [found for base in one.bases for found in known.get(base, ()) if found is not one]
    return any(_is_transient(found, known) for found in above)


def _constant(node: ast.ClassDef, name: str) -> object:
    for one in node.body:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name:
            return one.value.value if isinstance(one.value, ast.Constant) else None
    return None


def _message(node: ast.ClassDef) -> str:
    """What it says by itself, `...` for what it is told; empty when it is told all of it."""
    for one in ast.walk(node):
        if (
            isinstance(one, ast.Call)
            and isinstance(one.func, ast.Attribute)
            and one.func.attr == "__init__"
            and one.args
        ):
            text = " ".join("".join(_texts(one.args[-1])).split())
            text = re.sub(r"\.{4,}", "...", text)
            return text if re.search(r"[a-z]{3}", text) else ""
    return ""


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            for one in values:
                yield from _texts(one)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _texts(left)
            yield from _texts(right)
        case _:
            yield "..."


def main() -> int:
    """Call this to write the page; tells what only a person can mend."""
    (ROOT / PAGE).write_text(written())
    left = problems()
    print(*left, sep="\n", end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
