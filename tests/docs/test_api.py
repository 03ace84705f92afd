"""The API reference says what the code says, about every public name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs import api
from tests.docs.api import COMMAND, FOLDER, ROOT, Reference
from tests.docs.api_subjects import PAGES
from tests.docs.api_words import Page, Subject
from tests.docs.test_shape import LINES_MAX

# A small package with one of every kind of thing that can stand on a page.
FRONT = """\
from actors.planted.inner import LIMIT, Doing, Kind, GotLost, Plain, Port, open_it

__all__ = ["LIMIT", "Doing", "Kind", "GotLost", "Plain", "Port", "open_it"]
"""
INNER = '''\
"""What it has."""

import dataclasses
from typing import Final, Literal, Protocol, TypeAlias, overload

DEFAULT_S: Final = 5.0
# How many may be open.
LIMIT: Final = 4 * 2
Kind: TypeAlias = Literal["a", "b"]
"""Which kind it is of."""


class GotLost(Exception):
    """It is lost; see `Doing.count` and DeadlockError."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path, self._inner = path, 1


class _Base:
    def inherited(self) -> None:
        """Call this for what the base does."""

    def replaced(self) -> None:
        """Call this for what is replaced."""


class Doing(_Base):
    """Does.

    ```python
    Doing("`GotLost`")
    ```
    """

    def __init__(self, size: int = LIMIT) -> None:
        # A comment at the beginning of a body.
        self.size = size
        """How large it is."""
        self.inner = size

    @property
    def count(self) -> int:
        """How many."""
        return 1

    @overload
    def call(self, x: int) -> int: ...
    @overload
    def call(self, x: str) -> str: ...
    def call(self, x: object, timeout: float = DEFAULT_S) -> object:
        """Call this to raise GotLost."""

    def replaced(self) -> None: ...

    def woken(self) -> None:
        """Called by the runtime."""

    def _hidden(self) -> None:
        """Call this never."""

    def __len__(self) -> int:
        """Call this for the size."""

    def __repr__(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class Plain(_Base):
    """Data."""

    # In seconds.
    waited: float = DEFAULT_S  # noqa: X1 - why
    _own: int = 0


class Port(Protocol):
    """To be written by others."""

    def told(self) -> None:
        """Called by the runtime."""


async def open_it(
    *, timeout: float = DEFAULT_S
) -> None:
    """Call this (with `open_it()` or `Doing(3)`) to open::

        it

    It is closed by itself.
    """
'''


FRONT_PAGE = """\
# Planted: all

For a test.

| subject | names |
|---|---|
| [All](p/all.md) | [`Doing`](p/all.md#doing), [`GotLost`](p/all.md#gotlost), \
[`Plain`](p/all.md#plain), [`Port`](p/all.md#port), [`Kind`](p/all.md#kind), \
[`LIMIT`](p/all.md#limit), [`open_it`](p/all.md#open_it) |

Next: [all](p/all.md).
"""
WRITTEN = """\
# actors.planted: all

Part of [Planted](../p.md).

## Doing

```py
class Doing(_Base):
    def __init__(self, size: int = 4 * 2) -> None
```

Does.

```py
Doing("`GotLost`")
```

- `size: int`: How large it is.
- `count: int`: How many.

### Doing.call

```py
@overload
def call(self, x: int) -> int
@overload
def call(self, x: str) -> str
```

Call this to raise [GotLost](#gotlost).

### Doing.__len__

```py
def __len__(self) -> int
```

Call this for the size.

### Doing.inherited

```py
def inherited(self) -> None
```

Call this for what the base does.

## GotLost

```py
class GotLost(Exception):
    def __init__(self, path: str) -> None
```

It is lost; see [`Doing.count`](#doing) and DeadlockError.

- `path: str`

## Plain

```py
@dataclasses.dataclass(frozen=True)
class Plain(_Base):
    # In seconds.
    waited: float = 5.0
```

Data.

### Plain.replaced

```py
def replaced(self) -> None
```

Call this for what is replaced.

Also [`inherited`](#doinginherited) as `Doing` has it.

## Port

```py
class Port(Protocol)
```

To be written by others.

### Port.told

```py
def told(self) -> None
```

Called by the runtime.

## Kind

```py
Kind: TypeAlias = Literal["a", "b"]
```

Which kind it is of.

## LIMIT

```py
LIMIT: Final = 4 * 2
```

How many may be open.

## open_it

```py
async def open_it(
    *, timeout: float = 5.0
) -> None
```

Call this (with `open_it()` or [`Doing(3)`](#doing)) to open:

    it

It is closed by itself.

Next: [all names](../p.md).
"""


def test_each_page_is_as_the_command_writes_it() -> None:
    # DOC-2
    files = Reference(PAGES).files()
    for file, text in files.items():
        there = (ROOT / FOLDER / file).read_text()
        new = [line for line in text.splitlines() if line not in there]
        assert new == [], f"{file} is older than the code: run `{COMMAND}`"
        assert there == text, f"run `{COMMAND}`"
        assert len(text.splitlines()) <= LINES_MAX, f"{file} is long: it is two subjects"
    there_are = {
        one.relative_to(ROOT / FOLDER).as_posix() for one in ROOT.glob(f"{FOLDER}/**/*.md")
    }
    assert there_are == set(files)


def test_what_pages_and_programs_import_stands_in_the_reference() -> None:
    # DOC-2
    reference = Reference(PAGES)
    files = [
        ROOT / "README.md",
        *(one for one in ROOT.glob("docs/**/*.md") if FOLDER.as_posix() not in one.as_posix()),
        *ROOT.glob("docs/examples/**/*.py"),
        *ROOT.glob("web/cli/templates/*/*.jinja"),
    ]
    used = {pair: file for file in files for pair in api.imports_of(file.read_text())}
    assert len(used) > 300
    missing = [
        f"{file.relative_to(ROOT)}: {where}.{name}"
        for (where, name), file in used.items()
        if not api.is_module(f"{where}.{name}") and not reference.has(where, name)
    ]
    assert missing == []


def test_an_import_is_seen_in_whatever_shape() -> None:
    text = "from web.app import (\n    OwnSite as Site,  # why\n    Panel,\n)\nfrom trio import x\n"
    assert list(api.imports_of(text)) == [("web.app", "OwnSite"), ("web.app", "Panel")]
    assert list(api.imports_of("  from actors import a, b\n")) == [("actors", "a"), ("actors", "b")]
    assert list(api.imports_of("from {{ name }}.x import y\n")) == []
    assert not Reference(PAGES).has("web.server", "masked")


def test_every_public_name_has_a_subject_and_a_docstring() -> None:
    # DOC-2
    assert sum(len(api.public_names(one)) for page in PAGES for one in page.whole) > 800
    found = list(Reference(PAGES).check())
    assert found == [], f"mend it by hand, then run `{COMMAND}`"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that is read in the place of ours."""
    folder = tmp_path / "actors" / "planted"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(FRONT)
    (folder / "inner.py").write_text(INNER)
    monkeypatch.setattr(api, "ROOT", tmp_path)
    api.forget()
    yield folder
    api.forget()


NAMES = ("Doing", "GotLost", "Plain", "Port", "Kind", "LIMIT", "open_it")


def page_of(names: tuple[str, ...]) -> Page:
    return Page("p.md", "actors.planted", "Planted: all", "For a test.", (Subject("All", names),))


def test_everything_of_a_package_is_shown_as_its_source_has_it(planted: Path) -> None:
    reference = Reference((page_of(NAMES),))
    assert reference.files() == {"p.md": FRONT_PAGE, "p/all.md": WRITTEN}
    assert reference.problems == []


def test_an_engine_says_only_what_its_port_does_not(planted: Path) -> None:
    # DOC-2: and a name with its module before it says from where it is imported
    engine = """

class Engine:
    \"\"\"The port `Port` in memory.\"\"\"

    def told(self) -> None: ...

    def more(self) -> None:
        \"\"\"Call this for more.\"\"\"
"""
    (planted / "inner.py").write_text(INNER + engine)
    page = page_of((*NAMES, "actors.planted.inner.Engine"))
    reference = Reference((page,))
    text = reference.files()["p/all.md"]
    assert text.endswith("""\
## Engine

`from actors.planted.inner import Engine`

```py
class Engine
```

The port [`Port`](#port) in memory.

### Engine.more

```py
def more(self) -> None
```

Call this for more.

And what [`Port`](#port) has.

Next: [all names](../p.md).
""")
    assert reference.problems == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (NAMES[1:], "has no subject for actors.planted.Doing"),
        ((*NAMES, "Gone"), "names actors.planted.Gone, which is not public"),
        ((*NAMES, "Gone"), "actors.planted.Gone is defined nowhere"),
        ((*NAMES, "GotLost"), "names actors.planted.GotLost twice"),
    ],
)
def test_a_planted_list_of_names_is_told(planted: Path, names: tuple[str, ...], told: str) -> None:
    found = list(Reference((page_of(names),)).check())
    assert any(told in line for line in found), found


def test_a_type_that_a_signature_names_must_stand_on_a_page(planted: Path) -> None:
    text = INNER.replace("x: str) -> str", "x: Word) -> str") + "\n\nWord: TypeAlias = str\n"
    (planted / "inner.py").write_text(text)
    *_, told = Reference((page_of(NAMES),)).check()
    assert "actors.planted.inner.Word stands in a signature" in told
    with_word = replace(page_of(NAMES), words=("actors.planted.inner.Word",))
    *_, told = Reference((with_word,)).check()
    assert told == "actors.planted.Word has no docstring"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('"""How many."""', "Doing.count has no docstring"),
        ('"""Call this for what is replaced."""', "Plain.replaced has no docstring"),
        ('"""Data."""', "Plain has no docstring"),
        ('"""Which kind it is of."""', "Kind has no docstring"),
        ("# How many may be open.\n", "LIMIT has no docstring"),
    ],
)
def test_a_planted_name_without_a_docstring_is_told(planted: Path, text: str, told: str) -> None:
    assert text in INNER
    (planted / "inner.py").write_text(INNER.replace(text, "pass" if text[0] == '"' else ""))
    found = list(Reference((page_of(NAMES),)).check())
    assert any(told in line for line in found), found
