"""Values of user code as text and data: what is seen of them, and how little work that is."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections import (
    ChainMap,
    Counter,
    OrderedDict,
    UserDict,
    UserList,
    UserString,
    deque,
    namedtuple,
)
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import partial
from types import SimpleNamespace

import pytest

from actors.runtime import presentable
from actors.runtime.words.showing import CUT, SHOWN_MAX, Bounds, plain, shown, text_of
from actors.runtime.words.weighing import weight_of
from tests.actors.runtime.kit import Counting

HUGE = 1_000_000


@dataclass
class Point:
    x: object
    password: str = "hunter2"
    pin: str = field(default="0000", repr=False)


@dataclass
class Sealed:
    words: str

    def __repr__(self) -> str:
        return "<Sealed>"


class SealedText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "<sealed text>"


class Colour(Enum):
    RED = 1


class Word(StrEnum):
    YES = "yes"


class Table(Mapping[str, object]):
    """A container of user code; counts how much of it was looked at."""

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.size))

    def __getitem__(self, name: str) -> object:
        self.seen += 1
        return int(name)


class Torn(Table):
    def __getitem__(self, name: str) -> object:
        raise RuntimeError("torn")


class UnbegunText(UserString):
    def __init__(self) -> None:
        pass


class Chain(ChainMap[int, Counting]):
    """Whoever asks for its length goes through all of its maps."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("nobody has to ask")

    __len__ = None  # type: ignore[assignment]


Pair = namedtuple("Pair", "left token")


# ACT-103
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, (2,), {3}, set(), frozenset({4}), deque([5])], None),
        ({"a": [None, True, 1.5, b"x"]}, None),
        (OSError(2, "gone"), "FileNotFoundError(2, 'gone')"),
        (ExceptionGroup("many", [ValueError(1)]), None),
        (Counter("aab"), None),
        (SimpleNamespace(a=1), "SimpleNamespace(a=1)"),
        ({"password": "x", 2: "token=abc"}, "{'password': ***, 2: 'token=***'}"),
        (Point([1]), "Point(x=[1], password=***, pin='***')"),
        (Pair(1, 2), "Pair(left=1, token=***)"),
        (Sealed("secret"), "<Sealed>"),
        (SealedText("secret"), "<sealed text>"),
        (Colour.RED, None),
        (array("i", [1, 2]), "array([1, 2])"),
        (partial(print, 1, token=2), "partial(<built-in function print>, 1, token=***)"),
        (Point(1).__eq__, "<bound method Point.__eq__>"),
        ({1: 2}.keys(), "dict_keys([1])"),
        (UserList([1, [2]]), "UserList([1, [2]])"),
        (UserDict({"token": 1}), "UserDict({'token': ***})"),
        (ChainMap({"a": 1}, {"token": 2}), "ChainMap({'a': 1}, {'token': ***})"),
        (UserString("password=x"), "'password=***'"),
        (UnbegunText(), "<UnbegunText: its text failed with AttributeError>"),
        ('password="my secret word', "'password=***'"),
        ([[[[["deep"]]]]], f"[[[[{CUT}]]]]"),
        (2**10_000, "0x8000"),
    ],
)  # fmt: skip
def test_values_as_text(value: object, text: str | None) -> None:
    assert shown(value).startswith(repr(value) if text is None else text)


# ACT-102, ACT-103
@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Point({"token": 1}), {"type": "Point", "x": {"token": "***"}, "password": "***",
                               "pin": "***"}),
        (Pair(1, 2), {"type": "Pair", "left": 1, "token": "***"}),
        ([Sealed("secret"), SealedText("secret")], ["<Sealed>", "<sealed text>"]),
        (Word.YES, "yes"),
        ([float("nan"), 2**300], ["nan", str(2**300)]),
        (ValueError(["password=x"]), "ValueError(['password=***'])"),
        (OrderedDict(a=deque([1])), {"a": [1]}),
        (range(3), "range(0, 3)"),
        (UserList([1]), [1]),
        (UserDict(a=1, token=2), {"a": 1, "token": "***"}),
        (ChainMap({"a": 1}, {"token": 2}), [{"a": 1}, {"token": "***"}]),
        (UserString("a"), "'a'"),
    ],
)  # fmt: skip
def test_values_as_data(value: object, data: object) -> None:
    assert presentable(value) == data


