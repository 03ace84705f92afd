"""The door of a node: order of checks, numbers, age, deadlines, and whom it forgets."""

from __future__ import annotations

from uuid import UUID

import pytest

from actors.cluster.link import (
    FRAME_AGE_S_MAX,
    SUBJECTS_PER_NODE_MAX,
    Arrived,
    EnvelopeKind,
    Gap,
    Intake,
    Refused,
    RefusedReason,
)
from tests.actors.cluster.link.samples import (
    HERE,
    KEYS,
    NOW_US,
    SUBJECTS,
    A,
    B,
    door,
    envelope,
    frame,
    head,
)

AGE_US = int(FRAME_AGE_S_MAX * 1_000_000)


def _take(
    at: Intake, raw: bytes, subject: str = HERE, *, now_us: int = NOW_US, now: float = 0.0
) -> Arrived | Refused:
    return at.take(subject, raw, now_us=now_us, at=now)


def _reason(taken: Arrived | Refused) -> RefusedReason | None:
    return taken.reason if isinstance(taken, Refused) else None


def test_a_replay_is_dropped_and_a_gap_counted() -> None:
    # CLU-53
    at = door()
    first = frame(head(1), [envelope()])
    assert _reason(_take(at, first)) is None
    assert _reason(_take(at, first)) is RefusedReason.SEQUENCE
    third = _take(at, frame(head(3, before=5), [envelope()]))
    assert isinstance(third, Arrived)
    assert third.gap == Gap(1, 4)
    assert at.lost_count == 4
    # Overtaken: it is counted as lost already, and stays so.
    overtaken = _take(at, frame(head(2, before=1), [envelope()] * 4))
    assert _reason(overtaken) is RefusedReason.SEQUENCE
    assert at.lost_count == 4
    assert repr(at) == "Intake(2 frames, 2 refused, 4 lost)"


@pytest.mark.parametrize("kind", list(EnvelopeKind))
def test_each_kind_is_handled_once(kind: EnvelopeKind) -> None:
    # CLU-55
    at = door()
    raw = frame(head(1), [envelope(kind=kind)])
    assert isinstance(_take(at, raw), Arrived)
    assert _reason(_take(at, raw)) is RefusedReason.SEQUENCE
    assert _reason(_take(at, raw, SUBJECTS.everyone)) is RefusedReason.MAC
    assert _reason(_take(at, raw, SUBJECTS.node(A))) is RefusedReason.MAC


def test_numbers_are_of_one_node_and_subject() -> None:
    # CLU-53
    at = door()
    topic = SUBJECTS.topic("room:lobby")
    assert isinstance(_take(at, frame(head(7, before=9))), Arrived)
    assert at.lost_count == 9
    assert isinstance(_take(at, frame(head(1), subject=topic), topic), Arrived)
    assert isinstance(_take(at, frame(head(3), subject=topic), topic), Arrived)
    assert _reason(_take(at, frame(head(2), subject=topic), topic)) is RefusedReason.SEQUENCE


@pytest.mark.parametrize(
    ("age_us", "reason"),
    [
        (AGE_US, None),
        (AGE_US + 1, RefusedReason.AGE),
        (-AGE_US, None),
        (-AGE_US - 1, RefusedReason.AGE),
    ],
)
def test_a_frame_is_young_by_the_databases_clock(age_us: int, reason: RefusedReason | None) -> None:
    # CLU-53
    assert _reason(_take(door(), frame(head(at_us=NOW_US - age_us)))) is reason


def test_the_sender_learns_of_what_was_too_old() -> None:
    at = door()
    _take(at, frame(head(1, at_us=0), [envelope()] * 3))
    taken = _take(at, frame(head(2, before=3), [envelope()]))
    assert isinstance(taken, Arrived)
    assert taken.gap == Gap(0, 3)
    hearing = at.hearing(A, HERE)
    assert hearing is not None
    assert hearing.received_count == 1


