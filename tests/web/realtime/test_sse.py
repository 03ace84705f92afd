"""The encoder of events against our parser of the standard."""

from __future__ import annotations

import json
import re

import pytest
from datastar_py import ServerSentEventGenerator as Reference
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.any_text import any_text
from web.realtime import (
    ElementPatchMode,
    ServerEvent,
    SseParser,
    UnsafeField,
    encode_comment,
    encode_event,
    encode_retry,
    joined,
    patch_elements,
    patch_signals,
    remove_elements,
)

# Everything a person can send, with what tries to forge a field more often than chance.
TEXT = st.lists(
    st.one_of(
        any_text(max_size=20),
        st.sampled_from(
            ["\r", "\n", "\r\n", "\0", "\u2028", "\u0085", "data: ", "id: x", "event: x", "\ufeff"]
        ),
    ),
    max_size=12,
).map("".join)


def parsed(data: bytes, cuts: list[int] | None = None) -> list[ServerEvent]:
    parser = SseParser()
    found: list[ServerEvent] = []
    at = 0
    for cut in sorted({*(cuts or []), len(data)}):
        found += parser.feed(data[at:cut])
        at = max(at, cut)
    return found


@settings(max_examples=50)
@given(TEXT, st.lists(st.integers(0, 400)))
def test_any_text_arrives_unchanged_and_forges_no_field(text: str, cuts: list[int]) -> None:
    # SEC-53, SITE-99, REL-60
    encoded = encode_event(text, event="said", event_id="k.7")
    after = encode_event("after")
    wanted = "\n".join(re.split("\r\n|\r|\n", text))
    got = parsed(encoded + after, cuts)
    expected = [ServerEvent("said", wanted, "k.7")] if wanted else []
    assert got == [*expected, ServerEvent("message", "after", "k.7")]


@given(TEXT)
def test_any_markup_arrives_as_datastars_element_lines(text: str) -> None:
    # SITE-99
    (event,) = parsed(patch_elements(f"<p>{text}</p>", selector="#a", mode=ElementPatchMode.APPEND))
    assert event.event == "datastar-patch-elements"
    mode, selector, *elements = event.data.split("\n")
    assert (mode, selector) == ("mode append", "selector #a")
    got = "\n".join(line.removeprefix("elements ") for line in elements)
    assert got == "\n".join(re.split("\r\n|\r|\n", f"<p>{text}</p>"))


@given(TEXT)
def test_any_signal_arrives_as_json_without_markup(text: str) -> None:
    # SEC-62
    encoded = patch_signals({"message": text})
    assert not re.search("[<>&\u2028\u2029]", encoded.decode())
    (event,) = parsed(encoded)
    assert json.loads(event.data.removeprefix("signals ")) == {"message": text}


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b"])
def test_ids_events_and_selectors_refuse_what_could_forge_a_field(bad: str) -> None:
    # SEC-53
    with pytest.raises(UnsafeField):
        encode_event("x", event_id=bad)
    with pytest.raises(UnsafeField):
        encode_event("x", event=bad)
    with pytest.raises(UnsafeField):
        patch_elements("<p>", selector=bad)
    with pytest.raises(UnsafeField):
        remove_elements(bad)
    with pytest.raises(UnsafeField):
        encode_comment(bad)


def test_bytes_equal_the_reference_encoder_where_it_is_safe() -> None:
    # SITE-99
    html = "<ol>\n<li>a</li>\n</ol>"
    assert patch_elements(html) == str(Reference.patch_elements(html)).encode()
    assert (
        patch_elements(html, selector="#x", mode=ElementPatchMode.APPEND)
        == str(Reference.patch_elements(html, "#x", ElementPatchMode.APPEND)).encode()
    )
    assert remove_elements("#x, #y") == str(Reference.remove_elements("#x, #y")).encode()
    wanted = str(Reference.patch_signals({"count": 3, "ok": True, "text": "a"})).encode()
    assert patch_signals({"count": 3, "ok": True, "text": "a"}) == wanted
    assert (
        patch_signals({"a": 1}, only_if_missing=True)
        == str(Reference.patch_signals({"a": 1}, only_if_missing=True)).encode()
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_the_parser_follows_the_standard(end: str) -> None:
    # REL-60
    text = (
        "\ufeffevent: a|: note|data:one|data:  two|data|id: 1||data: x|id||data||data: y|"
        "id: a\0b|retry: 15|retry: 1x||data: lost"
    )
    lines = text.split("|")
    data = end.join(lines).encode() + end.encode()
    wanted = [
        ServerEvent("a", "one\n two\n", "1"),
        ServerEvent("message", "x", ""),
        ServerEvent("message", "y", ""),
    ]
    assert parsed(data) == wanted
    assert parsed(data, list(range(len(data)))) == wanted
    parser = SseParser()
    parser.feed(data)
    assert parser.retry_ms == 15
    assert parser.comments == 1


def test_joined_events_are_one_frame() -> None:
    # REL-61
    frame = joined([encode_retry(2000), patch_signals({"a": 1})])
    assert [event.data for event in parsed(frame.payload)] == ['signals {"a":1}']
