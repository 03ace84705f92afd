"""Raw requests and what becomes of each, as data: status, whether we close, whether a handler ran.

Behind every one of them the test sends a second request on the same connection. It is answered
where the first left the connection open, and never where we closed it: so nobody can hide a
request in the body of another (REL-50, SEC-112).
"""

# ruff: noqa: E501 - a case is one line, so that the table can be read down

from __future__ import annotations

from dataclasses import dataclass

HOST = b"Host: x\r\n"
# One line each, to be read in one glance.
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UP = b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
V13 = b"Sec-WebSocket-Version: 13\r\n"
END = b"\r\n"


@dataclass(frozen=True)
class Case:
    """Holds one request; `entered` tells that a handler got it whole."""

    name: str
    raw: bytes
    status: int
    closes: bool
    entered: bool


def refused(name: str, raw: bytes, status: int = 400) -> Case:
    return Case(name, raw, status, closes=True, entered=False)


def served(name: str, raw: bytes, *, closes: bool = False) -> Case:
    return Case(name, raw, 200, closes=closes, entered=True)


def line(text: bytes) -> bytes:
    return text + b"\r\n" + HOST + END


def header(text: bytes) -> bytes:
    return GET + HOST + text + b"\r\n" + END


def host(text: bytes) -> bytes:
    return GET + text + END


def chunks(text: bytes) -> bytes:
    return CHUNKED + text


