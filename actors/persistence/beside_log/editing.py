"""What of a dead letter's payload a person is shown, and what they make of it.

Rule 1: secrets and addresses are not shown: they stand as `***`. Who leaves such a place as it is
        keeps what is there; who writes something else replaces it. Where one stands as a name,
        nothing can be edited.
Rule 2: what is JSON stays JSON of the same outermost kind. Whether its handler can read it is for
        the handler: what it refuses becomes a dead letter again, and nothing is lost. Numbers stay
        as they were written: a float cannot hold each.
Rule 3: what changed is told path by path, as much of it as may be shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape
from math import isinf
from typing import Final

from actors.persistence.errors import StoreMisuse
from actors.runtime.words.showing import HIDDEN, redact_names, redact_text

# What a person can look through; larger ones are told by their size alone.
SHOWN_BYTES_MAX: Final = 64 * 1024
# Of one value in the audit, and of all of them.
VALUE_CHARS_MAX: Final = 200
DIFF_CHARS_MAX: Final = 4000
# Deeper than this is no message of anybody, and the walk would end the stack.
DEPTH_MAX: Final = 50
# So often JSON is looked for in a text of JSON: a record of a bus in an envelope in an error.
TEXTS_DEEP: Final = 4
# How headers are written as JSON where each may come twice.
_NAMED: Final = ("name", "key", "header")

# Secrets of persons beside those of programs. Of an actor's state, where `session_id` tells whose
# it is, such names are shown.
_PERSONS: Final = frozenset(
    "otp totp pin pwd passcode cvv cvc csc ssn session sessionid sid jwt csrf credential "
    "credentials signature".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NAME_CHARS_MAX: Final = 200
_IN_TEXT = re.compile(
    rf"(?i)((?<![a-z])(?:{'|'.join(sorted(_PERSONS, reverse=True))})"
    r"(?:[_.-]?(?:id|code|key|value|number|no))?[\"']?\s*[=:]\s*)(?![\"']?\*\*\*)"
    r"(\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)|[^\s,;&<>)}\]]+)"
)
# A tag of XML: its name, and what stands behind it.
_TAG = re.compile(r"<([A-Za-z_][\w:.-]{0,200})((?:\s[^<>]{0,2000})?)>")
_ATTRIBUTE = re.compile(r"([\w:.-]{1,200})(\s*=\s*)(\"[^\"]*\"|'[^']*')")

_ADDRESS = re.compile(r"[^\s@<>\"',;:()]{1,64}@[^\s@<>\"',;:()]{1,255}\.[A-Za-z]{2,63}")

Json = object


class _Number(float):
    """One with a fraction or an exponent; equal to another that is written as it is."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> _Number:
        made = super().__new__(cls, text)
        if isinf(made):
            raise ValueError(f"{text} is larger than others can read")
        made.text = text
        return made

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, _Number) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)


class BadEdit(StoreMisuse):
    """Raised for an edit that cannot be taken as it was written; nothing was done."""

    code = "bad_edit"

    def __init__(self, why: str) -> None:
        super().__init__(f"the edited payload {why}; nothing was done")
        self.why = why


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload for a person; `is_editable` when an edit of the text can be read back."""

    text: str
    is_editable: bool


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a payload, and what that changes, a line each."""

    payload: bytes
    changes: Sequence[str]

    @property
    def notes(self) -> str:
        """Call this for the audit."""
        whole = "; ".join(self.changes)
        return whole if len(whole) <= DIFF_CHARS_MAX else whole[: DIFF_CHARS_MAX - 2] + " …"


def shown_payload(payload: bytes | None) -> Shown:
    """Call this for what a person may see of a payload, of anybody."""
    if payload is None:
        return Shown("(not kept here)", is_editable=False)
    if len(payload) > SHOWN_BYTES_MAX:
        return Shown(f"({len(payload)} bytes)", is_editable=False)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return Shown(f"({len(payload)} bytes that are no text)", is_editable=False)
    try:
        value = _parsed(text)
    except BadEdit:
        hidden = _hidden_text(text)
        return Shown(hidden, is_editable=hidden == text and text.isprintable())
    return Shown(_written(_hidden(value), indent=2), is_editable=not _has_hidden_name(value))


def shown_texts(texts: Mapping[str, str]) -> Mapping[str, str]:
    """Call this for headers and other notes of a letter, as a person may see them."""
    hidden = _hidden(dict(texts))
    assert isinstance(hidden, dict), "it was one"
    return hidden


def shown_text(text: str) -> str:
    """Call this for words of others about a letter, as a person may see them."""
    return _hidden_text(text)


