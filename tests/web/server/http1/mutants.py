"""Requests of the corpus with a few bytes changed, the same ones at every run of a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.web.server.http1.corpus import CASES

# What readers of HTTP/1.1 stumble over, put where it does not belong.
_CRUMBS = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b";", b"\0", b"\x7f", b"\xff", b"0", b"1", b"a",
    b"/", b"\r\n ", b"\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: y\r\n", b"chunked",
]  # fmt: skip


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Give `count` changed requests; some of them are still right ones."""
    chance = random.Random(seed)
    originals = [case.raw for case in CASES if len(case.raw) < 1000]
    for _ in range(count):
        raw = chance.choice(originals)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            raw = _changed(raw, chance)
        yield raw


def _changed(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(5):
        case 0:
            return raw[:at] + chance.choice(_CRUMBS) + raw[at:]
        case 1:
            return raw[:at] + raw[at + 1 :]
        case 2:
            return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]
        case 3:
            lines = raw.split(b"\r\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            return b"\r\n".join(lines)
        case _:
            first, *lines = raw.split(b"\r\n")
            chance.shuffle(lines)
            return raw.swapcase() if at % 7 == 0 else b"\r\n".join([first, *lines])
