"""The house rules hold, and the guard that says so can fail."""

from pathlib import Path

import pytest

from tests.architecture import layers

ROOT = Path(__file__).parents[2]

# name as the guard prints it -> why it may be longer than the rule
LONGER_WITH_REASON: dict[str, str] = {}

# folder -> why it may have more entries than the rule
FULLER_WITH_REASON = {
    "actors": "a chapter a folder, and what pytest loads by itself, which must import none of them",
    "actors.persistence": "a subject a file, in the reading order of its front page",
    "actors.persistence.projections": "one story, from what a projection is to who reads it",
    "actors.testing": "a tool a file, and the chapters below them",
    "storage.memory": "one file a port, named as its twin in storage.postgres",
    "storage.postgres": "one file a port, and the chapters below them",
    "storage": "a folder an engine or a kind of server, and the files they stand on",
    "storage.testing": "a suite a port or subject, and what they stand on",
    "supervision": "the six files a person uses, and the chapters below them",
    "web.app": "a file for each part that a site is put together of",
    "web.cli": "a file a group of commands, and what they stand on",
    "web.views": "a file a panel or subject, and what all of them stand on",
    "web": "a folder a feature, looked for by its name",
}


@pytest.fixture(scope="module")
def modules() -> list[layers.Module]:
    return layers.read_modules(ROOT)


def test_every_package_is_looked_at(modules: list[layers.Module]) -> None:
    assert layers.missing_packages(modules) == []


def test_imports_follow_the_arrows(modules: list[layers.Module]) -> None:  # SITE-187
    assert layers.import_violations(modules) == []


def test_no_import_cycles(modules: list[layers.Module]) -> None:
    assert layers.cycles(modules) == []


def test_folders_can_be_taken_in_at_a_glance(modules: list[layers.Module]) -> None:
    """An excuse that is not needed any more is red too."""
    full = layers.full_folders(modules)
    assert sorted(full) == sorted(FULLER_WITH_REASON)
    assert [name for name, count in full.items() if count > layers.FOLDER_EXCUSED_MAX] == []


def test_every_folder_has_a_front_page() -> None:
    assert layers.folders_without_front_page(ROOT) == []


def test_functions_stay_small_and_modules_described(modules: list[layers.Module]) -> None:
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


def _circle(root: Path, first: str, second: str, *, package: str = "web") -> list[str]:
    files = {f"{package}/a.py": f'"""A."""\n{first}\n', f"{package}/b.py": f'"""B."""\n{second}\n'}
    return layers.cycles(_plant(root, files))


def test_a_planted_cycle_is_found(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/a.py": '"""A."""\nfrom web import b\n',
            "web/b.py": '"""B."""\nimport web.c\n',
            "web/c.py": '"""C."""\nfrom web.a import x, y\n',
            "web/d.py": '"""D, which only looks at the circle."""\nfrom web.a import x\n',
        },
    )
    told = "web.a takes b from web.b; web.b takes c from web.c; web.c takes x, y from web.a"
    assert layers.cycles(planted) == [f"circle of 3: {told}"]


@pytest.mark.parametrize(
    "back",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from web.a import x",
        "import typing\nif typing.TYPE_CHECKING:\n    from .a import x",
        "def f():\n    from web.a import x",
        "class C:\n    def f(self):\n        if self:\n            from web.a import x",
        "try:\n    from web.a import x\nexcept ImportError:\n    pass",
    ],
)
def test_a_circle_by_types_or_inside_a_function_is_found(tmp_path: Path, back: str) -> None:
    assert _circle(tmp_path, "import web.b", back) == [
        "circle of 2: web.a takes b from web.b; web.b takes x from web.a"
    ]


def test_a_circle_by_a_call_is_found(tmp_path: Path) -> None:
    back = "import importlib\nimportlib.import_module('web.a')"
    assert _circle(tmp_path, "from web.b import y", back) == [
        "circle of 2: web.a takes y from web.b; web.b takes a from web.a"
    ]


def test_a_circle_of_folders_without_one_of_files_is_found(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/chat/__init__.py": '"""Chat."""\n',
            "web/chat/room.py": '"""R."""\nfrom web.lab.picture import draw\n',
            "web/chat/words.py": '"""W."""\n',
            "web/lab/__init__.py": '"""Lab."""\n',
            "web/lab/picture.py": '"""P."""\n',
            "web/lab/tree.py": '"""T."""\ndef f():\n    from web.chat.words import Word\n',
        },
    )
    told = "web.chat takes draw from web.lab; web.lab takes Word from web.chat"
    assert layers.cycles(planted) == [f"in web: circle of 2: {told}"]


def test_a_circle_of_a_folder_and_a_file_beside_it_is_found(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/app.py": '"""A."""\nfrom web.cli import commands\n',
            "web/cli/__init__.py": '"""C."""\n',
            "web/cli/commands.py": '"""C."""\n',
            "web/cli/serve.py": '"""S."""\nfrom web.app import serve\n',
        },
    )
    told = "web.app takes commands from web.cli; web.cli takes serve from web.app"
    assert layers.cycles(planted) == [f"in web: circle of 2: {told}"]


def test_a_front_page_is_a_module_of_a_circle(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/__init__.py": '"""Web."""\nfrom web.a import x\n',
            "web/a.py": '"""A."""\nfrom web import y\n',
        },
    )
    assert layers.cycles(planted) == ["circle of 2: web takes x from web.a; web.a takes y from web"]


def test_arrows_one_way_make_no_circle(tmp_path: Path) -> None:
    assert _circle(tmp_path, "from web.b import x", "import json") == []


def test_a_planted_full_folder_is_found(tmp_path: Path) -> None:
    """Files and folders count; what lies deeper and the front page do not."""
    files = {f"web/chat/f{n}.py": '"""F."""\n' for n in range(layers.FOLDER_ENTRIES_MAX)}
    files |= {"web/chat/__init__.py": '"""C."""\n'}
    assert layers.full_folders(_plant(tmp_path, files)) == {}
    files |= {f"web/chat/deep/{name}.py": '"""D."""\n' for name in ("__init__", "a", "b")}
    assert layers.full_folders(_plant(tmp_path, files)) == {"web.chat": 10}


def test_a_planted_folder_without_front_page_is_found(tmp_path: Path) -> None:
    _plant(tmp_path, {"web/chat/room.py": '"""R."""\n'})
    assert layers.folders_without_front_page(tmp_path) == ["web/chat"]


def test_planted_habits_are_found(tmp_path: Path) -> None:
    planted = _plant(
        tmp_path,
        {
            "web/a.py": '"""A."""\nfrom . import b\n',
            "web/b.py": '"""B."""\n__all__ = ["x"]\n',
            "web/__init__.py": '"""Web."""\nfrom web.b import x\n\n__all__ = ["x"]\n',
        },
    )
    assert layers.shape_violations(planted) == [
        "web.a: a relative import",
        "web.b: a list __all__ although it is no front page",
    ]


def test_planted_shapes_are_found(tmp_path: Path) -> None:
    long_function = "def f():\n" + "    x = 1\n" * layers.FUNCTION_LINES_MAX
    planted = _plant(
        tmp_path,
        {
            "web/a.py": "x = 1\n",
            "web/c.py": '"""C."""\n' + long_function,
        },
    )
    assert layers.shape_violations(planted) == [
        "web.a: no docstring",
        "web.c.f: 61 lines",
    ]
    assert layers.shape_violations(planted, {"web.c.f": "r"}) == ["web.a: no docstring"]
