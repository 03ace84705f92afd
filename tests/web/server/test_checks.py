"""What the edge decides from heads alone: origins, addresses, cookies, tokens, errors."""

from __future__ import annotations

import ipaddress
import uuid
from typing import cast

import pytest
from hypercorn.typing import HTTPScope
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors.runtime import Secret
from tests.any_text import any_text
from web.routing.errors import RateLimited
from web.routing.quota import Quota, address_key
from web.server import (
    Answer,
    Checks,
    ClientAddresses,
    CookieTooLong,
    CsrfTokens,
    ErrorRow,
    ErrorTable,
    ForwardingStatistics,
    KeyRing,
    SecretTooShort,
    Visitor,
    VisitorSigner,
    client_of,
    cookie_name,
    counted_as,
    expire_cookie,
    header_map,
    host_of,
    masked,
    origin_of,
    read_cookies,
    row_of_status,
    set_cookie,
)
from web.server.edge.checks import Verdict, judge_handshake, judge_read, judge_request
from web.server.edge.edge import _new_labels

OWN = "https://site.com"
ORIGINS = {OWN}
RING = KeyRing(Secret(b"a" * 64))
PASS, TOKEN, NO = Verdict.PASS, Verdict.NEEDS_TOKEN, Verdict.FORBIDDEN


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"sec-fetch-site": "same-origin"}, PASS),
        ({"sec-fetch-site": "none"}, PASS),
        ({"sec-fetch-site": "same-site"}, NO),
        ({"sec-fetch-site": "cross-site"}, NO),
        ({"sec-fetch-site": "nonsense"}, NO),
        ({"sec-fetch-site": ""}, NO),
        ({"sec-fetch-site": "cross-site", "origin": OWN}, PASS),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, PASS),
        ({"origin": OWN}, PASS),
        ({"origin": "null"}, NO),
        ({"origin": "https://site.com.evil"}, NO),
        ({"origin": "http://site.com"}, NO),
        ({"origin": "https://site.com:8443"}, NO),
        ({"origin": "https://SITE.com"}, PASS),
        ({"origin": "https://site.com:443"}, PASS),
        ({"origin": "https://site.com."}, PASS),
        ({"origin": "https://site.com/"}, NO),
        ({"origin": "https://u@site.com"}, NO),
        ({"origin": "https://site.com, https://site.com"}, NO),
        ({"referer": "https://site.com/page?x"}, PASS),
        ({"referer": "https://evil.example/https://site.com/"}, NO),
        ({"referer": "about:blank"}, NO),
        ({"referer": "https://site.com:bad/"}, NO),
        ({"origin": "null", "referer": "https://site.com/"}, NO),
        ({}, TOKEN),
    ],
)
def test_where_an_unsafe_request_may_come_from(headers: dict[str, str], verdict: Verdict) -> None:
    # SEC-30, SEC-31, SITE-44
    assert judge_request("POST", headers, ORIGINS) is verdict
    for safe in ("GET", "HEAD", "OPTIONS"):
        assert judge_request(safe, headers, ORIGINS) is PASS


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, PASS),
        ({"cookie": "a=b"}, TOKEN),
        ({"authorization": "Bearer x", "sec-fetch-site": "cross-site"}, PASS),
        ({"authorization": "Bearer x", "cookie": "a=b", "sec-fetch-site": "cross-site"}, NO),
    ],
)
def test_client_programs_without_a_cookie_need_no_token(
    headers: dict[str, str], verdict: Verdict
) -> None:
    # SEC-31, SEC-37
    assert judge_request("POST", headers, ORIGINS, is_api=True) is verdict