def edited_payload(payload: bytes, text: str) -> Edit:
    """Call this with a payload and what a person made of what `shown_payload` gave.

    Raises `BadEdit`; also for one that changes nothing.
    """
    shown = shown_payload(payload)
    if not shown.is_editable:
        raise BadEdit("cannot be read back: it is not all shown")
    if len(text) > SHOWN_BYTES_MAX:
        raise BadEdit(f"is longer than {SHOWN_BYTES_MAX} characters")
    original = payload.decode()
    try:
        before = _parsed(original)
    except BadEdit:
        # A form sends a line's end as two characters.
        new = text.replace("\r\n", "\n")
        if new == original:
            raise BadEdit("is what it was") from None
        return Edit(new.encode(), [f"the text: {_cut(original)} -> {_cut(new)}"])
    after = _restored(before, _hidden(before), _parsed(text), "")
    if type(after) is not type(before):
        raise BadEdit("must be JSON of the same kind: an object stays one, and so does a list")
    changes = list(_changes(_hidden(before), _hidden(after), before, after, ""))
    if not changes:
        raise BadEdit("is what it was")
    return Edit(_written(after).encode(), changes)


def _parsed(text: str) -> Json:
    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadEdit("has a name twice in one object")
        return found

    def refuse(word: str) -> Json:
        raise BadEdit(f"has {word}, which is no JSON")

    try:
        value: Json = json.loads(
            text, object_pairs_hook=once, parse_constant=refuse, parse_float=_Number
        )
        _written(value).encode()
    except json.JSONDecodeError as error:
        raise BadEdit(f"is no JSON: line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise BadEdit("is no JSON that others can read") from None
    if _depth(value) > DEPTH_MAX:
        raise BadEdit(f"is nested deeper than {DEPTH_MAX}")
    return value


def _depth(value: Json) -> int:
    level, depth = [value], 0
    while level := [part for one in level for part in _parts(one)]:
        depth += 1
    return depth


def _parts(value: Json) -> Sequence[Json]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _written(value: Json, indent: int | None = None, level: int = 0) -> str:
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict) and value:
        colon = ":" if indent is None else ": "
        inner = [
            f"{_written(name)}{colon}{_written(one, indent, level + 1)}"
            for name, one in value.items()
        ]
        return _around("{", inner, "}", indent, level)
    if isinstance(value, list) and value:
        return _around("[", [_written(one, indent, level + 1) for one in value], "]", indent, level)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _around(opened: str, inner: Sequence[str], closed: str, indent: int | None, level: int) -> str:
    if indent is None:
        return f"{opened}{','.join(inner)}{closed}"
    outer = "\n" + " " * indent * level
    line = outer + " " * indent
    return f"{opened}{line}{f',{line}'.join(inner)}{outer}{closed}"


def _hidden(value: Json, texts_deep: int = 0) -> Json:
    if isinstance(value, dict):
        named = any(_is_secret_name(value.get(name)) for name in _NAMED)
        found: dict[str, Json] = {}
        for name, one in value.items():
            is_secret = _is_secret_name(name) or (named and name == "value")
            shown, n = _hidden_text(name), 1
            while shown in found:  # two of them are two
                shown, n = f"{_hidden_text(name)} {n + 1}", n + 1
            found[shown] = HIDDEN if is_secret else _hidden(one, texts_deep)
        return found
    if isinstance(value, list):
        if len(value) == 2 and _is_secret_name(value[0]) and " " not in str(value[0]):
            return [value[0], HIDDEN]
        return [_hidden(one, texts_deep) for one in value]
    return _hidden_in(value, texts_deep) if isinstance(value, str) else value


def _is_secret_name(name: Json) -> bool:
    if not isinstance(name, str):
        return False
    # Name by name: of an object with very many, a part alone would be looked at.
    if redact_names({name: None})[name] == HIDDEN:
        return True
    words = (word.casefold() for word in _WORDS.findall(name[:_NAME_CHARS_MAX]))
    return not _PERSONS.isdisjoint(words)


def _hidden_in(text: str, texts_deep: int) -> str:
    """Of a text that is JSON itself by its names, too."""
    if texts_deep < TEXTS_DEEP and text.lstrip()[:1] in ("{", "["):
        try:
            value = _parsed(text)
        except BadEdit:
            return _hidden_text(text)
        hidden = _hidden(value, texts_deep + 1)
        if hidden != value:
            return _written(hidden)
    return _hidden_text(text)


def _has_hidden_name(value: Json) -> bool:
    if isinstance(value, dict) and any(_hidden_text(name) != name for name in value):
        return True
    return any(map(_has_hidden_name, _parts(value)))


def _hidden_text(text: str, texts_deep: int = 0) -> str:
    if "&lt;" in text and texts_deep < TEXTS_DEEP:
        # XML as a text in XML; whoever finds a secret in it is shown what it says.
        inner = unescape(text)
        if (hidden := _hidden_text(inner, texts_deep + 1)) != inner:
            return hidden
    if "<" in text:
        text = _hidden_xml(text)
    return _ADDRESS.sub(HIDDEN, _IN_TEXT.sub(rf"\1{HIDDEN}", redact_text(text)))


