"""The security headers of every answer (SITE-50, SEC-60, SEC-65).

Pure functions; `edge.py` adds them to what the application answers, and to its own errors.
"""

from __future__ import annotations

import secrets

HeaderList = list[tuple[bytes, bytes]]

_COMMON: HeaderList = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # same-origin keeps `Referer` for the origin check of older browsers (SEC-31).
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"vary", b"Sec-Fetch-Site, Origin"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_BARE_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "report-uri /csp-report; report-to csp"
)
_OWN = frozenset(name for name, _ in _COMMON) | {
    b"server",
    b"x-powered-by",
    b"x-request-id",
    b"content-security-policy",
    b"strict-transport-security",
}


def new_nonce() -> str:
    """Call this once a page: 128 random bits, never reused (SEC-60)."""
    return secrets.token_urlsafe(16)


def common_headers(request_id: str, *, is_https: bool) -> HeaderList:
    """Call this to get the headers every answer carries, whatever it is."""
    headers = [(b"x-request-id", request_id.encode("ascii")), *_COMMON]
    if is_https:
        headers.append(_HSTS)
    return headers


def secured(given: HeaderList, *, request_id: str, nonce: str, is_https: bool) -> HeaderList:
    """Call this with an answer's headers to get them with ours; ours win over the same names."""
    kept = [(name, value) for name, value in given if name.lower() not in _OWN]
    # `Vary` of the application says what else its answers depend on, so both are sent.
    kept += [(name, value) for name, value in given if name.lower() == b"vary"]
    headers = kept + common_headers(request_id, is_https=is_https)
    if content_type(given) == b"text/html":
        policy = _PAGE_POLICY.format(nonce=nonce).encode("ascii")
        headers = [pair for pair in headers if pair[0].lower() != b"cache-control"]
        headers.append((b"cache-control", b"no-store"))
        headers.append((b"content-security-policy", policy))
        headers.append((b"reporting-endpoints", b'csp="/csp-report"'))
    else:
        headers.append(_BARE_POLICY)
    return headers


def content_type(headers: HeaderList) -> bytes:
    """Call this to get the media type without its parameters, lower case; empty when absent."""
    for name, value in headers:
        if name.lower() == b"content-type":
            return value.split(b";", 1)[0].strip().lower()
    return b""
