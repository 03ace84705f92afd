"""What pip is told of the greenroom that made a program: pinned, and without who signed in."""

from __future__ import annotations

import msgspec
import pytest

from web.cli.making.origin import DirectUrl, reference

DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ('{"url": "file:///w/g.whl", "archive_info": {}}', "file:///w/g.whl"),
        (
            f'{{"url": "file:///w/g.whl", "archive_info": {{"hashes": {{"sha256": "{DIGEST}"}}}}}}',
            f"file:///w/g.whl#sha256={DIGEST}",
        ),
        (
            f'{{"url": "https://h/g.whl", "archive_info": {{"hash": "sha256={DIGEST}"}}}}',
            f"https://h/g.whl#sha256={DIGEST}",
        ),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', "file:///src"),
        (
            '{"url": "https://me:pw@h/g.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            "git+https://h/g.git@abc",
        ),
    ],
)
def test_a_requirement_is_pinned_to_where_it_came_from(told: str, wanted: str) -> None:
    # CLI-4
    assert reference(msgspec.json.decode(told, type=DirectUrl)) == wanted