def test_a_frame_whose_envelopes_are_none_is_refused_once_and_lost_to_its_sender() -> None:
    # CLU-24
    at = door()
    broken = KEYS.seal(HERE, frame(head(1), [envelope()] * 3)[32:-1] + b"\xc1")
    assert _reason(_take(at, broken)) is RefusedReason.ENVELOPES
    assert _reason(_take(at, broken)) is RefusedReason.SEQUENCE
    taken = _take(at, frame(head(2, before=3), [envelope()]))
    assert isinstance(taken, Arrived)
    assert taken.gap == Gap(0, 3)


def test_an_ask_that_nobody_waits_for_is_not_handled() -> None:
    # CLU-53
    at = door()
    ask, tell = envelope(kind=EnvelopeKind.ASK), envelope()
    in_time = _take(at, frame(head(1), [ask, tell]), now_us=NOW_US + 500_000)
    assert isinstance(in_time, Arrived)
    assert in_time.late == []
    late = _take(at, frame(head(2, before=2), [ask, tell]), now_us=NOW_US + 500_001)
    assert isinstance(late, Arrived)
    assert (late.envelopes, late.late) == ([tell], [ask])
    assert at.refused[RefusedReason.DEADLINE] == 1
    # It came: what is late is refused by this node and not lost on the way.
    hearing = at.hearing(A, HERE)
    assert hearing is not None
    assert (hearing.received_count, hearing.lost_count) == (4, 0)


def test_each_check_comes_before_those_that_cost_or_tell_more() -> None:
    # CLU-24
    at = door()
    assert isinstance(_take(at, frame(head(5))), Arrived)
    # Wrong in everything that comes later, each time.
    unknown = frame(head(1, at_us=0, node=UUID(int=99)))
    assert _reason(_take(at, unknown)) is RefusedReason.NODE
    assert _reason(_take(at, frame(head(1, at_us=0)))) is RefusedReason.SEQUENCE
    broken = frame(head(6, at_us=0))[32:-1] + b"\xc1"
    assert _reason(_take(at, KEYS.seal(HERE, broken))) is RefusedReason.AGE
    # A frame of nobody leaves nothing behind.
    assert at.hearing(UUID(int=99), HERE) is None


def test_a_node_that_is_gone_is_forgotten() -> None:
    members = {A}
    at = Intake("test", KEYS, is_member=members.__contains__, hears_all={HERE}.__contains__)
    first = frame(head(1))
    assert isinstance(_take(at, first), Arrived)
    members.clear()
    at.forget(A)
    assert at.hearing(A, HERE) is None
    assert _reason(_take(at, first)) is RefusedReason.NODE


def test_numbers_of_topics_are_bounded_and_none_is_forgotten_while_it_could_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # CLU-24
    monkeypatch.setattr("actors.cluster.link.intake.SUBJECTS_PER_NODE_MAX", 2)
    assert SUBJECTS_PER_NODE_MAX > 2
    at = door()

    def topic(name: str, now: float, sequence: int = 1) -> RefusedReason | None:
        subject = SUBJECTS.topic(name)
        of = head(sequence, at_us=NOW_US + int(now * 1e6))
        raw = frame(of, subject=subject)
        now_us = NOW_US + int(now * 1e6)
        return _reason(_take(at, raw, subject, now_us=now_us, now=now))

    assert topic("a", 0.0) is None
    assert topic("b", 1.0) is None
    assert topic("a", 2.0, 2) is None
    assert topic("c", 3.0) is RefusedReason.SUBJECTS
    # This node's own subject has a place of its own.
    assert isinstance(_take(at, frame(head(1))), Arrived)
    assert topic("c", 61.5) is None  # instead of b, silent for a minute
    assert at.hearing(A, SUBJECTS.topic("b")) is None
    assert at.hearing(A, SUBJECTS.topic("a")) is not None
    assert at.hearing(B, HERE) is None
