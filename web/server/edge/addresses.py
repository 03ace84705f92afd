"""Names and addresses, each in one normal form: hosts, origins, and whom a request counts for.

The same thing has many spellings: capital letters, a dot at the end of a name, the port that the
scheme has anyway, an address of version 4 written as one of version 6. Everything here is brought
into one form first and compared then, so no spelling gets past a check or is refused for nothing.
Pure, but for `ClientAddresses`, which counts what it could not read and says so once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from actors.runtime import Log

log = Log(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s,]+)(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"(?i:(https?))://([^/?#@\s,]+)")
_URL = re.compile(r"(?i:(https?))://([^/?#@\s,]+)(?:[/?#].*)?")
# `1.2.3.4:5` and `[::1]:5`, as some proxies write the hop before them (Azure's is one).
_HOP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
# More hops than this are forged; of a longer list the nearest are looked at.
_HOPS_MAX = 32
# Addresses that were read and are kept; some 100 bytes each.
PEERS_KEPT = 4096
# What a proxy says a visitor's connection to it was; some name sockets by schemes of their own.
_PLAIN_SCHEMES = {"http": True, "ws": True, "https": False, "wss": False}


def host_of(text: str, scheme: str) -> str | None:
    """Call this to get a host, and its port unless it is the scheme's; None for what is none."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    name, port = found[1].lower().removesuffix("."), found[2]
    if name.startswith("["):
        address = parse_address(name[1:-1])
        if address is None:
            return None
        name = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    if not name or (port and int(port) > 65_535):
        return None
    return f"{name}:{int(port)}" if port and int(port) != _DEFAULT_PORTS[scheme] else name


def origin_of(url: str) -> str | None:
    """Call this to get scheme, host and port of a URL in their normal form."""
    return _origin(_URL.fullmatch(url))


def normal_origin(text: str) -> str | None:
    """Call this with what an `Origin` header says: nothing may stand behind host and port."""
    return _origin(_ORIGIN.fullmatch(text))


def _origin(found: re.Match[str] | None) -> str | None:
    if found is None:
        return None
    scheme = found[1].lower()
    host = host_of(found[2], scheme)
    return None if host is None else f"{scheme}://{host}"


