"""What is judged from a request's head alone: host, sizes, media type, origin.

Pure decisions over header values and paths; `edge.py` carries them out before any handler runs.
Two questions, in the order they are asked:

- may this be read here at all: `Checks.refusal`
- may it come from where it comes from (SEC-30, SEC-31, SEC-36, SEC-40): `judge_request` and its
  siblings, by what a browser says about itself and a page's script cannot forge

Whom it counts for, and the one form of every host and origin, is in `addresses.py`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hypercorn.typing import HTTPScope, WebsocketScope

from actors.runtime import Secret
from web.server.connection.settings import MESSAGE_BYTES_MAX
from web.server.edge.addresses import host_of, normal_origin, origin_of
from web.server.edge.answers import Answer, ErrorRow, Rendering
from web.server.reading.heads import HEADER_BYTES_MAX, URL_BYTES_MAX, repeated

# WEB-13: what a client program may send at once.
API_BODY_BYTES_MAX = 1024 * 1024
_JSON = "application/json"
_EVENTS = "text/event-stream"
_FORM = "application/x-www-form-urlencoded"
_TEXT = "text/plain"
# Browsers choose these types for their own reports, which are some hundred bytes each (SEC-66).
_REPORT_PATH = "/csp-report"
_REPORT_BYTES_MAX = 16 * 1024
_PORT = re.compile(":[0-9]+$")
_REPORTS = ("application/csp-report", "application/reports+json", _JSON)


@lru_cache(256)
def _name_of(raw: bytes) -> str:
    # What browsers send is the same few names.
    return raw.decode("latin-1").lower()


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Call this to get a request's headers by lower-case name; repeated ones are one list.

    The lines of a list are joined as RFC 9110 5.3 says: in their order, by a comma; those of
    `cookie` by a semicolon. Which fields are no lists and must not come twice: `SINGLE`.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = _name_of(raw_name), raw_value.decode("latin-1")
        before = found.get(name)
        if before is not None:
            value = f"{before}; {value}" if name == "cookie" else f"{before}, {value}"
        found[name] = value
    return found


def takes_gzip(accepted: str | None) -> bool:
    """Call this with `Accept-Encoding` to learn whether gzip may be sent; without one it may not.

    RFC 9110 12.5.3 would let us send anything to who says nothing; those are the programs that
    know of no encoding.
    """
    if accepted is None:
        return False
    is_rest_taken = False
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, weight = parameter.strip().partition("=")
        is_taken = name.strip() != "q" or weight.strip().strip("0.") != ""
        if coding.strip() in {"gzip", "x-gzip"}:
            return is_taken
        if coding.strip() == "*":
            is_rest_taken = is_taken
    return is_rest_taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Holds the site's names and limits, and judges requests by them.

    `own_origin` is `http://127.0.0.1:3000` or `https://site.example`; `extra_hosts` are further
    values of `host` that are answered (loopback names of the same port). Of all of them any
    spelling will do. `probe_paths` are answered whatever the host: a load balancer asks by address,
    and many can be told no name (SEC-84). `stream_paths` are read by scripts and programs as the
    API is, and embedded by nobody else (SEC-36). Raises ValueError for an origin or host that is
    none.
    """

    own_origin: str
    allowed_origins: frozenset[str] = field(default_factory=frozenset)
    extra_hosts: frozenset[str] = field(default_factory=frozenset)
    # Paths of client programs begin so.
    api_prefixes: tuple[str, ...] = ("/api/",)
    public_sockets: frozenset[str] = field(default_factory=frozenset)
    probe_paths: frozenset[str] = field(default_factory=frozenset)
    stream_paths: frozenset[str] = field(default_factory=frozenset)
    # Where another site sends a whole window to; what is answered there that site cannot read.
    return_paths: re.Pattern[str] | None = None
    # Where programs send a form, as a protocol of theirs says, though the path is of the API.
    form_paths: re.Pattern[str] | None = None
    # Where a program says of its JSON that it is text.
    text_paths: frozenset[str] = field(default_factory=frozenset)
    body_bytes_max: int = MESSAGE_BYTES_MAX
    # Every origin that may change something here, the own ones included.
    origins: frozenset[str] = field(init=False)
    # Those of them that are not ours: their pages may read what they are answered.
    _further: frozenset[str] = field(init=False)
    _hosts: frozenset[str] = field(init=False)
    _names: frozenset[str] = field(init=False)
    _secure_origin: bytes = field(init=False)
    _scheme: str = field(init=False)

    def __post_init__(self) -> None:
        scheme = self.own_origin.partition(":")[0].lower()
        given = [self.own_origin, *self.allowed_origins]
        given += [f"{scheme}://{host}" for host in self.extra_hosts]
        normal = {origin: normal_origin(origin) for origin in given}
        origins = {found for found in normal.values() if found is not None}
        if None in normal.values():
            wrong = sorted(origin for origin, found in normal.items() if found is None)
            raise ValueError(f"no origins: {', '.join(wrong)}")
        own = [normal_origin(self.own_origin)]
        own += [normal_origin(f"{scheme}://{host}") for host in self.extra_hosts]
        hosts = {found.partition("://")[2] for found in own if found is not None}
        # Once, and not for every request; the class is frozen for everybody else.
        for name, value in (
            ("origins", frozenset(origins)), ("_further", frozenset(origins) - frozenset(own)),
            ("_hosts", frozenset(hosts)), ("_scheme", scheme),
            ("_names", frozenset(_PORT.sub("", host) for host in hosts)),
            ("_secure_origin", (own[0] or "").encode()),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def reading_origin(self, headers: Mapping[str, str]) -> bytes | None:
        """Call this for the origin of a request whose page may read the answer: a further one.

        As it was given, so that it is echoed exactly (SEC-35); None for the own and all others.
        """
        given = headers.get("origin")
        if given is None or not self._further or normal_origin(given) not in self._further:
            return None
        return given.encode("latin-1")

    def is_preflight(self, scope: HTTPScope, headers: Mapping[str, str]) -> bool:
        """Tell whether a browser asks if a page of another origin may ask for something."""
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return False
        given = headers.get("origin")
        return given is not None and normal_origin(given) not in self.origins - self._further

    def is_api(self, path: str) -> bool:
        """Tell whether a path belongs to client programs."""
        return path.startswith(self.api_prefixes)

    def rendering(self, scope: HTTPScope | WebsocketScope, headers: Mapping[str, str]) -> Rendering:
        """Tell who will read an error of this request."""
        if "datastar-request" in headers:
            return Rendering.BARE
        if self.is_api(scope["path"]) or scope["type"] == "websocket":
            return Rendering.API
        return Rendering.PAGE

    def came_from(self, referer: str, asked: bytes, query: bytes, *, is_get: bool) -> str:
        """Tell the path and query of the page of this site that led to a request; empty for none.

        It is what the browser says, so it is for links only. A page that was asked for again, by
        its path and query, is not where one came from.
        """
        found = origin_of(referer)
        if found is None or found.partition("://")[2] not in self._hosts:
            return ""
        path = "/" + referer.partition("://")[2].partition("/")[2].partition("#")[0]
        whole = asked + (b"?" + query if query else b"")
        return "" if is_get and path == whole.decode("latin-1") else path

    def body_limit(self, path: str) -> int:
        """Tell how many bytes of body are read on this path."""
        if path == _REPORT_PATH:
            return _REPORT_BYTES_MAX
        return API_BODY_BYTES_MAX if self.is_api(path) else self.body_bytes_max

    def refusal(
        self,
        scope: HTTPScope | WebsocketScope,
        headers: Mapping[str, str],
        *,
        is_plain: bool = False,
    ) -> ErrorRow | None:
        """Judge host, sizes and media type; None when nothing is wrong.

        With `is_plain` the host's port may be any, as plain HTTP never comes by that of HTTPS, and
        but for probes the rest is not asked: it is answered the same whatever it brings.
        """
        # HTTP/1.1 refuses it before (`reading/heads.py`); here it is for HTTP/2.
        given = [*scope["headers"]]
        # Where the map is as long as the list nothing came twice.
        if len(headers) != len(given) and repeated(given) is not None:
            return Answer.INVALID.value
        host = headers.get("host", "")
        is_known = self._knows_name(host) if is_plain else self._knows_host(host)
        if not is_known and scope["path"] not in self.probe_paths:
            return Answer.HOST.value
        if is_plain and scope["path"] not in self.probe_paths:
            return None
        if len(scope["raw_path"]) + len(scope["query_string"]) > URL_BYTES_MAX:
            return Answer.URL_TOO_LONG.value
        size = sum([len(name) + len(value) + 4 for name, value in given])
        if size > HEADER_BYTES_MAX:
            return Answer.HEAD_TOO_LARGE.value
        length = headers.get("content-length")
        if length is None:
            length = "0"
            if "transfer-encoding" not in headers:
                return None
        # `int` would take "+1", "1_0" and digits of other scripts; a proxy in front would not.
        if not length.isascii() or not length.isdigit():
            return Answer.INVALID.value
        if int(length) > self.body_limit(scope["path"]):
            return Answer.TOO_LARGE.value
        if int(length) > 0 or "transfer-encoding" in headers:
            # RFC 9110 8.4: of a body in a coding the type is not known, nor what it would be.
            is_coded = headers.get("content-encoding", "identity").lower() not in ("", "identity")
            if is_coded or not self._takes_media(scope["path"], headers.get("content-type", "")):
                return Answer.MEDIA_TYPE.value
        return None

    def secure_url(self, scope: HTTPScope, headers: Mapping[str, str]) -> bytes | None:
        """Tell where a page stands that was asked for over plain HTTP (SEC-41); None for no page.

        It is by the site's own name, whatever the request calls it. What a script, a stream or a
        program asks for is no page: it is to be mended there, before it sends a secret once more.
        """
        is_page = (
            scope["method"] in _READS
            and self.rendering(scope, headers) is Rendering.PAGE
            and scope["path"] not in self.stream_paths
            and _EVENTS not in headers.get("accept", "").lower()
        )
        if not is_page:
            return None
        query = scope["query_string"]
        return self._secure_origin + scope["raw_path"] + (b"?" + query if query else b"")

    def origin(self, scope: HTTPScope, headers: Mapping[str, str]) -> Verdict:
        """Judge where a request comes from."""
        is_api = self.is_api(scope["path"])
        if scope["path"] == _REPORT_PATH:
            return Verdict.PASS  # browsers send it without credentials, and it changes nothing
        if scope["method"] in _READS and self._is_return(scope["path"], headers):
            return Verdict.PASS
        if scope["method"] in _READS and (is_api or scope["path"] in self.stream_paths):
            return judge_read(headers, self.origins)
        return judge_request(scope["method"], headers, self.origins, is_api=is_api)

    def _is_return(self, path: str, headers: Mapping[str, str]) -> bool:
        if self.return_paths is None or self.return_paths.fullmatch(path) is None:
            return False
        # What a script fetches, or a page embeds, says so.
        is_window = headers.get("sec-fetch-mode", "navigate") == "navigate"
        is_window = is_window and headers.get("sec-fetch-dest", "document") == "document"
        return is_window and "origin" not in headers

    def handshake(
        self, scope: WebsocketScope, headers: Mapping[str, str], *, has_ticket: bool
    ) -> Verdict:
        """Judge where a WebSocket comes from."""
        is_public = family_of(scope["path"], self.public_sockets) in self.public_sockets
        return judge_handshake(headers, self.origins, is_public=is_public, has_ticket=has_ticket)

    def _knows_host(self, host: str) -> bool:
        # Nearly always as it is: one look instead of a grammar.
        return host in self._hosts or host_of(host, self._scheme) in self._hosts

    def _knows_name(self, host: str) -> bool:
        found = host_of(host, self._scheme)
        return found is not None and _PORT.sub("", found) in self._names

    def _takes_media(self, path: str, given: str) -> bool:
        media = given.split(";", 1)[0].strip().lower()
        if path == _REPORT_PATH:
            return media in _REPORTS
        if media == _TEXT:
            return path in self.text_paths
        return media == _JSON or (media == _FORM and self._takes_forms(path))

    def _takes_forms(self, path: str) -> bool:
        is_one = self.form_paths is not None and self.form_paths.fullmatch(path) is not None
        return is_one or not self.is_api(path)


def family_of(path: str, known: Container[str]) -> str:
    """Call this for the name a socket's path is known by: `/ws/seats/` stands for `/ws/seats/7`."""
    return path if path in known else path[: path.rfind("/") + 1]


def cut_ticket(query: bytes) -> tuple[Secret[str] | None, bytes]:
    """Call this with a query: the ticket of a socket in it, and the query without (SEC-42).

    Two of them are none that could be right.
    """
    if b"ticket=" not in query:
        return None, query
    parts = query.split(b"&")
    tickets = [part for part in parts if part.startswith(b"ticket=")]
    if not tickets:
        return None, query
    text = tickets[0].removeprefix(b"ticket=").decode("latin-1") if len(tickets) == 1 else ""
    return Secret(text), b"&".join(part for part in parts if not part.startswith(b"ticket="))


# -- where a request comes from ---------------------------------------------------------------

_READS = frozenset({"GET", "HEAD"})
_SAFE_METHODS = _READS | {"OPTIONS"}
# What routes are made for; another word is answered 405 or 501 before anything else is asked.
KNOWN_METHODS = _SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}


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
    # In the order of how much can be believed. `Sec-Fetch-Site` only a browser can set, and every
    # current one does; "none" is the address bar or a bookmark. `Origin` is older and may be
    # "null", which no list holds. `Referer` stands in where that is missing. A request with none
    # of them is no browser of this decade: a program, or a form that must bring its token.
    if method in _SAFE_METHODS:
        return Verdict.PASS
    if is_api and "cookie" not in headers and _is_bearer(headers):
        return Verdict.PASS  # SEC-37: no browser adds this header by itself
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_own = site in ("same-origin", "none") or _is_origin_of(headers, origins)
        return Verdict.PASS if is_own else Verdict.FORBIDDEN
    if "origin" in headers:
        return Verdict.PASS if _is_origin_of(headers, origins) else Verdict.FORBIDDEN
    if "referer" in headers:
        known = origin_of(headers["referer"]) in origins
        return Verdict.PASS if known else Verdict.FORBIDDEN
    if is_api and "cookie" not in headers:
        return Verdict.PASS  # a client program
    return Verdict.NEEDS_TOKEN


