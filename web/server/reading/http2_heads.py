"""The grammar of a head that came by HTTP/2: first its own rules, then those of HTTP/1.1.

h2 would check the first part too, and end the whole connection for what it finds; RFC 9113 (8.1.1)
has the one request end that is malformed, and its siblings go on (SEC-112). So h2 is told not to
look, and everything it looked at is looked at here. The length that a head announces h2 reads by
all means, so it is given the header under another name (`hide_length`), and the body is counted in
`connection/http/http2.py`.

The second part is `heads.py`: a head is spelled as HTTP/1.1 would have it and read once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from web.server.reading.heads import (
    LENGTH,
    SINGLE,
    Head,
    HeaderList,
    HeadLimits,
    Refusal,
    read_head,
)

# RFC 9113 8.2.1: neither blanks nor control characters, no capital letters, nothing beyond ASCII;
# a colon begins a pseudo header and stands nowhere else.
_NAME = re.compile(rb":?[!-9;-@\[-~]+")
# RFC 9113 8.2.1: what would end a line of HTTP/1.1, and what readers strip or do not.
_VALUE = re.compile(rb"(?![ \t])[^\r\n\0]*(?<![ \t])")
# RFC 9113 8.2.2: of HTTP/1.1 alone.
_FORBIDDEN = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_LENGTH = b"content-length"
# With capitals, which no client's own header may have; one that has them just so gets other ones,
# and is refused for these.
_HIDDEN = {_LENGTH: b"Content-Length", b"Content-Length": b"CONTENT-LENGTH"}
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})


def hide_length(headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    """Call this with the fields as they came, before h2 reads them."""
    return [(_HIDDEN.get(name, name), value) for name, value in headers]


def announced_length(headers: HeaderList) -> int | None:
    """Call this with hidden fields to get how long the body is to be; None when nobody says so."""
    found = [value for name, value in headers if name == _HIDDEN[_LENGTH]]
    # Of one that is no number, or twice there, the head is refused.
    return int(found[0]) if found and LENGTH.fullmatch(found[0]) else None


def read_http2_head(headers: HeaderList, limits: HeadLimits) -> Head | Refusal | None:
    """Call this with the fields of a request, hidden; None when they are malformed."""
    headers = _shown(headers)
    if not _are_well_formed(headers):
        return None
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    fields = headers[len(pseudo) :]
    if not _agree(pseudo, fields):
        return None
    authority = pseudo.get(b":authority")
    if authority is not None:
        fields = [(b"host", authority), *(pair for pair in fields if pair[0] != b"host")]
    # RFC 9113 8.2.3: it may come in pieces.
    cookies = [value for name, value in fields if name == b"cookie"]
    if len(cookies) > 1:
        fields = [pair for pair in fields if pair[0] != b"cookie"]
        fields.append((b"cookie", b"; ".join(cookies)))
    method = pseudo[b":method"]
    target = pseudo.get(b":path", authority or b"")
    # Whatever would look like another word of the first line is in none.
    if b" " in method or b" " in target:
        return None
    lines = b"".join(b"%b: %b\r\n" % pair for pair in fields)
    raw = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)
    return read_head(raw, limits)


def is_http2_trailer(headers: HeaderList) -> bool:
    """Call this with the fields behind a body, hidden; False when they are malformed.

    What a request is about is said before its body, as in HTTP/1.1 (`bodies.py`).
    """
    headers = _shown(headers)
    return _are_well_formed(headers) and not any(
        name.startswith(b":") or name in SINGLE for name, _ in headers
    )


def _shown(headers: HeaderList) -> HeaderList:
    return [(_LENGTH if name == _HIDDEN[_LENGTH] else name, value) for name, value in headers]


def _are_well_formed(headers: HeaderList) -> bool:
    """Tell whether each field is one, and pseudo headers stand first and once."""
    seen: set[bytes] = set()
    is_behind = False
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return False
        if name.startswith(b":"):
            if is_behind or name in seen or name not in _PSEUDO:
                return False
            seen.add(name)
        else:
            is_behind = True
        if name in _FORBIDDEN or (name == b"te" and value.lower() != b"trailers"):
            return False
    return True


def _agree(pseudo: Mapping[bytes, bytes], fields: HeaderList) -> bool:
    """Tell whether a request has the pseudo headers of its method, and names one server."""
    hosts = [value for name, value in fields if name == b"host"]
    authority = pseudo.get(b":authority")
    # RFC 9113 8.3.1: the two would name two servers.
    if len(hosts) > 1 or (authority is not None and hosts not in ([], [authority])):
        return False
    method = pseudo.get(b":method")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        # RFC 9113 8.5
        return authority is not None and b":scheme" not in pseudo and b":path" not in pseudo
    if method != b"CONNECT" and b":protocol" in pseudo:
        return False
    return method is not None and b":scheme" in pseudo and bool(pseudo.get(b":path"))
