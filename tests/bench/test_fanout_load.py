"""The load generator judges a run by its events and nothing else."""

import pytest

from tests.bench.fanout_load import LAST, has_all, numbered


def _text(*numbers: int) -> bytes:
    return "".join(f"data: {numbered(n, 40, is_last=False)}\n\n" for n in numbers).encode()


@pytest.mark.parametrize(
    ("numbers", "times", "is_right"),
    [
        ([7, 8, 9], 1, True),
        ([7, 7, 8, 8, 9, 9], 2, True),
        # Sixteen a turn: one list is patched with all of them, then the other.
        ([7, 8, 9, 7, 8, 9], 2, True),
        # Of the window that a page begins with.
        ([5, 6, 5, 6, 7, 7, 8, 8, 9, 9], 2, True),
        ([7, 9], 1, False),
        ([7, 9, 8], 1, False),
        ([7, 8, 8, 9], 1, False),
        ([7, 7, 8, 8, 9], 2, False),
        ([7, 8, 9, 7, 9, 8], 2, False),
        ([7, 7, 7, 8, 8, 9, 9], 2, False),
        ([], 1, False),
    ],
)
def test_a_reader_has_each_event_once_and_in_order(
    numbers: list[int], times: int, *, is_right: bool
) -> None:
    assert has_all(_text(*numbers), 3, times) is is_right


def test_what_comes_beside_the_events_does_not_matter() -> None:
    beside = b'data: elements <i id="tree-mark" data-mark="n=12;"></i>\n\n'
    assert has_all(beside + _text(1) + beside + _text(2) + _text(3), 3, 1)


def test_an_event_has_the_size_that_is_asked_for_and_the_last_one_says_so() -> None:
    assert len(numbered(3, 60, is_last=False)) == len(numbered(4, 60, is_last=True)) == 60
    assert LAST.decode() in numbered(4, 60, is_last=True)
