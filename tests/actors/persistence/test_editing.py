"""What a person sees of a dead letter's payload, and what becomes of what they write (RES-12)."""

import json

import pytest

from actors.persistence.beside_log.dead_letters import chain_of
from actors.persistence.beside_log.editing import (
    DEPTH_MAX,
    DIFF_CHARS_MAX,
    SHOWN_BYTES_MAX,
    BadEdit,
    Shown,
    edited_payload,
    shown_payload,
    shown_texts,
)

ORDER = {
    "order": "o-1",
    "to": "ada@example.org",
    "password": "hunter2",
    "tokens": {"a": 1},
    "lines": [{"sku": "x", "count": 1}, {"sku": "y", "note": "mail bob@example.org, token=abc"}],
}
PAYLOAD = json.dumps(ORDER).encode()


def test_secrets_and_addresses_are_not_shown() -> None:
    # RES-12, SEC-131
    shown = shown_payload(PAYLOAD)
    assert shown.is_editable
    for hidden in ("ada@", "bob@", "example.org", "hunter2", "abc", '"a": 1'):
        assert hidden not in shown.text, hidden
    assert '"sku": "x"' in shown.text
    many = json.dumps({f"n{n}": 1 for n in range(2000)} | {"password": "hunter2"})
    assert "hunter2" not in shown_payload(many.encode()).text
    assert "hunter2" not in shown_payload(b"user said password=hunter2 to ada@example.org").text
    told = shown_texts({"authorization": "x", "by": "ada@example.org", "correlation_id": "c"})
    assert told == {"authorization": "***", "by": "***", "correlation_id": "c"}


@pytest.mark.parametrize(
    "payload",
    [
        {"headers": [["Authorization", "abc hunter2"], ["Cookie", "sid=hunter2"]]},
        {"headers": [{"name": "x-api-key", "value": "hunter2"}]},
        {"sent": ["Bearer 7hunter2hunter2hunter2"]},
        {"body": json.dumps({"in": json.dumps({"in": json.dumps({"token": "hunter2"})})})},
        {"passphrase": "hunter2", "privateKey": "hunter2"},
        {"otp": "hunter2", "PIN": "hunter2", "pwd": "hunter2", "cvv": "hunter2"},
        {"session": "hunter2", "sessionId": "hunter2", "user_pin": "hunter2", "sid": "hunter2"},
        {"text": "pin: hunter2, otp=hunter2; session_id='hunter2 hunter2'&pwd=hunter2"},
        {"xml": "<a><password>hunter2</password><b:otp x='1'>hunter2</b:otp></a>"},
        {"xml": "<session id='1'><session>hunter2</session> hunter2 </session>"},
        {"xml": "<Password><![CDATA[a</Password>hunter2]]></Password>"},
        {"xml": "<login pin='hunter2' token=\"hunter2\" user='ada'/>"},
        {"xml": "<add key='pwd' value='hunter2'/><e name=\"otp\">hunter2</e>"},
        {"xml": "<pin>hunter2 that was cut"},
        {"xml": "<in>&lt;password&gt;hunter2&lt;/password&gt;</in>"},
    ],
)
def test_secrets_are_not_shown_however_they_are_written(payload: dict[str, object]) -> None:
    # RES-12, SEC-131: as headers in lists, and as JSON in a text of JSON
    written = json.dumps({**payload, "n": 1}).encode()
    shown = shown_payload(written)
    assert "hunter2" not in shown.text
    edit = edited_payload(written, shown.text.replace('"n": 1', '"n": 2'))
    assert (json.loads(edit.payload), edit.changes) == ({**payload, "n": 2}, ["n: 1 -> 2"])


