"""A visitor without a browser: keeps cookies, posts commands, reads the stream."""

from __future__ import annotations

import http.client
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from tests.patience import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream being read; leaving it closes the connection."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self.connection.close()

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str | None:
        return self.response.headers[name]

    def read_until(self, *parts: bytes, patience_s: float = PATIENCE_S) -> bytes:
        """Read lines until every part has been seen; the stream must not end before."""
        seen, deadline = b"", time.monotonic() + patience_s
        while not all(part in seen for part in parts):
            line = self.response.readline()
            assert line, f"the stream ended after {seen!r}"
            # A stream that is kept alive never makes a read time out.
            assert time.monotonic() < deadline, f"not among {seen!r}"
            seen += line
        return seen


@dataclass(slots=True)
class Visitor:
    """One browser session, as plain HTTP sees it."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)
    tab: str = ""
    panel: str = ""
    speaks_as_self: bool = False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = self._connect()
        try:
            connection.request(
                method, path, body=body, headers={**self._headers(), **(headers or {})}
            )
            response = connection.getresponse()
            told: dict[str, str] = {}
            for name, value in response.getheaders():
                key = name.lower()
                told[key] = f"{told[key]}, {value}" if key in told else value
            answer = Answer(response.status, told, response.read())
        finally:
            connection.close()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def page(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Read a page; as people do who are told to come back in a moment, until it is there.

        On a busy machine a site may be told too late what it asks its store for.
        """
        return self._until(
            lambda: self.request(method, path, headers=headers),
            lambda answer: answer.status != 503,
        )

    def ready(self, path: str = "/ready", **headers: str) -> Answer:
        """What it tells of its health once all is well, or at the end of patience; as `page`."""
        return self._until(
            lambda: self.get(path, **headers),
            lambda answer: json.loads(answer.text).get("status") == "healthy",
        )

    def _until(self, ask: Callable[[], Answer], is_so: Callable[[Answer], bool]) -> Answer:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so(answer := ask()) and time.monotonic() < deadline:
            time.sleep(0.05)  # the site is another process
        return answer

    def open_lab(self) -> Answer:
        """Render the lab page: gives the visitor cookie and a tab."""
        return self._take(self.page("/lab"))

    def _take(self, answer: Answer) -> Answer:
        found = re.search(r'name="sseTabId" value="([0-9a-f-]+)"', answer.text)
        assert found, answer.text[:500]
        self.tab = found.group(1)
        # SITE-9: who is signed in has a composer of their own, a guest the demo user's only.
        self.speaks_as_self = 'id="chat-you-composer"' in answer.text
        return answer

    def open_lab_until_shown(self) -> None:
        """`open_lab` of a site that is not there yet."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                self.open_lab()
            except OSError:
                time.sleep(0.05)  # the next process comes in real time
            else:
                return
        raise AssertionError("the lab was never shown")

    def command(self, path: str, values: dict[str, object], **headers: str) -> Answer:
        """Send a Datastar command as the page does."""
        return self.request(
            "POST",
            path,
            json.dumps(values).encode(),
            {
                "content-type": "application/json",
                "datastar-request": "true",
                "sec-fetch-site": "same-origin",
                **headers,
            },
        )

    def post(self, text: str, client_id: str | None = None, **headers: str) -> Answer:
        """Post to the room of this visitor's tab, by the composer that its page has."""
        own, client_id = self.speaks_as_self, client_id or str(uuid.uuid4())
        draft, key = ("chatDraftBody", "clientId") if own else ("chatDemoDraftBody", "demoClientId")
        values: dict[str, object] = {draft: text, key: client_id, "sseTabId": self.tab}
        return self.command(f"/demo/chat/messages{'' if own else '/demo'}", values, **headers)

    def form(self, path: str, fields: dict[str, str]) -> Answer:
        """Send a plain form, as a page without scripts does."""
        return self.request(
            "POST",
            path,
            urlencode(fields).encode(),
            {
                "content-type": "application/x-www-form-urlencoded",
                "sec-fetch-site": "same-origin",
            },
        )

    def handshake(self, path: str, headers: dict[str, str]) -> int:
        """Ask for an upgrade and hang up; gives the status."""
        connection = self._connect()
        try:
            connection.request("GET", path, headers={**self._headers(), **headers})
            return connection.getresponse().status
        finally:
            connection.close()

    @property
    def stream_path(self) -> str:
        """Where the lab page of this visitor's tab asks for its stream."""
        signals = {"sseTabId": self.tab, "ssePage": "lab", "roomName": "Lobby"}
        if self.panel:
            signals["labPanel"] = self.panel
        return f"/events?datastar={quote(json.dumps(signals))}"

    def open_stream_of(self, page: str) -> OpenStream:
        """Open the stream of a page of another kind, which shows no room."""
        signals = {"sseTabId": self.tab, "ssePage": page, "roomName": ""}
        return self._open(f"/events?datastar={quote(json.dumps(signals))}")

    def open_stream(self, **more: str) -> OpenStream:
        """Open the tab's stream, with more headers; the caller closes it."""
        return self._open(self.stream_path, **more)

    def open_stream_at(self, path: str, **more: str) -> OpenStream:
        """Open the stream of a page that asks for something else."""
        return self._open(path, **more)

    def _open(self, path: str, **more: str) -> OpenStream:
        connection = self._connect()
        connection.request(
            "GET",
            path,
            headers={
                **self._headers(),
                "datastar-request": "true",
                "accept": "text/event-stream",
                **more,
            },
        )
        return OpenStream(connection, connection.getresponse())

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)

    def _headers(self) -> dict[str, str]:
        if not self.cookies:
            return {}
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
