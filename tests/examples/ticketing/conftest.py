"""What all tests of ticketing share."""

from __future__ import annotations

import pytest

from docs.examples.ticketing.http import bank


@pytest.fixture(autouse=True)
def quick_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the bank of a served site answer sooner than it says: real time passes for it."""
    monkeypatch.setattr(bank, "ANSWER_S", 0.01)
