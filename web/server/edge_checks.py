"""What the edge decides from a request's head alone: pure checks over headers and path.

`edge.py` carries the decisions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hypercorn.typing import HTTPScope, WebsocketScope

from web.server.error_table import Answer, ErrorRow
from web.server.origin import Verdict, judge_handshake, judge_read, judge_request
from web.server.renderings import Rendering
from web.server.settings import HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, URL_BYTES_MAX

# WEB-13: what a client program may send at once.
API_BODY_BYTES_MAX = 1024 * 1024
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
# Browsers choose these types for their own reports (SEC-66).
_REPORTS = ("application/csp-report", "application/reports+json", _JSON)


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Call this to get a request's headers by lower-case name; of repeated ones the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Holds the site's names and limits, and judges requests by them.

    `own_origin` is `http://127.0.0.1:3000` or `https://site.example`; `extra_hosts` are further
    values of `host` that are answered (loopback names of the same port).
    """

    own_origin: str
    allowed_origins: frozenset[str] = field(default_factory=frozenset)
    extra_hosts: frozenset[str] = field(default_factory=frozenset)
    api_prefix: str = "/api/"
    public_sockets: frozenset[str] = field(default_factory=frozenset)
    body_bytes_max: int = MESSAGE_BYTES_MAX

    @property
    def origins(self) -> frozenset[str]:
        """Tell every origin that may change something here, the own ones included."""
        scheme = urlsplit(self.own_origin).scheme
        hosts = {f"{scheme}://{host}" for host in self.extra_hosts}
        return self.allowed_origins | hosts | {self.own_origin}

    def is_api(self, path: str) -> bool:
        """Tell whether a path belongs to client programs."""
        return path.startswith(self.api_prefix)

    def rendering(self, scope: HTTPScope | WebsocketScope, headers: Mapping[str, str]) -> Rendering:
        """Tell who will read an error of this request."""
        if "datastar-request" in headers:
            return Rendering.BARE
        if self.is_api(scope["path"]) or scope["type"] == "websocket":
            return Rendering.API
        return Rendering.PAGE

    def body_limit(self, path: str) -> int:
        """Tell how many bytes of body are read on this path."""
        return API_BODY_BYTES_MAX if self.is_api(path) else self.body_bytes_max

    def refusal(
        self, scope: HTTPScope | WebsocketScope, headers: Mapping[str, str]
    ) -> ErrorRow | None:
        """Judge host, sizes and media type; None when nothing is wrong."""
        if not self._knows_host(headers.get("host", "")):
            return Answer.HOST.value
        if len(scope["raw_path"]) + len(scope["query_string"]) > URL_BYTES_MAX:
            return Answer.URL_TOO_LONG.value
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > HEADER_BYTES_MAX:
            return Answer.HEAD_TOO_LARGE.value
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return Answer.INVALID.value
        if int(length) > self.body_limit(scope["path"]):
            return Answer.TOO_LARGE.value
        if (int(length) > 0 or "transfer-encoding" in headers) and not self._takes_media(
            scope["path"], headers.get("content-type", "")
        ):
            return Answer.MEDIA_TYPE.value
        return None

    def origin(self, scope: HTTPScope, headers: Mapping[str, str]) -> Verdict:
        """Judge where a request comes from."""
        is_api = self.is_api(scope["path"])
        if scope["path"] == "/csp-report":
            return Verdict.PASS  # browsers send it without credentials, and it changes nothing
        verdict = judge_request(scope["method"], headers, self.origins, is_api=is_api)
        if verdict is Verdict.PASS and scope["method"] == "GET" and is_api:
            return judge_read(headers, self.origins)
        return verdict

    def handshake(self, scope: WebsocketScope, headers: Mapping[str, str]) -> Verdict:
        """Judge where a WebSocket comes from."""
        has_ticket = b"ticket=" in scope["query_string"]
        is_public = scope["path"] in self.public_sockets
        return judge_handshake(headers, self.origins, is_public=is_public, has_ticket=has_ticket)

    def _knows_host(self, host: str) -> bool:
        known = {urlsplit(self.own_origin).netloc, *self.extra_hosts}
        return host.lower() in known

    def _takes_media(self, path: str, given: str) -> bool:
        media = given.split(";", 1)[0].strip().lower()
        if path == "/csp-report":
            return media in _REPORTS
        return media == _JSON or (media == _FORM and not self.is_api(path))