def judge_read(headers: Mapping[str, str], origins: Collection[str]) -> Verdict:
    """Call this for streams and JSON: embedded or fetched by another site is refused (SEC-36)."""
    # A browser says `Origin` for a read only if another site's script asks (or this one's, which
    # is listed), so an unlisted one is foreign also where the newer header is missing.
    if "origin" in headers:
        return Verdict.PASS if _is_origin_of(headers, origins) else Verdict.FORBIDDEN
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return Verdict.FORBIDDEN
    return Verdict.PASS


def judge_handshake(
    headers: Mapping[str, str], origins: Collection[str], *, is_public: bool, has_ticket: bool
) -> Verdict:
    """Call this for a WebSocket upgrade (SEC-40)."""
    # Browsers let any page open a socket to any site, cookies and all, and ask nobody. The origin
    # they tell is the only protection, so a cookie without one is not believed.
    if "origin" in headers:
        return Verdict.PASS if _is_origin_of(headers, origins) else Verdict.FORBIDDEN
    if "cookie" in headers:
        return Verdict.FORBIDDEN
    if _is_bearer(headers) or has_ticket or is_public:
        return Verdict.PASS
    return Verdict.FORBIDDEN


def _is_origin_of(headers: Mapping[str, str], origins: Collection[str]) -> bool:
    given = headers.get("origin")
    return given is not None and (given in origins or normal_origin(given) in origins)


def _is_bearer(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization", "").lower().startswith("bearer ")
