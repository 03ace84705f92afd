"""What an error's answer says, how it looks, and the headers no answer leaves without.

1. Which error becomes which answer: one table of data (SITE-150). A row holds everything a
   visitor may learn; causes stay in the log. Features add their rows when the application is
   composed: `table.add(RoomClosed, Answer.UNAVAILABLE)`.
2. How it looks: a page, nothing but its status, or the API's JSON (SITE-150, WEB-1).
3. The security headers of every answer (SITE-50, SEC-60, SEC-65).

All pure. `edge.py` sends the result.
"""

from __future__ import annotations

import base64
import enum
import html
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from actors.runtime import Log
from web.server.connection.http.answers import FixedHeaders
from web.server.edge.visitor import SignedIn

log = Log(__name__)

HeaderList = list[tuple[bytes, bytes]]


class FieldProblem(msgspec.Struct, frozen=True):
    """Says what is wrong with one field of a body or query, for client programs."""

    field: str
    problem: str


# WEB-1: more of them help nobody to mend a request.
DETAILS_MAX = 20


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Holds what a visitor and a client program are told about one kind of error.

    `headers` are its own beside those of its status; `details` only client programs are told.
    """

    status: int
    kind: str
    title: str
    text: str
    code: str
    retry_after_s: int | None = None
    # Said on purpose: nothing failed, whatever the status.
    is_refusal: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    details: tuple[FieldProblem, ...] = ()


class Answer(enum.Enum):
    """The rows: every status the site answers errors with.

    They look alike because they are a table: status, kind (for signals), title and text (for
    people), code (for programs), and when it is worth trying again.
    """

    INVALID = ErrorRow(
        400, "invalid", "That did not work", "The request could not be read.", "BAD_REQUEST"
    )
    UNAUTHENTICATED = ErrorRow(
        401, "unauthenticated", "Please sign in", "This needs a sign-in.", "UNAUTHORIZED"
    )
    PAYMENT_FAILED = ErrorRow(
        402, "payment", "Not paid", "The payment did not go through.", "PAYMENT_FAILED"
    )
    FORBIDDEN = ErrorRow(403, "forbidden", "Not allowed", "You may not do this here.", "FORBIDDEN")
    NOT_FOUND = ErrorRow(404, "not_found", "Not found", "There is nothing here.", "NOT_FOUND")
    METHOD = ErrorRow(
        405, "method", "Not possible", "This address does not do that.", "METHOD_NOT_ALLOWED"
    )
    LATE = ErrorRow(408, "late", "Too slow", "The request took too long to arrive.", "TIMEOUT")
    CONFLICT = ErrorRow(409, "conflict", "Already taken", "Somebody else was faster.", "CONFLICT")
    PRECONDITION = ErrorRow(
        412, "precondition", "Join first", "This tab has not joined a room.", "CONFLICT"
    )
    TOO_LARGE = ErrorRow(
        413, "too_large", "Too large", "That is more than fits here.", "PAYLOAD_TOO_LARGE"
    )
    URL_TOO_LONG = ErrorRow(
        414, "too_large", "Too long", "The address is too long.", "PAYLOAD_TOO_LARGE"
    )
    MEDIA_TYPE = ErrorRow(
        415, "media_type", "Wrong format", "This format is not read here.", "UNSUPPORTED_MEDIA_TYPE"
    )
    HOST = ErrorRow(
        421, "host", "Wrong address", "This server does not answer for that host.", "BAD_REQUEST"
    )
    VALIDATION = ErrorRow(
        422, "validation", "Please check", "Some fields are not right yet.", "VALIDATION_ERROR"
    )
    NO_STREAM = ErrorRow(
        428, "no_stream", "Not connected", "This tab has no live connection.", "CONFLICT"
    )
    RATE_LIMITED = ErrorRow(
        429, "rate_limited", "Slow down", "That was too often; wait a moment.",
        "TOO_MANY_REQUESTS", 1,
    )  # fmt: skip
    HEAD_TOO_LARGE = ErrorRow(
        431, "too_large", "Too large", "The request's headers are too large.", "PAYLOAD_TOO_LARGE"
    )
    INTERNAL = ErrorRow(
        500, "internal", "Our mistake", "An internal error occurred", "INTERNAL_SERVER_ERROR"
    )
    UNKNOWN_METHOD = ErrorRow(
        501, "method", "Not possible", "This method is not known here.", "METHOD_NOT_ALLOWED"
    )
    UNAVAILABLE = ErrorRow(
        503, "unavailable", "Back in a moment", "This is not available just now.",
        "SERVICE_UNAVAILABLE", 1,
    )  # fmt: skip


_BY_STATUS = {answer.value.status: answer.value for answer in Answer}
# SITE-154: of several errors the gravest is told.
_GRAVITY = {500: 3, 503: 2}


def row_of_status(status: int) -> ErrorRow:
    """Call this for errors the framework raises itself; an unlisted status keeps its number."""
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    base = Answer.INTERNAL.value if status >= 500 else Answer.INVALID.value
    return replace(base, status=status, retry_after_s=None)


class ErrorAnswer(Exception):
    """Raised where an error and its answer are one thing: it brings its own row.

    The functions of `web.api` make these from the rows of `Answer`; nothing was changed.
    """

    def __init__(self, row: ErrorRow) -> None:
        super().__init__(f"{row.status} {row.code}: {row.text}")
        self.row = row


class ErrorTable:
    """Maps error classes to rows; a class without a row takes its nearest base's."""

    def __init__(self) -> None:
        self._rows: dict[type[BaseException], ErrorRow] = {}

    def add(
        self,
        error: type[BaseException],
        answer: Answer | ErrorRow,
        *,
        text: str | None = None,
        is_refusal: bool = False,
    ) -> None:
        """Call this once for each error class; `text` replaces the row's, still a fixed text.

        A row that was made of another one has a code or headers of its own.
        With `is_refusal` a 5xx is no failure of the site: it is not logged with its traceback.
        """
        row = answer.value if isinstance(answer, Answer) else answer
        if error in self._rows:
            raise ValueError(f"{error.__name__} has a row already")
        if text is not None:
            row = replace(row, text=text)
        self._rows[error] = replace(row, is_refusal=is_refusal)

    def __contains__(self, error: type[BaseException]) -> bool:
        return error in self._rows

    def row(self, error: BaseException) -> ErrorRow:
        """Call this to get the answer to `error`; unmapped is 500, a group its gravest leaf.

        An error's own `retry_after` (seconds) replaces the row's, and its `rate_limits` stand
        behind the row's headers; an `ErrorAnswer` has its own row.
        """
        if isinstance(error, ErrorAnswer):
            return error.row
        if isinstance(error, BaseExceptionGroup):
            rows = [self.row(leaf) for leaf in error.exceptions]
            return max(rows, key=lambda row: (_GRAVITY.get(row.status, 0), row.status))
        for base in type(error).__mro__:
            row = self._rows.get(base)
            if row is not None:
                row = _with_retry(row, getattr(error, "retry_after", None))
                own = getattr(error, "rate_limits", ())
                return replace(row, headers=row.headers + own) if own else row
        return Answer.INTERNAL.value


