"""The house rules hold, and the guard that says so can fail."""

from pathlib import Path

import pytest

from tests.architecture import layers

ROOT = Path(__file__).parents[2]

# name as the guard prints it -> why it may be longer than the rule
LONGER_WITH_REASON: dict[str, str] = {}


@pytest.fixture(scope="module")
def modules() -> list[layers.Module]:
    return layers.read_modules(ROOT)


def test_every_package_is_looked_at(modules: list[layers.Module]) -> None:
    assert layers.missing_packages(modules) == []


def test_imports_follow_the_arrows(modules: list[layers.Module]) -> None:  # SITE-187
    assert layers.import_violations(modules) == []


def test_no_import_cycles(modules: list[layers.Module]) -> None:
    assert layers.cycles(modules) == []


def test_files_and_functions_stay_small_and_described(modules: list[layers.Module]) -> None:
    assert layers.shape_violations(modules, LONGER_WITH_REASON) == []


def test_every_excuse_is_still_needed(modules: list[layers.Module]) -> None:
    names = {line.rpartition(":")[0] for line in layers.shape_violations(modules)}
    assert set(LONGER_WITH_REASON) <= names


def _plant(root: Path, files: dict[str, str]) -> list[layers.Module]:
    for package in layers.PACKAGES:
        files.setdefault(f"{package}/__init__.py", '"""Here."""\n')
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return layers.read_modules(root)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("actors/runtime/x.py", "import storage"),
        ("actors/runtime/x.py", "from actors.chat import room"),
        ("actors/runtime/x.py", "from ..chat import room"),
        ("actors/runtime/x.py", "import asyncpg"),
        ("actors/chat/x.py", "import socket"),
        ("actors/chat/x.py", "from actors.accounts import session"),
        ("actors/reducers/x.py", "import actors.persistence"),
        ("supervision/x.py", "from actors.chat import room"),
        ("supervision/x.py", "from storage import errors"),
        ("storage/x.py", "import web"),
        ("storage/x.py", "from quart import Quart"),
        ("web/x.py", "import asyncpg"),
        ("web/chat/x.py", "from storage.postgres import pool"),
        ("web/chat/x.py", "def f():\n    import storage.memory.chat_log"),
        ("web/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import uvloop"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, path: str, text: str) -> None:  # SITE-187
    planted = _plant(tmp_path, {path: f'"""X."""\n{text}\n', "actors/chat/room.py": '"""R."""\n'})
    assert len(layers.import_violations(planted)) == 1


def test_allowed_imports_pass(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/app.py": '"""A."""\nfrom storage.postgres import pool\nimport quart\n',
            "storage/postgres/pool.py": '"""P."""\nimport asyncpg\nfrom actors.chat import ports\n',
            "actors/chat/ports.py": '"""P."""\nfrom actors.runtime import Ref\n',
            "supervision/x.py": '"""S."""\nimport actors.runtime\n',
        },
    )
    assert layers.import_violations(planted) == []


def test_a_missing_folder_is_found(tmp_path: Path) -> None:  # SITE-187
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "__init__.py").write_text('"""Here."""\n')
    missing = layers.missing_packages(layers.read_modules(tmp_path))
    assert [line.partition(":")[0] for line in missing] == ["supervision", "storage", "web"]


def test_a_planted_cycle_is_found(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/a.py": '"""A."""\nfrom web import b\n',
            "web/b.py": '"""B."""\nimport web.c\n',
            "web/c.py": '"""C."""\nfrom web.a import x\n',
        },
    )
    assert layers.cycles(planted) == ["web.a -> web.b -> web.c -> web.a"]


def test_planted_shapes_are_found(tmp_path: Path) -> None:
    long_function = "def f():\n" + "    x = 1\n" * layers.FUNCTION_LINES_MAX
    planted = _plant(
        tmp_path,
        {
            "web/a.py": "x = 1\n",
            "web/b.py": '"""B."""\n' + "x = 1\n" * layers.FILE_LINES_MAX,
            "web/c.py": '"""C."""\n' + long_function,
        },
    )
    assert layers.shape_violations(planted) == [
        "web.a: no docstring",
        "web.b: 301 lines",
        "web.c.f: 61 lines",
    ]
    assert layers.shape_violations(planted, {"web.b": "r", "web.c.f": "r"}) == [
        "web.a: no docstring"
    ]
