"""One call to a provider, with its limits (SEC-95).

Rule 1: only hosts that are set, encrypted but on this machine; a redirect is no answer.
Rule 2: what comes is read up to a limit, within a time, and never shown to anybody.
Rule 3: a provider that does not answer is left alone for a while; one that refuses has answered.
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from typing import TypeVar
from urllib.parse import quote_plus, urlsplit

import msgspec

from actors.accounts.ways.provider.words import Provider, ProviderAway
from actors.runtime import Log
from supervision import (
    ONCE,
    BreakerPolicy,
    BucketPolicy,
    BulkheadPolicy,
    CircuitOpen,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    NotCalled,
)
from web.accounts.ways.provider.configured import hosts_of, is_this_machine
from web.routing.outward import Answered, NoAnswer, ask

# SEC-95. A person waits for it.
CALL_S_MAX = 5.0
ANSWER_BYTES_MAX = 2**20
# At once; further ones wait, each for its own time.
CALLS_MAX = 20


def _is_away(error: BaseException) -> bool:
    return isinstance(error, (ProviderAway, DependencyTimeout))


# Five in a row that did not answer: what else waits for it is told at once, for half a minute. A
# code is good for one call (RFC 6749, 4.1.2), so nothing is tried again here. The rate is what no
# crowd of people reaches.
PROVIDER = DependencyPolicy(
    deadline=CALL_S_MAX,
    attempt=CALL_S_MAX,
    bulkhead=BulkheadPolicy(concurrent=CALLS_MAX, wait=CALL_S_MAX, queue=1000),
    breaker=BreakerPolicy(failures=5, open_for=30.0, successes=1),
    retry=ONCE,
    bucket=BucketPolicy(rate=200.0, burst=1000),
    counts=_is_away,
)

T = TypeVar("T")
log = Log("web.accounts")


def dependency_of(provider: Provider) -> str:
    """Call this for the name of a provider among the dependencies of a program."""
    return f"provider.{provider.name}"


def read_json(answer: Answered, kind: type[T], name: str) -> T:
    """Call this for the JSON of what a provider said; raises `ProviderAway` for another shape."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError:
        raise ProviderAway(name, "shape") from None


class Caller:
    """Calls one provider, through its dependency."""

    def __init__(self, provider: Provider, dependency: Dependency) -> None:
        self._provider, self._hosts = provider, hosts_of(provider)
        self._dependency = dependency

    async def get(self, url: str, token: str | None = None) -> Answered:
        """Call this to get something, by an access token where one is needed; see `post`."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self._guarded("GET", url, headers, None)

    async def post(
        self, url: str, fields: Mapping[str, str], basic: tuple[str, str] | None = None
    ) -> Answered:
        """Call this to send a form; raises `ProviderAway` when no answer came that is one.

        `basic` is a name and a secret for the header (RFC 6749, 2.3.1).
        """
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if basic is not None:
            name, secret = (quote_plus(one) for one in basic)
            pair = b64encode(f"{name}:{secret}".encode()).decode()
            headers["authorization"] = f"Basic {pair}"
        body = "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items())
        return await self._guarded("POST", url, headers, body.encode())

    def check(self, url: str) -> str:
        """Call this with an address that a provider named of itself; raises `ProviderAway`."""
        parts = urlsplit(url)
        if parts.netloc not in self._hosts or parts.scheme not in {"https", "http"}:
            raise self._away("host")
        if parts.scheme == "http" and not is_this_machine(parts.hostname or ""):
            raise self._away("scheme")
        return url

    def reset(self) -> None:
        """Call this to ask again at once one that was left alone."""
        self._dependency.reset()

    def _away(self, reason: str) -> ProviderAway:
        return ProviderAway(self._provider.name, reason)

    async def _guarded(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Answered:
        self.check(url)

        try:
            return await self._dependency.call(partial(self._call, method, url, headers, body))
        except CircuitOpen:
            raise self._away("breaker") from None
        except (NotCalled, DependencyTimeout):
            error = self._away("slow")
        except ProviderAway as away:
            error = away
        log.warning("accounts.provider_away", provider=error.name, reason=error.reason)
        raise error

    async def _call(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Answered:
        sent = {"accept": "application/json", **headers}
        try:
            answer = await ask(
                method,
                url,
                bytes_max=ANSWER_BYTES_MAX,
                step_s_max=CALL_S_MAX,
                headers=sent,
                body=body,
            )
        except NoAnswer as error:
            raise self._away(str(error)) from None
        if answer.status >= 500 or answer.status == 429:
            raise self._away(f"status {answer.status}")
        return answer
