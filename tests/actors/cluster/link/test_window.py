"""Windows: nothing is delivered twice, and all that was sent is accounted for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.cluster.link import (
    ACK_ALONE_S,
    ASK_AFTER_S,
    WINDOW_BYTES_MAX,
    WINDOW_ENVELOPES_MAX,
    Ack,
    Gap,
    Hearing,
    Numbered,
    Sending,
    Settled,
)
from tests.actors.cluster.link.samples import head


def test_a_window_holds_so_much_and_then_nothing_until_it_is_told_of() -> None:
    # CLU-52
    sending = Sending()
    assert sending.maybe_number(WINDOW_ENVELOPES_MAX - 1, 10, 0.0) == Numbered(1, 0)
    assert sending.maybe_number(2, 10, 0.0) is None
    assert sending.maybe_number(1, 10, 0.0) == Numbered(2, WINDOW_ENVELOPES_MAX - 1)
    assert sending.maybe_number(1, 10, 0.0) is None
    assert sending.acknowledge(Ack(2, WINDOW_ENVELOPES_MAX)) == Settled(WINDOW_ENVELOPES_MAX)
    assert sending.maybe_number(1, WINDOW_BYTES_MAX, 0.0) == Numbered(3, WINDOW_ENVELOPES_MAX)
    assert sending.maybe_number(1, 1, 0.0) is None
    told = f"{WINDOW_BYTES_MAX} bytes under way, 0 lost, 0 given up"
    assert repr(sending) == f"Sending(open, 1 envelopes and {told})"


def test_a_full_window_of_one_peer_is_no_others() -> None:
    # CLU-52
    full, other = Sending(), Sending()
    full.maybe_number(WINDOW_ENVELOPES_MAX, 1, 0.0)
    assert full.maybe_number(1, 1, 0.0) is None
    assert other.maybe_number(1, 1, 0.0) == Numbered(1, 0)


def test_acknowledgements_ride_and_go_alone_only_when_nothing_carries_them() -> None:
    # CLU-52
    hearing = Hearing(from_first=True)
    assert hearing.maybe_ack(100.0) is None
    hearing.note(head(1), 3, 0.0)
    hearing.note(head(2, before=3), 1, 0.09)
    assert hearing.maybe_ack(ACK_ALONE_S - 0.01) is None
    assert hearing.maybe_ack(ACK_ALONE_S) == Ack(2, 4)
    assert hearing.maybe_ack(100.0) is None
    hearing.note(head(3, before=4), 1, 200.0)
    assert hearing.ack() == Ack(3, 5)  # on a frame
    assert hearing.maybe_ack(300.0) is None


def test_who_is_asked_answers_at_once() -> None:
    # CLU-52
    hearing = Hearing(from_first=True)
    hearing.note(head(4, before=7, asks=True), 0, 50.0)
    assert hearing.maybe_ack(50.0) == Ack(4, 0)


def test_what_is_untold_for_two_seconds_is_asked_for_and_what_the_answer_lacks_is_lost() -> None:
    # CLU-52
    sending, hearing = Sending(), Hearing(from_first=True)
    sending.maybe_number(3, 30, 0.0)  # lost
    second = sending.maybe_number(2, 20, 0.5)
    assert second is not None
    hearing.note(head(second.sequence, before=second.before), 2, 0.5)
    sending.maybe_number(5, 50, 1.0)  # lost
    assert sending.maybe_ask(ASK_AFTER_S - 0.01) is None
    asking = sending.maybe_ask(ASK_AFTER_S)
    assert asking == Numbered(4, 10)
    assert sending.maybe_ask(ASK_AFTER_S + 0.1) is None
    assert hearing.note(head(4, before=10, asks=True), 0, 2.1) == Gap(1, 5)
    told = hearing.maybe_ack(2.1)
    assert told == Ack(4, 2)
    assert sending.acknowledge(told) == Settled(delivered=2, lost=8)
    assert (sending.envelopes_under_way, sending.bytes_under_way) == (0, 0)
    assert (sending.lost_count, hearing.lost_count) == (8, 8)
    # What was counted as lost and comes after all has a number that is too low.
    assert hearing.is_old(3)
    assert sending.maybe_ask(100.0) is None


def test_a_question_that_was_lost_is_repeated() -> None:
    sending = Sending()
    sending.maybe_number(1, 1, 0.0)
    assert sending.maybe_ask(ASK_AFTER_S) == Numbered(2, 1)
    assert sending.maybe_ask(2 * ASK_AFTER_S) == Numbered(3, 1)
    assert sending.acknowledge(Ack(3, 0)) == Settled(lost=1)


def test_a_topic_that_is_heard_later_begins_where_it_is() -> None:
    # CLU-53
    hearing = Hearing(from_first=False)
    assert hearing.note(head(500, before=900), 1, 0.0) == Gap()
    assert hearing.note(head(503, before=905), 1, 0.0) == Gap(2, 4)
    assert hearing.lost_count == 4


@pytest.mark.parametrize("ack", [Ack(3, 2), Ack(1, 3), Ack(2, 4), Ack(0, 0), Ack(2**63 - 1, 1)])
def test_an_impossible_acknowledgement_changes_nothing(ack: Ack) -> None:
    # CLU-52
    sending = Sending()
    sending.maybe_number(2, 1, 0.0)
    sending.maybe_number(1, 1, 0.0)
    assert sending.acknowledge(ack) == Settled()
    assert sending.acknowledge(Ack(2, 3)) == Settled(3)
    assert sending.acknowledge(Ack(2, 3)) == Settled()
    assert sending.acknowledge(Ack(1, 2)) == Settled()


def test_the_window_of_a_peer_that_is_gone_is_shut_until_it_is_back() -> None:
    sending = Sending()
    sending.maybe_number(2, 1, 0.0)
    sending.maybe_number(3, 1, 0.0)
    assert sending.close() == 5
    assert sending.maybe_number(1, 1, 0.0) is None
    assert sending.acknowledge(Ack(2, 5)) == Settled()
    assert sending.close() == 0
    assert sending.maybe_ask(100.0) is None
    sending.open_again()
    # The second was lost: said by the answer to what is sent next.
    assert sending.acknowledge(Ack(1, 2)) == Settled()
    assert sending.maybe_number(1, 1, 0.0) == Numbered(3, 5)
    assert (sending.given_up_count, sending.envelopes_under_way) == (5, 1)
    assert sending.acknowledge(Ack(3, 3)) == Settled(3, 3)
    assert (sending.given_up_count, sending.lost_count) == (0, 3)


def test_a_peer_that_is_back_is_asked_at_once_for_what_was_given_up() -> None:
    # CLU-52
    sending = Sending()
    sending.maybe_number(2, 1, 0.0)
    assert sending.maybe_ask(5.0) == Numbered(2, 2)
    assert sending.close() == 2
    sending.open_again()
    assert sending.maybe_ask(5.1) == Numbered(3, 2)
    assert sending.maybe_ask(5.2) is None
    # It had heard the first question, and the answer came late: that settles it as well.
    assert sending.acknowledge(Ack(2, 1)) == Settled(1, 1)
    assert (sending.given_up_count, sending.envelopes_under_way) == (0, 0)
    assert sending.maybe_ask(100.0) is None


class _Wire:
    """Two nodes and a wire between them that loses, repeats, and lets frames overtake others."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sending, self.hearing = (
            Sending(envelopes_max=40, bytes_max=400),
            Hearing(from_first=True),
        )
        self.under: list[tuple[Numbered, range, bool]] = []
        self.acks: list[Ack] = []
        self.sent = 0
        self.delivered: Counter[int] = Counter()

    def send(self, count: int) -> None:
        numbered = self.sending.maybe_number(count, count * 9, self.now)
        if numbered is not None:
            self.under.append((numbered, range(self.sent, self.sent + count), False))
            self.sent += count

    def ask(self) -> None:
        if (numbered := self.sending.maybe_ask(self.now)) is not None:
            self.under.append((numbered, range(0), True))

    def arrive(self, place: int, *, again: bool) -> None:
        if not self.under:
            return
        place %= len(self.under)
        numbered, envelopes, asks = self.under[place] if again else self.under.pop(place)
        if self.hearing.is_old(numbered.sequence):
            return
        self.hearing.note(
            head(numbered.sequence, before=numbered.before, asks=asks), len(envelopes), self.now
        )
        self.delivered.update(envelopes)

    def tell(self) -> None:
        if (ack := self.hearing.maybe_ack(self.now)) is not None:
            self.acks.append(ack)

    def hear(self, place: int, *, again: bool) -> None:
        if self.acks:
            place %= len(self.acks)
            self.sending.acknowledge(self.acks[place] if again else self.acks.pop(place))

    def check(self) -> None:
        sending = self.sending
        known = sending.delivered_count + sending.lost_count
        assert self.sent == known + sending.envelopes_under_way + sending.given_up_count
        assert 0 <= sending.envelopes_under_way <= 40
        assert 0 <= sending.bytes_under_way <= 400
        assert all(count == 1 for count in self.delivered.values())
        assert sending.delivered_count <= len(self.delivered)


