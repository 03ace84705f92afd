"""Pure: which backups reach which moment, along which timelines, and where something is missing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import BackupBroken, BackupRefused, OutsideBackups
from storage.postgres.embedded.archive import Archive
from storage.postgres.embedded.archiving import SEGMENT_BYTES
from storage.postgres.embedded.backups import planning
from storage.postgres.embedded.backups.folder import Kept
from storage.postgres.embedded.backups.planning import (
    Backup,
    Fork,
    Kind,
    Span,
    before,
    chain,
    holes,
    joined,
    parse_history,
    parse_place,
    parse_segment,
    reach,
    road_to,
    segment_name,
)
from storage.postgres.embedded.backups.restoring import Wanted, choose

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _backup(
    number: int, segment: int, *, parent: int | None = None, timeline: int = 1, minutes: int = 0
) -> Backup:
    kind: Kind = "base" if parent is None else "incremental"
    start, at = segment * SEGMENT_BYTES + 40, NOON + timedelta(minutes=minutes or number)
    stop = start + 1000
    return Backup(
        number, kind, parent, timeline, start, stop, at, at, (segment + 1) * SEGMENT_BYTES, 1, "18"
    )


def _names(timeline: int, numbers: Sequence[int]) -> frozenset[str]:
    return frozenset(segment_name(timeline, number) for number in numbers)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("000000010000000000000001", (1, 1)),
        ("0000000200000001000000FF", (2, 511)),
        ("00000002.history", None),
        ("000000010000000000000002.00000028.backup", None),
        ("000000010000000000000002.partial", None),
        ("", None),
    ],
)
def test_names_of_the_log_are_read_as_the_server_writes_them(
    name: str, found: tuple[int, int] | None
) -> None:
    assert parse_segment(name) == found
    if found is not None:
        assert segment_name(*found) == name
    assert parse_place("1/FF000028") == 0x1FF000028


def test_recovery_comes_as_far_as_the_first_hole() -> None:
    # OPS-1
    road, backup = road_to(1, {}), _backup(1, 3)
    found = reach(backup, road, _names(1, [3, 4, 5]))
    assert (found.last, found.missing) == (5, None)
    found = reach(backup, road, _names(1, [3, 4, 6, 7]))
    assert (found.last, found.missing) == (4, segment_name(1, 5))
    found = reach(backup, road, _names(1, [4, 5]))
    assert (found.last, found.missing) == (None, segment_name(1, 3))
    assert holes([backup], road, _names(1, [1, 3, 4, 6, 9])) == [
        segment_name(1, number) for number in (5, 7, 8)
    ]
    assert holes([], road, _names(1, [1, 3])) == []
    # What a backup closed was archived: where the archive is gone, or has lost its end, it lacks.
    assert holes([backup], road, frozenset()) == [segment_name(1, 3)]
    later = [backup, _backup(2, 5, parent=1)]
    assert holes(later, road, _names(1, [3, 4])) == [segment_name(1, 5)]


def test_a_road_leaves_a_timeline_where_its_history_says() -> None:
    # OPS-1: a restore begins a timeline; what was archived of the old one beyond it does not count
    history = "1\t0/5000100\tbefore 2026-03-01\n\n2\t0/7000000\tno recovery target\n"
    assert parse_history(history) == [Fork(1, 0x5000100), Fork(2, 0x7000000)]
    histories = {3: parse_history(history)}
    road = road_to(3, histories)
    there = _names(1, [3, 4, 5, 6, 7, 8]) | _names(2, [5, 6]) | _names(3, [7])
    assert reach(_backup(1, 3), road, there).last == 7
    found = reach(_backup(1, 3), road, there - _names(2, [5]))
    assert (found.last, found.missing) == (4, segment_name(2, 5))
    # Begun on the old timeline, ended behind the fork: that never was on this road.
    assert not planning.is_on(road, _backup(2, 6))
    assert planning.is_on(road, _backup(2, 6, timeline=2))
    assert reach(_backup(1, 3), road_to(1, histories), there).last == 8


def test_a_chain_ends_at_its_base_or_is_none() -> None:
    base, one, two = _backup(1, 3), _backup(2, 4, parent=1), _backup(3, 5, parent=2)
    assert chain(two, [base, one, two]) == [base, one, two]
    assert chain(two, [base, two]) is None
    # OPS-1: and is told of as one that cannot be used
    assert planning.broken([base, two]) == [two]
    assert planning.broken([base, one, two]) == []


def test_spans_that_meet_are_one() -> None:
    at = [NOON + timedelta(minutes=number) for number in range(6)]
    spans = [Span(at[4], at[5]), Span(at[0], at[1]), Span(at[1], at[2])]
    assert joined(spans) == [Span(at[0], at[2]), Span(at[4], at[5])]


def test_a_clock_that_was_set_back_hides_the_backups_since() -> None:
    # OPS-1: the third says 12:01 and holds what was written at 12:10
    backups = [_backup(1, 3, minutes=1), _backup(2, 4, minutes=10), _backup(3, 5, minutes=2)]
    found = before(NOON + timedelta(minutes=5), backups)
    assert [one.number for one in found] == [1]
    assert [one.number for one in before(NOON + timedelta(minutes=10), backups)] == [3, 2, 1]
    assert before(NOON, backups) == []


def _kept(backups: Sequence[Backup], archived: frozenset[str]) -> Kept:
    # Of an archive in memory only its files' own times are not told: none is later than a backup.
    return Kept(Archive(Path("/nowhere")), backups, archived, {}, 1)


def test_a_moment_is_asked_for_and_told_what_is_possible(tmp_path: Path) -> None:
    # OPS-1
    later = NOON + timedelta(hours=1)
    with pytest.raises(BackupRefused, match="no backup"):
        choose(_kept([], frozenset()), Wanted(None, None, later))
    # In the first backup's own minute nothing of the log behind it is archived.
    bare = _kept([_backup(1, 3)], frozenset())
    with pytest.raises(OutsideBackups, match="what can is nothing"):
        choose(bare, Wanted(NOON + timedelta(minutes=1), None, later))
    with pytest.raises(OutsideBackups):
        choose(bare, Wanted(later + timedelta(minutes=1), None, later))
    holed = _kept([_backup(1, 3)], _names(1, [4]))
    with pytest.raises(BackupBroken, match=segment_name(1, 3)):
        choose(holed, Wanted(None, None, later))
