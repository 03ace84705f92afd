"""Every pointer in documents, docstrings and comments leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import pointers
from tests.docs.pointers import Project, Source

ROOT = Path(__file__).parents[2]

MODULES = {
    "web/app.py": frozenset({"Site"}),
    "web/server/__init__.py": frozenset({"OriginChecks"}),
    "web/server/edge/checks.py": frozenset({"OriginChecks", "Wide"}),
}
SMALL = Project(
    paths=frozenset(
        {*MODULES, "web", "web/server", "web/server/edge", "web/views/templates/home.html"}
    ),
    modules=MODULES,
    names=frozenset({"OriginChecks"}),
    targets=frozenset({"run"}),
    subcommands=frozenset({"serve"}),
)


# Reads the whole project, for some two seconds; not marked slow all the same, because whoever
# moves a file must hear of it from `make check`.
def test_every_pointer_leads_somewhere() -> None:
    project, sources = pointers.read(ROOT)
    assert len(sources) > 300
    assert len(project.names) > 1000
    assert project.targets >= {"run", "test", "check"}
    assert project.subcommands >= {"serve"}
    told = [one for source in sources for one in pointers.dead(source, project)]
    assert told == [], "\n".join(told)


GOOD = [
    "`web/app.py`",
    "`checks.py`",
    "`edge/checks.py`",
    "server/edge/checks.py",
    "`views/templates/*.html`",
    "`edge/`",
    "`web/server`",
    "`web.app`",
    "`web.app.Site`",
    "`web.server.OriginChecks`",
    "`checks.OriginChecks`",
    "`checks.Wide`",
    "`OriginChecks(address)`",
    "`trio.Lock`",
    "`make run`",
    "`.venv/bin/python -m web.app`",
    "`greenroom serve`",
    # Not ours to keep: addresses, headers, one capital, a folder of the user's, made by a command.
    "`/static/x.css`, https://example.test/x.js, `Retry-After`, `Lobby`, `STATE_DIR/postgres`",
    "`build/bench.json`, `and/or`",
]
PLANTED = [
    ("see `origin.py`", "origin.py"),
    ("see edge/origin.py, the other half", "edge/origin.py"),
    ("`web/server/app.py` wires", "web/server/app.py"),
    ("`views/templates/*.txt.html`", "views/templates/*.txt.html"),
    ("all in `lanes/`", "lanes/"),
    ("all in `web/lanes`", "web/lanes"),
    ("as `web.stopping` says", "web.stopping"),
    ("a `web.app.Stage`", "web.app.Stage"),
    ("the port `checks.Owner`", "checks.Owner"),
    ("the port `port.Owner`", "port.Owner"),
    ("a `RequestJudge` per request", "RequestJudge"),
    ("first `make walk`", "make walk"),
    ("`python -m web.stopping`", "-m web.stopping"),
    ("`greenroom stop`", "greenroom stop"),
]


@pytest.mark.parametrize("prose", GOOD)
def test_a_good_pointer_is_found(prose: str) -> None:
    source = Source("web/server/edge/checks.py", prose, imported=frozenset({"trio"}))
    assert pointers.dead(source, SMALL) == []


@pytest.mark.parametrize(("prose", "pointer"), PLANTED)
def test_a_planted_pointer_is_told(prose: str, pointer: str) -> None:
    source = Source("web/server/edge/checks.py", prose)
    (told,) = pointers.dead(source, SMALL)
    assert told == f"web/server/edge/checks.py points to `{pointer}`, which is not there"


def test_a_test_points_into_the_folder_it_mirrors() -> None:
    assert pointers.dead(Source("tests/web/server/test_edge.py", "`edge/checks.py`"), SMALL) == []
    assert pointers.dead(Source("docs/page.md", "`edge/checks.py`"), SMALL) != []


def test_what_points_in_a_page_is_prose_and_shell_not_programs() -> None:
    source = pointers.page(
        "README.md",
        "`a.py`\n```shell\nmake walk  # fast\n```\n```python\nopen('b.py')\n```\n"
        '```console\n$ python -c "from web.app import Stage"\n```\n'
        "```python\nfrom web.server import (\n    OriginChecks,\n    Wide,\n)\n```\n",
    )
    told = [one.split("`")[1] for one in pointers.dead(source, SMALL)]
    assert told == ["a.py", "make walk", "web.app.Stage", "web.server.Wide"]


def test_a_page_may_name_what_its_programs_import() -> None:
    (told,) = pointers.dead(
        pointers.page("README.md", "`trio.Lock`, `trip.Lock`\n```python\nimport trio\n```\n"), SMALL
    )
    assert "trip.Lock" in told


def test_what_points_in_a_module_is_docstrings_and_comments(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("run:\n")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "app.py").write_text(
        '"""First `a.py`, `web.app.x`, `web.app.y`."""\n\nx = "`b.py`"  # and `c.py`\n\n\n'
        'def f():\n    """Then `d.py`."""\n    # last `e.py`\n'
    )
    project, (source,) = pointers.read(tmp_path)
    told = [one.split("`")[1] for one in pointers.dead(source, project)]
    assert sorted(told) == ["a.py", "c.py", "d.py", "e.py", "web.app.y"]