def _hidden_xml(text: str) -> str:
    """Hide what stands in a tag of a secret name, or in one that names it in an attribute."""
    parts: list[str] = []
    at = 0
    while (tag := _TAG.search(text, at)) is not None:
        name, inside = tag[1], tag[2]
        is_named = any(
            key.casefold() in (*_NAMED, "id") and _is_secret_name(value[1:-1])
            for key, _, value in _ATTRIBUTE.findall(inside)
        )
        hide = partial(_hidden_attribute, is_named)
        parts += [text[at : tag.start()], f"<{name}{_ATTRIBUTE.sub(hide, inside)}>"]
        at = tag.end()
        is_empty = inside.endswith("/")
        if (is_named or _is_secret_name(name.rpartition(":")[2])) and not is_empty:
            end = _end_of(name, text, at)
            parts.append(HIDDEN if text[at:end].strip() else text[at:end])
            at = end
    return "".join([*parts, text[at:]])


def _hidden_attribute(is_named: bool, found: re.Match[str]) -> str:
    name, equals, _ = found.groups()
    is_value = is_named and name.casefold() == "value"
    is_secret = is_value or _is_secret_name(name.rpartition(":")[2])
    return f'{name}{equals}"{HIDDEN}"' if is_secret else found[0]


def _end_of(name: str, text: str, at: int) -> int:
    """Where the tag ends that begins before `at`; one that was cut off ends with the text."""
    own = re.escape(name)
    marks = re.compile(rf"(?s)<!\[CDATA\[.*?(?:\]\]>|\Z)|<(/?){own}(?:\s[^<>]*)?>")
    depth = 1
    for mark in marks.finditer(text, at):
        if mark[1] is None or mark[0].endswith("/>"):
            continue
        depth += -1 if mark[1] else 1
        if depth == 0:
            return mark.start()
    return len(text)


def _restored(before: Json, hidden: Json, after: Json, path: str) -> Json:
    """Put back what was hidden and left as it was shown."""
    if hidden != before and after == hidden and not isinstance(after, dict | list):
        return before
    if isinstance(after, dict):
        known = before if isinstance(before, dict) else {}
        seen = hidden if isinstance(hidden, dict) else {}
        return {
            name: _restored(known.get(name), seen.get(name), one, f"{path}.{name}")
            for name, one in after.items()
        }
    if isinstance(after, list):
        known_items = before if isinstance(before, list) else []
        seen_items = hidden if isinstance(hidden, list) else []
        return [
            _restored(_at(known_items, n), _at(seen_items, n), one, f"{path}[{n}]")
            for n, one in enumerate(after)
        ]
    if isinstance(after, str) and HIDDEN in after:
        raise BadEdit(f"has {HIDDEN} at {path or 'its top'}, where nothing hidden stood")
    return after


def _at(items: Sequence[Json], n: int) -> Json:
    return items[n] if n < len(items) else None


def _changes(
    shown_before: Json, shown_after: Json, before: Json, after: Json, path: str
) -> Iterator[str]:
    """Tell what differs; from what is shown, so that a secret that changed is told without it."""
    if before == after and type(before) is type(after):
        return
    # What is hidden as a whole is told as a whole.
    if (
        isinstance(before, dict)
        and isinstance(after, dict)
        and isinstance(shown_before, dict)
        and isinstance(shown_after, dict)
    ):
        for name in {**before, **after}:
            old, new = before.get(name, _ABSENT), after.get(name, _ABSENT)
            # A name that somebody wrote may be hidden itself.
            told = shown_after.get(name, HIDDEN if name in after else _ABSENT)
            yield from _changes(
                shown_before.get(name, _ABSENT), told, old, new, f"{path}.{_hidden_text(name)}"
            )
        return
    if _are_alike(before, after) and _are_alike(shown_before, shown_after):
        assert isinstance(before, list), "they are alike"
        assert isinstance(after, list), "they are alike"
        assert isinstance(shown_before, list), "they are alike"
        assert isinstance(shown_after, list), "they are alike"
        items = zip(shown_before, shown_after, before, after, strict=True)
        for n, item in enumerate(items):
            yield from _changes(*item, f"{path}[{n}]")
        return
    place = _cut(path.lstrip(".") or "all of it")
    yield f"{place}: {_said(shown_before)} -> {_said(shown_after)}"


def _are_alike(one: Json, other: Json) -> bool:
    return isinstance(one, list) and isinstance(other, list) and len(one) == len(other)


class _Absent:
    pass


_ABSENT: Final = _Absent()


def _said(value: Json) -> str:
    return "(nothing)" if value is _ABSENT else _cut(_written(value))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"
