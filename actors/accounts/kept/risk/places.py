"""The operator's table of addresses of the network: where they are, and which are ill reputed.

A line is `range,country,latitude,longitude,flags`: a range is an address, `192.0.2.0/24`, or
`192.0.2.0-192.0.2.9`; what is not known is left empty; flags are `anonymizer` and `bad`, with a
blank between. Blank lines and those that begin with `#` say nothing. Of ranges that overlap the
narrower one counts. Nothing is looked up over the network (AUTH-31).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)

from actors.accounts.kept.risk.words import NOWHERE_KNOWN, Place

FIELDS_COUNT = 5
FLAGS = frozenset({"anonymizer", "bad"})
# What is told of broken lines: the first of them, and how many there are.
PROBLEMS_TOLD_MAX = 20
_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


@dataclass(slots=True)
class PlaceTable:
    """Addresses and their places; made by `parse_places`, and never changed after."""

    lines_count: int = 0
    broken_count: int = 0
    # The first of the lines that say nothing that can be, by their number.
    problems: list[str] = field(default_factory=list)
    _by_prefix: dict[tuple[int, int], dict[int, Place]] = field(default_factory=dict, repr=False)
    _prefixes: list[tuple[int, int]] = field(default_factory=list, repr=False)

    def of(self, address: str) -> Place:
        """Call this for the place of an address; `NOWHERE_KNOWN` for one that the table lacks."""
        if not self._prefixes:
            return NOWHERE_KNOWN
        try:
            parsed = ip_address(address)
        except ValueError:
            return NOWHERE_KNOWN
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        bits, number = parsed.max_prefixlen, int(parsed)
        for version, length in self._prefixes:
            if version == parsed.version:
                found = self._by_prefix[version, length].get(number >> (bits - length))
                if found is not None:
                    return found
        return NOWHERE_KNOWN

    def _add(self, version: int, length: int, prefix: int, place: Place) -> None:
        self._by_prefix.setdefault((version, length), {})[prefix] = place

    def _order(self) -> None:
        self._prefixes = sorted(self._by_prefix, key=lambda one: -one[1])


def parse_places(lines: Iterable[str]) -> PlaceTable:
    """Call this with the lines of a table. A broken one is told with its number, and skipped."""
    table = PlaceTable()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        table.lines_count += 1
        try:
            _add_line(table, text)
        except ValueError as error:
            table.broken_count += 1
            if len(table.problems) < PROBLEMS_TOLD_MAX:
                table.problems.append(f"line {number}: {error}")
    table._order()
    return table


def _add_line(table: PlaceTable, text: str) -> None:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != FIELDS_COUNT:
        raise ValueError(f"has {len(parts)} fields, not {FIELDS_COUNT}")
    given, country, latitude, longitude, flags = parts
    if country and not (len(country) == 2 and country.isascii() and country.isalpha()):
        raise ValueError("the country is not two letters")
    if bool(latitude) is not bool(longitude):
        raise ValueError("latitude and longitude are given together")
    words = frozenset(flags.split())
    if not words <= FLAGS:
        raise ValueError("flags are anonymizer and bad")
    place = Place(
        country.upper(),
        _degrees("latitude", latitude, 90.0),
        _degrees("longitude", longitude, 180.0),
        "anonymizer" in words,
        "bad" in words,
    )
    for version, length, prefix in _prefixes_of(given):
        table._add(version, length, prefix, place)


def _prefixes_of(given: str) -> Iterable[tuple[int, int, int]]:
    first, mark, last = given.partition("-")
    try:
        if mark:
            low, high = _address(first), _address(last)
            found: list[_Network] = list(_summarized(low, high))
        else:
            found = [ip_network(given)]
    except (ValueError, TypeError):
        raise ValueError("the range is no address, network or first-last") from None
    for network in found:
        shift = network.max_prefixlen - network.prefixlen
        yield network.version, network.prefixlen, int(network.network_address) >> shift


def _summarized(low: _Address, high: _Address) -> Iterable[_Network]:
    if isinstance(low, IPv4Address) and isinstance(high, IPv4Address):
        return summarize_address_range(low, high)
    if isinstance(low, IPv6Address) and isinstance(high, IPv6Address):
        return summarize_address_range(low, high)
    raise ValueError


def _address(text: str) -> _Address:
    return ip_address(text.strip())


def _degrees(name: str, text: str, most: float) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -most <= value <= most:
        raise ValueError(f"the {name} is no number from -{most:g} to {most:g}")
    return value
