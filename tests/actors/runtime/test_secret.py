"""A secret is not shown, whoever prints, copies or stores its holder."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
import traceback
from dataclasses import asdict, dataclass, field, replace
from typing import cast

import msgspec
import pytest
import trio
from hypothesis import given
from trio.testing import MockClock

from actors.runtime import Secret, System, presentable
from actors.runtime.words.showing import redact_text, shown, text_of, without_passwords
from actors.testing import AnyPuppet, Call, Do, Puppet
from tests.any_text import any_text

PLANTED = "hunter2-canary"


@dataclass(frozen=True)
class Holder:
    word: Secret[str]
    key: Secret[bytes] = field(default_factory=lambda: Secret(PLANTED.encode()))


def holder() -> Holder:
    return Holder(Secret(PLANTED))


def test_it_gives_its_value_only_when_asked() -> None:
    # SEC-131
    assert holder().word.reveal() == PLANTED
    assert holder().key.reveal() == PLANTED.encode()


def test_no_text_of_it_shows_the_value() -> None:
    # SEC-131
    word, held = Secret(PLANTED), holder()
    texts = [
        *(
            str(word),
            repr(word),
            f"{word}",
            f"{word!r:>40}",
            f"{word:>40}",
            "{} {!r}".format(*[word] * 2),
        ),
        *(repr(held), str(asdict(held)), repr([held]), pprint.pformat({"a": held})),
        *(shown(held), text_of(held), repr(presentable({"a": held, "b": [word]}))),
        *(repr(copy.copy(word)), repr(copy.deepcopy(held)), repr(replace(held, word=word))),
        *(json.dumps({"a": word}, default=str), json.dumps({"a": word}, default=repr)),
        *(repr(dir(word)), repr(word.__reduce_ex__), repr(type(word).__dict__)),
        # What lists slots and fields instead of asking for a text.
        *(repr(getattr(word, name)) for name in Secret.__slots__),
        *(msgspec.json.encode({"a": word}, enc_hook=str).decode(),),
    ]
    assert [text for text in texts if PLANTED in text] == []
    assert str(word) == "***"
    assert f"{word:>6}" == "   ***"


def test_it_is_stored_by_nobody_by_accident() -> None:
    # SEC-131
    for write in (pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode, json.dumps):
        with pytest.raises(TypeError) as refused:
            write(holder().word)
        assert PLANTED not in str(refused.value)
    assert copy.copy(word := Secret(PLANTED)) is copy.deepcopy(word) is word


@given(any_text(), any_text())
def test_two_are_equal_when_their_values_are(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))


def test_a_secret_is_no_plain_value_and_of_one_kind() -> None:
    assert Secret("a") != "a"
    assert Secret("a") != Secret(b"a")
    with pytest.raises(TypeError, match="str or bytes, not int"):
        Secret(cast("str", 7))


async def test_no_report_of_an_actor_shows_what_it_holds(
    puppet: type[Puppet], autojump_clock: MockClock, system: System
) -> None:
    # SEC-131, ACT-103
    def take(me: AnyPuppet) -> None:
        me.state = {"thing": Secret(PLANTED), "things": [holder()]}

    def fall(me: AnyPuppet) -> None:
        thing = me.state["thing"]
        raise ValueError(f"{thing} {thing!r} does not fit")

    ref = await system.start(puppet)
    await ref.ask(Call(take))
    status = repr(system.status(ref))
    ref.tell(Do(fall))
    await trio.testing.wait_all_tasks_blocked()
    (report,) = system.reports.kept
    letters = [repr(letter) for letter in system.dead_letters]
    error = "".join(traceback.format_exception(report.exit.error))
    for text in (status, repr(report), report.stack, repr(report.state), error, *letters):
        assert PLANTED not in text
    assert "***" in status
    assert "***" in repr(report.state)


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("postgresql://u:hunter2@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgres://u:hun@ter2@h/d", "postgres://u:***@h/d"),
        ("postgresql://u:@h/d", "postgresql://u:***@h/d"),
        ("x://:hunter2@h y", "x://:***@h y"),
        ("postgresql:///d?user=u&password=hunter2&x=1", "postgresql:///d?user=u&password=***&x=1"),
        ("a?sslpassword=hunter2", "a?sslpassword=***"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("two p://a:hunter2@h and p://b:hunter2@h", "two p://a:***@h and p://b:***@h"),
    ],
)
def test_passwords_of_addresses_are_hidden(text: str, shown_as: str) -> None:
    # SEC-131
    assert without_passwords(text) == shown_as
    assert "hunter2" not in redact_text(text)