def test_reads_embedded_by_another_site_are_refused() -> None:
    # SEC-36
    assert judge_read({"sec-fetch-site": "cross-site"}, ORIGINS) is NO
    assert judge_read({"sec-fetch-site": "cross-site", "origin": OWN}, ORIGINS) is PASS
    assert judge_read({}, ORIGINS) is PASS
    assert judge_read({"sec-fetch-site": "same-origin"}, ORIGINS) is PASS
    assert judge_read({"sec-fetch-site": "none"}, ORIGINS) is PASS
    assert judge_read({"sec-fetch-site": "a new word"}, ORIGINS) is NO
    assert judge_read({"origin": "https://site.com.evil"}, ORIGINS) is NO
    assert judge_read({"origin": "null", "sec-fetch-site": "same-origin"}, ORIGINS) is NO


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_streams_are_read_as_the_api_is_and_pages_by_a_link(method: str) -> None:
    # SEC-36
    checks = Checks(own_origin=OWN, stream_paths=frozenset({"/events"}))
    foreign = {"sec-fetch-site": "cross-site"}
    for path, verdict in (("/events", NO), ("/api/v1/x", NO), ("/lab", PASS)):
        scope = cast("HTTPScope", {"method": method, "path": path})
        assert checks.origin(scope, foreign) is verdict
        assert checks.origin(scope, {}) is PASS


@pytest.mark.parametrize(
    ("headers", "is_public", "verdict"),
    [
        ({"origin": OWN, "cookie": "a=b"}, False, PASS),
        ({"origin": "null"}, True, NO),
        ({"origin": "https://site.com.evil"}, True, NO),
        ({"cookie": "a=b"}, True, NO),
        ({}, True, PASS),
        ({}, False, NO),
        ({"authorization": "Bearer x"}, False, PASS),
    ],
)
def test_who_may_open_a_socket(headers: dict[str, str], is_public: bool, verdict: Verdict) -> None:
    # SEC-40
    found = judge_handshake(headers, ORIGINS, is_public=is_public, has_ticket=False)
    assert found is verdict


def test_origins_are_spelled_as_browsers_do() -> None:
    # SEC-31
    assert origin_of("https://Site.com:443/a?b") == OWN
    assert origin_of("http://[::1]:3000/") == "http://[::1]:3000"
    assert origin_of("ftp://site.com") is None


@pytest.mark.parametrize(
    "host", ["site.com", "SITE.com", "site.com.", "site.com:443", "Site.Com.:0443", "x.test:443"]
)
def test_a_host_is_known_in_any_spelling(host: str) -> None:
    # SEC-84, WEB-11
    checks = Checks(own_origin="https://site.com:443", extra_hosts=frozenset({"X.test"}))
    assert refusal_of(checks, host) is None


@pytest.mark.parametrize(
    "host",
    ["", "site.com:80", "site.com:", "site.com:444", "site.com..", ".site.com", "site.com:x"],
)
def test_another_host_is_421_but_for_probes(host: str) -> None:
    # SEC-84
    checks = Checks(own_origin=OWN, probe_paths=frozenset({"/ready"}))
    if host != "site.com:":  # RFC 3986 3.2.3: an empty port is the default one
        assert refusal_of(checks, host) is Answer.HOST.value
    assert refusal_of(checks, host, "/ready") is None


def refusal_of(checks: Checks, host: str, path: str = "/") -> ErrorRow | None:
    scope = {"path": path, "headers": [], "raw_path": b"/", "query_string": b""}
    return checks.refusal(cast("HTTPScope", scope), {"host": host})


def test_hosts_of_version_6_have_one_form() -> None:
    # WEB-11
    assert host_of("[0:0:0:0:0:0:0:1]:3000", "http") == "[::1]:3000"
    assert host_of("[::FFFF:127.0.0.1]:80", "http") == "127.0.0.1"
    assert host_of("[::1", "http") is host_of("::1", "http") is host_of("a:99999", "http") is None


