"""In which order the tests of a run are shared out to its workers: long ones first.

Each worker begins with a share of equal length, in the order of collection, and takes from others
once it has done its own. A long test that is begun last is one that all others wait for.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def long_ones_first(items: Sequence[T], is_long: Callable[[T], bool], workers: int) -> list[T]:
    """Call this for the same items, with the long ones at the front of the workers' shares.

    The shares are those of `--dist worksteal`: as many items each, and the last one has the rest.
    """
    long = [item for item in items if is_long(item)]
    others = [item for item in items if not is_long(item)]
    shared: list[T] = []
    for worker in range(workers):
        own = long[worker::workers]
        size = (len(items) - len(shared)) // (workers - worker)
        filled = max(0, size - len(own))
        shared += own + others[:filled]
        del others[:filled]
    return shared + others
