"""The API reference says what the code says, about every public name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs import api
from tests.docs.api import COMMAND, FOLDER, ROOT, Reference
from tests.docs.api_subjects import PAGES, Page, Subject

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


WRITTEN = """\
# Planted

For a test.

| subject | names |
|---|---|
| [All](#all) | [`Doing`](#doing), [`GotLost`](#gotlost), [`Plain`](#plain), [`Port`](#port), \
[`Kind`](#kind), [`LIMIT`](#limit), [`open_it`](#open_it) |

## All

### Doing

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

#### Doing.call

```py
@overload
def call(self, x: int) -> int
@overload
def call(self, x: str) -> str
```

Call this to raise [GotLost](#gotlost).

#### Doing.__len__

```py
def __len__(self) -> int
```

Call this for the size.

#### Doing.inherited

```py
def inherited(self) -> None
```

Call this for what the base does.

### GotLost

```py
class GotLost(Exception):
    def __init__(self, path: str) -> None
```

It is lost; see [`Doing.count`](#doing) and DeadlockError.

- `path: str`

### Plain

```py
@dataclasses.dataclass(frozen=True)
class Plain(_Base):
    # In seconds.
    waited: float = 5.0
```

Data.

#### Plain.replaced

```py
def replaced(self) -> None
```

Call this for what is replaced.

Also [`inherited`](#doinginherited) as `Doing` has it.

### Port

```py
class Port(Protocol)
```

To be written by others.

#### Port.told

```py
def told(self) -> None
```

Called by the runtime.

### Kind

```py
Kind: TypeAlias = Literal["a", "b"]
```

Which kind it is of.

### LIMIT

```py
LIMIT: Final = 4 * 2
```

How many may be open.

### open_it

```py
async def open_it(
    *, timeout: float = 5.0
) -> None
```

Call this (with `open_it()` or [`Doing(3)`](#doing)) to open:

    it

It is closed by itself.
"""


def test_each_page_is_as_the_command_writes_it() -> None:
    # DOC-2
    reference = Reference(PAGES)
    for page in PAGES:
        there = (ROOT / FOLDER / page.file).read_text().splitlines()
        new = [line for line in reference.text(page).splitlines() if line not in there]
        assert new == [], f"{page.file} is older than the code: run `{COMMAND}`"
        assert "\n".join(there) + "\n" == reference.text(page), f"run `{COMMAND}`"


def test_every_public_name_has_a_subject_and_a_docstring() -> None:
    # DOC-2
    assert sum(len(api.public_names(page.package)) for page in PAGES) > 150
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
    return Page("p.md", "actors.planted", "Planted", "For a test.", (Subject("All", names),))


def test_everything_of_a_package_is_shown_as_its_source_has_it(planted: Path) -> None:
    reference = Reference((page_of(NAMES),))
    assert reference.text(page_of(NAMES)) == WRITTEN
    assert reference.problems == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (NAMES[1:], "actors.planted has no subject for Doing"),
        ((*NAMES, "Gone"), "names Gone, which is not public"),
        ((*NAMES, "Gone"), "actors.planted.Gone is defined nowhere"),
        ((*NAMES, "GotLost"), "names GotLost twice"),
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
