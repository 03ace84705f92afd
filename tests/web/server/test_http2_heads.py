"""A head of HTTP/2 is read as one of HTTP/1.1, or it is malformed (SEC-112)."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.exceptions
import pytest

from web.server.reading.heads import Head, HeaderList, HeadLimits, Refusal
from web.server.reading.http2_heads import is_http2_trailer, read_http2_head

METHOD, SCHEME = (b":method", b"GET"), (b":scheme", b"https")
AUTHORITY, PATH = (b":authority", b"x"), (b":path", b"/")
ASK = [METHOD, SCHEME, AUTHORITY, PATH]

MALFORMED: dict[str, HeaderList] = {
    "a line feed": [*ASK, (b"a", b"b\nc")],
    "a carriage return": [*ASK, (b"a", b"b\rc")],
    "a NUL": [*ASK, (b"a", b"b\0")],
    "another header in a value": [*ASK, (b"a", b"b\r\nc: d")],
    "a blank before a value": [*ASK, (b"a", b" b")],
    "a tabulator behind a value": [*ASK, (b"a", b"b\t")],
    "a blank before one of two cookies": [*ASK, (b"cookie", b"a=1"), (b"cookie", b" b=2")],
    "no name": [*ASK, (b"", b"b")],
    "a capital letter": [*ASK, (b"Accept", b"b")],
    "a blank in a name": [*ASK, (b"a b", b"c")],
    "a control character in a name": [*ASK, (b"a\x01", b"c")],
    "a line in a name": [*ASK, (b"a: b\r\nc", b"d")],
    "a name beyond ASCII": [*ASK, (b"\xe4", b"c")],
    "a colon in a name": [*ASK, (b"a:b", b"c")],
    "two colons": [*ASK, (b"::path", b"c")],
    "connection": [*ASK, (b"connection", b"close")],
    "keep-alive": [*ASK, (b"keep-alive", b"1")],
    "proxy-connection": [*ASK, (b"proxy-connection", b"close")],
    "transfer-encoding": [*ASK, (b"transfer-encoding", b"chunked")],
    "upgrade": [*ASK, (b"upgrade", b"websocket")],
    "te": [*ASK, (b"te", b"trailers, gzip")],
    "a method twice": [*ASK, METHOD],
    "a path twice": [*ASK, (b":path", b"/other")],
    "a pseudo header behind a field": [METHOD, SCHEME, AUTHORITY, (b"a", b"b"), PATH],
    "an unknown pseudo header": [*ASK, (b":other", b"b")],
    "a pseudo header of answers": [*ASK, (b":status", b"200")],
    "no method": [SCHEME, AUTHORITY, PATH],
    "no scheme": [METHOD, AUTHORITY, PATH],
    "no path": [METHOD, SCHEME, AUTHORITY],
    "an empty path": [METHOD, SCHEME, AUTHORITY, (b":path", b"")],
    "a path of two words": [METHOD, SCHEME, AUTHORITY, (b":path", b"/ HTTP/1.1")],
    "a method of two words": [(b":method", b"GET /"), SCHEME, AUTHORITY, PATH],
    "a line in a path": [METHOD, SCHEME, AUTHORITY, (b":path", b"/\r\na: b")],
    "two servers": [*ASK, (b"host", b"y")],
    "two hosts": [*ASK, (b"host", b"x"), (b"host", b"x")],
    "two hosts and no authority": [METHOD, SCHEME, PATH, (b"host", b"x"), (b"host", b"x")],
    "a protocol for a page": [*ASK, (b":protocol", b"websocket")],
    "CONNECT with a path": [(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH],
    "CONNECT to nowhere": [(b":method", b"CONNECT")],
    "a protocol to no path": [
        (b":method", b"CONNECT"),
        SCHEME,
        AUTHORITY,
        (b":protocol", b"websocket"),
    ],
}
# What is a request by the rules of HTTP/2, and refused by those of HTTP/1.1.
REFUSED: dict[str, tuple[int, HeaderList]] = {
    "no server": (400, [METHOD, SCHEME, PATH]),
    "CONNECT": (501, [(b":method", b"CONNECT"), AUTHORITY]),
    "a WebSocket": (501, [(b":method", b"CONNECT"), *ASK[1:], (b":protocol", b"websocket")]),
    "a control character": (400, [*ASK, (b"a", b"\x01")]),
    "a length that is none": (400, [*ASK, (b"content-length", b"-1")]),
    "two lengths": (400, [*ASK, (b"content-length", b"1"), (b"content-length", b"1")]),
    "a fragment": (400, [*ASK[:3], (b":path", b"/#a")]),
    "a long head": (431, [*ASK, (b"a", b"b" * 17_000)]),
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_no_request(headers: HeaderList) -> None:
    assert read_http2_head(headers, HeadLimits()) is None


@pytest.mark.parametrize(("status", "headers"), REFUSED.values(), ids=REFUSED)
def test_what_http1_refuses_is_refused(status: int, headers: HeaderList) -> None:
    head = read_http2_head(headers, HeadLimits())
    assert isinstance(head, Refusal)
    assert head.status == status


def test_what_is_well_formed_is_read() -> None:
    fields = [(b"te", b"trailers"), (b"empty", b""), (b"a", b"b c"), (b"cookie", b"d=1")]
    head = read_http2_head([*ASK, *fields, (b"cookie", b"e=2")], HeadLimits())
    assert isinstance(head, Head)
    assert (head.method, head.target) == (b"GET", b"/")
    assert head.headers == [(b"host", b"x"), *fields[:3], (b"cookie", b"d=1; e=2")]
    named = read_http2_head([*ASK, (b"host", b"x")], HeadLimits())
    assert isinstance(named, Head)
    assert named.headers == [(b"host", b"x")]


def test_trailers_are_fields_without_pseudo_headers() -> None:
    assert is_http2_trailer([(b"sum", b"1")])
    assert not is_http2_trailer([(b"sum", b"1\r\n2")])
    assert not is_http2_trailer([(b"Sum", b"1")])
    assert not is_http2_trailer([PATH])


@pytest.mark.parametrize("headers", [*MALFORMED.values(), [*ASK, (b"te", b"trailers")]])
def test_whatever_the_library_would_refuse_is_malformed_here(headers: HeaderList) -> None:
    # Its own check is off: this holds that nothing was lost by that.
    client, server = (
        h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        for is_client in (True, False)
    )
    client.initiate_connection()
    client.send_headers(1, headers, end_stream=True)
    try:
        server.receive_data(client.data_to_send())
    except h2.exceptions.ProtocolError:
        assert read_http2_head(headers, HeadLimits()) is None
