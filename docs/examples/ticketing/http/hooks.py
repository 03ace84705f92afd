"""What the gateway says by itself: signed web hooks, and a courier that sends them as banks do.

`t=SECONDS,k=KEY,v1=HEX` is the signature: HMAC-SHA256 of `SECONDS.BODY` by one of the keys. One of
more than five minutes ago is no news, whoever has kept it. Each event has an id and is heard once.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from secrets import SystemRandom
from typing import Literal

import msgspec

from actors.runtime import Actor, Log, message
from docs.examples.ticketing.gateway import Charged, Declined
from supervision import ONCE, DependencyPolicy, DependencyTimeout, NotCalled
from web.app import OwnSite
from web.routing.outward import NoAnswer, ask

HOOKS, COURIER = "hooks", "courier"
PATH = "/webhooks/payments"
HEADER = "x-gateway-signature"
NEWS_S_MAX = 300
# A bank that has lost its place sends all of it again.
TIMES = 2
HOOKS_POLICY = DependencyPolicy(deadline=10.0, attempt=10.0, retry=ONCE)
_FORM = re.compile(r"t=([0-9]{1,12}),k=([a-z0-9]{1,16}),v1=([0-9a-f]{64})", re.ASCII)

log = Log(__name__)


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a charge, by its name `RESERVATION ATTEMPT`."""

    id: str
    type: Literal["payment.authorized", "payment.captured", "payment.declined"]
    charge: str
    transaction: str = ""
    reason: str = ""


def signed(keys: Mapping[str, bytes], body: bytes, at: float) -> str:
    """Call this for the signature of a body, by the last of the keys."""
    key_id = list(keys)[-1]
    return f"t={at:.0f},k={key_id},v1={_sign(keys[key_id], f'{at:.0f}', body)}"


def is_signed(keys: Mapping[str, bytes], header: str, body: bytes, now: float) -> bool:
    """Call this to learn whether a body was signed by one of the keys, and lately."""
    found = _FORM.fullmatch(header)
    if found is None or found[2] not in keys or abs(now - int(found[1])) > NEWS_S_MAX:
        return False
    return hmac.compare_digest(found[3], _sign(keys[found[2]], found[1], body))


def _sign(key: bytes, at: str, body: bytes) -> str:
    return hmac.new(key, f"{at}.".encode() + body, sha256).hexdigest()


def hooks_of(name: str, said: Charged | Declined) -> list[Hook]:
    """Call this for what a bank sends of a charge; the same events each time."""
    id_ = sha256(name.encode()).hexdigest()[:24]
    if isinstance(said, Declined):
        return [Hook(f"evt-{id_}-declined", "payment.declined", name, reason=said.reason)]
    return [
        Hook(f"evt-{id_}-authorized", "payment.authorized", name),
        Hook(f"evt-{id_}-captured", "payment.captured", name, said.transaction),
    ]


@message
class Deliver:
    """A charge came to something."""

    name: str
    said: Charged | Declined


class Courier(Actor[Deliver]):
    """Sends hooks to this site, each twice and in any order, as the worst of banks does."""

    def __init__(self, site: OwnSite, keys: Mapping[str, bytes]) -> None:
        self._site, self._keys = site, keys

    async def on_deliver(self, message: Deliver) -> None:
        """Send all of a charge; what does not arrive is asked for by the office itself."""
        sent = hooks_of(message.name, message.said) * TIMES
        SystemRandom().shuffle(sent)
        for hook in sent:
            await self._send(hook)

    async def _send(self, hook: Hook) -> None:
        site, body = self._site, msgspec.json.encode(hook)
        at = site.environment.clock.now().timestamp()
        headers = {
            "content-type": "application/json",
            HEADER: signed(self._keys, body, at),
        }

        async def call() -> None:
            url = f"{site.url}{PATH}"
            await ask("POST", url, bytes_max=65536, step_s_max=5.0, headers=headers, body=body)

        try:
            await site.outside.dependency(HOOKS).call(call)
        except (NoAnswer, NotCalled, DependencyTimeout) as error:
            log.warning("ticketing.hook_lost", type=hook.type, reason=type(error).__name__)
