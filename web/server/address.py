"""The address a request counts for: the socket's, unless a trusted proxy tells (SEC-110).

One value for throttles, caps and logs. Shown to people only masked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# More hops than this are forged.
_HOPS_MAX = 32


def client_address(peer: str, forwarded_for: str | None, trusted: Sequence[Network]) -> str:
    """Call this with the socket's peer and `X-Forwarded-For`; the right-most untrusted hop wins.

    A malformed header counts as none.
    """
    if forwarded_for is None or not _is_trusted(peer, trusted):
        return peer
    hops = [hop.strip() for hop in forwarded_for.split(",")]
    if len(hops) > _HOPS_MAX or not all(_parse(hop) for hop in hops):
        return peer
    for hop in reversed(hops):
        if not _is_trusted(hop, trusted):
            return str(_parse(hop))
    return hops[0]


def masked(address: str) -> str:
    """Call this before an address is shown: the last half is hidden (SITE-184)."""
    found = _parse(address)
    if found is None:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        first, second, *_ = str(found).split(".")
        return f"{first}.{second}.*.*"
    return ":".join(found.exploded.split(":")[:4]) + ":*"


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    found = _parse(text)
    return found is not None and any(found in network for network in trusted)