_STEPS = st.lists(
    st.tuples(st.sampled_from("sssaAlqtTrRwco"), st.integers(0, 30)), min_size=1, max_size=120
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(_STEPS)
def test_what_was_sent_is_delivered_lost_or_under_way_and_never_doubled(
    steps: list[tuple[str, int]],
) -> None:
    # CLU-51
    # CLU-52
    # CLU-53
    wire = _Wire()
    for step, number in steps:
        match step:
            case "s":
                wire.send(1 + number % 12)
            case "a" | "A":
                wire.arrive(number if step == "A" else 0, again=number % 7 == 0)
            case "l":
                if wire.under:
                    wire.under.pop(number % len(wire.under))
            case "q":
                wire.ask()
            case "t" | "T":
                wire.tell()
            case "c":
                wire.sending.close()
            case "o":
                wire.sending.open_again()
            case "r" | "R":
                wire.hear(number if step == "R" else 0, again=number % 7 == 0)
            case _:
                wire.now += number / 10
        wire.check()
    # And when the wire is well again and a question was answered, all is known exactly.
    wire.sending.open_again()
    while wire.under:
        wire.arrive(0, again=False)
    wire.now += 2 * ASK_AFTER_S
    wire.ask()
    while wire.under:
        wire.arrive(0, again=False)
    wire.now += 1
    wire.tell()
    while wire.acks:
        wire.hear(0, again=False)
    wire.check()
    assert wire.sending.envelopes_under_way == wire.sending.given_up_count == 0
    assert wire.sending.delivered_count == len(wire.delivered)
    assert wire.sending.lost_count == wire.sent - len(wire.delivered)
