"""Tests carry the ids of what they hold (SITE-188)."""

from __future__ import annotations

import pytest

from tests.docs import requirements
from tests.docs.requirements import ROOT, parse
from tests.requirement_marks import MARK, marks_of

TEXT = '''"""About web-1."""


def helper() -> None:
    """web-2"""


# web-3
@pytest.mark.slow
def test_one() -> None:
    assert True  # web-4


class Suite:
    async def test_two(self) -> None:
        """web-5"""
'''.replace("web-", "WEB-")


def test_an_id_is_of_the_test_it_stands_in_or_of_all() -> None:
    outside, named = marks_of(TEXT)
    assert outside == {f"WEB-{n}" for n in (1, 2)}
    assert named == {
        "test_one": {f"WEB-{n}" for n in (3, 4)},
        "test_two": {f"WEB-{n}" for n in (5,)},
    }


def test_every_requirement_that_is_done_is_carried_by_a_test() -> None:
    # SITE-188
    carried: dict[str, set[str]] = {}
    for row in parse((ROOT / requirements.PAGE).read_text(encoding="utf-8")):
        for path in row.tests:
            if path not in carried and path.endswith(".py"):
                outside, named = marks_of((ROOT / path).read_text(encoding="utf-8"))
                carried[path] = set(outside).union(*named.values())
            assert path not in carried or row.id in carried[path], (row.id, path)


def test_a_running_test_has_its_ids(request: pytest.FixtureRequest) -> None:
    # SITE-188
    mark = request.node.get_closest_marker(MARK)
    assert mark is not None
    assert mark.args == ("SITE-188",)
