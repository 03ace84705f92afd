"""Exits: equal by kind and content, JSON with all keys, leaves without cancellation."""

from __future__ import annotations

import dataclasses

import pytest

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from actors.runtime.words.exits import without_cancelled
from actors.runtime.words.showing import redact_text


def test_exits_are_frozen_and_equal_by_kind_and_content() -> None:
    # ACT-1
    error = OSError()
    assert Normal(at=1.0) == Normal(at=2.0, by="x")
    assert Shutdown("a") != Shutdown("b")
    assert Crashed(error) == Crashed(error, incarnation=3)
    assert Crashed(error) != Crashed(OSError())
    kinds: list[Exit] = [Normal(), Shutdown(), Killed()]
    assert [kinds.index(kind) for kind in kinds] == [0, 1, 2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Normal().at = 1.0  # type: ignore[misc]
    assert [exit_.clean for exit_ in (Normal(), Shutdown(), Killed(), Crashed(error))] == [
        True,
        True,
        False,
        False,
    ]


def test_json_has_all_keys_always() -> None:
    # ACT-3, ACT-2
    exits: list[Exit] = [
        Normal(),
        Shutdown("password=1234"),
        Killed(because="late", by="root"),
        Crashed(OSError("x" * 900), incarnation=2, at=1.5),
    ]
    texts = [exit_.to_json() for exit_ in exits]
    keys = ["kind", "info", "error", "message", "because", "by", "at", "incarnation"]
    assert all(list(text) == keys for text in texts)
    assert [text["kind"] for text in texts] == ["normal", "shutdown", "killed", "crashed"]
    assert texts[1]["info"] == "password=***"
    assert (texts[2]["because"], texts[2]["by"]) == ("late", "root")
    assert (texts[3]["error"], texts[3]["incarnation"], texts[3]["at"]) == ("OSError", 2, 1.5)
    assert len(texts[3]["message"] or "") == 500


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("token: abc def", "token: *** def"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("my_password='a b'", "my_password=***"),
        ("the secret of life", "the secret of life"),
    ],
)
def test_secrets_in_text_are_hidden(text: str, hidden: str) -> None:
    # ACT-103
    assert redact_text(text) == hidden


def test_leaves_take_groups_apart() -> None:
    # ACT-4
    a, b = OSError(), ValueError()
    nested = ExceptionGroup("x", [a, ExceptionGroup("y", [b])])
    assert Crashed(nested).leaves() == (a, b)
    assert Crashed(a).leaves() == (a,)
    assert Normal().leaves() == ()


def test_what_ends_the_process_is_raised_again() -> None:
    # ACT-5
    group = BaseExceptionGroup("x", [OSError(), KeyboardInterrupt()])
    with pytest.raises(BaseExceptionGroup) as caught:
        without_cancelled(group)
    assert caught.value is group
