"""What the pages about supervision promise to tell; `tests/docs` runs their Python."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/explain/supervision.md"


def test_the_differences_from_erlang_are_told() -> None:
    # SUP-95
    assert "## Differences from Erlang/OTP" in PAGE.read_text()
