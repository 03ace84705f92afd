"""The grammar of a request's head: it is read in one way, or refused (SEC-112, REL-50).

Rule 1: what is accepted here, every other reader of HTTP/1.1 understands in the same way. Where
        proxies and servers are known to differ (two lengths, a length beside chunks, folded
        lines, bare line feeds), the request is refused and its connection closed, for nobody
        could say where the next request begins.
Rule 2: a refusal names its rule in a fixed text; nothing of the request is repeated in it.

`read_head` is given a whole head; `early_refusal` looks at the beginning of one, so that bytes that
can never become a head are answered at once and not when the time for a head is over.
Sources: RFC 9112 (2 to 6 and 11), RFC 9110 (5, 7, 10), RFC 6455 (4.2).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

HeaderList = list[tuple[bytes, bytes]]

# One line of the address bar; longer ones are scripts or mistakes (SITE-150: 414).
URL_BYTES_MAX = 8 * 1024
# Browsers send 1-2 KiB; cookies may take 4 KiB each (SITE-150: 431).
HEADER_BYTES_MAX = 16 * 1024
# Of the request line beside its target: the method, the version, two blanks. The longest method
# anybody registered has 17 letters.
_LINE_EXTRA_MAX = 64
_METHOD = rb"[A-Z][A-Z\-]{0,31}"
# No more digits than 64 bits hold; some readers would wrap around.
LENGTH = re.compile(rb"[0-9]{1,18}")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = rb"%b:[\t -~\x80-\xff]*" % _TOKEN
FIELD_LINE = re.compile(_FIELD)
_HEAD = re.compile(
    rb"(%b) ([!-~]+) HTTP/1\.([01])\r\n((?:%b\r\n)*)\r\n" % (_METHOD, _FIELD),
)
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
# Never right in any head, however it goes on: a line feed alone, a carriage return alone, and
# every control character but the tabulator.
_BROKEN = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# A name, an address of version 4, or one of version 6 in brackets; a port may follow.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.\-~%!$&'()*+;=]*)(?::[0-9]{0,5})?")
# llhttp takes blanks behind the coding and no tabulator; a reader before us might take it as none.
_TAB_BEHIND_CODING = re.compile(rb"(?i:transfer-encoding):[\t ]*[^\t \r]+ *\t")
_WORD = re.compile(_TOKEN)
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)([/?][!-~]*)?")

# Fields that say one thing. A second line would leave it to each reader which of them counts.
SINGLE = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"referer",
        b"sec-fetch-site",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    }
)
WEBSOCKET_VERSION = b"13"
# Lists that are read by this server: of several lines one is made, so that each of them counts.
LISTS = (b"connection", b"sec-websocket-protocol", b"sec-websocket-extensions")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Says why bytes are no request: the answer's status, the rule, and headers it must have."""

    status: int
    rule: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Holds how large a head may be, in bytes: its target, and all its header lines together."""

    url: int = URL_BYTES_MAX
    headers: int = HEADER_BYTES_MAX

    @property
    def whole(self) -> int:
        """Tell how many bytes of an unfinished head are kept at most."""
        return self.url + self.headers + _LINE_EXTRA_MAX


@dataclass(slots=True)
class Head:
    """Holds a request's head. Header names are in lower case, values without blanks around them.

    `target` begins with `/`, or is `*` for OPTIONS. `length` is None for a chunked body.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: HeaderList
    length: int | None
    keeps_open: bool
    expects_continue: bool
    is_websocket: bool

    def wire(self) -> bytes:
        """Call this to spell the head anew, for a reader that is more lenient than this one."""
        lines = b"".join(b"%b: %b\r\n" % pair for pair in self.headers)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.method, self.target, self.version, lines)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, rule: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(rule)
        self.refusal = Refusal(int(status), rule, headers)


_BAD = HTTPStatus.BAD_REQUEST


