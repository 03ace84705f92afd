"""What a stranger's text is never: a statement, a program, or an address to ask (SEC-121)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.layers import Module, read_modules

ROOT = Path(__file__).parents[2]

# What makes a program, or an object with a constructor of its choice, of bytes.
_MAKERS = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "code"})
_CALLS = frozenset({"eval", "exec", "__import__"})
_BY_NAME = frozenset({"import_module"})
# What asks another host.
_ASKERS = frozenset(
    {
        "httpx", "requests", "aiohttp", "urllib.request", "http.client", "ftplib",
        "web.routing.outward",
    }
)  # fmt: skip
_STATEMENTS = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor"})

WITH_REASON = {
    "actors.testing.repeating": "a scenario that the developer names on the command line",
    "web.cli.commands": "the commands that it lists itself",
    "web.cli.opening": "modules that an operator names on the command line",
    "web.cli.running.examples": "the examples that it lists itself",
    "web.accounts.ways.provider": "providers that the settings name, at addresses they tell",
    "web.mail.routes.amazon": "a certificate, at a host of the topic that the settings name only",
    "web.observability.operating.traces.exporting": "a collector that the settings name",
    "storage.search.sending": "a server that the settings name",
    "web.routing.outward": "an address that who calls it has looked at",
    "web.views.fetched": "files of a build, from the registries that it is configured with",
    "web.client": "a client asks the server that its program names",
    "web.lab.demos": "a visitor's own errand asks this site, at an address that is ours",
}


def _dangers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name in _MAKERS | _ASKERS)
            case ast.ImportFrom(module=str(module), names=names):
                if module in _MAKERS | _ASKERS:
                    yield module
                yield from (one.name for one in names if f"{module}.{one.name}" in _ASKERS)
            case ast.Call(func=ast.Name(id=name)) if name in _CALLS | _BY_NAME:
                yield name
            case ast.Call(func=ast.Attribute(attr=name)) if name in _BY_NAME:
                yield name


def _without_reason(modules: list[Module]) -> list[str]:
    return [
        f"{module.name}: {', '.join(found)}"
        for module in modules
        if (found := sorted(set(_dangers(module.tree))))
        and not any(module.name.startswith(one) for one in WITH_REASON)
    ]


# -- statements -----------------------------------------------------------------------------------

# Texts that are put together of our own words only: by whom, and of what.
_HANDED = "a constant of who calls it, in its file or beside it"
_ORDER = (
    "one of two orders of its file, by whether a tenant is asked for; the tenant is a parameter"
)
MADE_WITH_REASON = {
    "storage.postgres.accounts.holdings._fetch": _HANDED,
    "storage.postgres.accounts.members._credentials": _HANDED,
    "storage.postgres.accounts.members._end": _HANDED,
    "storage.postgres.accounts.sessions._execute": _HANDED,
    "storage.postgres.accounts.ways.recoveries._find": _HANDED,
    "storage.postgres.chat_log._fetch": _HANDED,
    "storage.postgres.connecting.notices._serve": _HANDED,
    "storage.postgres.connecting.pool.run": _HANDED,
    "storage.postgres.connecting.session.answers": _HANDED,
    "storage.postgres.connecting.session.change_rows": _HANDED,
    "storage.postgres.dead_letters._get": _HANDED,
    "storage.postgres.events.closing._remove_copies": _HANDED,
    "storage.postgres.events.reading._end": _ORDER,
    "storage.postgres.events.reading._filtered": _ORDER,
    "storage.postgres.events.reading._page_backwards": _ORDER,
    "storage.postgres.events.reading.count": "with or without what is hidden",
    "storage.postgres.events.reading.lag": _ORDER,
    "storage.postgres.events.reading.page": _ORDER,
    "storage.postgres.projections._apply": "of a developer's own projection",
    "storage.postgres.projections._write": _HANDED,
    "storage.postgres.schema.checking._ask": _HANDED,
    "storage.postgres.schema.migrate._apply": "a migration, whose file is part of the program",
    "storage.postgres.schema.migrate._drop_invalid": "an index that a migration names",
    "storage.postgres.schema.migrate._has_rows": "a table that its file names",
    "storage.postgres.schema.renumber._renumber": _HANDED,
}


def _is_ours(node: ast.expr, local: dict[str, list[ast.expr]]) -> bool:
    """Tell whether a text is made of constants alone; those of a module are in capitals."""
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.lstrip("_").isupper():
            return True
        case ast.Name(id=name):
            return bool(local.get(name)) and all(_is_ours(one, {}) for one in local[name])
        case ast.BinOp(left=left, right=right):
            return _is_ours(left, local) and _is_ours(right, local)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_ours(body, local) and _is_ours(orelse, local)
        case ast.Subscript(value=value):
            return _is_ours(value, local)
        case ast.JoinedStr(values=values):
            return all(
                _is_ours(one.value if isinstance(one, ast.FormattedValue) else one, local)
                for one in values
            )
        case ast.Call(func=ast.Attribute(attr="format", value=value), args=args, keywords=words):
            given = [*args, *(word.value for word in words)]
            return _is_ours(value, local) and all(_is_ours(one, local) for one in given)
    return False


def _made_statements(module: Module) -> Iterator[str]:
    for function in ast.walk(module.tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        local: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                local.setdefault(node.targets[0].id, []).append(node.value)
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(attr=name, value=owner), args=[first, *_]) if (
                    name in _STATEMENTS and "connection" in ast.unparse(owner)
                ):
                    if not _is_ours(first, local):
                        yield f"{module.name}.{function.name}"


def test_no_text_becomes_a_program_or_an_address() -> None:
    # SEC-121
    modules = read_modules(ROOT)
    assert len(modules) > 300
    assert _without_reason(modules) == []


def test_statements_are_our_own_words() -> None:
    # SEC-121: what anybody gives is a parameter
    modules = [one for one in read_modules(ROOT) if one.name.startswith("storage.postgres")]
    assert len(modules) > 40
    found = {one for module in modules for one in _made_statements(module)}
    assert found == set(MADE_WITH_REASON)


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from marshal import loads", "x = eval('1')", "from urllib import request",
     "import httpx", "import importlib\nimportlib.import_module(name)"],
)  # fmt: skip
def test_a_planted_danger_is_found(text: str) -> None:
    # SEC-121
    assert list(_dangers(ast.parse(text)))