# ACT-29, ACT-102
@pytest.mark.parametrize(
    "value",
    [
        [Counting()] * HUGE,
        {"a": deque([Counting()] * HUGE)},
        {number: Counting() for number in range(100_000)},
        Point((Counting(),) * HUGE),
        ValueError([Counting()] * HUGE),
        ExceptionGroup("many", [ValueError([Counting()] * HUGE)] * 1000),
        SimpleNamespace(a={"b": [[Counting()] * 1000] * 1000}),
        UserList([Counting()] * HUGE),
        Chain(*[{number: Counting() for number in range(1000)}] * 1000),
    ],
    ids=["list", "deque", "dict", "dataclass", "error", "group", "namespace", "wrapper", "chain"],
)
def test_no_more_is_looked_at_than_is_shown(value: object) -> None:
    for show in (shown, text_of):
        Counting.asked = 0
        assert len(show(value)) <= SHOWN_MAX
        assert Counting.asked <= SHOWN_MAX
    Counting.asked = 0
    assert len(json.dumps(presentable(value))) <= 8 * 1024
    # Each takes at least five bytes, and there are three sizes to try.
    assert Counting.asked <= 3 * 8 * 1024 / 5


def test_a_container_of_user_code_is_cut_while_it_is_walked() -> None:
    # ACT-102
    table = Table(HUGE)
    assert CUT in shown(table)
    assert table.seen <= SHOWN_MAX
    table.seen = 0
    assert CUT in json.dumps(presentable(table), ensure_ascii=False)
    assert table.seen <= 3 * 8 * 1024
    assert "its text failed with RuntimeError" in shown(Torn(3))
    assert "its text failed with RuntimeError" in str(presentable(Torn(3)))


def test_large_single_things_are_cut() -> None:
    # ACT-29
    for value in (b"\0" * HUGE, "x" * HUGE, ValueError("x" * HUGE), 1 << HUGE, bytearray(HUGE)):
        for text in (shown(value), text_of(value), str(presentable(value))):
            assert len(text) <= SHOWN_MAX + len(CUT) + 20
            assert CUT in text
    assert text_of(KeyError("x")) == "'x'"
    assert text_of(OSError(2, "gone")) == "[Errno 2] gone"
    assert text_of(ValueError(1, 2)) == "(1, 2)"
    assert len(shown("x" * HUGE, Bounds(50, 20))) <= 50


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (Point(1), 100, 1000),
        (Point(b"x" * 300_000), 300_000, 301_000),
        (list(range(HUGE)), 30_000_000, 50_000_000),
        ([{"a": "x" * 1000}] * 1000, 1_000_000, 2_000_000),
        ({"few": 1, "data": b"x" * 300_000}, 300_000, 301_000),
        (ValueError("x" * 100_000), 100_000, 101_000),
        (memoryview(b"x" * 300_000), 300_000, 301_000),
        (SimpleNamespace(data=b"x" * 300_000), 300_000, 301_000),
    ],
)
def test_a_weight_is_about_right(value: object, least: int, most: int) -> None:
    # ACT-92
    assert least <= weight_of(value) <= most


class Falls:
    """Raises whatever it is given when somebody looks at it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


class FallsInside(dict[str, object]):
    """Is a container that cannot be walked."""

    def __len__(self) -> int:
        raise asyncio.CancelledError


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), GeneratorExit()])
def test_what_cannot_be_shown_says_so(error: BaseException) -> None:
    # ACT-5: a stray cancellation in a `__repr__` would end more than the one who looks
    name = type(error).__name__
    failed = f"<Falls: its text failed with {name}>"
    assert shown([Falls(error)]) == f"[{failed}]"
    assert text_of(Falls(error)) == failed
    assert plain({"a": Falls(error)}, Bounds()) == {"a": failed}
    assert shown(FallsInside())
    assert plain(FallsInside(), Bounds())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_the_end_of_a_program_is_not_hidden_in_a_text(error: BaseException) -> None:
    # ACT-5
    with pytest.raises(type(error)):
        shown([Falls(error)])
