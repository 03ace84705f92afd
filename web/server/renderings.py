"""How an error looks: a page, nothing but its status, or the API's JSON (SITE-150, WEB-1).

The page comes from the templates through a callable, so that this package knows no engine; if
that callable fails, the plain page below is sent (SITE-151: "at worst plain 500").
"""

from __future__ import annotations

import enum
import html
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from web.server.error_table import ErrorRow
from web.server.headers import HeaderList

log = structlog.get_logger(__name__)


class Rendering(enum.Enum):
    """Names who reads the answer."""

    PAGE = "page"  # a person in a browser
    BARE = "bare"  # a command of an open page; the text goes to its stream
    API = "api"  # a client program


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Holds exactly what the error page shows."""

    status: int
    title: str
    message: str
    request_id: str
    nonce: str


class _ErrorBody(msgspec.Struct, frozen=True):
    code: str
    message: str


RenderPage = Callable[[ErrorView], str]


def plain_page(view: ErrorView) -> str:
    """Call this where no template may be trusted."""
    title, message = html.escape(view.title), html.escape(view.message)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>{message}</p><p>{view.status} · {html.escape(view.request_id)}</p>"
        '<p><a href="/">Back to the start</a></p></html>'
    )


def render_error(
    row: ErrorRow,
    rendering: Rendering,
    *,
    request_id: str,
    nonce: str,
    page: RenderPage = plain_page,
) -> tuple[HeaderList, bytes]:
    """Call this to get the headers and body of an error answer; security headers come later."""
    headers: HeaderList = []
    if row.retry_after_s is not None:
        headers.append((b"retry-after", str(row.retry_after_s).encode("ascii")))
    if row.status == 401 and rendering is Rendering.API:
        headers.append((b"www-authenticate", b"Bearer"))
    body = b""
    if rendering is Rendering.API:
        headers.append((b"content-type", b"application/json"))
        body = msgspec.json.encode(_ErrorBody(row.code, row.text))
    elif rendering is Rendering.PAGE:
        headers.append((b"content-type", b"text/html; charset=utf-8"))
        view = ErrorView(row.status, row.title, row.text, request_id, nonce)
        body = _page(page, view).encode()
    headers.append((b"content-length", str(len(body)).encode("ascii")))
    return headers, body


def _page(page: RenderPage, view: ErrorView) -> str:
    try:
        return page(view)
    except Exception:
        # The page about an error must not become the next one.
        log.exception("server.error_page_failed", status=view.status)
        return plain_page(view)
