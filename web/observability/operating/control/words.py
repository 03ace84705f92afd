"""What is on a line of the control socket: a question, a row of its answer, or its end.

    {"ask": "tree", "with": {"path": "site/rooms"}}
    {"row": {...}}
    {"end": 0, "words": "", "hint": ""}

One question a connection. An answer has any number of rows and one end, whose number is the exit
code of the command; whatever stops before its end was cut off. Who asks keeps the connection open:
closing it, or half of it, takes the question back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from web.observability.ending import Code, CommandFailed

# A question is a name and a few words.
QUESTION_BYTES_MAX: Final = 64 * 1024
# A row may be a line of the log with a traceback, or the text of all figures.
ROW_BYTES_MAX: Final = 8 * 1024 * 1024


class Question(msgspec.Struct, frozen=True, rename={"ask": "ask", "words": "with"}):
    """What is asked, and with which words."""

    ask: str
    words: dict[str, object] = msgspec.field(default_factory=dict)


class Row(msgspec.Struct, frozen=True):
    """One line of an answer."""

    row: object


class Ended(msgspec.Struct, frozen=True):
    """The last line of an answer."""

    end: int
    words: str = ""
    hint: str = ""


class _Line(msgspec.Struct, frozen=True):
    row: object = msgspec.UNSET
    end: int | msgspec.UnsetType = msgspec.UNSET
    words: str = ""
    hint: str = ""


def parse_question(line: bytes) -> Question:
    """Call this with a line without its end; raises `CommandFailed` for nonsense."""
    try:
        return msgspec.json.decode(line, type=Question)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandFailed(
            Code.USAGE,
            f"that is no question ({error})",
            'One is a line such as {"ask": "tree"}',
        ) from error


def parse_answer(line: bytes) -> Row | Ended:
    """Call this with a line of an answer; raises `CommandFailed` for what is none."""
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandFailed(
            Code.FAILED, f"the site answered what is no answer ({error})", "Is it another version"
        ) from error
    if found.end is not msgspec.UNSET:
        return Ended(found.end, found.words, found.hint)
    return Row(None if found.row is msgspec.UNSET else found.row)


def to_line(said: Question | Row | Ended) -> bytes:
    """Call this for the bytes of a line, its end included."""
    return msgspec.json.encode(said, enc_hook=str) + b"\n"


def text_of(words: Mapping[str, object], name: str, default: str = "") -> str:
    """Call this for a word of a question; raises `CommandFailed` when it is no text."""
    found = words.get(name, default)
    if not isinstance(found, str):
        raise CommandFailed(Code.USAGE, f"{name} is no text")
    return found