def parse_address(text: str) -> Address | None:
    """Call this to read an address; one of version 4 in the clothes of version 6 is the former.

    A zone (`%eth0`) is of the machine that wrote it, and no part of who somebody is.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not isinstance(found, ipaddress.IPv6Address):
        return found
    if found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found if found.scope_id is None else ipaddress.IPv6Address(int(found))


def masked(address: str) -> str:
    """Call this before an address is shown: the last half is hidden (SITE-184)."""
    found = parse_address(address)
    if found is None:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        first, second, *_ = str(found).split(".")
        return f"{first}.{second}.*.*"
    return ":".join(found.exploded.split(":")[:4]) + ":*"


@lru_cache(PEERS_KEPT)
def counted_as(address: str) -> str:
    """Call this for what counts as one address at a limit: of version 6 the first of its /64.

    A house has all of that, and takes another one of it for each try if it likes.
    """
    found = parse_address(address)
    if not isinstance(found, ipaddress.IPv6Address) or found.is_loopback:
        return address if found is None else str(found)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))


@dataclass(frozen=True, slots=True)
class Client:
    """Says whom a request counts for.

    `is_near` tells that it came from this machine or from a trusted network, by nobody else.
    `unread_hop` tells that a hop could not be read, `is_unasked` that the peer may not forward.
    """

    address: str
    is_near: bool
    unread_hop: bool = False
    is_unasked: bool = False


def client_of(peer: str, forwarded_for: str | None, trusted: Sequence[Network]) -> Client:
    """Call this with the socket's peer and all of `X-Forwarded-For` (SEC-110).

    The right-most hop that is not trusted counts. The walk stops at a hop that cannot be read: then
    the one that passed it on counts, for whatever stands left of it may be invented.
    """
    at = parse_address(peer)
    if at is None:
        return Client(peer, is_near=False)
    if forwarded_for is None:
        return Client(str(at), is_near=at.is_loopback or _is_trusted(at, trusted))
    if not _is_trusted(at, trusted):
        return Client(str(at), is_near=False, is_unasked=True)
    # Each proxy appends the peer it saw, so the list can be believed from the right as far as our
    # own proxies reach.
    for hop in reversed(forwarded_for.rsplit(",", _HOPS_MAX)[-_HOPS_MAX:]):
        found = _parse_hop(hop.strip())
        if found is None:
            return Client(str(at), is_near=False, unread_hop=True)
        at = found
        if not _is_trusted(at, trusted):
            break
    return Client(str(at), is_near=at.is_loopback or _is_trusted(at, trusted))


def _parse_hop(text: str) -> Address | None:
    found = _HOP.fullmatch(text)
    return parse_address((found[1] or found[2]) if found else text)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def is_plain(scheme: str, forwarded_proto: str | None, *, is_proxy: bool) -> bool:
    """Tell whether a request came without encryption; `scheme` is that of our own connection.

    `forwarded_proto` is all of `X-Forwarded-Proto`, believed only when the peer is a trusted proxy,
    and of several values the right-most, which the nearest one wrote. A proxy that sends none has
    taken the request over HTTPS: that is what it stands there for. What is no scheme was written
    by no such proxy, and so it may have come from the visitor: it opens nothing.
    """
    if not is_proxy:
        return _PLAIN_SCHEMES.get(scheme, True)
    if forwarded_proto is None:
        return False
    return _PLAIN_SCHEMES.get(_nearest(forwarded_proto), True)


def _nearest(forwarded_proto: str) -> str:
    return forwarded_proto.rpartition(",")[2].strip().lower()


@dataclass(frozen=True, slots=True)
class ForwardingStatistics:
    """Counts requests whose `X-Forwarded-For` was not believed, wholly or in part.

    `plain` are those in HTTPS mode that were not served because no proxy passed them on.
    """

    unread_hops: int
    unasked: int
    plain: int = 0


class ClientAddresses:
    """Reads whom requests count for; what an operator should know is counted, and logged once."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)
        # Reading an address is dear, and most peers ask more than once.
        self._direct = lru_cache(PEERS_KEPT)(partial(self._read, forwarded_for=None))
        self._is_proxy = lru_cache(PEERS_KEPT)(self._read_proxy)
        self._unread_hops = 0
        self._unasked = 0
        self._plain = 0
        self._is_scheme_told = False

    def __repr__(self) -> str:
        return f"<ClientAddresses {self.statistics()!r}>"

    def _read(self, peer: str, forwarded_for: str | None) -> Client:
        return client_of(peer, forwarded_for, self._trusted)

    def _read_proxy(self, peer: str) -> bool:
        at = parse_address(peer)
        return at is not None and _is_trusted(at, self._trusted)

    def statistics(self) -> ForwardingStatistics:
        """Call this for the counts since the start."""
        return ForwardingStatistics(self._unread_hops, self._unasked, self._plain)

    def is_plain(self, peer: str, scheme: str, forwarded_proto: str | None) -> bool:
        """Call this with the socket's peer and scheme, and all of `X-Forwarded-Proto`."""
        return is_plain(scheme, forwarded_proto, is_proxy=self._is_proxy(peer))

    def note_plain(self, peer: str, forwarded_proto: str | None) -> None:
        """Call this when a plain request was not served.

        The first from no proxy is logged, and the first for which a proxy told no scheme.
        """
        if self._is_proxy(peer):
            is_unread = _nearest(forwarded_proto or "") not in _PLAIN_SCHEMES
            if is_unread and not self._is_scheme_told:
                # Behind a proxy that writes another word every page leads to itself, without end.
                self._is_scheme_told = True
                log.warning(
                    "request.forwarded_scheme_unreadable",
                    peer=masked(peer),
                    hint="X-Forwarded-Proto is https or http",
                )
            return
        self._plain += 1
        if self._plain == 1:
            # Behind a proxy that is not named every page leads to itself, without end.
            log.warning(
                "request.plain_from_untrusted",
                peer=masked(peer),
                hint="if this is your proxy, name its network in TRUSTED_PROXIES",
            )

    def of(self, peer: str, forwarded_for: str | None) -> Client:
        """Call this with the socket's peer and all of `X-Forwarded-For`."""
        if forwarded_for is None:
            return self._direct(peer)
        found = self._read(peer, forwarded_for)
        if found.unread_hop:
            self._unread_hops += 1
            if self._unread_hops == 1:
                log.warning("request.forwarded_hop_unreadable", counted=masked(found.address))
        if found.is_unasked:
            self._unasked += 1
            if self._unasked == 1:
                # Behind a proxy the whole site would count as one address, limits and all.
                log.warning(
                    "request.forwarded_by_untrusted",
                    peer=masked(found.address),
                    hint="if this is your proxy, name its network in TRUSTED_PROXIES",
                )
        return found