@pytest.mark.parametrize(
    "text",
    [
        "<order><shipping>by air</shipping><pins/><spin>left</spin></order>",
        "passionate about shopping: yes; sessions",
        "a < b, c > d, <, <>, </, <a",
        "<a href='x'>" * 3,
        "&lt;b&gt;bold&lt;/b&gt;",
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(text: str) -> None:
    # RES-12
    assert shown_payload(text.encode()) == Shown(text, is_editable=True)


def test_addresses_as_names_are_not_shown_and_nothing_there_is_edited() -> None:
    # RES-12: what it was could not be told when the edit comes back
    payload = b'{"to":{"ada@example.org":1,"bob@example.org":2}}'
    shown = shown_payload(payload)
    assert json.loads(shown.text) == {"to": {"***": 1, "*** 2": 2}}
    assert not shown.is_editable
    with pytest.raises(BadEdit, match="not all shown"):
        edited_payload(payload, "{}")
    edit = edited_payload(b'{"a":1}', '{"a":1,"eve@example.org":2}')
    assert edit.changes == ['***: (nothing) -> "***"']


def test_numbers_stay_as_they_were_written() -> None:
    # RES-12: a float would round the amount, and the audit would not tell
    payload = b'{"amount":12345678901234567.89,"rate":1.10,"note":"x"}'
    written = shown_payload(payload).text.replace('"x"', '"y"')
    edit = edited_payload(payload, written)
    assert edit.payload == payload.replace(b'"x"', b'"y"')
    assert edit.changes == ['note: "x" -> "y"']
    edit = edited_payload(payload, written.replace("67.89", "67.90").replace('"y"', '"x"'))
    assert edit.changes == ["amount: 12345678901234567.89 -> 12345678901234567.90"]


@pytest.mark.parametrize("value", [{"a": [1, {"b": []}], "c": {}}, [], [[]], "ä", None])
def test_a_payload_is_shown_as_json_is_mostly_written(value: object) -> None:
    # RES-12
    shown = shown_payload(json.dumps(value).encode())
    assert shown.text == json.dumps(value, indent=2, ensure_ascii=False)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (None, "(not kept here)"),
        (b"\xff\xfe\x00", "(3 bytes that are no text)"),
        (b"x" * (SHOWN_BYTES_MAX + 1), f"({SHOWN_BYTES_MAX + 1} bytes)"),
    ],
)
def test_what_is_no_text_is_told_by_its_size(payload: bytes | None, text: str) -> None:
    # RES-12
    shown = shown_payload(payload)
    assert (shown.text, shown.is_editable) == (text, False)
    if payload is not None:
        with pytest.raises(BadEdit):
            edited_payload(payload, "{}")


def test_what_is_left_as_it_was_shown_is_kept_and_the_rest_replaced() -> None:
    # RES-12
    written = json.loads(shown_payload(PAYLOAD).text)
    written["lines"][0]["count"] = 2
    written["new"] = None
    del written["order"]
    edit = edited_payload(PAYLOAD, json.dumps(written))
    now = json.loads(edit.payload)
    assert (now["to"], now["password"], now["tokens"]) == ("ada@example.org", "hunter2", {"a": 1})
    assert now["lines"][1] == ORDER["lines"][1]  # type: ignore[index]
    assert edit.changes == [
        'order: "o-1" -> (nothing)',
        "lines[0].count: 1 -> 2",
        "new: (nothing) -> null",
    ]
    written["password"] = "other"
    written["to"] = "eve@example.org"
    edit = edited_payload(PAYLOAD, json.dumps(written))
    assert json.loads(edit.payload)["password"] == "other"
    assert 'password: "***" -> "***"' in edit.changes
    assert "example.org" not in edit.notes
    assert "other" not in edit.notes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1, column 1"),
        ("{", "no JSON"),
        ("[]", "same kind"),
        ("null", "same kind"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "no JSON that others can read"),
        ('{"a": "\\ud800"}', "no JSON that others can read"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": "***"}', "where nothing hidden stood"),
        ('{"lines": ["***"]}', "where nothing hidden stood"),
        ("[" * 100_000, "longer than"),
        ("[" * 9000 + "]" * 9000, "no JSON that others can read"),
        ('{"a":' + "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1) + "}", "deeper"),
        (shown_payload(PAYLOAD).text, "is what it was"),
    ],
)
def test_an_edit_that_cannot_be_taken_says_why(text: str, why: str) -> None:
    # RES-12: nothing was done
    with pytest.raises(BadEdit, match=why):
        edited_payload(PAYLOAD, text)


def test_plain_text_is_edited_as_a_whole() -> None:
    # RES-12
    assert edited_payload(b"hello", "bye").payload == b"bye"
    with pytest.raises(BadEdit, match="is what it was"):
        edited_payload(b"hello", "hello")
    assert not shown_payload(b"write to ada@example.org").is_editable


def test_the_audit_gets_no_more_than_it_holds() -> None:
    # RES-12
    before = {f"n{n}": "x" * 500 for n in range(100)}
    after = dict.fromkeys(before, "y" * 500)
    edit = edited_payload(json.dumps(before).encode(), json.dumps(after))
    assert len(edit.changes) == 100
    assert len(edit.notes) == DIFF_CHARS_MAX


def test_a_chain_tells_each_cause_with_its_place_and_no_secret() -> None:
    # RES-12
    def inner() -> None:
        raise KeyError("password=hunter2")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("no such order") from error

    with pytest.raises(ValueError, match="no such") as caught:
        outer()
    first, second = chain_of(caught.value).splitlines()
    assert first.startswith(f"ValueError: no such order ({__name__}:")
    assert first.endswith(", outer)")
    assert second.startswith("caused by: KeyError")
    assert "hunter2" not in second
    assert "no such" not in chain_of(caught.value, has_texts=False)
    circle = ValueError("a")
    circle.__cause__ = circle
    assert chain_of(circle) == "ValueError: a"
    group = ExceptionGroup("several", [ValueError("a"), OSError("b")])
    assert chain_of(group).splitlines()[1:] == ["of it: ValueError: a", "of it: OSError: b"]
