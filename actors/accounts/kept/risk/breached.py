"""The operator's list of addresses of mail that were in a breach somewhere, pure (AUTH-30).

A line is an address, or its SHA-256 in hexadecimal, of the address in small letters. Blank lines
and those that begin with `#` say nothing. Nothing is asked over the network: who keeps such a list
would learn of each sign-in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from actors.accounts.kept.risk.places import PROBLEMS_TOLD_MAX

_DIGEST = re.compile("[0-9a-fA-F]{64}")
# As `users.email` has it at most.
_ADDRESS_CHARS_MAX = 254


@dataclass(slots=True)
class BreachedList:
    """Addresses by their digests; made by `parse_breached`, and never changed after."""

    lines_count: int = 0
    broken_count: int = 0
    # The first of the lines that say nothing that can be, by their number; never what stands there.
    problems: list[str] = field(default_factory=list)
    _digests: set[bytes] = field(default_factory=set, repr=False)

    def has(self, email: str) -> bool:
        """Call this for whether an address of mail is in the list."""
        return bool(self._digests) and _digest(email) in self._digests

    def _add(self, number: int, text: str) -> None:
        self.lines_count += 1
        if _DIGEST.fullmatch(text):
            self._digests.add(bytes.fromhex(text))
        elif "@" in text and len(text) <= _ADDRESS_CHARS_MAX and text.isprintable():
            self._digests.add(_digest(text))
        else:
            self.broken_count += 1
            if len(self.problems) < PROBLEMS_TOLD_MAX:
                self.problems.append(f"line {number}: neither an address nor its SHA-256")


def parse_breached(lines: Iterable[str]) -> BreachedList:
    """Call this with the lines of a list. A broken one is told with its number, and skipped."""
    found = BreachedList()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            found._add(number, text)
    return found


def _digest(email: str) -> bytes:
    return sha256(email.strip().lower().encode("utf-8", "surrogatepass")).digest()