def read_head(raw: bytes, limits: HeadLimits) -> Head | Refusal:
    """Call this with everything up to and with the empty line."""
    try:
        found = _HEAD.fullmatch(raw)
        if found is None:
            return _why_not(raw, limits)
        method, target, minor, lines = found.groups()
        if len(target) > limits.url:
            return _too_long_url()
        if len(lines) > limits.headers:
            return _too_large()
        head = _head(method, target, b"1." + minor, _headers(lines))
        if head.length is None and _TAB_BEHIND_CODING.search(lines):
            return Refusal(_BAD, "No tabulator stands behind a transfer coding.")
        return head
    except _Refused as refused:
        return refused.refusal


def early_refusal(begun: bytes | bytearray, start: int, limits: HeadLimits) -> Refusal | None:
    """Call this with the beginning of a head; what stands before `start` was looked at already."""
    if _BROKEN.search(begun, max(0, start - 1)):
        return _why_not(bytes(begun), limits)
    if len(begun) <= limits.url:
        return None
    line = begun.find(b"\r\n")
    if (len(begun) if line < 0 else line) > limits.url + _LINE_EXTRA_MAX:
        return _too_long_url()
    return _too_large() if len(begun) > limits.whole else None


def repeated(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Call this with lower-case names to find a field of `SINGLE` that came twice."""
    seen = set()
    for name, _ in headers:
        if name in seen and name in SINGLE:
            return name
        seen.add(name)
    return None


def _too_long_url() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")


def _too_large() -> Refusal:
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return Refusal(status, "The request's headers are too large.")


def _why_not(raw: bytes, limits: HeadLimits) -> Refusal:
    """Name the first rule that bytes outside the grammar break."""
    line, mark, rest = raw.partition(b"\r\n")
    if b"\n" in line or not mark:
        return Refusal(_BAD, "Each line of a request ends in CR LF, and nothing else does.")
    if len(line) > limits.url + _LINE_EXTRA_MAX:
        return _too_long_url()
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return Refusal(_BAD, "The first line is a method, an address and HTTP/1.1.")
    if found[3] not in (b"1.0", b"1.1"):
        return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here.")
    if not re.fullmatch(_METHOD, found[1]):
        return Refusal(_BAD, "A method is a short word in capital letters.")
    if len(rest) > limits.headers + 2:
        return _too_large()
    if b"\r\n " in raw or b"\r\n\t" in raw:
        return Refusal(_BAD, "A header is one line; folded ones are not read.")
    if _BROKEN.search(raw):
        return Refusal(_BAD, "A header holds no control characters, and ends in CR LF.")
    return Refusal(_BAD, "A header is a name, a colon at once behind it, and a value.")


def _headers(lines: bytes) -> HeaderList:
    # The last line's end leaves an empty part behind it.
    parts = [line.partition(b":") for line in lines.split(b"\r\n")[:-1]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in parts]


def _head(method: bytes, target: bytes, version: bytes, headers: HeaderList) -> Head:
    fields = dict(headers)
    if len(fields) != len(headers):
        headers, fields = _joined(headers)
    _check_host(version, fields)
    if method == b"CONNECT":
        # Whatever it asks for: also a path, as a WebSocket over HTTP/2 would (RFC 8441).
        raise _Refused(HTTPStatus.NOT_IMPLEMENTED, "This is no proxy.")
    if not target.startswith(b"/"):
        target = _origin_form(method, target, fields)
    if b"#" in target:
        raise _Refused(_BAD, "An address is sent without its fragment.")
    length = _body_length(version, fields)
    expects = fields.get(b"expect")
    if expects is not None and expects.lower() != b"100-continue":
        raise _Refused(HTTPStatus.EXPECTATION_FAILED, "The only expectation met is 100-continue.")
    options = _options(fields)
    is_websocket = (
        method == b"GET"
        and version == b"1.1"
        and b"upgrade" in options
        and fields.get(b"upgrade", b"").lower() == b"websocket"
    )
    if is_websocket:
        _check_handshake(fields, length)
    return Head(
        method,
        target,
        version,
        headers,
        length,
        # HTTP/1.0 knows no agreement that is the same everywhere, so it is one request.
        keeps_open=version == b"1.1" and b"close" not in options,
        # RFC 9110 10.1.1: of HTTP/1.0 it is ignored.
        expects_continue=expects is not None and version == b"1.1",
        is_websocket=is_websocket,
    )


def _options(fields: Mapping[bytes, bytes]) -> list[bytes]:
    given = fields.get(b"connection")
    return [] if given is None else [word.strip() for word in given.lower().split(b",")]


def _joined(headers: HeaderList) -> tuple[HeaderList, dict[bytes, bytes]]:
    """Make one line of each list that has several; of a field that is single, refuse the second."""
    twice = repeated(headers)
    if twice is not None:
        raise _Refused(_BAD, f"The header {twice.decode()} is sent once.")
    for listed in LISTS:
        lines = [value for name, value in headers if name == listed]
        if len(lines) > 1:
            headers = [pair for pair in headers if pair[0] != listed]
            headers.append((listed, b", ".join(lines)))
    return headers, dict(headers)


def _check_host(version: bytes, fields: Mapping[bytes, bytes]) -> None:
    host = fields.get(b"host")
    if host is None:
        if version == b"1.1":
            raise _Refused(_BAD, "HTTP/1.1 needs the header host.")
    elif not _HOST.fullmatch(host):
        raise _Refused(_BAD, "The header host is a name or an address, and perhaps a port.")


def _origin_form(method: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> bytes:
    """Give the path of a target that is none; what names another server is refused."""
    if target == b"*" and method == b"OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise _Refused(_BAD, "An address begins with a slash.")
    # RFC 9112 3.2.2: it must be understood, and its host counts. Checks look at the header, so
    # the two are one, or the request is refused.
    if found[1].lower() != fields.get(b"host", b"").lower():
        raise _Refused(_BAD, "The address names another host than the header host.")
    path = found[2] or b"/"
    return path if path.startswith(b"/") else b"/" + path


def _body_length(version: bytes, fields: Mapping[bytes, bytes]) -> int | None:
    """Tell how long the body is; None when it is chunked."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if not LENGTH.fullmatch(length):
            raise _Refused(_BAD, "The header content-length is one number.")
        return int(length)
    if length is not None:
        raise _Refused(_BAD, "A body has a length or is chunked, not both.")
    if version != b"1.1" or coding.lower() != b"chunked":
        raise _Refused(_BAD, "The only transfer coding read is chunked, of HTTP/1.1.")
    return None


def _check_handshake(fields: Mapping[bytes, bytes], length: int | None) -> None:
    if length != 0:
        raise _Refused(_BAD, "A WebSocket's handshake has no body.")
    if fields.get(b"sec-websocket-version", WEBSOCKET_VERSION) != WEBSOCKET_VERSION:
        raise _Refused(
            HTTPStatus.UPGRADE_REQUIRED,
            "Version 13 of the WebSocket protocol is spoken here.",
            (b"sec-websocket-version", WEBSOCKET_VERSION),
            (b"upgrade", b"websocket"),
        )
    try:
        key = base64.b64decode(fields.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        key = b""
    if b"sec-websocket-version" not in fields or len(key) != 16:
        raise _Refused(_BAD, "A WebSocket's handshake has a version, and 16 bytes for a key.")
    offered = fields.get(b"sec-websocket-protocol", b"").split(b",")
    # RFC 9110 5.6.1: an element of a list may be empty.
    if not all(_WORD.fullmatch(word) for each in offered if (word := each.strip(b" \t"))):
        raise _Refused(_BAD, "A WebSocket's subprotocols are words with commas between them.")
    if not fields.get(b"sec-websocket-extensions", b"").isascii():
        raise _Refused(_BAD, "A WebSocket's extensions are told in ASCII.")