FRAMING = [
    refused("length, then chunked", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked, then length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    refused("chunked, and length 0", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
    refused("two lengths", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    refused("two equal lengths", POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    refused("lengths in a list", POST + b"Content-Length: 2, 2\r\n\r\nab"),
    refused("length with a sign", POST + b"Content-Length: +2\r\n\r\nab"),
    refused("negative length", POST + b"Content-Length: -1\r\n\r\n"),
    refused("length in hexadecimal", POST + b"Content-Length: 0x2\r\n\r\nab"),
    refused("length with an underscore", POST + b"Content-Length: 1_0\r\n\r\n0123456789"),
    refused("empty length", POST + b"Content-Length:\r\n\r\n"),
    refused("length of words", POST + b"Content-Length: two\r\n\r\nab"),
    refused("length with a blank inside", POST + b"Content-Length: 1 0\r\n\r\n0123456789"),
    refused("length of digits that are not ASCII", POST + b"Content-Length: \xb2\r\n\r\nab"),
    refused("length beyond 64 bits", POST + b"Content-Length: 18446744073709551617\r\n\r\na"),
    served("length with zeros before", POST + b"Content-Length: 0002\r\n\r\nab"),
    served("length between tabs", POST + b"Content-Length: \t2\t\r\n\r\nab"),
    served("length 0", POST + b"Content-Length: 0\r\n\r\n"),
    served("a body of a GET", GET + HOST + b"Content-Length: 2\r\n\r\nab"),
    refused("xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    refused("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked, chunked", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked, identity", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    refused("identity", POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    refused("empty coding", POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    refused("coding in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    refused("coding with a parameter", POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    refused("two codings", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("two codings, one strange", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n"),
    refused("vertical tab before chunked", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    refused("tabulator behind chunked", POST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"),
    refused("blank and tabulator behind chunked", POST + b"transfer-encoding:chunked \t \r\n\r\n0\r\n\r\n"),
    served("tabulator before chunked, blanks behind it", POST + b"Transfer-Encoding:\tchunked  \r\n\r\n0\r\n\r\n"),
    refused("blank before the colon of the coding", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    refused("folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    refused("coding behind a bare CR", POST + b"A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("coding on HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    served("CHUNKED", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    served("chunked HTTP GET", GET + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
]  # fmt: skip

CHUNKS = [
    served("one chunk", chunks(b"5\r\nhello\r\n0\r\n\r\n")),
    served("no data", chunks(b"0\r\n\r\n")),
    served("capital digits", chunks(b"A\r\n0123456789\r\n0\r\n\r\n")),
    served("small digits", chunks(b"a\r\n0123456789\r\n0\r\n\r\n")),
    served("zeros before the size", chunks(b"00000005\r\nhello\r\n000\r\n\r\n")),
    served("an extension", chunks(b"5;name=value\r\nhello\r\n0\r\n\r\n")),
    served("a quoted extension", chunks(b'5;name="a;b\\"c"\r\nhello\r\n0;last\r\n\r\n')),
    served("trailers", chunks(b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n")),
    refused("a length among the trailers", chunks(b"0\r\nContent-Length: 100\r\n\r\n")),
    refused("a coding among the trailers", chunks(b"0\r\ntransfer-encoding: x\r\n\r\n")),
    refused("a size with a sign", chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    refused("a negative size", chunks(b"-5\r\nhello\r\n0\r\n\r\n")),
    refused("a size with 0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    refused("a blank before the size", chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    refused("a blank behind the size", chunks(b"5 \r\nhello\r\n0\r\n\r\n")),
    refused("an empty size", chunks(b"\r\nhello\r\n0\r\n\r\n")),
    refused("a size of letters", chunks(b"g\r\nhello\r\n0\r\n\r\n")),
    refused("a size of 9 digits", chunks(b"000000005\r\nhello\r\n0\r\n\r\n")),
    refused("a size that overflows", chunks(b"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n")),
    refused("an overflow without an end of line", chunks(b"f" * 40)),
    refused("a size with an underscore", chunks(b"1_0\r\nhello\r\n0\r\n\r\n")),
    refused("bare LF behind the size", chunks(b"5\nhello\r\n0\r\n\r\n")),
    refused("bare CR behind the size", chunks(b"5\rhello\r\n0\r\n\r\n")),
    refused("bare LF behind the data", chunks(b"5\r\nhello\n0\r\n\r\n")),
    refused("bare LF behind the last size", chunks(b"0\n\r\n")),
    refused("bare LF at the end", chunks(b"0\r\n\n")),
    refused("more data than the size", chunks(b"5\r\nhello!\r\n0\r\n\r\n")),
    refused("less data than the size", chunks(b"6\r\nhello\r\n0\r\n\r\n")),
    refused("a bare LF in an extension", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    refused("a bare CR in an extension", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    refused("NUL in an extension", chunks(b"5;a\0\r\nhello\r\n0\r\n\r\n")),
    refused("an extension without a name", chunks(b"5;\r\nhello\r\n0\r\n\r\n")),
    refused("an extension without an end", chunks(b"5;" + b"a" * 300)),
    refused("a trailer that is none", chunks(b"0\r\nGET / HTTP/1.1\r\n\r\n")),
    refused("a folded trailer", chunks(b"0\r\nA: b\r\n c\r\n\r\n")),
    refused("a trailer with a control byte", chunks(b"0\r\nA: \x01\r\n\r\n")),
    refused("trailers without an end", chunks(b"0\r\n" + b"A: b\r\n" * 3000), 431),
]  # fmt: skip

LINES = [
    refused("bare LF everywhere", b"GET / HTTP/1.1\nHost: x\n\n"),
    refused("bare LF behind the request line", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    refused("bare LF behind a header", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    refused("bare LF at the end", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    refused("bare CR behind the request line", b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    refused("bare CR in a value", header(b"A: b\rc")),
    refused("two CR", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    refused("a folded header", header(b"A: b\r\n c")),
    refused("a folded header, by a tab", header(b"A: b\r\n\tc")),
    refused("a folded first header", b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n"),
    refused("a folded host", b"GET / HTTP/1.1\r\nHost:\r\n x\r\n\r\n"),
    refused("NUL in a value", header(b"A: b\0c")),
    refused("NUL in a name", header(b"A\0: b")),
    refused("0x01 in a value", header(b"A: b\x01c")),
    refused("0x0b in a value", header(b"A: b\x0bc")),
    refused("escape in a value", header(b"A: \x1b[31m")),
    refused("DEL in a value", header(b"A: b\x7fc")),
    refused("a blank before the colon", header(b"A : b")),
    refused("a tab before the colon", header(b"A\t: b")),
    refused("no name", header(b": b")),
    refused("no colon", header(b"nonsense")),
    refused("a blank in a name", header(b"A B: c")),
    refused("a name in quotes", header(b'"A": b')),
    refused("a name with a slash", header(b"A/B: c")),
    refused("a name that is not ASCII", header(b"\xc3\xa4: b")),
    refused("one empty line too many", b"\r\n\r\n" + line(b"GET / HTTP/1.1")),
    refused("a blank before the method", line(b" GET / HTTP/1.1")),
    refused("bare LF before the method", b"\n" + line(b"GET / HTTP/1.1")),
    served("one empty line before", b"\r\n" + line(b"GET / HTTP/1.1")),
    served("an empty value", header(b"A:")),
    served("a value of Latin letters", header(b"A: \xe4\xf6\xfc")),
    served("a value of tabs", header(b"A: \tb\tc\t")),
    served("all signs of a name", header(b"!#$%&'*+-.^_`|~9aZ: b")),
    served("a repeated header", header(b"A: b\r\nA: c")),
    served("two connection headers", header(b"Connection: keep-alive\r\nConnection: x")),
    served("close in a second connection header", header(b"Connection: x\r\nConnection: CLOSE"), closes=True),
    served("close in a list", header(b"Connection: keep-alive, close"), closes=True),
]  # fmt: skip

TARGETS = [
    refused("two blanks before the target", line(b"GET  / HTTP/1.1")),
    refused("two blanks behind the target", line(b"GET /  HTTP/1.1")),
    refused("a tab for a blank", line(b"GET\t/ HTTP/1.1")),
    refused("a blank behind the version", line(b"GET / HTTP/1.1 ")),
    refused("no target", line(b"GET HTTP/1.1")),
    refused("no version", line(b"GET /")),
    refused("a word behind the version", line(b"GET / HTTP/1.1 x")),
    refused("a fragment", line(b"GET /#a HTTP/1.1")),
    refused("a target that is not ASCII", line(b"GET /\xc3\xa4 HTTP/1.1")),
    refused("NUL in the target", line(b"GET /\0 HTTP/1.1")),
    refused("DEL in the target", line(b"GET /\x7f HTTP/1.1")),
    refused("no slash", line(b"GET index.html HTTP/1.1")),
    refused("a star for a GET", line(b"GET * HTTP/1.1")),
    refused("an absolute address of another host", line(b"GET http://evil/ HTTP/1.1")),
    refused("an absolute address of another port", line(b"GET http://x:81/ HTTP/1.1")),
    refused("an absolute address with a user", line(b"GET http://u@x/ HTTP/1.1")),
    refused("an absolute address without a host", line(b"GET http:/// HTTP/1.1")),
    refused("an address of another kind", line(b"GET ftp://x/ HTTP/1.1")),
    refused("an authority for a GET", line(b"GET x:80 HTTP/1.1")),
    refused("CONNECT", line(b"CONNECT x:80 HTTP/1.1"), 501),
    refused("CONNECT of a path", line(b"CONNECT / HTTP/1.1"), 501),
    refused("a long target", line(b"GET /" + b"a" * 8200 + b" HTTP/1.1"), 414),
    refused("a long target without an end", b"GET /" + b"a" * 9000, 414),
    served("an absolute address of this host", line(b"GET http://X/a?b HTTP/1.1")),
    served("an absolute address without a path", line(b"GET http://x HTTP/1.1")),
    served("a star for OPTIONS", line(b"OPTIONS * HTTP/1.1")),
    served("two slashes", line(b"GET //evil/ HTTP/1.1")),
    served("signs that should be escaped", line(b'GET /"<>\\^`{|} HTTP/1.1')),
    served("a broken escape", line(b"GET /%zz%00 HTTP/1.1")),
    served("a target of 8 KiB", line(b"GET /" + b"a" * 8000 + b" HTTP/1.1")),
]  # fmt: skip

VERSIONS = [
    refused("HTTP/1.2", line(b"GET / HTTP/1.2"), 505),
    refused("HTTP/2.0", line(b"GET / HTTP/2.0"), 505),
    refused("HTTP/0.9", line(b"GET / HTTP/0.9"), 505),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("http/1.1", line(b"GET / http/1.1")),
    refused("HTTP/1.10", line(b"GET / HTTP/1.10")),
    refused("HTTP/1", line(b"GET / HTTP/1")),
    refused("another protocol", line(b"GET / RTSP/1.0")),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)),
    refused("words", b"nonsense\r\n\r\n"),
    refused("get", line(b"get / HTTP/1.1")),
    refused("Get", line(b"Get / HTTP/1.1")),
    refused("a method with a sign", line(b"G@T / HTTP/1.1")),
    refused("a method with a digit", line(b"GET1 / HTTP/1.1")),
    served("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", closes=True),
    served("HTTP/1.0 that wants to stay", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", closes=True),
    served("HTTP/1.0 with a length", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", closes=True),
    served("TRACE, which the edge answers", line(b"TRACE / HTTP/1.1")),
    served("PROPFIND, which the edge answers", line(b"PROPFIND / HTTP/1.1")),
    served("M-SEARCH, which has a hyphen", line(b"M-SEARCH / HTTP/1.1")),
    served("HEAD", line(b"HEAD / HTTP/1.1")),
]  # fmt: skip

HOSTS = [
    refused("no host", host(b"")),
    refused("two hosts", host(HOST + HOST)),
    refused("two hosts that differ", host(HOST + b"Host: y\r\n")),
    refused("two hosts in one line", host(b"Host: x, y\r\n")),
    refused("a host with a path", host(b"Host: x/y\r\n")),
    refused("a host with a user", host(b"Host: u@x\r\n")),
    refused("a host with a blank", host(b"Host: x y\r\n")),
    refused("a host with a scheme", host(b"Host: http://x\r\n")),
    refused("a host with a port of letters", host(b"Host: x:http\r\n")),
    refused("a host with a long port", host(b"Host: x:123456\r\n")),
    refused("an open bracket", host(b"Host: [::1\r\n")),
    refused("a host that is not ASCII", host(b"Host: \xe4\r\n")),
    refused("two hosts on HTTP/1.0", b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    served("an empty host, which the edge judges", host(b"Host:\r\n")),
    served("an address of version 6", host(b"Host: [::1]:80\r\n")),
    served("a port", host(b"Host: x:80\r\n")),
]  # fmt: skip

SIZES = [
    refused("a large header", header(b"A: " + b"b" * 17_000), 431),
    refused("a header without an end", GET + HOST + b"A: " + b"b" * 40_000, 431),
    refused("many small headers", GET + HOST + b"A: b\r\n" * 3000 + END, 431),
    refused("an endless request line", b"G" * 9000, 414),
    served("headers of 15 KiB", header(b"A: " + b"b" * 15_000)),
]  # fmt: skip

EXPECTATIONS = [
    refused("another expectation", POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n", 417),
    refused("two expectations in one", POST + b"Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\n", 417),
    refused("two lines of expectation", POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
    served("no body expected", POST + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n"),
    served("of HTTP/1.0 it is ignored", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", closes=True),
]  # fmt: skip

SINGLES = [
    refused(f"two lines of {name.decode()}", header(name + b": a\r\n" + name + b": b"))
    for name in (b"Origin", b"Content-Type", b"Authorization", b"Referer", b"Sec-Fetch-Site")
]

UPGRADES = [
    Case("a handshake", UP + KEY + V13 + END, 101, closes=False, entered=True),
    Case("upper case", UP.replace(b"websocket", b"WebSocket") + KEY + V13 + END, 101, closes=False, entered=True),
    Case("two connection headers", UP + b"Connection: x\r\n" + KEY + V13 + END, 101, closes=False, entered=True),
    Case("refused by its handler", UP.replace(b"/ HTTP", b"/no HTTP") + KEY + V13 + END, 403, closes=True, entered=True),
    refused("no key", UP + V13 + END),
    refused("an empty key", UP + b"Sec-WebSocket-Key:\r\n" + V13 + END),
    refused("a short key", UP + b"Sec-WebSocket-Key: YWJj\r\n" + V13 + END),
    refused("a key that is no base64", UP + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!\r\n" + V13 + END),
    refused("a long key", UP + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBhYmM=\r\n" + V13 + END),
    refused("two keys", UP + KEY + KEY + V13 + END),
    refused("no version", UP + KEY + END),
    refused("version 8", UP + KEY + b"Sec-WebSocket-Version: 8\r\n\r\n", 426),
    refused("a list of versions", UP + KEY + b"Sec-WebSocket-Version: 13, 8\r\n\r\n", 426),
    refused("two versions", UP + KEY + V13 + V13 + END),
    refused("two origins", UP + KEY + V13 + b"Origin: a\r\nOrigin: b\r\n\r\n"),
    refused("a body", UP + KEY + V13 + b"Content-Length: 2\r\n\r\nab"),
    refused("a chunked body", UP + KEY + V13 + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("a subprotocol that is not ASCII", UP + KEY + V13 + b"Sec-WebSocket-Protocol: \xe4\r\n\r\n"),
    refused("a subprotocol that is no word", UP + KEY + V13 + b"Sec-WebSocket-Protocol: a, b c\r\n\r\n"),
    refused("an extension that is not ASCII", UP + KEY + V13 + b"Sec-WebSocket-Extensions: x;y=\xe4\r\n\r\n"),
    Case("empty subprotocols", UP + KEY + V13 + b"Sec-WebSocket-Protocol: ,a\t, ,b,\r\n\r\n", 101, closes=False, entered=True),
    refused("two upgrades", UP + b"Upgrade: h2c\r\n" + KEY + V13 + END),
    served("by POST it is no handshake", (UP + KEY + V13 + END).replace(b"GET", b"POST")),
    served("without the connection option", (UP + KEY + V13 + END).replace(b"Connection: Upgrade", b"A: b")),
    served("h2c", header(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA")),
    served("on HTTP/1.0", (UP + KEY + V13 + END).replace(b"HTTP/1.1", b"HTTP/1.0"), closes=True),
]  # fmt: skip

CASES = [
    *FRAMING, *CHUNKS, *LINES, *TARGETS, *VERSIONS, *HOSTS, *SIZES, *EXPECTATIONS, *SINGLES, *UPGRADES,
]  # fmt: skip