def _with_retry(row: ErrorRow, retry_after: object) -> ErrorRow:
    if not isinstance(retry_after, (int, float)):
        return row
    return replace(row, retry_after_s=max(1, math.ceil(retry_after)))


# -- how an error looks ------------------------------------------------------------------------


class Rendering(enum.Enum):
    """Names who reads the answer."""

    PAGE = "page"  # a person in a browser
    BARE = "bare"  # a command of an open page; the text goes to its stream
    API = "api"  # a client program


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Holds exactly what the error page shows, and for whom.

    Without a `visitor_id` nothing is known of who asked: no request came so far.
    """

    status: int
    title: str
    message: str
    request_id: str
    nonce: str
    visitor_id: uuid.UUID | None = None
    signed_in: SignedIn | None = None
    # When it is worth trying again; None where nobody knows.
    retry_after_s: int | None = None
    # The path of the page one came from, as the browser says; empty for none.
    came_from: str = ""


class _ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    details: tuple[FieldProblem, ...] = ()


# The page comes from the templates through a callable: this package knows no engine.
RenderPage = Callable[[ErrorView], str]


def plain_page(view: ErrorView) -> str:
    """Call this where no template may be trusted (SITE-151: "at worst plain 500")."""
    title, message = html.escape(view.title), html.escape(view.message)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<main><h1>{title}</h1><p>{message}</p>"
        f"<p>{view.status} · {html.escape(view.request_id)}</p>"
        '<p><a href="/">Back to the start</a></p></main></html>'
    )


def render_error(
    row: ErrorRow,
    rendering: Rendering,
    *,
    request_id: str,
    nonce: str,
    page: RenderPage = plain_page,
    visitor_id: uuid.UUID | None = None,
    signed_in: SignedIn | None = None,
    came_from: str = "",
) -> tuple[HeaderList, bytes]:
    """Call this to get the headers and body of an error answer; security headers come later."""
    headers: HeaderList = [*row.headers]
    if row.retry_after_s is not None:
        headers.append((b"retry-after", str(row.retry_after_s).encode("ascii")))
    if row.status == 401:
        scheme = b"Bearer" if rendering is Rendering.API else b"Session"
        headers.append((b"www-authenticate", scheme))
    body = b""
    if rendering is Rendering.API:
        headers.append((b"content-type", b"application/json"))
        body = msgspec.json.encode(_ErrorBody(row.code, row.text, row.details[:DETAILS_MAX]))
    elif rendering is Rendering.PAGE:
        headers.append((b"content-type", b"text/html; charset=utf-8"))
        view = ErrorView(
            row.status,
            row.title,
            row.text,
            request_id,
            nonce,
            visitor_id,
            signed_in,
            row.retry_after_s,
            came_from,
        )
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


# -- the headers of every answer ----------------------------------------------------------------

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
# What a page says of itself that may ask for the camera, and no other word of the same name.
WITH_CAMERA = (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()")
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_COMMON_HTTPS: HeaderList = [*_COMMON, _HSTS]
# What a page of a further origin may read beside the body (SEC-35): when to ask again, and the ids.
_READABLE = b"retry-after, ratelimit, ratelimit-policy, x-request-id, x-correlation-id, location"
# What it may send beside what any page may.
_SENDABLE = b"authorization, content-type, idempotency-key, last-event-id, x-correlation-id"
# 128 bits.
NONCE_BYTES = 16
_BARE_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_PAGE_ONLY: HeaderList = [
    (b"cache-control", b"no-store"),
    (b"reporting-endpoints", b'csp="/csp-report"'),
]


def _with_camera(headers: HeaderList) -> HeaderList:
    return [WITH_CAMERA if pair[0] == WITH_CAMERA[0] else pair for pair in headers]


# By whether it is on HTTPS, of a page, of one with a camera, and of everything else.
_OF_PAGES = {
    False: FixedHeaders(*_COMMON, *_PAGE_ONLY), True: FixedHeaders(*_COMMON_HTTPS, *_PAGE_ONLY)
}  # fmt: skip
_OF_CAMERAS = {
    False: FixedHeaders(*_with_camera(_COMMON), *_PAGE_ONLY),
    True: FixedHeaders(*_with_camera(_COMMON_HTTPS), *_PAGE_ONLY),
}
_OF_OTHERS = {
    False: FixedHeaders(*_COMMON, _BARE_POLICY), True: FixedHeaders(*_COMMON_HTTPS, _BARE_POLICY)
}  # fmt: skip
_PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "report-uri /csp-report; report-to csp"
)
_POLICY_HEAD, _, _POLICY_TAIL = _PAGE_POLICY.encode("ascii").partition(b"{nonce}")
_OWN = frozenset(name for name, _ in _COMMON) | {
    b"server",
    b"x-powered-by",
    b"x-request-id",
    b"x-correlation-id",
    b"content-security-policy",
    b"strict-transport-security",
}


def reading_headers(origin: bytes) -> HeaderList:
    """Call this for the headers by which a page of a further origin may read an answer (SEC-35).

    `origin` is on the list, as it was given: never `*`, for cookies are allowed.
    """
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _READABLE),
    ]


def preflight_headers() -> HeaderList:
    """Call this for what such a page is told before it asks; what each route takes it sees then."""
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", _SENDABLE),
        # An origin that is taken from the list is refused at its request, whatever was kept.
        (b"access-control-max-age", b"600"),
    ]


def nonce_of(drawn: bytes) -> str:
    """Call this once a page with `NONCE_BYTES` random bytes, never used before (SEC-60)."""
    return base64.urlsafe_b64encode(drawn).rstrip(b"=").decode("ascii")


def secured(given: HeaderList, *, request_id: str, nonce: str, is_https: bool) -> HeaderList:
    """Call this with an answer's headers to get them with ours; ours win over the same names.

    But for `WITH_CAMERA`, which a page may say, and nothing else.
    """
    own, fixed = secured_apart(given, request_id=request_id, nonce=nonce, is_https=is_https)
    return [*own, *fixed.pairs]


def secured_apart(
    given: HeaderList, *, request_id: str, nonce: str, is_https: bool
) -> tuple[HeaderList, FixedHeaders]:
    """Call this for the same in two: what is this answer's own, and what all of its kind have."""
    is_page = content_type(given) == b"text/html"
    headers: HeaderList = []
    varies: HeaderList = []
    for pair in given:
        name = pair[0].lower()
        if name == b"vary":
            # The application's says what else its answers depend on, so both are sent.
            varies.append(pair)
        elif name not in _OWN and not (is_page and name == b"cache-control"):
            headers.append(pair)
    headers += varies
    headers.append((b"x-request-id", request_id.encode("ascii")))
    if not is_page:
        return headers, _OF_OTHERS[is_https]
    policy = b"".join((_POLICY_HEAD, nonce.encode("ascii"), _POLICY_TAIL))
    headers.append((b"content-security-policy", policy))
    return headers, (_OF_CAMERAS if WITH_CAMERA in given else _OF_PAGES)[is_https]


def content_type(headers: HeaderList) -> bytes:
    """Call this to get the media type without its parameters, lower case; empty when absent."""
    for name, value in headers:
        if name.lower() == b"content-type":
            return value.split(b";", 1)[0].strip().lower()
    return b""
