"""Reads answers off a connection as strictly as a client could."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n((?:[^\r\n:]+: [^\r\n]*\r\n)*)\r\n")


@dataclass(frozen=True)
class Answer:
    """Holds one answer; `rest` of a connection that left HTTP is its body."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        return b"close" in self.headers.get(b"connection", b"")


def split_answers(data: bytes, methods: list[bytes]) -> list[Answer]:
    """Split all that came into answers; `methods` are those of the requests, in order.

    Raises AssertionError for whatever is no answer, or stands between two.
    """
    answers = []
    waiting = list(methods)
    while data:
        found = _HEAD.match(data)
        assert found, f"no answer begins with {data[:200]!r}"
        status, data = int(found[1]), data[found.end() :]
        pairs = [one.split(b": ", 1) for one in found[2].split(b"\r\n")[:-1]]
        headers = {name.lower(): value for name, value in pairs}
        method = b"" if status == 100 else waiting.pop(0)
        body = b""
        if status == 101:
            body, data = data, b""
        elif status >= 200 and status not in (204, 304) and method != b"HEAD":
            body, data = _body(data, headers)
        answers.append(Answer(status, headers, body))
    return answers


def _body(data: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    if headers.get(b"transfer-encoding") == b"chunked":
        body = b""
        while True:
            line, _, data = data.partition(b"\r\n")
            size = int(line, 16)
            piece, end, data = data[:size], data[size : size + 2], data[size + 2 :]
            assert end == b"\r\n"
            if not size:
                return body, data
            body += piece
    if b"content-length" in headers:
        size = int(headers[b"content-length"])
        assert len(data) >= size, "an answer was cut off"
        return data[:size], data[size:]
    return data, b""