def test_checks_of_what_is_no_origin_are_not_made() -> None:
    # SEC-31
    with pytest.raises(ValueError, match="no origins: nonsense"):
        Checks(own_origin=OWN, allowed_origins=frozenset({"nonsense"}))


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "wanted"),
    [
        ("9.9.9.9", None, [], "9.9.9.9"),
        ("9.9.9.9", "1.1.1.1", [], "9.9.9.9"),
        ("9.9.9.9", "1.1.1.1", ["10.0.0.0/8"], "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, 10.0.0.2", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", ["10.0.0.0/8"], "10.0.0.3"),
        ("10.0.0.1", "nonsense", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, nonsense", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "nonsense, 1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2", ["10.0.0.0/8"], "10.0.0.2"),
        ("10.0.0.1", "6.6.6.6,, 10.0.0.2", ["10.0.0.0/8"], "10.0.0.2"),
        ("10.0.0.1", "", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1:51234", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1:x", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "1.1.1.999:80", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::1]:443", ["10.0.0.0/8"], "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", ["10.0.0.0/8"], "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", ["10.0.0.0/8"], "2001:db8::1"),
        ("10.0.0.1", "[::ffff:1.1.1.1]:80", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, [::ffff:10.0.0.9]:80", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", ",".join(["1.1.1.1"] * 40), ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6," + ",".join(["10.0.0.2"] * 40), ["10.0.0.0/8"], "10.0.0.2"),
        ("::1", "2001:db8::1", ["::1/128"], "2001:db8::1"),
        ("::ffff:10.0.0.1", "1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "::ffff:1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("", "1.1.1.1", ["10.0.0.0/8"], ""),
    ],
)
def test_the_address_a_request_counts_for(
    peer: str, forwarded: str | None, trusted: list[str], wanted: str
) -> None:
    # SEC-110, SITE-184, WEB-11
    found = client_of(peer, forwarded, [ipaddress.ip_network(n) for n in trusted])
    assert found.address == wanted


@pytest.mark.parametrize(
    ("peer", "forwarded", "is_near"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("10.0.0.1", None, True),
        ("9.9.9.9", None, False),
        ("10.0.0.1", "10.0.0.7", True),
        ("10.0.0.1", "1.1.1.1", False),
        ("127.0.0.1", "127.0.0.1", False),  # a proxy nobody named: who knows whom it speaks for
        ("10.0.0.1", "nonsense", False),
    ],
)
def test_who_is_near_enough_to_see_why(peer: str, forwarded: str | None, is_near: bool) -> None:
    # SEC-84
    assert client_of(peer, forwarded, [ipaddress.ip_network("10.0.0.0/8")]).is_near is is_near


def test_what_is_not_believed_is_counted_and_told_once() -> None:
    # WEB-11
    addresses = ClientAddresses([ipaddress.ip_network("10.0.0.0/8")])
    with capture_logs() as logged:
        for _ in range(3):
            addresses.of("10.0.0.1", "nonsense")
            addresses.of("9.9.9.9", "1.1.1.1")
    assert addresses.statistics() == ForwardingStatistics(unread_hops=3, unasked=3)
    names = ["request.forwarded_hop_unreadable", "request.forwarded_by_untrusted"]
    assert [entry["event"] for entry in logged] == names


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:0DB8:0001:0002::9", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("fe80::2%7", "fe80::"),
        ("::1", "::1"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_at_a_limit_a_house_is_one_address_however_it_is_written(
    address: str, counts_as: str
) -> None:
    # SEC-110, AUTH-40, SEC-76: of version 6 a house has 2**64, and takes another for each try
    assert counted_as(address) == counts_as
    assert counted_as(counts_as) == counts_as
    assert address_key(address) == address_key(counts_as)
    quota = Quota(lambda: 0.0, "q", per_session_max=9, per_address_max=1, period_s=60.0)
    quota.take(None, address)
    with pytest.raises(RateLimited):
        quota.take(None, counts_as)
    assert quota.left(uuid.uuid4(), address)[0] == 0
    quota.take(None, "198.51.100.1")


def test_addresses_are_shown_masked() -> None:
    # SITE-184
    assert masked("203.0.113.7") == "203.0.*.*"
    assert masked("2001:db8:1:2:3:4:5:6") == "2001:0db8:0001:0002:*"
    assert masked("nonsense") == "unknown"
    # A line of the log that cannot be made is one less.
    assert masked("fe80::1%eth0") == "fe80:0000:0000:0000:*"


def test_a_zone_is_no_part_of_an_address() -> None:
    # SEC-110: a hop may be written with one, whatever it is
    trusted = (ipaddress.ip_network("10.0.0.0/8"),)
    for hop in ("fe80::1%eth0", "fe80::1%25eth0", "fe80::1%"):
        found = client_of("10.0.0.1", hop, trusted)
        assert found.address in {"fe80::1", "10.0.0.1"}, hop
        assert counted_as(found.address) in {"fe80::", "10.0.0.1"}, hop
        assert "*" in masked(found.address), hop
    assert client_of("fe80::1%eth0", None, (ipaddress.ip_network("fe80::/10"),)).is_near


def test_cookies_have_the_names_and_flags_of_their_mode() -> None:
    # SEC-10, SEC-11
    assert cookie_name("visitor", is_https=True) == "__Host-gr_visitor"
    assert cookie_name("visitor", is_https=False) == "gr_visitor"
    assert set_cookie("__Host-gr_auth", "x", is_https=True, max_age_s=60) == (
        b"set-cookie",
        b"__Host-gr_auth=x; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60",
    )
    assert b"Secure" not in set_cookie("gr_auth", "x", is_https=False)[1]
    assert b"Max-Age=0" in expire_cookie("gr_auth", is_https=False)[1]


def test_a_cookie_over_4096_bytes_is_refused() -> None:
    # SEC-10
    set_cookie("n" * 6, "v" * 4090, is_https=True)
    with pytest.raises(CookieTooLong) as raised:
        set_cookie("n" * 6, "v" * 4091, is_https=True)
    assert raised.value.size == 4097


@pytest.mark.parametrize("bad", ["a;b", "a b", "a\r\nb", 'a"b', "\u00e4"])
def test_a_cookie_value_cannot_forge_a_header(bad: str) -> None:
    # SEC-10
    with pytest.raises(ValueError, match="cannot"):
        set_cookie("gr_x", bad, is_https=False)


def test_of_repeated_cookies_the_first_counts() -> None:
    # SITE-43
    headers = [(b"cookie", b"a=1; b = 2;c"), (b"Cookie", b"a=9;d=x=y")]
    assert read_cookies(headers) == {"a": "1", "b ": " 2", "d": "x=y"}


def test_repeated_headers_are_one_list() -> None:
    # SEC-110: also when a proxy adds a line of its own
    lines = ["X-Forwarded-For: 1.1.1.1", "cookie: a=1", "x-forwarded-for: 2.2.2.2", "Cookie: b=2"]
    pairs = [line.encode().split(b": ") for line in lines]
    headers = [(name, value) for name, value in pairs]
    assert header_map(headers) == {"x-forwarded-for": "1.1.1.1, 2.2.2.2", "cookie": "a=1; b=2"}


def test_of_two_that_must_be_one_http2_hears_400() -> None:
    # SEC-30: HTTP/1.1 refuses them before
    pairs = [(b"host", b"site.com"), (b"origin", b"a"), (b"origin", b"b")]
    scope = cast("HTTPScope", {"path": "/", "headers": pairs})
    row = Checks(own_origin=OWN).refusal(scope, header_map(pairs))
    assert row is Answer.INVALID.value


def test_a_visitor_id_is_believed_only_when_signed_here() -> None:
    # SITE-43, SITE-181
    signer, visitor = VisitorSigner(RING), uuid.uuid4()
    value = signer.value(visitor)
    assert signer.maybe_visitor_id(value) == visitor
    other = uuid.uuid4().hex
    for forged in (
        "",
        ".",
        value[:-1],
        value + "A",
        other + value[32:],
        value.upper(),
        "x" * 10_000,
    ):
        assert signer.maybe_visitor_id(forged) is None
    assert VisitorSigner(KeyRing(Secret(b"b" * 64))).maybe_visitor_id(value) is None
    rotated = KeyRing(Secret(b"b" * 64), previous=Secret(b"a" * 64))
    assert VisitorSigner(rotated).maybe_visitor_id(value) == visitor
    assert VisitorSigner(rotated).value(visitor) != value


def test_a_visitor_rotates_to_an_unguessable_id() -> None:
    # SEC-13
    first = uuid.uuid4()
    visitor = Visitor(first, is_new=False)
    assert visitor.rotate() == visitor.id != first
    assert visitor.must_be_set


@given(st.uuids(), any_text(max_size=20))
def test_csrf_tokens_differ_at_each_render_and_all_verify(visitor: uuid.UUID, sign_in: str) -> None:
    # SEC-32
    tokens = CsrfTokens(RING)
    one, two = tokens.make(visitor, sign_in), tokens.make(visitor, sign_in)
    assert one != two
    assert tokens.verifies(one, visitor, sign_in)
    assert tokens.verifies(two, visitor, sign_in)
    assert not tokens.verifies(one, uuid.UUID(int=visitor.int ^ 1), sign_in)
    assert not tokens.verifies(one, visitor, sign_in + "x")


@given(any_text(max_size=100))
def test_no_made_up_token_verifies(token: str) -> None:
    # SEC-32
    assert not CsrfTokens(RING).verifies(token, uuid.UUID(int=1))


def test_keys_differ_by_purpose_and_hide_themselves() -> None:
    # SITE-181, SEC-11
    assert RING.key("one").sign(b"x") != RING.key("two").sign(b"x")
    assert "aaaa" not in repr(RING) + repr(RING.key("one"))
    with pytest.raises(SecretTooShort):
        KeyRing(Secret(b"short"))


def test_nonces_never_repeat() -> None:
    # SEC-60: 128 bits are 22 characters of base64
    ids, nonces = (
        set(labels) for labels in zip(*[_new_labels() for _ in range(1000)], strict=True)
    )
    assert len(ids) == len(nonces) == 1000
    assert all(len(nonce) == 22 for nonce in nonces)


class Away(Exception):
    pass


class Busy(Away):
    def __init__(self) -> None:
        self.retry_after = 2.1


def test_errors_find_their_row_by_class_and_groups_by_their_gravest_leaf() -> None:
    # SITE-150, SITE-154, WEB-1
    table = ErrorTable()
    table.add(Away, Answer.UNAVAILABLE)
    table.add(KeyError, Answer.NOT_FOUND, text="No such thing.")
    assert table.row(Away()).status == 503
    assert table.row(Busy()).retry_after_s == 3
    assert table.row(KeyError()).text == "No such thing."
    assert table.row(ValueError()).status == 500
    assert table.row(ExceptionGroup("", [KeyError(), Away()])).status == 503
    deep = ExceptionGroup("", [Away(), ExceptionGroup("", [KeyError(), ValueError()])])
    assert table.row(deep).status == 500
    with pytest.raises(ValueError, match="row already"):
        table.add(Away, Answer.CONFLICT)


def test_every_status_of_the_site_has_one_row() -> None:
    # SITE-150
    statuses = [answer.value.status for answer in Answer]
    assert len(statuses) == len(set(statuses))
    for status in (
        400,
        401,
        403,
        404,
        405,
        409,
        412,
        413,
        414,
        415,
        421,
        422,
        428,
        429,
        431,
        500,
        503,
    ):
        assert row_of_status(status).status == status
    assert row_of_status(418).status == 418
    assert row_of_status(502).kind == "internal"
    assert Answer.RATE_LIMITED.value.retry_after_s
    assert Answer.UNAVAILABLE.value.retry_after_s
