"""Nothing leaves the process but through a dependency, with all its guards (RES-9).

Three steps, each a scan: who has a client's library or opens a connection is listed here, with what
stands before it; what makes such a client is handed straight to its guard; and every name that the
guards are looked up by is declared by the site.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.layers import PACKAGES

ROOT = Path(__file__).parents[2]

LIBRARIES = frozenset(
    {
        "aiohttp", "asyncpg", "confluent_kafka", "elasticsearch", "ftplib", "grpc", "httpx",
        "imaplib", "nats", "opentelemetry", "redis", "requests", "smtplib", "trio_websocket",
        "urllib3",
    }
)  # fmt: skip
OPENERS = frozenset(
    {
        "create_connection", "open_ssl_over_tcp_stream", "open_tcp_stream", "urlopen",
        "HTTPConnection", "HTTPSConnection",
    }
)  # fmt: skip
# Asks whatever host it is told: as a library.
OUTWARD = "web.routing.outward"
GUARDED = "through a dependency"
CLIENT = "is itself the client, in another's program"
STORE = "the store: its pool has deadlines, a limit and its own way back"
LINK = "the link between nodes: a session with its own limits, nothing to be asked again"
CONSUMES = "takes from the broker, and asks it for nothing"
MAY = {
    "storage/bus/kafka.py": GUARDED,
    "storage/bus/kafka_member.py": CONSUMES,
    "storage/bus/kafka_words.py": GUARDED,
    "storage/bus/postgres.py": STORE,
    "storage/link/": LINK,
    "storage/postgres/": STORE,
    "storage/redis/": GUARDED,
    "storage/search/": GUARDED,
    "storage/testing/": "suites, and the servers that tests start",
    "web/accounts/ways/provider/calling.py": GUARDED,
    "web/client/": CLIENT,
    "web/mail/routes/amazon.py": GUARDED,
    "web/mail/senders/smtp.py": GUARDED,
    "web/observability/operating/traces/exporting/sending.py": GUARDED,
    "web/routing/outward.py": "is itself what is called, by those of this list",
}
# What makes a call outside, and the only thing that it may be handed to.
HANDED = {
    "storage/redis/client.py": ("_ask_now", "call"),
    "storage/search/client.py": ("send", "call"),
    "web/accounts/ways/provider/calling.py": ("_call", "call"),
    "web/app/bus.py": ("publisher", "guarded"),
    "web/mail/routes/amazon.py": ("fetch_certificate", "call"),
    "web/mail/senders/guarded.py": ("send", "call"),
    "web/observability/operating/traces/exporting/sending.py": ("_post", "call"),
    "web/wiring/frame/mailing.py": ("SmtpSender", "GuardedSender"),
}


def outbound(tree: ast.AST) -> Iterator[str]:
    """Call this for what of a module reaches outside: a library's name, or an opener's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.split(".")[0] in LIBRARIES)
            yield from (one.name for one in node.names if one.name in {"http.client"})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if (node.module or "").split(".")[0] in LIBRARIES or (
                node.module == OUTWARD and any(one.name == "ask" for one in node.names)
            ):
                yield node.module or ""
        elif isinstance(node, ast.Attribute) and node.attr in OPENERS:
            yield node.attr


def unguarded(tree: ast.AST, name: str, guard: str) -> list[int]:
    """Call this for the lines where `name` is used, but not within the arguments of `guard`."""
    within: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) == guard:
            for argument in (*node.args, *(one.value for one in node.keywords)):
                within.update(ast.walk(argument))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Name, ast.Attribute))
        and _called(node) == name
        and node not in within
    ]


def _called(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def bare(files: dict[str, str]) -> list[str]:
    """Call this for every reach outside that is not listed, as `file: what`."""
    return [
        f"{file}: {what}"
        for file, text in files.items()
        if not any(file.startswith(one) for one in MAY)
        for what in outbound(ast.parse(text))
    ]


def _files() -> dict[str, str]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def test_whoever_reaches_outside_is_listed() -> None:
    # RES-9
    assert bare(_files()) == []


def test_every_row_of_the_list_still_reaches_outside() -> None:
    files = _files()
    for listed in MAY:
        found = [file for file in files if file.startswith(listed)]
        assert any(list(outbound(ast.parse(files[file]))) for file in found), listed


@pytest.mark.parametrize("file", HANDED)
def test_what_calls_outside_is_handed_to_its_guard(file: str) -> None:
    # RES-9
    text, (name, guard) = (ROOT / file).read_text(), HANDED[file]
    assert name in text
    assert unguarded(ast.parse(text), name, guard) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import httpx\n",
        "from smtplib import SMTP\n",
        "import http.client\n",
        "from web.routing.outward import ask\n",
        "import trio\nasync def f():\n    await trio.open_tcp_stream('example.org', 80)\n",
        "def f():\n    from confluent_kafka import Producer\n",
    ],
)
def test_a_planted_bare_call_is_found(planted: str) -> None:
    # RES-9
    assert bare({"web/lab/planted.py": planted})


@pytest.mark.parametrize(
    "planted",
    [
        "async def f(self):\n    return await self._call('GET')\n",
        "async def f(self):\n    call = self._call\n    return await self.guard.call(call)\n",
        "async def f(self):\n    await self.guard.call(one)\n    await self._call()\n",
    ],
)
def test_a_planted_way_around_a_guard_is_found(planted: str) -> None:
    # RES-9
    assert unguarded(ast.parse(planted), "_call", "call")


def test_where_the_scan_looks_there_are_files() -> None:
    assert {Path(file).parts[0] for file in _files()} == set(PACKAGES)
