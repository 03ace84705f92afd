"""How much dearer one side is, of pairs that differ by much more, and within what that holds."""

from random import Random

import pytest

from tests.bench.bench_observing import percent_dearer


def test_what_is_always_the_same_is_told_without_a_doubt() -> None:
    assert percent_dearer([[1.25] * 3, [1.25] * 3]) == (25.0, 25.0, 25.0)


def test_more_blocks_tell_it_within_less() -> None:
    # PERF-65
    draw = Random(1)

    def width(count: int) -> float:
        blocks = [[1.02 * draw.uniform(0.7, 1.3) for _ in range(15)] for _ in range(count)]
        middle, least, most = percent_dearer(blocks)
        assert least < middle < most
        assert middle == pytest.approx(2, abs=(most - least))
        return most - least

    assert width(36) < 0.7 * width(4)


def test_one_block_that_is_unlike_the_others_widens_it() -> None:
    # Servers of their own that differ as programs: no number of turns makes them alike.
    alike = percent_dearer([[1.0, 1.02, 1.04]] * 6)
    unlike = percent_dearer([*[[1.0, 1.02, 1.04]] * 5, [1.3] * 3])
    assert unlike[2] - unlike[1] > alike[2] - alike[1]
