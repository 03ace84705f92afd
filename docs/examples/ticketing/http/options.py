"""What an operator may say of ticketing beside the settings of every site."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field

from docs.examples.ticketing.codes import KeyRing as TicketKeys
from web.app import CannotStart
from web.server import KeyRing
from web.settings import Settings, is_loopback

# `TICKETING_KEYS=2025:BASE64,2026:BASE64`: the last one signs, all of them are read. So is
# `TICKETING_HOOK_KEYS`, by which the gateway signs what it says of payments.
TICKETS, HOOKS = "TICKETING_KEYS", "TICKETING_HOOK_KEYS"
# With `on` the token of a sign-in link is told who asks for it, for tests and trials: whoever
# reaches the site is whoever they like, so it is for this machine alone.
LINKS = "TICKETING_TEST_LINKS"
# With `off` the simulated gateway answers its calls, and sends no web hooks beside.
SENDS = "TICKETING_HOOKS"
# Where what was committed is told: in the memory of each process, or to other programs too.
BUS = "TICKETING_BUS"
_BUSES = ("memory", "postgres", "kafka")


@dataclass(frozen=True)
class Options:
    """`hooks` are the keys of the gateway by their ids, the one that signs last."""

    tickets: TicketKeys
    hooks: Mapping[str, bytes] = field(repr=False)
    tells_links: bool = False
    sends_hooks: bool = True
    bus: str = "memory"


def read_options(environment: Mapping[str, str], settings: Settings, ring: KeyRing) -> Options:
    """Call this at the start; raises `CannotStart`. Keys that are not given are the site's own."""
    tells_links = _switch(environment, LINKS, "off")
    if tells_links and not is_loopback(settings.host):
        raise CannotStart(f"{LINKS}: lets everybody in as anybody; it is for HOST on loopback only")
    hooks = _keys(environment, HOOKS) or {"site": ring.key("ticketing hooks").sign(b"key")}
    keys = _keys(environment, TICKETS) or {"site": ring.key("ticketing codes").sign(b"key")}
    try:
        tickets = TicketKeys(keys, list(keys)[-1])
    except ValueError as error:
        raise CannotStart(f"{TICKETS}: {error}") from error
    bus = environment.get(BUS, "memory")
    if bus not in _BUSES:
        raise CannotStart(f"{BUS}: is one of {', '.join(_BUSES)}")
    sends_hooks = _switch(environment, SENDS, "on")
    return Options(tickets, hooks, tells_links, sends_hooks, bus)


def _switch(environment: Mapping[str, str], name: str, usual: str) -> bool:
    found = environment.get(name, usual)
    if found not in ("on", "off"):
        raise CannotStart(f"{name}: is on or off")
    return found == "on"


def _keys(environment: Mapping[str, str], name: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, environment.get(name, "").split(",")):
        key_id, _, text = part.partition(":")
        try:
            key = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise CannotStart(f"{name}: the key {key_id!r} is not base64url") from error
        if len(key) < 32 or key_id in found:
            raise CannotStart(f"{name}: each key has an id of its own and 32 bytes at least")
        found[key_id] = key
    return found
