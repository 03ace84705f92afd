"""How a command ends, here or in a site that is asked: its code, and what went wrong."""

from enum import IntEnum


class Code(IntEnum):
    """With which code a command ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    REFUSED = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class CommandFailed(Exception):
    """Raised by a command that ends otherwise than done: a code, what happened, what to do."""

    def __init__(self, code: Code, words: str, hint: str = "") -> None:
        super().__init__(f"{words}. {hint}." if hint else f"{words}.")
        self.code, self.words, self.hint = code, words, hint
