"""Long tests are begun first, and none is lost or run twice."""

import pytest

from tests.sharing import long_ones_first


def test_each_share_begins_with_its_part_of_the_long_ones() -> None:
    items = list("abcdXefghijklYmZ")
    shared = long_ones_first(items, str.isupper, 4)
    shares = [shared[at : at + 4] for at in range(0, 16, 4)]
    assert ["".join(share) for share in shares] == ["Xabc", "Ydef", "Zghi", "jklm"]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("long", ["", "a", "abcdefghij"])
def test_none_is_lost_and_the_others_keep_their_order(workers: int, long: str) -> None:
    items = list("abcdefghij")
    shared = long_ones_first(items, lambda item: item in long, workers)
    assert sorted(shared) == items
    assert [item for item in shared if item not in long] == [i for i in items if i not in long]
