"""Devices as values: trust that grows, fingerprints, and the operator's table of addresses."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from actors.accounts.kept.devices.fingerprint import (
    SAME_FROM,
    WEIGHTS,
    can_tell,
    fingerprint_of,
    is_same,
    known_by,
    lone_digest,
    of_account,
    packed,
    similarity,
    unpacked,
)
from actors.accounts.kept.devices.words import Trust, grown, shown_trust
from actors.accounts.kept.risk.places import PROBLEMS_TOLD_MAX, parse_places
from actors.accounts.kept.risk.words import NOWHERE_KNOWN, Place
from actors.persistence.errors import InvalidField

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("logins", "days", "trust"),
    [
        (1, 0, Trust.UNKNOWN), (4, 6, Trust.UNKNOWN), (5, 0, Trust.RECOGNIZED),
        (1, 7, Trust.RECOGNIZED), (19, 29, Trust.RECOGNIZED), (20, 0, Trust.FAMILIAR),
        (1, 30, Trust.FAMILIAR),
    ],
)  # fmt: skip
def test_trust_grows_by_use(logins: int, days: int, trust: Trust) -> None:
    # AUTH-25
    assert grown(Trust.UNKNOWN, logins, days * DAY) is trust
    assert grown(Trust.FAMILIAR, logins, days * DAY) is Trust.FAMILIAR, "and is never lowered"
    assert grown(Trust.TRUSTED, logins, days * DAY) is Trust.TRUSTED


def test_a_trusted_device_with_a_passkey_is_trusted_most() -> None:
    # AUTH-25
    assert shown_trust(Trust.TRUSTED, has_passkey=True) is Trust.HIGHLY_TRUSTED
    assert shown_trust(Trust.TRUSTED, has_passkey=False) is Trust.TRUSTED
    assert shown_trust(Trust.FAMILIAR, has_passkey=True) is Trust.FAMILIAR


def test_fingerprints_are_alike_by_the_weight_of_their_parts() -> None:
    # AUTH-24
    whole = fingerprint_of({name: f"of {name}" for name in WEIGHTS})
    assert similarity(whole, whole) == 1.0
    for name, weight in WEIGHTS.items():
        other = {**whole, **fingerprint_of({name: "another"})}
        lacking = {key: value for key, value in whole.items() if key != name}
        assert similarity(whole, other) == similarity(whole, lacking) == round(1 - weight, 2)
    # The border itself is the same device: fonts and canvas are another's.
    border = {**whole, **fingerprint_of({"canvas": "x", "fonts": "x"})}
    assert (similarity(whole, border), SAME_FROM) == (0.75, 0.75)
    assert is_same(whole, border)
    assert not is_same(whole, {**border, **fingerprint_of({"memory": "x"})})
    # What neither shows is not alike, nor is a value of another part.
    assert similarity({}, {}) == 0.0
    assert fingerprint_of({"cpu": "8"})["cpu"] != fingerprint_of({"memory": "8"})["memory"]
    assert fingerprint_of({"cpu": ""}) == {}
    for parts in ({"colour": "x"}, {"cpu": "x\0"}, {"cpu": 8}):
        with pytest.raises(InvalidField):
            fingerprint_of(parts)  # type: ignore[arg-type]


WHOLE = fingerprint_of({name: f"of {name}" for name in WEIGHTS})


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ("canvas fonts", True), ("canvas screen timezone", True), ("memory", True),
        ("color_depth cpu memory concurrency canvas", True), ("fonts plugins languages", True),
        ("canvas fonts concurrency", False), ("canvas webgl", False),
        ("plugins renderer cpu", True),
        ("canvas plugins memory", False), ("fonts plugins renderer", False),
    ],
)  # fmt: skip
def test_at_the_border_a_device_is_the_same(changed: str, is_known: bool) -> None:
    # AUTH-24: .75 is the same one, and one part less is not
    kept, another = [(b"kept", packed(WHOLE))], fingerprint_of(dict.fromkeys(changed.split(), "x"))
    lacking = {name: part for name, part in WHOLE.items() if name not in another}
    for shown in ({**WHOLE, **another}, lacking):
        assert known_by(None, shown, kept) == (b"kept" if is_known else None)
        assert known_by(b"new", shown, kept) == (b"kept" if is_known else b"new")
        assert can_tell(lacking) is is_known
        assert unpacked(packed(shown)) == shown


def test_of_several_the_most_alike_one_is_meant_and_a_cookie_goes_before() -> None:
    # AUTH-24
    cpu = packed({**WHOLE, **fingerprint_of({"cpu": "x"})})
    kept = [(b"bare", None), (b"cpu", cpu), (b"same", packed(WHOLE)), (b"older", packed(WHOLE))]
    assert known_by(b"new", WHOLE, kept) == b"same"
    assert known_by(b"bare", WHOLE, kept) == b"bare"
    assert known_by(b"new", {}, kept) == b"new"
    ada, bob = UUID(int=1), UUID(int=2)
    assert similarity(of_account(WHOLE, ada), of_account(WHOLE, ada)) == 1.0
    assert similarity(of_account(WHOLE, ada), of_account(WHOLE, bob)) == 0.0, "they link nobody"
    assert similarity(of_account(WHOLE, ada), WHOLE) == 0.0
    assert lone_digest(ada) != lone_digest(bob)


TABLE = """
# range,country,latitude,longitude,flags
192.0.2.0/24,nl,52.37,4.90,
192.0.2.7,,,,bad anonymizer
198.51.100.0-198.51.100.9,DE,,,anonymizer
2001:db8::/32,FR,48.86,2.35,
2001:db8:1::1-2001:db8:1::3,FR,,,bad
"""
NL = Place("NL", 52.37, 4.90)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", NL), ("::ffff:192.0.2.1", NL), ("192.0.3.1", NOWHERE_KNOWN),
        ("192.0.2.7", Place(is_anonymizer=True, is_bad=True)),
        ("198.51.100.0", Place("DE", is_anonymizer=True)),
        ("198.51.100.9", Place("DE", is_anonymizer=True)), ("198.51.100.10", NOWHERE_KNOWN),
        ("2001:db8:2::1", Place("FR", 48.86, 2.35)), ("2001:db8:1::3", Place("FR", is_bad=True)),
        ("2001:db8:1::4", Place("FR", 48.86, 2.35)), ("127.0.0.1", NOWHERE_KNOWN),
        ("nowhere", NOWHERE_KNOWN), ("", NOWHERE_KNOWN),
    ],
)  # fmt: skip
def test_the_narrowest_range_tells_the_place(address: str, place: Place) -> None:
    # AUTH-31
    table = parse_places(TABLE.splitlines())
    assert (table.lines_count, table.broken_count) == (5, 0)
    assert table.of(address) == place


def test_a_broken_line_is_told_by_its_number_and_skipped() -> None:
    # AUTH-31
    broken = [
        "192.0.2.0/24,NL,52.37,4.90", "192.0.2.1/24,NL,,,", "nowhere,NL,,,", "1.2.3.4-::1,NL,,,",
        "1.2.3.9-1.2.3.4,NL,,,", "192.0.2.0/24,NLD,,,", "192.0.2.0/24,NL,91,0,",
        "192.0.2.0/24,NL,1,,", "192.0.2.0/24,NL,nan,0,", "192.0.2.0/24,NL,a,0,",
        "192.0.2.0/24,NL,0,181,", "192.0.2.0/24,NL,,,worse", "192.0.2.0/24,\u00c9\u00c9,,,",
    ]  # fmt: skip
    table = parse_places([*broken, "198.51.100.1,NL,,,"])
    assert table.broken_count == len(broken)
    assert [problem.partition(":")[0] for problem in table.problems] == [
        f"line {number}" for number in range(1, len(broken) + 1)
    ]
    assert table.of("198.51.100.1") == Place("NL")
    assert table.of("192.0.2.1") == NOWHERE_KNOWN
    many = parse_places(["x"] * 1000)
    assert (many.broken_count, len(many.problems)) == (1000, PROBLEMS_TOLD_MAX)
