"""What the list has; green when it is written."""

from roster import Joined, Left, Moved, Roster

from actors.testing import ProjectionTest


def test_who_joined_has_no_team_yet() -> None:
    ProjectionTest(Roster()).given(Joined("ann"), stream="person-1").then_row(
        "person-1", name="ann", team=None
    )


def test_who_moved_is_in_a_team() -> None:
    ProjectionTest(Roster()).given(
        Joined("ann"), Moved("red"), Moved("blue"), stream="person-1"
    ).then_row("person-1", name="ann", team="blue")


def test_who_left_is_not_listed() -> None:
    (
        ProjectionTest(Roster())
        .given(Joined("ann"), Left(), stream="person-1")
        .given(Joined("bob"), stream="person-2")
        .then_row("person-2", name="bob")
        .then_count(1)
    )


def test_it_minds_no_repeats() -> None:
    (
        ProjectionTest(Roster())
        .given(Joined("ann"), Moved("red"), stream="person-1")
        .given(Joined("bob"), stream="person-2")
        .then_count(2)
        .shuffle_duplicates()
    )
