"""Where a request comes from, and whether that is allowed (SEC-30, SEC-31, SEC-36, SEC-40).

Pure decisions over header values; `edge.py` asks before any handler runs, and the pages' own
check of the CSRF token follows when the answer is `NEEDS_TOKEN`.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Verdict(enum.Enum):
    """Says what becomes of a request."""

    PASS = enum.auto()
    NEEDS_TOKEN = enum.auto()
    FORBIDDEN = enum.auto()


def judge_request(
    method: str,
    headers: Mapping[str, str],
    origins: Collection[str],
    *,
    is_api: bool = False,
) -> Verdict:
    """Call this with lower-case header names and the allowed origins (own one included)."""
    if method in _SAFE_METHODS:
        return Verdict.PASS
    if is_api and "cookie" not in headers and _is_bearer(headers):
        return Verdict.PASS  # SEC-37: no browser adds this header by itself
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None:
        if site in ("same-origin", "none") or (origin is not None and origin in origins):
            return Verdict.PASS
        return Verdict.FORBIDDEN
    if origin is None and "referer" in headers:
        origin = origin_of(headers["referer"])
        if origin is None:
            return Verdict.FORBIDDEN
    if origin is not None:
        return Verdict.PASS if origin in origins else Verdict.FORBIDDEN
    if is_api and "cookie" not in headers:
        return Verdict.PASS  # a client program
    return Verdict.NEEDS_TOKEN


def judge_read(headers: Mapping[str, str], origins: Collection[str]) -> Verdict:
    """Call this for streams and JSON: embedded or fetched by another site is refused (SEC-36)."""
    site = headers.get("sec-fetch-site")
    if site in ("cross-site", "same-site") and headers.get("origin") not in origins:
        return Verdict.FORBIDDEN
    return Verdict.PASS


def judge_handshake(
    headers: Mapping[str, str], origins: Collection[str], *, is_public: bool, has_ticket: bool
) -> Verdict:
    """Call this for a WebSocket upgrade (SEC-40)."""
    origin = headers.get("origin")
    if origin is not None:
        return Verdict.PASS if origin in origins else Verdict.FORBIDDEN
    if "cookie" in headers:
        return Verdict.FORBIDDEN
    if _is_bearer(headers) or has_ticket or is_public:
        return Verdict.PASS
    return Verdict.FORBIDDEN


def origin_of(url: str) -> str | None:
    """Call this to get scheme, host and port of a URL as browsers spell an origin."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


def _is_bearer(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization", "").lower().startswith("bearer ")
