"""Source code as it is shown on a page: cut into coloured pieces on the server.

The sample on the home page is a real file, `desk.py`; what is shown is what runs.
"""

import io
import keyword
import token
import tokenize
from dataclasses import dataclass
from pathlib import Path

from web.views.words import check_text

_SAMPLE = Path(__file__).with_name("desk.py")
# The file can be imported; on the page it is a script, so the guard is not shown.
_GUARD = 'if __name__ == "__main__":\n    '


@dataclass(frozen=True, slots=True)
class CodePiece:
    """A run of source text of one kind: `keyword`, `string`, `name`, `definition` or `plain`."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class CodeView:
    """A source file to show, cut into coloured pieces; joined, they are the file again.

    `log` and `output` are what it writes when it is run.
    """

    name: str
    pieces: tuple[CodePiece, ...]
    log: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        check_text("name", self.name)


# What it prints, and the beginning of what its supervisor writes into the log.
SAMPLE_OUTPUT = "back again: 25.0"
SAMPLE_LOG = (
    "[error] actor_crashed path=desk/divider incarnation=1 "
    "error=ZeroDivisionError: division by zero"
)


def sample_source() -> str:
    """Call this to get the sample actor's source: one runnable script, without its docstring."""
    source = _SAMPLE.read_text(encoding="utf-8").split('"""', 2)[2].strip()
    return source.replace("\n\n\n", "\n\n").replace(_GUARD, "") + "\n"


def sample_code() -> CodeView:
    """Call this once at start-up to get the sample actor, coloured."""
    return CodeView(_SAMPLE.name, code_pieces(sample_source()), SAMPLE_LOG, SAMPLE_OUTPUT)


def code_pieces(source: str) -> tuple[CodePiece, ...]:
    """Call this to cut Python `source` into coloured pieces, losing no character.

    Raises `tokenize.TokenError` or `SyntaxError` on text that is no Python.
    """
    lines = source.splitlines(keepends=True)
    pieces: list[CodePiece] = []
    row, column = 1, 0
    previous = ""
    for piece in tokenize.generate_tokens(io.StringIO(source).readline):
        if piece.type in (token.INDENT, token.DEDENT, token.ENDMARKER, tokenize.NL, token.NEWLINE):
            continue
        gap = _between(lines, (row, column), piece.start)
        if gap:
            pieces.append(CodePiece("plain", gap))
        pieces.append(CodePiece(_kind(piece.type, piece.string, previous), piece.string))
        (row, column), previous = piece.end, piece.string
    tail = _between(lines, (row, column), (len(lines) + 1, 0))
    if tail:
        pieces.append(CodePiece("plain", tail))
    return tuple(pieces)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    text = "".join(lines[start[0] - 1 : end[0]])
    rest = len(lines[end[0] - 1]) - end[1] if end[0] <= len(lines) else 0
    return text[start[1] : len(text) - rest]


def _kind(kind: int, text: str, previous: str) -> str:
    # From Python 3.12 on an f-string comes in several tokens, FSTRING_START to FSTRING_END.
    if kind == token.STRING or token.tok_name[kind].startswith("FSTRING"):
        return "string"
    if kind != token.NAME:
        return "comment" if kind == tokenize.COMMENT else "plain"
    if keyword.iskeyword(text):
        return "keyword"
    return "definition" if previous in ("def", "class", "@") else "plain"
