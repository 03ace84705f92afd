"""Cookies: their names in each mode, how one is set, how a request's are read (SEC-10, SEC-11).

Pure functions. Values and their meaning: `visitor.py` here, sign-in cookies in `web.accounts`.
"""

from __future__ import annotations

from collections.abc import Iterable

from web.server.errors import CookieTooLong

# What every browser keeps of one cookie, name and value together (SEC-10).
COOKIE_BYTES_MAX = 4096


def cookie_name(word: str, *, is_https: bool) -> str:
    """Call this with `visitor`, `auth`, `flow` or `device` to get the name in this mode."""
    return f"__Host-gr_{word}" if is_https else f"gr_{word}"


def set_cookie(
    name: str, value: str, *, is_https: bool, max_age_s: int | None = None
) -> tuple[bytes, bytes]:
    """Call this to get the header that sets a cookie; `max_age_s` None lasts for the session.

    Raises `CookieTooLong` over 4096 bytes and ValueError on characters a cookie cannot hold.
    """
    size = len(name) + len(value)
    if size > COOKIE_BYTES_MAX:
        raise CookieTooLong(name, size, COOKIE_BYTES_MAX)
    if not all("!" <= sign <= "~" and sign not in '",;\\' for sign in value):
        raise ValueError(f"the value of cookie {name} holds a character cookies cannot")
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if is_https:
        parts.append("Secure")
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    return b"set-cookie", "; ".join(parts).encode("ascii")


def expire_cookie(name: str, *, is_https: bool) -> tuple[bytes, bytes]:
    """Call this to get the header that makes the browser forget a cookie."""
    return set_cookie(name, "", is_https=is_https, max_age_s=0)


def read_cookies(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Call this with a request's headers; of repeated names the first counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.lower() != b"cookie":
            continue
        for pair in value.decode("latin-1").split(";"):
            key, mark, content = pair.strip().partition("=")
            if mark and key not in found:
                found[key] = content
    return found
