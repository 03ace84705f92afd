"""Where a search server is, and what can go wrong with it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from actors.runtime import Secret
from storage.errors import InvalidField, StoreError

DEFAULT_PORT = 9200
# A server whose heap is collected, or that merges a large index, is silent for so long.
ANSWER_S_MAX = 10.0


class SearchRejected(StoreError):
    """Raised when a server will not have us: credentials, certificate, or what it is.

    Waiting does not help; the setting or the server must change. No secret is told.
    """

    code = "search_rejected"

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place} refuses this program: {why}; nothing was done")
        self.place, self.why = place, why


class SearchRefused(StoreError):
    """Raised when a server answers a request with an error; `kind` is its name, `status` HTTP's.

    A bug of ours, or an index that somebody made otherwise. What the server says beyond that may
    quote documents, and is not told.
    """

    code = "search_refused"

    def __init__(self, status: int, kind: str) -> None:
        super().__init__(f"the search server refused a request with {status} {kind}")
        self.status, self.kind = status, kind


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Which server, and as whom; `of` reads an address.

    `api_key` is what Elasticsearch calls encoded; who has one gives no user.
    """

    host: str
    port: int = DEFAULT_PORT
    path: str = ""
    user: str = ""
    password: Secret[str] | None = None
    api_key: Secret[str] | None = None
    is_tls: bool = False
    ca_file: Path | None = None
    answer_s_max: float = ANSWER_S_MAX

    @staticmethod
    def of(
        url: Secret[str], ca_file: Path | None = None, api_key: Secret[str] | None = None
    ) -> SearchSettings:
        """Call this with `https://user:password@host:port`, a path before all others behind it.

        All but the host may be left out. Raises `InvalidField`, which tells nothing of it.
        """
        try:
            parts = urlsplit(url.reveal())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InvalidField("the address", "cannot be read") from None
        if parts.scheme not in {"http", "https"} or not host or port == 0:
            raise InvalidField("the address", "is http://host:port or https://host:port")
        if parts.query or parts.fragment:
            raise InvalidField("the address", "ends with a host, or a path")
        if bool(parts.username) != bool(parts.password):
            raise InvalidField("the address", "names a user without a password")
        if parts.username and api_key is not None:
            raise InvalidField("the address", "names a user, and there is an API key too")
        return SearchSettings(
            host,
            DEFAULT_PORT if port is None else port,
            parts.path.rstrip("/"),
            unquote(parts.username or ""),
            Secret(unquote(parts.password)) if parts.password else None,
            api_key,
            parts.scheme == "https",
            ca_file,
        )

    @property
    def place(self) -> str:
        """Where it is, for people: without user, password and key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.path}"

    def context(self) -> ssl.SSLContext:
        """Call this for what TLS needs; raises `OSError` for a file that cannot be used."""
        return ssl.create_default_context(cafile=self.ca_file)
